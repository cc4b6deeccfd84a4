// Several machines restored from one saved state: each gets a VM generation ID of its own and the interrupt
// that tells the guest, before the guest runs; a machine that moves live keeps its ID. The guest is a program
// that copies the ID at each interrupt and counts them.
import { afterEach, expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { createMachine, type MachineConfig } from "../../src/embed/create-machine.ts";
import { MemorySink, pieceChannel } from "../../src/embed/memory-snapshot.ts";
import { VIRT_IRQ, VIRT_MEMMAP, VM_GENERATION } from "../../src/machines/boot/virt-map.ts";
import type { VirtMachine } from "../../src/machines/virt.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { migrateOut } from "../../src/migration/save/move-source.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import { FakeNetwork } from "../support/fake-network.ts";
import { until } from "../support/wait.ts";

const KERNEL = 0x80200000;
const DATA = 0x80300000;
const TURNS = DATA;
const INTERRUPTS = DATA + 4;
const COPY = DATA + 16;
const { plic } = VIRT_MEMMAP;

const PROGRAM = `
  li s0, ${DATA}
  li s1, ${plic.base + 0x201004}     # claim and complete of hart 0's S-mode context
  li s2, ${VM_GENERATION.base}
  li t0, 1
  li t1, ${plic.base + 4 * VIRT_IRQ.VM_GENERATION}
  sw t0, 0(t1)                  # priority
  li t0, ${1 << VIRT_IRQ.VM_GENERATION}
  li t1, ${plic.base + 0x2080}
  sw t0, 0(t1)                  # enabled
turn:
  lw t0, 0(s0)
  addi t0, t0, 1
  sw t0, 0(s0)
  lw t0, 0(s1)
  beqz t0, turn
  ld t1, 0(s2)
  sd t1, 16(s0)
  ld t1, 8(s2)
  sd t1, 24(s0)
  lw t1, 4(s0)
  addi t1, t1, 1
  sw t1, 4(s0)
  sw t0, 0(s1)
  j turn
`;
const kernel = flatBinary(assemble([{ name: "clones", text: PROGRAM }], { base: BigInt(KERNEL) }));

const machines: VirtMachine[] = [];
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.vm.destroy();
});

async function make(incoming: boolean, config: Partial<MachineConfig> = {}): Promise<VirtMachine> {
  const devices = { serial: new CharPipe(() => {}), virtio: [], drives: [] };
  const hardware = {
    harts: 1,
    memoryBytes: 16 << 20,
    kernel,
    incoming,
    engine: "interpreter" as const,
    ...config,
  };
  const { machine } = await createMachine(hardware, devices, nodePlatform);
  machines.push(machine);
  return machine;
}

async function running(config: Partial<MachineConfig> = {}): Promise<VirtMachine> {
  const machine = await make(false, config);
  await machine.start();
  await turns(machine);
  return machine;
}

async function saved(machine: VirtMachine): Promise<MemorySink> {
  const sink = new MemorySink();
  await saveSnapshot(machine, async () => sink);
  return sink;
}

/** Loaded, paused. */
async function restored(state: MemorySink, config: Partial<MachineConfig> = {}): Promise<VirtMachine> {
  const machine = await make(true, config);
  await loadSnapshot(machine, pieceChannel(state.chunks));
  machine.runState.set("paused");
  return machine;
}

function bytes({ memory }: VirtMachine, at: number): string {
  const target = new Uint8Array(16);
  memory.read(at, target);
  return Buffer.from(target).toString("hex");
}
const id = (machine: VirtMachine): string => bytes(machine, VM_GENERATION.base);
const interrupts = ({ memory }: VirtMachine): number | undefined => memory.readU32(INTERRUPTS);

/** The guest has polled for interrupts since. */
async function turns({ memory }: VirtMachine): Promise<void> {
  const before = memory.readU32(TURNS) ?? 0;
  await until(20_000, "the guest runs", () => (memory.readU32(TURNS) ?? 0) > before + 2);
}

const NONE = "00".repeat(16);

test("each restore has a new ID, and the guest's first look at the interrupts finds it", async () => {
  const source = await running();
  const first = id(source);
  expect(first).not.toBe(NONE);
  const state = await saved(source);
  const clones = [await restored(state), await restored(state)];
  expect(new Set([first, ...clones.map(id)]).size).toBe(3);
  for (const clone of clones) {
    expect(interrupts(clone)).toBe(0);
    await clone.start();
    await until(20_000, "the interrupt", () => interrupts(clone) === 1);
    expect(bytes(clone, COPY)).toBe(id(clone));
    await turns(clone);
    await clone.stop();
    expect(interrupts(clone)).toBe(1);
  }
  await turns(source);
  await source.stop();
  expect([id(source), interrupts(source)]).toEqual([first, 0]);
  // A restored machine that is saved before it has run is restored with a third ID.
  const again = await restored(await saved(await restored(state)));
  await again.start();
  await until(20_000, "the interrupt", () => interrupts(again) === 1);
  expect(bytes(again, COPY)).toBe(id(again));
});

test("a live move and a reset keep the ID", async () => {
  const source = await running();
  const first = id(source);
  const target = await make(true);
  const network = new FakeNetwork();
  const destination = new MigrationDestination(target);
  network.listener = (channel) => void destination.accept(channel);
  const { status } = await migrateOut(source, network.connect, {}).done;
  expect([status, (await destination.done).status]).toEqual(["completed", "arrived"]);
  await turns(target);
  expect([id(target), interrupts(target)]).toEqual([first, 0]);
  await target.reset();
  await turns(target);
  expect([id(target), interrupts(target)]).toEqual([first, 0]);
});

test("a machine that was created without an ID gets none", async () => {
  const source = await running();
  // As in a state that QEMU or an older Wherry saved.
  const mrom = source.memory.blockByName("riscv_virt_board.mrom")!;
  source.memory.writeBlock(mrom, VM_GENERATION.base - mrom.guestPhys, new Uint8Array(16));
  const clone = await restored(await saved(source));
  await clone.start();
  await turns(clone);
  expect([id(clone), interrupts(clone)]).toEqual([NONE, 0]);
  // The kernel that a reset starts reads a device tree that has the device.
  await clone.reset();
  expect(id(clone)).not.toBe(NONE);
});

test("with icount all restores of one state are the same", async () => {
  const icount = { icount: { shift: 3, sleep: false } };
  const source = await running(icount);
  const clone = await restored(await saved(source), icount);
  await clone.start();
  await turns(clone);
  expect([id(clone), interrupts(clone)]).toEqual([id(source), 0]);
});
