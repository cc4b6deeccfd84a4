// Interrupt status registers of devices (KVM has no equivalent): a driver reads one and acknowledges it in
// each interrupt, and both would wait for the VMM thread. The register is in shared memory instead: the VMM
// thread raises bits, a vCPU reads and clears them, and each drives the line by what the register then holds.
import type { InterruptStatus } from "../../memory/irq-line.ts";
import {
  INTERRUPT_STATUS_SIZE,
  MAX_INTERRUPT_STATUSES,
  VM_INTERRUPT_STATUSES,
} from "../shared/memory-map.ts";
import type { Plic } from "./plic.ts";

const COUNT = VM_INTERRUPT_STATUSES >>> 2;
const STATUS = 2;
const SOURCE = 3;

export class InterruptStatuses {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #plic: Plic;

  constructor(buffer: SharedArrayBuffer, plic: Plic) {
    this.#words = new Int32Array(buffer);
    this.#plic = plic;
  }

  /** VMM thread, before any vCPU runs: the acknowledge register is the word after the one at `guestPhys`. */
  add(guestPhys: number, source: number): InterruptStatus {
    const words = this.#words;
    const count = words[COUNT]!;
    if (count >= MAX_INTERRUPT_STATUSES)
      throw new RangeError(`more than ${MAX_INTERRUPT_STATUSES} interrupt status registers`);
    const at = this.#entry(count);
    words[at] = guestPhys | 0;
    words[at + 1] = Math.floor(guestPhys / 0x1_0000_0000);
    words[at + SOURCE] = source;
    Atomics.store(words, COUNT, count + 1);
    return {
      read: () => Atomics.load(words, at + STATUS),
      raise: (bits) => {
        Atomics.or(words, at + STATUS, bits);
        this.#plic.follow(source, at + STATUS);
      },
      acknowledge: (bits) => this.#acknowledge(at, bits),
    };
  }

  /** vCPU thread: the register's value, or -1 if the address has none. */
  read(guestPhys: number, size: number): number {
    const at = size === 4 ? this.#find(guestPhys) : 0;
    return at === 0 ? -1 : Atomics.load(this.#words, at + STATUS);
  }

  /** vCPU thread: false if this is no acknowledge register. */
  acknowledge(guestPhys: number, size: number, bits: number): boolean {
    const at = size === 4 ? this.#find(guestPhys - 4) : 0;
    if (at !== 0) this.#acknowledge(at, bits);
    return at !== 0;
  }

  #acknowledge(at: number, bits: number): void {
    const words = this.#words;
    Atomics.and(words, at + STATUS, ~bits);
    this.#plic.follow(words[at + SOURCE]!, at + STATUS);
  }

  #entry(i: number): number {
    return COUNT + ((INTERRUPT_STATUS_SIZE * (i + 1)) >>> 2);
  }

  /** The entry's word index, or 0. */
  #find(guestPhys: number): number {
    const words = this.#words;
    const high = Math.floor(guestPhys / 0x1_0000_0000);
    for (let i = words[COUNT]! - 1; i >= 0; i--) {
      const at = this.#entry(i);
      if (words[at] === (guestPhys | 0) && words[at + 1] === high) return at;
    }
    return 0;
  }
}
