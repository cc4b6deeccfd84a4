import { expect, test } from "vitest";
import { CTL_EXITS, CTL_KICK, CTL_MODE, CTL_SLEEPING, CTL_WAKE, hartBase } from "../shared/memory-map.ts";
import { makeRequests, makeRequestsAsync, REQ, VCPU_MODE, VcpuRequests } from "./vcpu-requests.ts";

function twoVcpus(): [VcpuRequests, VcpuRequests] {
  const buffer = new SharedArrayBuffer(hartBase(2));
  return [new VcpuRequests(buffer, 0), new VcpuRequests(buffer, 1)];
}

test("a request is recorded once, seen by test, and cleared by check", () => {
  const [v] = twoVcpus();
  v.make(REQ.UNBLOCK);
  v.make(REQ.VCPU_RESET);
  expect(v.pending()).toBe(true);
  expect(v.test(REQ.VCPU_RESET)).toBe(true);
  expect(v.check(REQ.VCPU_RESET)).toBe(true);
  expect(v.check(REQ.VCPU_RESET)).toBe(false);
  expect(v.test(REQ.UNBLOCK)).toBe(true);
});

test("OUTSIDE_GUEST_MODE is never recorded", () => {
  const [v] = twoVcpus();
  makeRequests(REQ.OUTSIDE_GUEST_MODE, [v]);
  expect(v.pending()).toBe(false);
  expect(() => v.make(REQ.OUTSIDE_GUEST_MODE)).toThrow(RangeError);
});

test("an interrupt is posted to a vCPU in guest mode; one outside gets a request, a sleeping one is woken", () => {
  const [v] = twoVcpus();
  v.enterGuestMode();
  v.interrupt();
  expect([v.pending(), v.load(CTL_KICK), v.load(CTL_MODE)]).toEqual([false, 0, VCPU_MODE.IN_GUEST_MODE]);
  v.kick();
  v.interrupt();
  expect(v.check(REQ.UNBLOCK)).toBe(true);
  v.leaveGuestMode();
  v.interrupt();
  expect([v.check(REQ.UNBLOCK), v.load(CTL_WAKE)]).toEqual([true, 0]);
  v.store(CTL_SLEEPING, 1);
  v.interrupt();
  expect([v.check(REQ.UNBLOCK), v.load(CTL_WAKE)]).toEqual([true, 1]);
});

test("a kick interrupts a vCPU in guest mode once, and does nothing to one outside", () => {
  const [v] = twoVcpus();
  expect(v.kick()).toBe(false);
  expect(v.load(CTL_KICK)).toBe(0);
  v.enterGuestMode();
  expect(v.kick()).toBe(true);
  expect(v.load(CTL_MODE)).toBe(VCPU_MODE.EXITING_GUEST_MODE);
  expect(v.load(CTL_KICK)).toBe(1);
  v.store(CTL_KICK, 0);
  expect(v.kick()).toBe(true);
  expect(v.load(CTL_KICK)).toBe(0);
  v.leaveGuestMode();
  expect(v.load(CTL_MODE)).toBe(VCPU_MODE.OUTSIDE_GUEST_MODE);
  expect(v.load(CTL_EXITS)).toBe(1);
});

test("a sleeping vCPU is woken, but not by a NO_WAKEUP request", () => {
  const [v] = twoVcpus();
  v.store(CTL_SLEEPING, 1);
  makeRequests(REQ.TLB_FLUSH, [v]);
  expect(v.load(CTL_WAKE)).toBe(0);
  expect(v.test(REQ.TLB_FLUSH)).toBe(true);
  makeRequests(REQ.UNBLOCK, [v]);
  expect(v.load(CTL_WAKE)).toBe(1);
});

test("block does not sleep when it is runnable, which is tested after the sleeping flag is set", () => {
  const [v] = twoVcpus();
  let seen = -1;
  v.block(() => {
    seen = v.load(CTL_SLEEPING);
    return true;
  }, 60_000);
  expect(seen).toBe(1);
  expect(v.load(CTL_SLEEPING)).toBe(0);
});

test("a wake-up between the test and the sleep is not lost", () => {
  const [v] = twoVcpus();
  v.block(() => {
    v.wake();
    return false;
  }, 60_000);
  expect(v.load(CTL_SLEEPING)).toBe(0);
});

test("WAIT does not wait for a vCPU outside guest mode; readers of page tables count as inside", () => {
  const [a, b] = twoVcpus();
  makeRequests(REQ.TLB_FLUSH, [a, b]);
  expect(a.test(REQ.TLB_FLUSH) && b.test(REQ.TLB_FLUSH)).toBe(true);
  a.readingShadowPageTables(() => {
    expect(a.load(CTL_MODE)).toBe(VCPU_MODE.READING_SHADOW_PAGE_TABLES);
    expect(a.kick(true)).toBe(true);
    expect(a.load(CTL_KICK)).toBe(0);
  });
  expect(a.load(CTL_MODE)).toBe(VCPU_MODE.OUTSIDE_GUEST_MODE);
});

test("the VMM's wait does not block its event loop, and ends when the vCPU has left guest mode", async () => {
  const [v] = twoVcpus();
  v.enterGuestMode();
  let turns = 0;
  const timer = setInterval(() => {
    turns++;
    if (turns === 3) v.leaveGuestMode();
  }, 5);
  await makeRequestsAsync(REQ.TLB_FLUSH, [v]);
  clearInterval(timer);
  expect(turns).toBe(3);
  expect(v.test(REQ.TLB_FLUSH)).toBe(true);
});
