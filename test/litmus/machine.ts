// A VM on real threads for litmus programs: harts in M-mode, or in S-mode above the built-in firmware, each
// with its own entry and registers, run until each has set its word at DONE. The next program runs on the
// same harts with their caches.
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import type { EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";
import { createVm } from "../../src/embed/create-vm.ts";
import { CTL_HALTED, CTL_MP_STATE, hartBase } from "../../src/hypervisor/shared/memory-map.ts";
import { MP_STATE } from "../../src/accelerator/mp-state.ts";
import { HartImage } from "../../src/hypervisor/hart/hart-image.ts";
import { SCRATCH } from "../../src/hypervisor/shared/hart-scratch.ts";
import { planMemory, type Vm } from "../../src/hypervisor/vm/vm.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";

export const HARTS = 4;
const RAM = 0x80000000;
const RAM_SIZE = 0x200000;
const CODE = RAM;
/** One word for each hart, 64 bytes apart. */
const DONE = RAM + 0x8000;
/** The programs' data. */
export const DATA = RAM + 0x10000;
export const DATA_SIZE = RAM_SIZE - 0x10000;
const BLOCKS = [{ name: "ram", guestPhys: RAM, size: RAM_SIZE, readonly: false }];

/** The end of each hart's code: sets its word at DONE and sleeps. */
export const finish = (hart: number): string => `
  fence rw, rw
  li t0, ${DONE + hart * 64}
  li t1, 1
  sw t1, 0(t0)
1: wfi
  j 1b
`;

export class LitmusMachine {
  readonly #vm: Vm;
  readonly #ram: Uint8Array;
  /** RAM from DATA on. */
  readonly data: DataView;
  readonly #builtinFirmware: boolean;

  static async create(engine: EngineKind, builtinFirmware = false): Promise<LitmusMachine> {
    const options = { vcpuCount: HARTS, blocks: BLOCKS, builtinFirmware, engine, translateAfter: 0 };
    return new LitmusMachine(await createVm(options, nodePlatform), builtinFirmware);
  }

  private constructor(vm: Vm, builtinFirmware: boolean) {
    this.#builtinFirmware = builtinFirmware;
    this.#vm = vm;
    const offset = planMemory(HARTS, BLOCKS).blocks[0]?.hostOffset ?? 0;
    this.#ram = new Uint8Array(this.#vm.buffer, offset, RAM_SIZE);
    this.data = new DataView(this.#vm.buffer, offset + DATA - RAM, DATA_SIZE);
    const fault = (): never => {
      throw new Error("a litmus program left its memory");
    };
    this.#vm.setEvents({
      mmio: { read: fault, write: fault },
      systemEvent: fault,
      consoleWrite: fault,
      consoleRead: fault,
      internalError: (hart, message) => {
        throw new Error(`hart ${hart}: ${message}`);
      },
    });
  }

  /**
   * Runs a program: hart n starts at label `hart<n>` with these registers. Throws if a hart is not done in
   * time, with the pc of each.
   */
  async run(
    source: string,
    registers: readonly Readonly<Record<number, number>>[],
    limitMs: number,
  ): Promise<void> {
    const assembled = assemble([{ name: "litmus", text: source }], { base: BigInt(CODE) });
    this.#vm.memory.write(CODE, flatBinary(assembled));
    this.#ram.fill(0, DONE - RAM, DONE - RAM + 64 * HARTS);
    const harts = registers.map((_, i) => i);
    for (const [hart, values] of registers.entries()) {
      const image = new HartImage(this.#vm.buffer, hart);
      const entry = assembled.symbols.get(`hart${hart}`) ?? 0n;
      if (this.#builtinFirmware) image.resetForStart(entry, 0n);
      else image.reset(entry);
      for (const [x, value] of Object.entries(values)) image.set("x", BigInt(value), Number(x));
      const words = new Int32Array(this.#vm.buffer);
      Atomics.store(words, (hartBase(hart) + CTL_HALTED) >>> 2, 0);
      Atomics.store(words, (hartBase(hart) + CTL_MP_STATE) >>> 2, MP_STATE.RUNNABLE);
    }
    for (const hart of harts) this.#vm.vcpus[hart]?.resume();
    const end = performance.now() + limitMs;
    while (!harts.every((hart) => this.#ram[DONE - RAM + 64 * hart] === 1) && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(this.#vm.vcpus.slice(0, harts.length).map((vcpu) => vcpu.pause()));
    const late = harts.filter((hart) => this.#ram[DONE - RAM + 64 * hart] !== 1);
    if (late.length === 0) return;
    const where = harts.map((hart) => new HartImage(this.#vm.buffer, hart).get("pc").toString(16));
    throw new Error(`harts ${late.join(", ")} not done within ${limitMs} ms; pcs ${where.join(" ")}`);
  }

  /** Writes as a device does, so that translations of the old contents become stale. */
  write(address: number, bytes: Uint8Array): void {
    this.#vm.memory.write(address, bytes);
  }

  /**
   * Runs the program. Until it is done, and once more afterwards, copies the pages in the dirty log, as a
   * migration does. Resolves to the copy.
   */
  async runAndCopy(
    source: string,
    registers: readonly Readonly<Record<number, number>>[],
    limitMs: number,
  ): Promise<{ copy: Uint8Array; ram: Uint8Array; rounds: number }> {
    await this.#vm.getAndClearDirtyLog(0);
    const copy = this.#ram.slice();
    const copyDirty = async (): Promise<void> => {
      const log = await this.#vm.getAndClearDirtyLog(0);
      for (let page = 0; page < RAM_SIZE / 4096; page++) {
        if (((log[page >>> 5] as number) >>> (page & 31)) % 2 === 0) continue;
        copy.set(this.#ram.subarray(page * 4096, page * 4096 + 4096), page * 4096);
      }
    };
    let isDone = false;
    const run = this.run(source, registers, limitMs).finally(() => (isDone = true));
    let rounds = 0;
    while (!isDone) {
      await copyDirty();
      rounds++;
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await run;
    await copyDirty();
    return { copy, ram: this.#ram, rounds };
  }

  /** Number of instructions executed, and how many of them translated code executed. */
  get instructions(): { executed: number; translated: number } {
    const view = new DataView(this.#vm.buffer);
    const sum = (offset: number): number =>
      this.#vm.vcpus.reduce(
        (total, { id }) => total + Number(view.getBigUint64(hartBase(id) + offset, true)),
        0,
      );
    return { executed: sum(SCRATCH.executed), translated: sum(SCRATCH.translated) };
  }

  destroy(): Promise<void> {
    return this.#vm.destroy();
  }
}
