// The VM as the VMM thread uses it, without threads for its vCPUs.
import { expect, test } from "vitest";
import { ScriptedVm } from "../../../test/support/scripted-vm.ts";
import { createSharedMemory } from "../../wasm/webassembly.ts";
import { CTL_ENDED, CTL_MODE, CTL_RUN, VM_TRANSLATOR_RUN } from "../shared/memory-map.ts";
import { makeRequestsAsync, REQ, VCPU_MODE, VcpuRequests } from "../requests/vcpu-requests.ts";
import { RUN } from "../shared/run-page.ts";
import { SlotMemory } from "../shared/memory-slots.ts";
import { TRANSLATOR_RUN } from "../shared/memory-map.ts";
import { planMemory, type ThreadHandle, Vm } from "./vm.ts";

const RAM = 0x80000000;
const RAM_SIZE = 0x10000;

function parked(spawnTranslator?: (faults: ((error: unknown) => void)[]) => ThreadHandle) {
  const blocks = [{ name: "ram", guestPhys: RAM, size: RAM_SIZE, readonly: false }];
  const { buffer } = createSharedMemory(Math.ceil(planMemory(2, blocks).size / 0x10000));
  const faults: ((error: unknown) => void)[] = [];
  const vm = new Vm({
    buffer,
    vcpuCount: 2,
    blocks,
    builtinFirmware: true,
    spawnTranslator: spawnTranslator === undefined ? undefined : () => spawnTranslator(faults),
    monotonicNs: () => 0,
    spawnVcpu: (hart) => ({
      onSignal: () => {},
      onFault: (listener) => void (faults[hart] = listener),
      terminate: async () => {},
    }),
  });
  return { vm, buffer, faults };
}

test("fetching the dirty log does not map a block that is not mapped", async () => {
  const { vm, buffer } = parked();
  const memory = new SlotMemory(buffer);
  vm.setMemorySlot(0, false);
  await vm.getAndClearDirtyLog(0);
  expect(memory.read(RAM, 1)).toBeUndefined();
  vm.setMemorySlot(0, true);
  expect(memory.read(RAM, 1)).toBeDefined();
});

test("a thread that dies in guest mode does not block the VMM, a pause, or a wait for its exit", async () => {
  const { vm, buffer, faults } = parked();
  const errors: string[] = [];
  vm.setEvents({
    mmio: { read: () => undefined, write: () => false },
    systemEvent: () => {},
    consoleWrite: () => 0,
    consoleRead: () => new Uint8Array(0),
    internalError: (vcpu, message) => void errors.push(`${vcpu} ${message}`),
  });
  const requests = [0, 1].map((hart) => new VcpuRequests(buffer, hart));
  const [dead, other] = requests as [VcpuRequests, VcpuRequests];
  other.store(CTL_RUN, RUN.PARKED);
  dead.store(CTL_RUN, RUN.GO);
  dead.enterGuestMode();
  const waits = makeRequestsAsync(REQ.TLB_FLUSH, requests);
  faults[0]?.(new Error("memory access out of bounds"));
  await waits;
  expect(dead.load(CTL_MODE)).toBe(VCPU_MODE.OUTSIDE_GUEST_MODE);
  expect(errors).toEqual(["0 memory access out of bounds"]);
  expect(vm.dead).toBe(true);
  await Promise.all(vm.vcpus.map((vcpu) => vcpu.pause()));
  expect(vm.vcpus.map((vcpu) => vcpu.paused)).toEqual([true, true]);
});

test("the translation thread starts once, when a vCPU first runs, and not in a VM that ends", async () => {
  let starts = 0;
  const handle = { onSignal: () => {}, onFault: () => {}, terminate: async () => {} };
  const spawn = () => (starts++, handle);
  const { vm } = parked(spawn);
  expect(starts).toBe(0);
  for (const vcpu of vm.vcpus) vcpu.resume();
  expect(starts).toBe(1);
  const { vm: ending } = parked(spawn);
  await ending.destroy();
  ending.startTranslator();
  expect(starts).toBe(1);
});

test("the translation thread is requested to end and has time to do so", async () => {
  const ends: string[] = [];
  const { vm, buffer } = parked(() => ({
    onSignal: () => {},
    onFault: () => {},
    terminate: async () => void ends.push("terminated"),
  }));
  const words = new Int32Array(buffer);
  const run = VM_TRANSLATOR_RUN >>> 2;
  vm.startTranslator();
  const asked = Atomics.waitAsync(words, run, TRANSLATOR_RUN.GO);
  const destroyed = vm.destroy();
  await asked.value;
  expect(words[run]).toBe(TRANSLATOR_RUN.END);
  expect(ends).toEqual([]);
  Atomics.store(words, run, TRANSLATOR_RUN.ENDED);
  Atomics.notify(words, run);
  await destroyed;
  expect(ends).toEqual(["terminated"]);
});

test("a translation thread that dies while it is asked to end is not waited for", async () => {
  const { vm, buffer, faults } = parked((f) => ({
    onSignal: () => {},
    onFault: (listener) => void (f[9] = listener),
    terminate: async () => {},
  }));
  const words = new Int32Array(buffer);
  vm.startTranslator();
  const destroyed = vm.destroy();
  faults[9]?.(new Error("no file"));
  expect(words[VM_TRANSLATOR_RUN >>> 2]).toBe(TRANSLATOR_RUN.ENDED);
  // Nobody else wakes it: in a process that has nothing else to do, no timer of Atomics.waitAsync fires.
  await destroyed;
});

test("a translation thread that dies kills the VM, and reports why", async () => {
  const { vm, faults } = parked((f) => ({
    onSignal: () => {},
    onFault: (listener) => void (f[9] = listener),
    terminate: async () => {},
  }));
  const errors: string[] = [];
  vm.setEvents({
    mmio: { read: () => undefined, write: () => false },
    systemEvent: () => {},
    consoleWrite: () => 0,
    consoleRead: () => new Uint8Array(0),
    internalError: (vcpu, message) => void errors.push(`${vcpu} ${message}`),
  });
  vm.startTranslator();
  faults[9]?.(new Error("no memory"));
  expect(vm.dead).toBe(true);
  expect(errors).toEqual(["undefined the translation thread: no memory"]);
});

test("a thread that ends by an engine fault has left guest mode before the fault is reported", () => {
  const s = new ScriptedVm();
  const fault = (): number => {
    throw new WebAssembly.RuntimeError("memory access out of bounds");
  };
  expect(() => s.run(0, fault)).toThrow("memory access out of bounds");
  expect(s.requests[0]?.load(CTL_MODE)).toBe(VCPU_MODE.OUTSIDE_GUEST_MODE);
  expect(s.requests[0]?.load(CTL_ENDED)).toBe(1);
});

test("a pause does not wait forever for a vCPU of a destroyed VM", async () => {
  const { vm } = parked();
  for (const vcpu of vm.vcpus) vcpu.resume();
  const [first, second] = vm.vcpus.map((vcpu) => expect(vcpu.pause()).rejects.toThrow("has ended"));
  await vm.destroy();
  await Promise.all([first, second]);
  await expect(vm.vcpus[0]?.pause()).rejects.toThrow("has ended");
});
