// The hypervisor's platform-level interrupt controller (KVM's in-kernel irqchip; RISC-V PLIC specification
// 1.0.0, with the layout of SiFive and of QEMU's virt board). State is in shared memory: vCPU threads handle
// guest accesses themselves, the VMM thread drives the lines. Each hart has two contexts: 2h is machine mode,
// 2h+1 supervisor mode.
import { INTERRUPT } from "../../riscv/causes.ts";
import { hex } from "../../base/hex.ts";
import { WherryError } from "../../base/errors.ts";
import { defineState, type StateOf, u32, varU32Array } from "../../state/schema.ts";
import { CTL_LINES, MAX_VCPUS, PLIC_AREA_SIZE, VM_PLIC } from "../shared/memory-map.ts";
import { MemoryRegion } from "../shared/memory-region.ts";
import type { VcpuRequests } from "../requests/vcpu-requests.ts";
import { withLock } from "../shared/spin-lock.ts";

export const PLIC_SOURCES = 96;
const SOURCE_WORDS = 3;
const PRIORITY_MASK = 7;

const MIP_SEIP = 1 << INTERRUPT.SEI;
const MIP_MEIP = 1 << INTERRUPT.MEI;

const MAX_CONTEXTS = 2 * MAX_VCPUS;

const area = new MemoryRegion("PLIC", VM_PLIC, VM_PLIC + PLIC_AREA_SIZE);
/** Word indexes in shared memory. */
const wordsOf = (name: string, count: number): number => area.take(name, count * 4, 16) >>> 2;
const LOCK = wordsOf("lock", 1);
const LEVEL = wordsOf("level", SOURCE_WORDS);
const PENDING = wordsOf("pending", SOURCE_WORDS);
const CLAIMED = wordsOf("claimed", SOURCE_WORDS);
const PRIORITY = wordsOf("priority", PLIC_SOURCES);
const ENABLE_STRIDE = 4;
const ENABLE = wordsOf("enable", MAX_CONTEXTS * ENABLE_STRIDE);
const THRESHOLD = wordsOf("threshold", MAX_CONTEXTS);

/** Migratable state; names and shapes as in QEMU's riscv_sifive_plic section, plus the wires' levels. */
export const plicState = defineState(
  "riscv_sifive_plic",
  { version: 1, minimumVersion: 1 },
  {
    numSources: u32.range(PLIC_SOURCES, PLIC_SOURCES),
    numContexts: u32.range(2, MAX_CONTEXTS),
    numEnableWords: u32.range(SOURCE_WORDS * 2, SOURCE_WORDS * MAX_CONTEXTS),
    numBitWords: u32.range(SOURCE_WORDS, SOURCE_WORDS),
    sourcePriority: varU32Array("numSources", PLIC_SOURCES),
    targetPriority: varU32Array("numContexts", MAX_CONTEXTS),
    pending: varU32Array("numBitWords", SOURCE_WORDS),
    claimed: varU32Array("numBitWords", SOURCE_WORDS),
    enable: varU32Array("numEnableWords", SOURCE_WORDS * MAX_CONTEXTS),
    level: varU32Array("numBitWords", SOURCE_WORDS),
  },
);
export type PlicState = StateOf<typeof plicState>;

export class PlicError extends WherryError {}

function bitOf(source: number): { word: number; bit: number } {
  if (source <= 0 || source >= PLIC_SOURCES) throw new RangeError(`PLIC source ${source} is outside 1..95`);
  return { word: source >>> 5, bit: 1 << (source & 31) };
}

export class Plic {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #vcpus: readonly VcpuRequests[];

  constructor(buffer: SharedArrayBuffer, vcpus: readonly VcpuRequests[]) {
    this.#words = new Int32Array(buffer);
    this.#vcpus = vcpus;
  }

