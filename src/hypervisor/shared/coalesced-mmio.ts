// Coalesced MMIO (KVM_REGISTER_COALESCED_MMIO): a write to a registered zone is queued in a ring, and its
// vCPU continues. The VMM thread drains the ring before it answers any exit, when it is signalled, and before
// it regards a vCPU as parked. So a device sees all writes of a vCPU in program order, and a saved machine
// has none queued. As in KVM, all vCPUs share one ring: writes that the guest orders between harts (by a
// lock) stay in that order.
import {
  COALESCED_CAPACITY,
  COALESCED_ENTRIES,
  COALESCED_ENTRY_SIZE,
  COALESCED_ZONE_SIZE,
  COALESCED_ZONES,
  MAX_COALESCED_ZONES,
  VM_COALESCED,
} from "./memory-map.ts";
import { withLock } from "./spin-lock.ts";

const LOCK = VM_COALESCED >>> 2;
/** Numbers of entries removed and added so far; they wrap. */
const HEAD = LOCK + 1;
const TAIL = LOCK + 2;
const ZONE_COUNT = LOCK + 3;

export class CoalescedMmio {
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  #zone(i: number): number {
    return (VM_COALESCED + COALESCED_ZONES + i * COALESCED_ZONE_SIZE) >>> 2;
  }
  #entry(index: number): number {
    return (
      (VM_COALESCED + COALESCED_ENTRIES + (index & (COALESCED_CAPACITY - 1)) * COALESCED_ENTRY_SIZE) >>> 2
    );
  }

  /** VMM thread, before any vCPU runs: queue writes of 1 to 4 bytes that lie in this range. */
  addZone(guestPhys: number, size: number): void {
    const count = this.#words[ZONE_COUNT]!;
    if (count >= MAX_COALESCED_ZONES)
      throw new RangeError(`more than ${MAX_COALESCED_ZONES} coalesced zones`);
    const zone = this.#zone(count);
    this.#words[zone] = guestPhys | 0;
    this.#words[zone + 1] = Math.floor(guestPhys / 0x1_0000_0000);
    this.#words[zone + 2] = size;
    Atomics.store(this.#words, ZONE_COUNT, count + 1);
  }

  #inZone(guestPhys: number, size: number): boolean {
    const words = this.#words;
    const count = words[ZONE_COUNT]!;
    for (let i = 0; i < count; i++) {
      const zone = this.#zone(i);
      const start = words[zone + 1]! * 0x1_0000_0000 + (words[zone]! >>> 0);
      if (guestPhys >= start && guestPhys + size <= start + words[zone + 2]!) return true;
    }
    return false;
  }

  /**
   * vCPU thread: true if the write was queued; the VMM thread must be signalled soon. False if the write is
   * in no zone or the ring is full: it is an exit like any other.
   */
  push(guestPhys: number, size: number, value: bigint): boolean {
    if (size > 4 || !this.#inZone(guestPhys, size)) return false;
    const words = this.#words;
    return withLock(words, LOCK, () => {
      const tail = words[TAIL]!;
      if (((tail - Atomics.load(words, HEAD)) | 0) >= COALESCED_CAPACITY) return false;
      const entry = this.#entry(tail);
      words[entry] = guestPhys | 0;
      words[entry + 1] = Math.floor(guestPhys / 0x1_0000_0000);
      words[entry + 2] = size;
      words[entry + 3] = Number(BigInt.asIntN(32, value));
      Atomics.store(words, TAIL, (tail + 1) | 0);
      return true;
    });
  }

  /** VMM thread: pass on all queued writes, in order. */
  drain(write: (guestPhys: number, size: number, value: bigint) => void): void {
    const words = this.#words;
    for (let head = words[HEAD]!; head !== Atomics.load(words, TAIL); head = words[HEAD]!) {
      const entry = this.#entry(head);
      const guestPhys = words[entry + 1]! * 0x1_0000_0000 + (words[entry]! >>> 0);
      const size = words[entry + 2]!;
      const value = BigInt.asUintN(8 * size, BigInt(words[entry + 3]!));
      Atomics.store(words, HEAD, (head + 1) | 0);
      write(guestPhys, size, value);
    }
  }
}
