import { expect, test, vi } from "vitest";
import { Ioeventfds } from "./ioeventfd.ts";
import { hartBase, MAX_IOEVENTFDS } from "./memory-map.ts";

/** The objects of the VMM thread and of a vCPU thread. */
function doorbells(): { vmm: Ioeventfds; vcpu: Ioeventfds } {
  const buffer = new SharedArrayBuffer(hartBase(1));
  return { vmm: new Ioeventfds(buffer), vcpu: new Ioeventfds(buffer) };
}

test("a write of the value to the address rings once for a burst", () => {
  const { vmm, vcpu } = doorbells();
  const rung = vi.fn();
  vmm.add(0x10001050, 1, rung);
  expect(vcpu.match(0x10001050, 1)).toBe(true);
  expect(vcpu.match(0x10001050, 1)).toBe(true);
  expect(vcpu.match(0x10001050, 2)).toBe(false);
  expect(vcpu.match(0x10001054, 1)).toBe(false);
  expect(vcpu.match(0x1_10001050, 1)).toBe(false);
  expect(rung).not.toHaveBeenCalled();
  vmm.dispatch();
  vmm.dispatch();
  expect(rung).toHaveBeenCalledTimes(1);
});

test("addresses above 4 GiB and values with the top bit", () => {
  const { vmm, vcpu } = doorbells();
  const rung = vi.fn();
  vmm.add(0x4_ffff_f000, 0xffffffff, rung);
  expect(vcpu.match(0x4_ffff_f000, -1)).toBe(true);
  expect(vcpu.match(0xffff_f000, -1)).toBe(false);
  vmm.dispatch();
  expect(rung).toHaveBeenCalledTimes(1);
});

test("each doorbell rings its own notifier", () => {
  const { vmm, vcpu } = doorbells();
  const rung: number[] = [];
  for (let i = 0; i < MAX_IOEVENTFDS; i++) vmm.add(0x10001050, i, () => rung.push(i));
  expect(() => vmm.add(0, 0, () => {})).toThrow("96");
  const ring = [0, 31, 32, 63, 64, 95];
  for (const i of ring) vcpu.match(0x10001050, i);
  vmm.dispatch();
  expect(rung).toEqual(ring);
});

test("a removed doorbell does not ring, not even for an earlier write; its entry is reused", () => {
  const { vmm, vcpu } = doorbells();
  const [first, second] = [vi.fn(), vi.fn()];
  const bell = vmm.add(0x1000, 1, first);
  vcpu.match(0x1000, 1);
  bell.remove();
  expect(vcpu.match(0x1000, 1)).toBe(false);
  vmm.add(0x2000, 1, second);
  vmm.dispatch();
  expect(first).not.toHaveBeenCalled();
  expect(second).not.toHaveBeenCalled();
  expect(vcpu.match(0x2000, 1)).toBe(true);
  bell.remove();
  expect(vcpu.match(0x2000, 1)).toBe(true);
  vmm.dispatch();
  expect(second).toHaveBeenCalledTimes(1);
  for (let i = 1; i < MAX_IOEVENTFDS; i++) vmm.add(0x3000, i, first);
});