  get #contexts(): number {
    return this.#vcpus.length * 2;
  }

  /** Drive the wire of `source` (1…95). */
  setLine(source: number, level: boolean): void {
    this.#drive(source, () => level);
  }

  /**
   * Drive the wire of `source` by a word of the shared memory, which the caller has changed: high if it is
   * not zero. Of threads that change it at the same time, the last one here sees what all have made of it.
   */
  follow(source: number, word: number): void {
    this.#drive(source, () => Atomics.load(this.#words, word) !== 0);
  }

  #drive(source: number, level: () => boolean): void {
    const { word, bit } = bitOf(source);
    const words = this.#words;
    withLock(words, LOCK, () => {
      if (level()) {
        words[LEVEL + word]! |= bit;
        if ((words[CLAIMED + word]! & bit) === 0) words[PENDING + word]! |= bit;
      } else {
        words[LEVEL + word]! &= ~bit;
        words[PENDING + word]! &= ~bit;
      }
      this.#update();
    });
  }

  /** An edge on `source`. While it is being served, one edge waits for the completion. */
  edge(source: number): void {
    const { word, bit } = bitOf(source);
    const words = this.#words;
    withLock(words, LOCK, () => {
      words[PENDING + word]! |= bit;
      this.#update();
    });
  }

  /** Guest read of 4 bytes at `offset` in the PLIC's window. */
  read(offset: number): number {
    const words = this.#words;
    if (offset < PLIC_SOURCES * 4) return words[PRIORITY + (offset >>> 2)]!;
    if (offset >= 0x1000 && offset < 0x1000 + SOURCE_WORDS * 4)
      return words[PENDING + ((offset - 0x1000) >>> 2)]! >>> 0;
    if (offset >= 0x2000 && offset < 0x2000 + this.#contexts * 0x80) {
      const word = (offset & 0x7f) >>> 2;
      return word < SOURCE_WORDS
        ? words[ENABLE + ((offset - 0x2000) >>> 7) * ENABLE_STRIDE + word]! >>> 0
        : 0;
    }
    if (offset >= 0x200000 && offset < 0x200000 + this.#contexts * 0x1000) {
      const context = (offset - 0x200000) >>> 12;
      if ((offset & 0xfff) === 0) return words[THRESHOLD + context]!;
      if ((offset & 0xfff) === 4) return this.#claim(context);
    }
    return 0;
  }

  /** Guest write of 4 bytes. */
  write(offset: number, value: number): void {
    const words = this.#words;
    withLock(words, LOCK, () => {
      if (offset < PLIC_SOURCES * 4) {
        if (offset !== 0) words[PRIORITY + (offset >>> 2)] = value & PRIORITY_MASK;
      } else if (offset >= 0x2000 && offset < 0x2000 + this.#contexts * 0x80) {
        const word = (offset & 0x7f) >>> 2;
        if (word < SOURCE_WORDS) {
          words[ENABLE + ((offset - 0x2000) >>> 7) * ENABLE_STRIDE + word] = word === 0 ? value & ~1 : value;
        }
      } else if (offset >= 0x200000 && offset < 0x200000 + this.#contexts * 0x1000) {
        const context = (offset - 0x200000) >>> 12;
        if ((offset & 0xfff) === 0) words[THRESHOLD + context] = value & PRIORITY_MASK;
        else if ((offset & 0xfff) === 4) this.#complete(context, value);
      }
      this.#update();
    });
  }

  #best(context: number): number {
    const words = this.#words;
    let best = 0;
    let bestPriority = words[THRESHOLD + context]!;
    for (let w = 0; w < SOURCE_WORDS; w++) {
      let ready = words[PENDING + w]! & ~words[CLAIMED + w]! & words[ENABLE + context * ENABLE_STRIDE + w]!;
      while (ready !== 0) {
        const bit = 31 - Math.clz32(ready & -ready);
        ready &= ready - 1;
        const priority = words[PRIORITY + w * 32 + bit]!;
        if (priority > bestPriority) {
          bestPriority = priority;
          best = w * 32 + bit;
        }
      }
    }
    return best;
  }

  #claim(context: number): number {
    const words = this.#words;
    return withLock(words, LOCK, () => {
      const source = this.#best(context);
      if (source !== 0) {
        const bit = 1 << (source & 31);
        words[PENDING + (source >>> 5)]! &= ~bit;
        words[CLAIMED + (source >>> 5)]! |= bit;
        this.#update();
      }
      return source;
    });
  }

  #complete(context: number, source: number): void {
    const words = this.#words;
    if (source <= 0 || source >= PLIC_SOURCES) return;
    const word = source >>> 5;
    const bit = 1 << (source & 31);
    // Completion by a context for which the source is not enabled is ignored (PLIC 1.0.0, chapter 9).
    if ((words[ENABLE + context * ENABLE_STRIDE + word]! & bit) === 0) return;
    words[CLAIMED + word]! &= ~bit;
    if ((words[LEVEL + word]! & bit) !== 0) words[PENDING + word]! |= bit;
  }

  /** Recompute every context's output; with the lock held. */
  #update(): void {
    for (let context = 0; context < this.#contexts; context++) {
      const vcpu = this.#vcpus[context >>> 1]!;
      const line = (context & 1) === 0 ? MIP_MEIP : MIP_SEIP;
      if (this.#best(context) !== 0) {
        if ((vcpu.or(CTL_LINES, line) & line) === 0) vcpu.interrupt();
      } else {
        vcpu.and(CTL_LINES, ~line);
      }
    }
  }

  reset(): void {
    const words = this.#words;
    withLock(words, LOCK, () => {
      for (let i = 0; i < SOURCE_WORDS; i++) {
        words[CLAIMED + i] = 0;
        words[PENDING + i] = words[LEVEL + i]!;
      }
      words.fill(0, PRIORITY, PRIORITY + PLIC_SOURCES);
      words.fill(0, ENABLE, ENABLE + MAX_CONTEXTS * ENABLE_STRIDE);
      words.fill(0, THRESHOLD, THRESHOLD + MAX_CONTEXTS);
      this.#update();
    });
  }

  /** KVM_GET_IRQCHIP. */
  get(): PlicState {
    const words = this.#words;
    const contexts = this.#contexts;
    return withLock(words, LOCK, () => {
      const take = (from: number, n: number): Uint32Array<ArrayBuffer> =>
        Uint32Array.from(words.subarray(from, from + n));
      const enable = new Uint32Array(contexts * SOURCE_WORDS);
      for (let c = 0; c < contexts; c++)
        enable.set(take(ENABLE + c * ENABLE_STRIDE, SOURCE_WORDS), c * SOURCE_WORDS);
      return {
        numSources: PLIC_SOURCES,
        numContexts: contexts,
        numEnableWords: contexts * SOURCE_WORDS,
        numBitWords: SOURCE_WORDS,
        sourcePriority: take(PRIORITY, PLIC_SOURCES),
        targetPriority: take(THRESHOLD, contexts),
        pending: take(PENDING, SOURCE_WORDS),
        claimed: take(CLAIMED, SOURCE_WORDS),
        enable,
        level: take(LEVEL, SOURCE_WORDS),
      };
    });
  }

  /** KVM_SET_IRQCHIP. The schema has checked the values' ranges; the shape is checked here. */
  set(state: PlicState): void {
    this.check(state);
    const words = this.#words;
    withLock(words, LOCK, () => {
      for (let i = 0; i < PLIC_SOURCES; i++) words[PRIORITY + i] = state.sourcePriority[i]! & PRIORITY_MASK;
      for (let c = 0; c < state.numContexts; c++) {
        words[THRESHOLD + c] = state.targetPriority[c]! & PRIORITY_MASK;
        for (let w = 0; w < SOURCE_WORDS; w++) {
          words[ENABLE + c * ENABLE_STRIDE + w] = state.enable[c * SOURCE_WORDS + w]! | 0;
        }
      }
      for (let w = 0; w < SOURCE_WORDS; w++) {
        words[PENDING + w] = state.pending[w]! | 0;
        words[CLAIMED + w] = state.claimed[w]! | 0;
        words[LEVEL + w] = state.level[w]! | 0;
      }
      this.#update();
    });
  }

  /** Throws if the state is for another number of harts. */
  check(state: PlicState): void {
    const contexts = this.#contexts;
    if (state.numContexts !== contexts || state.numEnableWords !== contexts * SOURCE_WORDS) {
      throw new PlicError(
        "plic.contexts",
        `riscv_sifive_plic: the stream has ${state.numContexts} contexts and ${hex(state.numEnableWords)} enable words, this machine has ${contexts} contexts (two a hart): start it with ${state.numContexts / 2} harts`,
      );
    }
  }
}
