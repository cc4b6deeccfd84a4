import { expect, test } from "vitest";
import { GuestClock } from "./guest-clock.ts";
import { hartBase } from "../shared/memory-map.ts";

function clocks(frozen: boolean): { vmm: GuestClock; vcpu: GuestClock; pass: (ticks: number) => void } {
  const buffer = new SharedArrayBuffer(hartBase(1));
  let ns = 5_000_000_050;
  const now = (): number => ns;
  return {
    vmm: new GuestClock(buffer, now, frozen),
    vcpu: new GuestClock(buffer, now, false),
    pass: (ticks) => void (ns += ticks * 100),
  };
}

test("stands still until it is started, and continues from there", () => {
  const { vmm, vcpu, pass } = clocks(true);
  pass(1000);
  expect(vmm.now()).toBe(0);
  vmm.start();
  pass(30);
  expect([vmm.now(), vcpu.now()]).toEqual([30, 30]);
  vmm.stop();
  pass(5000);
  expect(vmm.read()).toBe(30n);
  vmm.stop();
  vmm.start();
  vmm.start();
  expect(vcpu.now()).toBe(30);
  pass(1);
  expect(vcpu.now()).toBe(31);
});

test("can be set while it is stopped and while it runs", () => {
  const { vmm, vcpu, pass } = clocks(true);
  vmm.write(1n << 40n);
  pass(7);
  expect(vmm.read()).toBe(1n << 40n);
  vmm.start();
  pass(7);
  expect(vcpu.read()).toBe((1n << 40n) + 7n);
  vmm.write(0n);
  pass(3);
  expect([vmm.now(), vcpu.now()]).toEqual([3, 3]);
});

test("counts whole ticks of 100 ns, even if the host's nanoseconds are not", () => {
  const buffer = new SharedArrayBuffer(hartBase(1));
  let ns = 1e9 + 99.5;
  const clock = new GuestClock(buffer, () => ns, true);
  clock.start();
  ns += 0.5;
  expect(clock.read()).toBe(1n);
  expect(clock.frequencyHz).toBe(10_000_000);
});
