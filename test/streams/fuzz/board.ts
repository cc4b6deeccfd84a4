// The `virt` board for the loader of QEMU's streams: real devices and the real profile, on a VM that only
// stores state, with the devices of machines.ts' riscv64 machines in their order. A case loads only device
// sections; RAM, which is too slow for each case, is loaded into machines.ts' small machine.
import type { Field, StreamReport } from "../../../src/inspect/model/stream-report.ts";
import { CharPipe } from "../../../src/devices/char-backend.ts";
import { GuestMemory, PAGE_SIZE, type RamBlock } from "../../../src/memory/guest-memory.ts";
import { SaveTime } from "../../../src/machines/save-time.ts";
import { createVirtMachine, type VirtMachine, virtRamBlocks } from "../../../src/machines/virt.ts";
import type { Irqchip, PlicPortState } from "../../../src/machines/qemu/qemu-parts.ts";
import { QemuSections } from "../../../src/migration/load/qemu-load.ts";
import { MigrationError } from "../../../src/stream/migration-error.ts";
import { SectionReader } from "../../../src/stream/section-reader.ts";
import { StreamReader } from "../../../src/stream/stream-reader.ts";
import { QEMU_VM } from "../../../src/stream/wire.ts";
import type { AcceleratorVcpu, AcceleratorVm, IrqchipPort } from "../../../src/accelerator/accelerator.ts";
import { Cpus } from "../../../src/vmm/cpus.ts";
import { VIRTIO_DEVICES } from "../../support/virtio-devices.ts";
import { memorySource } from "../../support/fake-network.ts";

const HARTS = 2;
const MEMORY_SIZE = 2 ** 27;
const RAM_BASE = 0x8000_0000;
const SOURCES = 96;
const WORDS = 3;
/** Header and CONFIGURATION `virt`; the seeds' device sections follow. */
const HEAD_BYTES = 17;

function memory(): GuestMemory {
  let hostOffset = 0;
  const blocks: RamBlock[] = virtRamBlocks(MEMORY_SIZE).map((block) => {
    const dirty = new Int32Array(new SharedArrayBuffer(Math.ceil(block.size / PAGE_SIZE / 32) * 4));
    const placed = { ...block, hostOffset, dirty };
    hostOffset += block.size;
    return placed;
  });
  return new GuestMemory(new SharedArrayBuffer(hostOffset), blocks);
}
/** Shared by all cases. */
const MEMORY = memory();

function vcpu(id: number): AcceleratorVcpu {
  const registers = new Map<bigint, bigint>();
  return {
    id,
    paused: true,
    resume() {},
    pause: async () => {},
    getOneReg: (register) => registers.get(register) ?? 0n,
    setOneReg: (register, value) => void registers.set(register, value),
    getMpState: () => 0,
    setMpState() {},
    regList: () => [],
    clearTransient() {},
  };
}

function fakeVm(): AcceleratorVm {
  return {
    memory: MEMORY,
    builtinFirmware: false,
    setBuiltinFirmware() {},
    started: Promise.resolve(),
    vcpus: Array.from({ length: HARTS }, (_, id) => vcpu(id)),
    setEvents() {},
    setMemorySlot() {},
    getAndClearDirtyLog: () => new Int32Array(0),
    createIrqchip() {},
    irqLine() {},
    irqEdge() {},
    ioeventfd: () => ({ remove() {} }),
    resetIrqchip() {},
    isSuspended: false,
    wakeUp() {},
    clock: { frequencyHz: 10_000_000, read: () => 0n, write() {}, stop() {}, start() {} },
    markDead() {},
    failure: undefined,
    destroy: async () => {},
  };
}

function port<S>(state: S): IrqchipPort<S> {
  let held = state;
  return {
    get: () => held,
    check() {},
    set: (next) => {
      held = next;
    },
  };
}

