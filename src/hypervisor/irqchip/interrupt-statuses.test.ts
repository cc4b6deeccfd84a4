import { expect, test } from "vitest";
import { VcpuRequests } from "../requests/vcpu-requests.ts";
import { hartBase } from "../shared/memory-map.ts";
import { InterruptStatuses } from "./interrupt-statuses.ts";
import { Plic } from "./plic.ts";

const STATUS = 0x1_1000_1060;
const SOURCE = 40;

/** The objects of the VMM thread and of a vCPU thread, and the level of the line. */
function registers() {
  const buffer = new SharedArrayBuffer(hartBase(1));
  const statuses = (): InterruptStatuses =>
    new InterruptStatuses(buffer, new Plic(buffer, [new VcpuRequests(buffer, 0)]));
  const plic = new Plic(buffer, [new VcpuRequests(buffer, 0)]);
  const level = (): boolean => ((plic.get().level[SOURCE >>> 5]! >>> (SOURCE & 31)) & 1) === 1;
  return { vmm: statuses(), vcpu: statuses(), level };
}

test("the line is high while a bit is set, whichever thread changes it", () => {
  const { vmm, vcpu, level } = registers();
  const status = vmm.add(STATUS, SOURCE);
  expect([vcpu.read(STATUS, 4), level()]).toEqual([0, false]);
  status.raise(1);
  status.raise(2);
  expect([vcpu.read(STATUS, 4), level()]).toEqual([3, true]);
  expect(vcpu.acknowledge(STATUS + 4, 4, 1)).toBe(true);
  expect([status.read(), level()]).toEqual([2, true]);
  expect(vcpu.acknowledge(STATUS + 4, 4, -1)).toBe(true);
  expect([status.read(), level()]).toEqual([0, false]);
  status.raise(1);
  status.acknowledge(1);
  expect([vcpu.read(STATUS, 4), level()]).toEqual([0, false]);
});

test("all other accesses are the device's", () => {
  const { vmm, vcpu } = registers();
  vmm.add(STATUS, SOURCE).raise(1);
  for (const [at, size] of [
    [STATUS, 1],
    [STATUS + 4, 4],
    [STATUS - 0x1_0000_0000, 4],
  ] as const)
    expect(vcpu.read(at, size)).toBe(-1);
  for (const [at, size] of [
    [STATUS + 4, 2],
    [STATUS, 4],
    [STATUS + 8, 4],
  ] as const)
    expect(vcpu.acknowledge(at, size, 1)).toBe(false);
  expect(vcpu.read(STATUS, 4)).toBe(1);
});
