// Shadowed MMIO registers (KVM has no equivalent): the value that a read would return is in shared memory,
// and the read has no side effect, so the vCPU answers it without an exit. The device withdraws a value
// whenever it may have changed; a concurrent read may still return the old value, as it would have a moment
// earlier. Bytes only.
import { MAX_MMIO_SHADOWS, MMIO_SHADOW_SIZE, VM_MMIO_SHADOWS } from "./memory-map.ts";

const COUNT = VM_MMIO_SHADOWS >>> 2;
const KNOWN = 0x100;

export class MmioShadows {
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  #shadow(i: number): number {
    return COUNT + ((MMIO_SHADOW_SIZE * (i + 1)) >>> 2);
  }

  /**
   * VMM thread, before any vCPU runs: the byte at this address may be shadowed. `undefined` means that reads
   * go to the device.
   */
  add(guestPhys: number): { set(value: number | undefined): void } {
    const words = this.#words;
    const count = words[COUNT] as number;
    if (count >= MAX_MMIO_SHADOWS) throw new RangeError(`more than ${MAX_MMIO_SHADOWS} shadowed registers`);
    const at = this.#shadow(count);
    words[at] = guestPhys | 0;
    words[at + 1] = Math.floor(guestPhys / 0x1_0000_0000);
    Atomics.store(words, COUNT, count + 1);
    return {
      set: (value) => void Atomics.store(words, at + 2, value === undefined ? 0 : value | KNOWN),
    };
  }

  /** The shadowed value, or -1 if the device must answer. */
  read(guestPhys: number, size: number): number {
    const words = this.#words;
    const count = words[COUNT] as number;
    for (let i = 0; i < count && size === 1; i++) {
      const at = this.#shadow(i);
      if (words[at] !== (guestPhys | 0) || words[at + 1] !== Math.floor(guestPhys / 0x1_0000_0000)) continue;
      const word = Atomics.load(words, at + 2);
      return word === 0 ? -1 : word & 0xff;
    }
    return -1;
  }
}
