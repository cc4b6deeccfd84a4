// A machine of memory, a few toy sections, a drive with a lock, and a "guest" that dirties random pages while
// it runs. Its hart section carries a hash of all memory, which detects a load of inconsistent state.
import type { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { Xxh32 } from "../../src/base/xxh32.ts";
import { GuestMemory, PAGE_SIZE, type RamBlock } from "../../src/memory/guest-memory.ts";
import type { AcceleratorVm } from "../../src/accelerator/accelerator.ts";
import { Machine, type SynchronizeHooks } from "../../src/vmm/machine.ts";
import { MIG_PRI, type Section } from "../../src/state/section.ts";
import { random } from "./random.ts";

/** Invariants of all machines of one test: one runs at a time, one holds the drive at a time. */
export class World {
  readonly violations: string[] = [];
  running: FakeMachine | undefined;
  driveOwner: FakeMachine | undefined;
}

export interface FakeOptions {
  readonly ramPages?: number;
  /** Pages dirtied each millisecond while running. */
  readonly dirtyPerMs?: number;
  readonly seed?: number;
  readonly world?: World;
  /** Fraction of RAM pages that are not zero at the start. */
  readonly fill?: number;
  readonly extraSections?: readonly Section[];
  readonly name?: string;
}

export class FakeMachine extends Machine {
  readonly world: World;
  /** Its process has died: nothing of it runs any more. */
  dead = false;
  ticks = 0n;
  /** Set to make the next activate of the drive fail. */
  refuseDrive: string | undefined;
  /** How it has left for good. */
  readonly leftAs: string[] = [];
  /** Set to make the release of the drive fail. */
  keepDrive: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #random: () => number;
  readonly #dirtyPerMs: number;

  constructor(options: FakeOptions = {}) {
    const ramPages = options.ramPages ?? 64;
    const sizes: [string, number, boolean][] = [
      ["riscv_virt_board.ram", ramPages, false],
      ["virt.flash0", 8, false],
      ["riscv_virt_board.mrom", 3, true],
    ];
    const buffer = new SharedArrayBuffer((64 + sizes.reduce((n, [, pages]) => n + pages, 0)) * PAGE_SIZE);
    let at = 16 * PAGE_SIZE;
    let guestPhys = 0x8000_0000;
    const blocks: RamBlock[] = sizes.map(([name, pages, readonly]) => {
      const block = {
        name,
        guestPhys,
        size: pages * PAGE_SIZE,
        hostOffset: at,
        readonly,
        dirty: new Int32Array(new SharedArrayBuffer(Math.ceil(pages / 32) * 4)),
      };
      at += (pages + 2) * PAGE_SIZE;
      guestPhys += 0x1000_0000;
      return block;
    });
    const memory = new GuestMemory(buffer, blocks);
    const self: { machine?: FakeMachine } = {};
    super({
      name: options.name ?? "virt",
      memory,
      vm: fakeVm(memory),
      cpus: fakeCpus(() => self.machine as FakeMachine),
    });
    self.machine = this;
    this.world = options.world ?? new World();
    this.#random = random(options.seed ?? 1);
    this.#dirtyPerMs = options.dirtyPerMs ?? 4;
    const fill = options.fill ?? 0.5;
    const words = new Int32Array(buffer);
    for (const block of blocks) {
      for (let page = 0; page < block.size / PAGE_SIZE; page++) {
        if (this.#random() >= fill) continue;
        const from = (block.hostOffset + page * PAGE_SIZE) / 4;
        for (let i = 0; i < PAGE_SIZE / 4; i++) words[from + i] = this.#random() * 2 ** 32;
        memory.markDirty(block, page * PAGE_SIZE, PAGE_SIZE);
      }
    }
    this.addSection(toySection("timer", 0, MIG_PRI.DEFAULT, 24));
    this.addSection(this.#hartSection());
    this.addSection(toySection("iommu", 0, MIG_PRI.IOMMU, 10));
    this.addSection(toySection("virtio-mmio@0000000010008000/virtio-blk", 0, MIG_PRI.DEFAULT, 700));
    for (const section of options.extraSections ?? []) this.addSection(section);
    this.drives.push({
      activate: async () => {
        if (this.refuseDrive !== undefined) throw new Error(this.refuseDrive);
        if (this.dead) throw new Error("this process is dead");
        const { driveOwner } = this.world;
        if (driveOwner !== undefined && driveOwner !== this && !driveOwner.dead) {
          this.world.violations.push("both machines had the drive");
          throw new Error("the drive is locked by another machine");
        }
        this.world.driveOwner = this;
      },
      inactivate: async () => {
        if (this.keepDrive !== undefined) throw new Error(this.keepDrive);
        if (this.world.driveOwner === this) this.world.driveOwner = undefined;
      },
      left: (how) => {
        if (this.world.driveOwner === this) this.world.violations.push("it left with the drive");
        this.leftAs.push(how);
      },
    });
  }

  /** The process dies. */
  kill(): void {
    this.dead = true;
    this.halt();
  }

  run(): void {
    if (this.dead) return;
    const { running } = this.world;
    if (running !== undefined && running !== this) this.world.violations.push("two machines ran");
    this.world.running = this;
    this.#timer = setInterval(() => this.#work(), 1);
  }
  halt(): void {
    clearInterval(this.#timer);
    if (this.world.running === this) this.world.running = undefined;
  }

  #work(): void {
    this.ticks++;
    const ram = this.memory.blocks[0] as RamBlock;
    for (let i = 0; i < this.#dirtyPerMs; i++) {
      const at = Math.floor((this.#random() * ram.size) / 4) * 4;
      this.memory.writeU32(ram.guestPhys + at, Math.floor(this.#random() * 2 ** 32));
    }
  }

  memoryHash(): number {
    const hash = new Xxh32();
    for (const block of this.memory.blocks) {
      hash.update(this.memory.bytes.slice(block.hostOffset, block.hostOffset + block.size));
    }
    return hash.digest();
  }

  #loadedHash: number | undefined;
  #hartSection(): Section {
    return {
      idstr: "cpu",
      instanceId: 0,
      vmsdName: "cpu",
      version: 2,
      minimumVersion: 1,
      priority: MIG_PRI.DEFAULT,
      encode: (writer: ByteWriter) => {
        writer.u64(this.ticks).u32(this.memoryHash());
      },
      decode: (reader: ByteReader) => {
        const ticks = reader.u64();
        const hash = reader.u32();
        return () => {
          this.ticks = ticks;
          this.#loadedHash = hash;
        };
      },
      describe: () => ({
        fields: [
          { name: "ticks", type: "uint64", size: 8 },
          { name: "memory_hash", type: "uint32", size: 4 },
        ],
      }),
    };
  }
  verifyLoaded(): void {
    if (this.#loadedHash !== undefined && this.#loadedHash !== this.memoryHash()) {
      throw new Error("memory and device state are of different moments");
    }
  }
}

function fakeCpus(machine: () => FakeMachine): SynchronizeHooks {
  return {
    synchronizeAllStates: async () => {},
    synchronizeAllPreLoad: () => {},
    synchronizeAllPostInit: () => machine().verifyLoaded(),
    synchronizeAllPostReset: () => {},
    resetAll: () => {},
    resumeAll: () => machine().run(),
    pauseAll: async () => machine().halt(),
  };
}

export function fakeVm(memory: GuestMemory): AcceleratorVm {
  return {
    memory,
    builtinFirmware: true,
    setBuiltinFirmware: () => {},
    started: Promise.resolve(),
    vcpus: [],
    setEvents: () => {},
    setMemorySlot: () => {},
    getAndClearDirtyLog: async (slot) => memory.takeDirty(memory.blocks[slot] as RamBlock),
    createIrqchip: () => {},
    irqLine: () => {},
    irqEdge: () => {},
    ioeventfd: () => ({ remove: () => {} }),
    resetIrqchip: () => {},
    isSuspended: false,
    wakeUp: () => {},
    clock: { frequencyHz: 10_000_000, read: () => 0n, write: () => {}, stop: () => {}, start: () => {} },
    markDead: () => {},
    failure: undefined,
    destroy: async () => {},
  };
}

/** `size` bytes of state behind a length, with a trailing optional subsection as QEMU writes them. */
export function toySection(idstr: string, instanceId: number, priority: number, size: number): Section {
  const state = Uint8Array.from({ length: size }, (_, i) => i * 7 + size);
  return {
    idstr,
    instanceId,
    vmsdName: idstr.replace(/^.*\//, ""),
    version: 1,
    minimumVersion: 1,
    priority,
    encode(writer) {
      writer.u32(size).bytes(state);
    },
    decode(reader) {
      const length = reader.u32();
      const bytes = reader.bytes(length).slice();
      if (length !== size) throw new Error(`${idstr}.length: expected ${size}, found ${length}`);
      return () => state.set(bytes);
    },
    describe: () => ({
      fields: [
        { name: "length", type: "uint32", size: 4 },
        { name: "state", type: "buffer", size },
      ],
    }),
  };
}
