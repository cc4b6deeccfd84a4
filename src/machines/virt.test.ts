// The board as a whole, on a fake accelerator that records the calls.
import { beforeEach, expect, it } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { CharPipe } from "../devices/char-backend.ts";
import { GuestMemory, PAGE_SIZE, type RamBlock } from "../memory/guest-memory.ts";
import type { AcceleratorVcpu, AcceleratorVm, IrqchipWindows, VmEvents } from "../accelerator/accelerator.ts";
import { Cpus } from "../vmm/cpus.ts";
import type { MachineEvent } from "../vmm/machine.ts";
import { SaveTime } from "./save-time.ts";
import { createVirtMachine, type VirtMachine, type VirtOptions, virtRamBlocks } from "./virt.ts";
import { MIB } from "./boot/virt-map.ts";
import { readFdt } from "../../test/support/read-fdt.ts";

const MEMORY_SIZE = 64 * MIB;

class FakeVcpu implements AcceleratorVcpu {
  readonly id: number;
  readonly registers = new Map<bigint, bigint>();
  paused = true;
  mpState = 5;
  constructor(id: number) {
    this.id = id;
  }
  resume(): void {
    this.paused = false;
  }
  async pause(): Promise<void> {
    this.paused = true;
  }
  getOneReg(id: bigint): bigint {
    return this.registers.get(id) ?? 0n;
  }
  setOneReg(id: bigint, value: bigint): void {
    this.registers.set(id, value);
  }
  getMpState(): number {
    return this.mpState;
  }
  setMpState(state: number): void {
    this.mpState = state;
  }
  regList(): bigint[] {
    return [];
  }
  clearTransient(): void {}
}

class FakeVm implements AcceleratorVm {
  readonly memory: GuestMemory;
  builtinFirmware: boolean;
  readonly vcpus = [new FakeVcpu(0), new FakeVcpu(1)];
  readonly started = Promise.resolve();
  readonly lines = new Map<number, boolean>();
  readonly edges: number[] = [];
  readonly slots = new Map<number, boolean>();
  readonly clock = { frequencyHz: 10_000_000, read: () => 0n, write() {}, stop() {}, start() {} };
  windows: IrqchipWindows | undefined;
  events: VmEvents | undefined;

  constructor(builtinFirmware: boolean) {
    this.builtinFirmware = builtinFirmware;
    let hostOffset = 0;
    const blocks: RamBlock[] = virtRamBlocks(MEMORY_SIZE).map((block) => {
      const dirty = new Int32Array(new SharedArrayBuffer(Math.ceil(block.size / PAGE_SIZE / 32) * 4));
      const placed = { ...block, hostOffset, dirty };
      hostOffset += block.size;
      return placed;
    });
    this.memory = new GuestMemory(new SharedArrayBuffer(hostOffset), blocks);
  }
  setBuiltinFirmware(on: boolean): void {
    this.builtinFirmware = on;
  }
  setEvents(events: VmEvents): void {
    this.events = events;
  }
  setMemorySlot(index: number, present: boolean): void {
    this.slots.set(index, present);
  }
  getAndClearDirtyLog(): Int32Array {
    return new Int32Array(0);
  }
  createIrqchip(windows: IrqchipWindows): void {
    this.windows = windows;
  }
  irqLine(source: number, level: boolean): void {
    this.lines.set(source, level);
  }
  irqEdge(source: number): void {
    this.edges.push(source);
  }
  ioeventfd(): { remove(): void } {
    return { remove() {} };
  }
  resetIrqchip(): void {}
  isSuspended = false;
  wakeUp(): void {
    this.isSuspended = false;
  }
  markDead(): void {}
  readonly failure = undefined;
  async destroy(): Promise<void> {}
}

/** A Linux Image whose first bytes are `marker`. */
function kernelImage(marker: number): Uint8Array {
  const bytes = new Uint8Array(4096);
  bytes.fill(marker, 0, 8);
  new DataView(bytes.buffer).setUint32(56, 0x05435352, true);
  return bytes;
}

let vm: FakeVm;
let sent: number[];
let cpus: Cpus;

