// Doorbells that only notify (KVM_IOEVENTFD): the vCPU thread recognises the write, sets a bit, signals the
// VMM thread and continues without waiting for an answer.
import {
  IOEVENTFD_ENTRIES,
  IOEVENTFD_ENTRY_SIZE,
  IOEVENTFD_FIRED,
  MAX_IOEVENTFDS,
  VM_IOEVENTFD,
} from "./memory-map.ts";

const FIRED_WORDS = MAX_IOEVENTFDS / 32;

export class Ioeventfds {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #notify: ((() => void) | undefined)[] = [];

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  #entry(i: number): number {
    return (VM_IOEVENTFD + IOEVENTFD_ENTRIES + i * IOEVENTFD_ENTRY_SIZE) >>> 2;
  }

  #firedWord(i: number): number {
    return ((VM_IOEVENTFD + IOEVENTFD_FIRED) >>> 2) + (i >>> 5);
  }

  /** VMM thread: `notify` runs there after each burst of matching 4-byte writes. */
  add(guestPhys: number, datamatch: number, notify: () => void): { remove(): void } {
    const count = Atomics.load(this.#words, VM_IOEVENTFD >>> 2);
    let i = 0;
    while (i < count && Atomics.load(this.#words, this.#entry(i) + 3) !== 0) i++;
    if (i >= MAX_IOEVENTFDS) throw new RangeError(`more than ${MAX_IOEVENTFDS} ioeventfds`);
    const entry = this.#entry(i);
    this.#words[entry] = guestPhys | 0;
    this.#words[entry + 1] = Math.floor(guestPhys / 0x1_0000_0000);
    this.#words[entry + 2] = datamatch | 0;
    this.#notify[i] = notify;
    Atomics.store(this.#words, entry + 3, 1);
    if (i === count) Atomics.store(this.#words, VM_IOEVENTFD >>> 2, count + 1);
    let there = true;
    return {
      remove: () => {
        if (!there) return;
        there = false;
        this.#notify[i] = undefined;
        Atomics.store(this.#words, entry + 3, 0);
        Atomics.and(this.#words, this.#firedWord(i), ~(1 << (i & 31)));
      },
    };
  }

  /** vCPU thread: true if the write matched a doorbell; the VMM thread must then be signalled. */
  match(guestPhys: number, value: number): boolean {
    const count = Atomics.load(this.#words, VM_IOEVENTFD >>> 2);
    const low = guestPhys | 0;
    for (let i = 0; i < count; i++) {
      const entry = this.#entry(i);
      if (
        this.#words[entry] === low &&
        this.#words[entry + 2] === (value | 0) &&
        this.#words[entry + 1] === Math.floor(guestPhys / 0x1_0000_0000) &&
        Atomics.load(this.#words, entry + 3) !== 0
      ) {
        Atomics.or(this.#words, this.#firedWord(i), 1 << (i & 31));
        return true;
      }
    }
    return false;
  }

  /** True if a doorbell rang that has not been dispatched. */
  get hasFired(): boolean {
    for (let w = 0; w < FIRED_WORDS; w++)
      if (Atomics.load(this.#words, this.#firedWord(w * 32)) !== 0) return true;
    return false;
  }

  /** VMM thread: run the notifiers of all doorbells that rang. */
  dispatch(): void {
    for (let w = 0; w < FIRED_WORDS; w++) {
      let fired = Atomics.exchange(this.#words, this.#firedWord(w * 32), 0);
      while (fired !== 0) {
        const bit = 31 - Math.clz32(fired & -fired);
        fired &= fired - 1;
        this.#notify[w * 32 + bit]?.();
      }
    }
  }
}
