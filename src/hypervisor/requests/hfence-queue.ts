// A vCPU's queue of address ranges to fence (kvm_riscv_hfence): written by the requesting harts, read by the
// vCPU when it handles HFENCE. If it is full, the sender falls back to HFENCE_VVMA_ALL.
import {
  HFENCE_CAPACITY,
  HFENCE_ENTRIES,
  HFENCE_ENTRY_SIZE,
  HFENCE_HEAD,
  HFENCE_LOCK,
  HFENCE_TAIL,
  hartBase,
} from "../shared/memory-map.ts";
import { withLock } from "../shared/spin-lock.ts";

export const HFENCE_TYPE = { VVMA: 1, VVMA_ASID: 2 } as const;

export interface Hfence {
  readonly type: number;
  readonly asid: number;
  /** Guest-virtual start and size in bytes. */
  readonly start: bigint;
  readonly size: bigint;
}

export class HfenceQueue {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #wide: BigUint64Array<SharedArrayBuffer>;
  readonly #base: number;

  constructor(buffer: SharedArrayBuffer, hart: number) {
    this.#words = new Int32Array(buffer);
    this.#wide = new BigUint64Array(buffer);
    this.#base = hartBase(hart);
  }

  #word(offset: number): number {
    return (this.#base + offset) >>> 2;
  }
  #entry(n: number): number {
    return this.#base + HFENCE_ENTRIES + (n % HFENCE_CAPACITY) * HFENCE_ENTRY_SIZE;
  }

  /** Returns false if the queue is full. */
  push(fence: Hfence): boolean {
    return withLock(this.#words, this.#word(HFENCE_LOCK), () => {
      const head = this.#words[this.#word(HFENCE_HEAD)]!;
      const tail = this.#words[this.#word(HFENCE_TAIL)]!;
      if (((tail - head) | 0) >= HFENCE_CAPACITY) return false;
      const entry = this.#entry(tail >>> 0);
      this.#words[entry >>> 2] = fence.type;
      this.#words[(entry >>> 2) + 1] = fence.asid;
      this.#wide[(entry >>> 3) + 1] = fence.start;
      this.#wide[(entry >>> 3) + 2] = fence.size;
      this.#words[this.#word(HFENCE_TAIL)] = (tail + 1) | 0;
      return true;
    });
  }

  /** Remove and return all queued fences. */
  drain(): Hfence[] {
    return withLock(this.#words, this.#word(HFENCE_LOCK), () => {
      const fences: Hfence[] = [];
      let head = this.#words[this.#word(HFENCE_HEAD)]!;
      const tail = this.#words[this.#word(HFENCE_TAIL)]!;
      for (; head !== tail; head = (head + 1) | 0) {
        const entry = this.#entry(head >>> 0);
        fences.push({
          type: this.#words[entry >>> 2]!,
          asid: this.#words[(entry >>> 2) + 1]!,
          start: this.#wide[(entry >>> 3) + 1]!,
          size: this.#wide[(entry >>> 3) + 2]!,
        });
      }
      this.#words[this.#word(HFENCE_HEAD)] = head;
      return fences;
    });
  }
}
