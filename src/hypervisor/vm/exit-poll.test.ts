// When the VMM thread looks for exits by itself, and that none is lost when it begins and ends to.
import { expect, test } from "vitest";
import { VcpuRequests } from "../requests/vcpu-requests.ts";
import { Ioeventfds } from "../shared/ioeventfd.ts";
import { HART_AREA_BASE, hartBase, RUN_GAP_NS, RUN_STATUS, VM_EXIT_POLL } from "../shared/memory-map.ts";
import { RUN_PAGE } from "../shared/run-page.ts";
import { ExitPoll } from "./exit-poll.ts";

const SOON = 10_000;
const LATE = 80_000;
const POLL_NS = 50_000;
const DOORBELL = 0x10001050;

/** A poll on a clock that `script` runs on: what it does when the time has come, in order. */
function polled(polls = true) {
  const buffer = new SharedArrayBuffer(Math.max(HART_AREA_BASE, hartBase(2)));
  const vcpus = [0, 1].map((hart) => new VcpuRequests(buffer, hart)) as [VcpuRequests, VcpuRequests];
  const ioeventfds = new Ioeventfds(buffer);
  const deferred: (() => void)[] = [];
  const script: { readonly at: number; readonly act: () => void }[] = [];
  let now = 0;
  let calls = 0;
  let served = 0;
  let fault: Error | undefined;
  const isPolled = (): boolean => Atomics.load(new Int32Array(buffer), VM_EXIT_POLL >>> 2) === 1;
  const tick = (): number => {
    now += 1000;
    while (script[0] !== undefined && script[0].at <= now) script.shift()?.act();
    return now;
  };
  const poll: ExitPoll = new ExitPoll(
    buffer,
    vcpus,
    ioeventfds,
    () => {
      calls++;
      if (fault !== undefined) throw fault;
      ioeventfds.dispatch();
      for (const vcpu of vcpus) {
        if (vcpu.load(RUN_STATUS) !== RUN_PAGE.POSTED) continue;
        poll.exited(vcpu);
        vcpu.store(RUN_STATUS, RUN_PAGE.ANSWERED);
        served++;
      }
    },
    polls ? { ns: POLL_NS, defer: (task) => void deferred.push(task) } : undefined,
    tick,
  );
  const post = (gapNs: number, vcpu = vcpus[0]): void => {
    vcpu.store(RUN_GAP_NS, gapNs);
    vcpu.store(RUN_STATUS, RUN_PAGE.POSTED);
  };
  const exit = (gapNs: number): void => {
    post(gapNs);
    poll.signalled();
  };
  return {
    ...{ poll, post, exit, tick, vcpus, ioeventfds, deferred, script, isPolled },
    now: () => now,
    calls: () => calls,
    served: () => served,
    fail: (error: Error) => void (fault = error),
  };
}

/** One every 10 µs, until a turn is over. */
function exitsThatDoNotEnd(p: ReturnType<typeof polled>): void {
  const again = (at: number): void => {
    p.script.push({ at, act: () => (p.post(SOON), again(at + 10_000)) });
  };
  again(5000);
  p.exit(SOON);
  p.exit(SOON);
}

test("without options, each exit needs its signal", () => {
  const p = polled(false);
  for (let i = 0; i < 10; i++) p.exit(SOON);
  expect([p.served(), p.calls(), p.now()]).toEqual([10, 10, 0]);
});

test("exits that come late are not waited for, nor the first that comes soon", () => {
  const p = polled();
  for (let i = 0; i < 10; i++) p.exit(LATE);
  p.exit(SOON);
  expect([p.served(), p.calls(), p.now()]).toEqual([11, 11, 0]);
});

test("where exits come soon, those of all vCPUs, and doorbells, are served without a signal", () => {
  const p = polled();
  let rings = 0;
  p.ioeventfds.add(DOORBELL, 0, () => void rings++);
  p.exit(SOON);
  p.script.push(
    { at: 20_000, act: () => p.post(SOON) },
    { at: 40_000, act: () => p.post(SOON, p.vcpus[1]) },
    { at: 60_000, act: () => expect(p.isPolled() && p.ioeventfds.match(DOORBELL, 0)).toBe(true) },
    { at: 75_000, act: () => expect([rings, p.isPolled()]).toEqual([1, true]) },
  );
  p.exit(SOON);
  expect(p.script).toEqual([]);
  expect([p.served(), rings, p.isPolled()]).toEqual([4, 1, false]);
  // Not for longer than it takes to be signalled.
  expect(p.now()).toBeLessThan(75_000 + 2 * POLL_NS);
});

test("an exit that was posted while vCPUs did not signal is served, however late", () => {
  const p = polled();
  p.exit(SOON);
  // Each look ends with a reading of the clock: the last one is this.
  p.script.push({ at: POLL_NS + 1000, act: () => p.post(LATE) });
  p.exit(SOON);
  expect([p.served(), p.isPolled()]).toEqual([3, false]);
});

test("pending events have their turn between exits that do not end, and vCPUs need not signal meanwhile", () => {
  const p = polled();
  exitsThatDoNotEnd(p);
  expect([p.deferred.length, p.isPolled()]).toEqual([1, true]);
  const served = p.served();
  p.script.length = 0;
  p.post(SOON);
  p.deferred.shift()?.();
  expect([p.served(), p.deferred.length, p.isPolled()]).toEqual([served + 1, 0, false]);
});

test("a signal of another kind while events have their turn starts no second poll", () => {
  const p = polled();
  exitsThatDoNotEnd(p);
  const { length } = p.deferred;
  p.poll.signalled();
  expect([p.deferred.length, p.isPolled()]).toEqual([length, true]);
});

test("after an exit that cannot be served, vCPUs signal again", () => {
  const p = polled();
  p.exit(SOON);
  p.script.push({ at: 20_000, act: () => (p.fail(new Error("a device failed")), p.post(SOON)) });
  expect(() => p.exit(SOON)).toThrow("a device failed");
  expect(p.isPolled()).toBe(false);
});

test("the next doorbell is waited for where those before it came soon, and needed nothing more", () => {
  const p = polled();
  let rings = 0;
  p.ioeventfds.add(DOORBELL, 0, () => (rings++, p.poll.expectDoorbell()));
  const ring = (): void => {
    expect(p.ioeventfds.match(DOORBELL, 0)).toBe(true);
    if (!p.isPolled()) p.poll.signalled();
  };
  const again = (gapNs: number): void => void p.script.push({ at: p.now() + gapNs, act: ring });
  ring();
  // Longer than exits are waited for.
  again(3 * POLL_NS);
  ring();
  expect([rings, p.isPolled(), p.script.length]).toEqual([3, false, 0]);
  for (let i = 0; i < 1000; i++) p.tick();
  for (let late = 0; late < 4; late++) {
    for (let i = 0; i < 1000; i++) p.tick();
    ring();
  }
  const before = p.now();
  ring();
  expect([rings, p.now() - before < POLL_NS]).toEqual([8, true]);
});