async function make(options: Partial<VirtOptions>): Promise<VirtMachine> {
  vm = new FakeVm((options.firmware ?? "builtin") === "builtin");
  cpus = new Cpus(vm);
  sent = [];
  const time = new FakeClock();
  let seed = 0;
  const machine = createVirtMachine(
    { harts: 2, memorySize: MEMORY_SIZE, firmware: "builtin", ...options },
    { vm, cpus, sections: [], saveTime: new SaveTime(undefined) },
    {
      clock: { monotonicNs: () => Number(time.nowNs), wallNs: () => time.nowNs },
      setTimer: time.setTimer,
      randomBytes: (length) => new Uint8Array(length).fill(++seed),
      defer: (task) => setImmediate(task),
      serial: new CharPipe((bytes) => sent.push(...bytes)),
    },
  );
  await machine.initialize();
  return machine;
}
const ram = (at: number, length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  expect(vm.memory.read(at, bytes)).toBe(true);
  return bytes;
};

beforeEach(() => {
  vm = new FakeVm(true);
});

it("registers the devices' sections in QEMU's order", async () => {
  const machine = await make({ kernel: kernelImage(1) });
  expect(machine.sections.map((s) => `${s.idstr}/${s.instanceId}`)).toEqual([
    "wherry/machine/0",
    "0000:00:00.0/gpex_root/0",
    "PCIHost/0",
    "PCIBUS/0",
    "serial/0",
    "goldfish_rtc/0",
    "pflash_cfi01/0",
    "pflash_cfi01/1",
    "fw_cfg/0",
  ]);
});

it("places the accelerator's controllers at QEMU's addresses", async () => {
  await make({ kernel: kernelImage(1) });
  expect(vm.windows).toMatchObject({
    plic: { base: 0xc000000, size: 0x600000 },
    clint: { base: 0x2000000, size: 0x10000 },
    sswi: { base: 0x2f00000, size: 0x4000 },
  });
});

it("has devices at QEMU's addresses and faults elsewhere", async () => {
  const machine = await make({ kernel: kernelImage(1) });
  const space = machine.addressSpace;
  expect(space.read(0x30000000, 4)).toBe(0x00081b36n);
  expect(space.read(0x10001000, 4)).toBe(0x74726976n);
  expect(space.read(0x10100000, 4)).toBe(0x554d4551n);
  expect(space.read(0x10000005, 1)).toBe(0x60n);
  expect(space.read(0x40000000, 8)).toBe(0xffffffff_ffffffffn);
  for (const at of [0x10000008, 0x101024, 0x9000000, 0x10009000]) expect(space.read(at, 4)).toBeUndefined();
  expect(space.write(0x10000000, 1, 0x41n)).toBe(true);
  expect(sent).toEqual([0x41]);
  space.write(0x10000001, 1, 2n);
  expect(vm.lines.get(10)).toBe(true);
});

it("starts hart 0 at the kernel in S-mode with a0 and a1, also after a reset", async () => {
  const machine = await make({ kernel: kernelImage(7), append: "hello" });
  const check = (seed: number): void => {
    const [boot, other] = cpus.all;
    expect(boot?.state.pc).toBe(0x80200000n);
    expect(boot?.state.priv).toBe(1);
    expect(boot?.state.x.slice(10, 12)).toEqual(BigUint64Array.of(0n, BigInt(machine.boot.fdtAddress)));
    expect([boot?.state.mpState, other?.state.mpState]).toEqual([0, 5]);
    expect(ram(0x80200000, 2)).toEqual(Uint8Array.of(7, 7));
    const chosen = readFdt(ram(machine.boot.fdtAddress, 32768)).find("/chosen");
    expect(chosen?.string("bootargs")).toBe("hello");
    expect(chosen?.properties.get("rng-seed")).toEqual(new Uint8Array(32).fill(seed));
  };
  check(2);
  vm.memory.write(0x80200000, new Uint8Array(16));
  vm.memory.write(machine.boot.fdtAddress, new Uint8Array(4096));
  await machine.reset();
  check(3);
});

