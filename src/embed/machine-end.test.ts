// The end of a machine whose harts do not stop.
import { expect, test } from "vitest";
import type { Machine } from "../vmm/machine.ts";
import { stopForGood } from "./machine-end.ts";

function machineOf(stop: () => Promise<unknown>): { machine: Machine; log: string[] } {
  const log: string[] = [];
  const machine = {
    stop,
    vm: { destroy: async () => void log.push("threads ended") },
    inactivateDrives: async () => void log.push("disks released"),
    left: (how: string) => void log.push(how),
  };
  return { machine: machine as unknown as Machine, log };
}
const now = (_: number, fire: () => void) => {
  queueMicrotask(fire);
  return { cancel: () => {} };
};
const never = () => ({ cancel: () => {} });

test("a hart that does not stop in time is ended with its thread, and the disks are released", async () => {
  const { promise, reject } = Promise.withResolvers<never>();
  const { machine, log } = machineOf(() => promise);
  await stopForGood(machine, now);
  expect(log).toEqual(["threads ended", "disks released", "closed"]);
  // What the stop says when its VM is destroyed is nobody's fault.
  reject(new Error("vCPU 0 has ended"));
});

test("a machine that stops keeps its threads until they are destroyed", async () => {
  const { machine, log } = machineOf(async () => {});
  await stopForGood(machine, never);
  expect(log).toEqual(["disks released", "closed"]);
});