function irqchip(): Irqchip {
  const plic: PlicPortState = {
    numSources: SOURCES,
    numContexts: 2 * HARTS,
    numEnableWords: 2 * HARTS * WORDS,
    numBitWords: WORDS,
    sourcePriority: new Uint32Array(SOURCES),
    targetPriority: new Uint32Array(2 * HARTS),
    pending: new Uint32Array(WORDS),
    claimed: new Uint32Array(WORDS),
    enable: new Uint32Array(2 * HARTS * WORDS),
    level: new Uint32Array(WORDS),
  };
  const aclint = { numHarts: HARTS, timecmp: new BigUint64Array(HARTS), msip: new Uint32Array(HARTS) };
  return { plic: port(plic), aclint: port(aclint) };
}

function board(): VirtMachine {
  const vm = fakeVm();
  return createVirtMachine(
    { harts: HARTS, memorySize: MEMORY_SIZE, firmware: Uint8Array.of(0x13, 0, 0, 0), legacyVirtio: true },
    { vm, cpus: new Cpus(vm), sections: [], irqchip: irqchip(), saveTime: new SaveTime(undefined) },
    {
      clock: { monotonicNs: () => 0, wallNs: () => 0n },
      setTimer: () => ({ cancel() {} }),
      randomBytes: (length) => new Uint8Array(length),
      defer() {},
      serial: new CharPipe(() => {}),
      virtio: ["virtio-blk", "virtio-net", "virtio-rng", "virtio-console"].flatMap(
        (name) => VIRTIO_DEVICES[name] ?? [],
      ),
    },
  );
}

function child(fields: readonly Field[], name: string): Field | undefined {
  for (const field of fields) {
    const found = field.name === name ? field : child(field.children ?? [], name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Sets the rings' indexes to those of a seed's queues, so that its devices agree with the memory. */
export function setRings({ sections }: StreamReport): void {
  const put = (guestPhys: bigint, index: number) => {
    const at = Number(guestPhys) - RAM_BASE + 2;
    if (at < 2 || at + 2 > MEMORY_SIZE) return;
    MEMORY.bytes[at] = index & 255;
    MEMORY.bytes[at + 1] = index >> 8;
  };
  for (const { fields } of sections) {
    for (const { children = [] } of child(fields, "vq")?.children ?? []) {
      const [num = 0n, align = 0n, desc = 0n, last = 0n] = [
        "vring.num",
        "vring.align",
        "vring.desc",
        "last_avail_idx",
      ].map((name) => child(children, name)?.value as bigint | undefined);
      if (desc === 0n || align === 0n) continue;
      const avail = desc + 16n * num;
      const used = ((avail + 6n + 2n * num + align - 1n) / align) * align;
      put(avail, Number(last));
      put(used, Number(last));
    }
  }
}

let kept: VirtMachine | undefined;

/**
 * Loads the device sections of a stream into a board that has had others before, or a new one. Rejects with a
 * MigrationError if they are refused.
 */
export async function loadDevices(bytes: Uint8Array, fresh = true): Promise<void> {
  if (fresh) kept = board();
  const machine = kept ?? board();
  const loader = machine.qemu?.loader();
  if (loader === undefined) throw new Error("the board knows no streams of QEMU");
  const stream = new StreamReader(memorySource(bytes));
  const reader = new SectionReader(stream);
  const sections = new QemuSections(machine, loader, stream, reader);
  await stream.need(HEAD_BYTES);
  stream.skip(HEAD_BYTES);
  for (;;) {
    await stream.need(1);
    const type = stream.peekAll()[0];
    if (type === QEMU_VM.EOF) break;
    if (type !== QEMU_VM.SECTION_FULL)
      throw new MigrationError("migration.section", `expected a device section, found type ${type}`);
    await sections.section(await reader.head());
  }
  sections.checkComplete();
  machine.cpus.synchronizeAllPreLoad();
  sections.apply();
  machine.cpus.synchronizeAllPostInit();
}