it("starts all harts at the reset vector in M-mode with a firmware file", async () => {
  await make({ firmware: Uint8Array.of(1, 2, 3, 4), kernel: kernelImage(1) });
  for (const { state } of cpus.all) {
    expect([state.pc, state.priv, state.mpState]).toEqual([0x1000n, 3, 0]);
  }
  expect(ram(0x80000000, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
  expect(ram(0x1000, 4)).toEqual(Uint8Array.of(0x97, 0x02, 0, 0));
});

it("has a VM generation ID in its ROM, which a reset keeps and a restore renews", async () => {
  const machine = await make({ kernel: kernelImage(1) });
  const node = readFdt(ram(machine.boot.fdtAddress, 32768)).find("/soc/rng@f000");
  expect(node?.string("compatible")).toBe("microsoft,vmgenid");
  expect(node?.cells("reg")).toEqual([0, 0xf000, 0, 0x1000]);
  expect(node?.cells("interrupts")).toEqual([12]);
  expect(ram(0xf000, 17)).toEqual(Uint8Array.of(...Array(16).fill(1), 0));
  await machine.reset();
  expect(ram(0xf000, 16)).toEqual(new Uint8Array(16).fill(1));
  expect(vm.edges).toEqual([]);
  machine.onRestored("stop");
  expect(ram(0xf000, 16)).toEqual(new Uint8Array(16).fill(4));
  expect(vm.edges).toEqual([12]);
});

it("removes a flash in command mode from the address space", async () => {
  const machine = await make({ kernel: kernelImage(1) });
  machine.addressSpace.write(0x22000000, 4, 0x00900090n);
  expect(vm.slots.get(2)).toBe(false);
  expect(machine.addressSpace.read(0x22000000, 4)).toBe(0x890089n);
  machine.addressSpace.write(0x22000000, 4, 0x00400040n);
  machine.addressSpace.write(0x22001000, 4, 0x12345678n);
  await machine.reset();
  expect(vm.slots.get(2)).toBe(true);
  expect(ram(0x22001000, 4)).toEqual(Uint8Array.of(0x78, 0x56, 0x34, 0x12));
  const dirty = vm.memory.blockByName("virt.flash1")?.dirty[0];
  expect(dirty).toBe(2);
});

it("executes the guest's requests to the test device", async () => {
  const machine = await make({ kernel: kernelImage(1) });
  const events: MachineEvent[] = [];
  machine.onEvent((event) => events.push(event));
  await machine.start();
  machine.addressSpace.write(0x100000, 4, 0x7777n);
  await expect.poll(() => events.map((e) => e.event)).toEqual(["RESUME", "RESET"]);
  expect(machine.runState.current).toBe("running");
  machine.addressSpace.write(0x100000, 4, 0x5555n);
  await expect.poll(() => machine.runState.current).toBe("shutdown");
  expect(events.slice(2)).toEqual([
    { event: "SHUTDOWN", guest: true, reason: "guest-shutdown" },
    { event: "STOP" },
  ]);
});

it("does not write the memory of an incoming machine, and a reset with nothing to boot is an error", async () => {
  const machine = await make({ incoming: true });
  expect(ram(0x1000, 4)).toEqual(new Uint8Array(4));
  const events: MachineEvent[] = [];
  machine.onEvent((event) => events.push(event));
  await machine.start();
  await expect(machine.reset()).rejects.toThrow("give the kernel (--kernel, --initrd, --append)");
  expect(machine.runState.current).toBe("running");
  vm.events?.systemEvent("reset");
  await expect.poll(() => machine.runState.current).toBe("internal-error");
  expect(events[1]).toMatchObject({
    event: "GUEST_PANICKED",
    message: expect.stringContaining("came without the kernel"),
  });
});

it("with firmware alone, a reset starts it again, unless it was told of a kernel that is not here", async () => {
  const machine = await make({ firmware: Uint8Array.of(1, 2, 3, 4), incoming: true });
  expect(machine.resetBlocker).toBeUndefined();
  // What a stream has at the reset vector: fw_dynamic_info with the kernel's address.
  const mrom = vm.memory.blockByName("riscv_virt_board.mrom")!;
  vm.memory.writeBlock(mrom, 40, Uint8Array.of(0x4f, 0x53, 0x42, 0x49));
  vm.memory.writeBlock(mrom, 56, Uint8Array.of(0, 0, 0x20, 0x80));
  expect(machine.resetBlocker).toContain("came without the kernel");
  const given = await make({ firmware: Uint8Array.of(1, 2, 3, 4), kernel: kernelImage(1), incoming: true });
  expect(given.resetBlocker).toBeUndefined();
});

it("refuses memory sizes that are not a multiple of 2 MiB", () => {
  expect(() => virtRamBlocks(3 * MIB)).toThrow("expected a multiple of 2 MiB, found 3145728 bytes");
});
