// Guest-physical memory as devices and migration see it: RAM blocks in one SharedArrayBuffer (the
// WebAssembly memory that the harts run on). Every write goes through here and marks dirty pages.
// A device never sees a host offset. Out of range is reported by value, never thrown: it is the guest's fault.

export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;

/** One block of guest RAM or ROM. Offsets and sizes are multiples of PAGE_SIZE. */
export interface RamBlock {
  /** QEMU's name of the block, such as `riscv_virt_board.ram`. */
  readonly name: string;
  readonly guestPhys: number;
  readonly size: number;
  /** Where the block starts in the shared buffer. */
  readonly hostOffset: number;
  readonly readonly: boolean;
  /** Dirty bits, a bit a page, bit 0 of word 0 first; shared with the harts, so only touched by Atomics. */
  readonly dirty: Int32Array<SharedArrayBuffer>;
}

export class GuestMemory {
  readonly blocks: readonly RamBlock[];
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly #view: DataView<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, blocks: readonly RamBlock[]) {
    this.blocks = blocks;
    this.bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
  }

  blockByName(name: string): RamBlock | undefined {
    return this.blocks.find((b) => b.name === name);
  }

  /** The block that wholly contains [guestPhys, guestPhys + length), or undefined. */
  blockAt(guestPhys: number, length: number): RamBlock | undefined {
    for (const b of this.blocks) {
      if (guestPhys >= b.guestPhys && guestPhys + length <= b.guestPhys + b.size) return b;
    }
    return undefined;
  }

  /** True if all of the range is RAM (device writes to `readonly` blocks are refused with `write` true). */
  contains(guestPhys: number, length: number, write = false): boolean {
    const b = this.blockAt(guestPhys, length);
    return b !== undefined && !(write && b.readonly);
  }

  /** Copy out of guest memory into `target`. False (and nothing copied) if out of range. */
  read(guestPhys: number, target: Uint8Array): boolean {
    const b = this.blockAt(guestPhys, target.length);
    if (b === undefined) return false;
    const at = b.hostOffset + (guestPhys - b.guestPhys);
    target.set(this.bytes.subarray(at, at + target.length));
    return true;
  }

  /** Copy `source` into guest memory and mark its pages dirty. False (and nothing written) if out of range. */
  write(guestPhys: number, source: Uint8Array): boolean {
    const b = this.blockAt(guestPhys, source.length);
    if (b === undefined || b.readonly) return false;
    this.bytes.set(source, b.hostOffset + (guestPhys - b.guestPhys));
    this.markDirty(b, guestPhys - b.guestPhys, source.length);
    return true;
  }

  /** The board's own writes, into read-only blocks too: images, flash programming. Marks the pages dirty. */
  writeBlock(block: RamBlock, ramOffset: number, source: Uint8Array): void {
    if (ramOffset + source.length > block.size)
      throw new RangeError(`${block.name} ends before ${ramOffset + source.length}`);
    this.bytes.set(source, block.hostOffset + ramOffset);
    this.markDirty(block, ramOffset, source.length);
  }

  /** Little-endian loads; undefined if out of range. u16 at an even address is one access (ring indexes). */
  readU16(guestPhys: number): number | undefined {
    const b = this.blockAt(guestPhys, 2);
    return b === undefined ? undefined : this.#view.getUint16(b.hostOffset + guestPhys - b.guestPhys, true);
  }
  readU32(guestPhys: number): number | undefined {
    const b = this.blockAt(guestPhys, 4);
    return b === undefined ? undefined : this.#view.getUint32(b.hostOffset + guestPhys - b.guestPhys, true);
  }
  readU64(guestPhys: number): bigint | undefined {
    const b = this.blockAt(guestPhys, 8);
    return b === undefined
      ? undefined
      : this.#view.getBigUint64(b.hostOffset + guestPhys - b.guestPhys, true);
  }

  writeU16(guestPhys: number, value: number): boolean {
    const b = this.blockAt(guestPhys, 2);
    if (b === undefined || b.readonly) return false;
    this.#view.setUint16(b.hostOffset + guestPhys - b.guestPhys, value, true);
    this.markDirty(b, guestPhys - b.guestPhys, 2);
    return true;
  }
  writeU32(guestPhys: number, value: number): boolean {
    const b = this.blockAt(guestPhys, 4);
    if (b === undefined || b.readonly) return false;
    this.#view.setUint32(b.hostOffset + guestPhys - b.guestPhys, value, true);
    this.markDirty(b, guestPhys - b.guestPhys, 4);
    return true;
  }

  /** A full memory barrier: ring index reads and writes are ordered around it. */
  barrier(): void {
    Atomics.store(this.#fence, 0, 0);
    Atomics.load(this.#fence, 0);
  }
  readonly #fence = new Int32Array(new SharedArrayBuffer(4));

  /** Mark the pages of [ramOffset, ramOffset + length) dirty. Always logged; who does not ask pays one `or`. */
  markDirty(block: RamBlock, ramOffset: number, length: number): void {
    if (length <= 0) return;
    const last = (ramOffset + length - 1) >>> PAGE_SHIFT;
    for (let page = ramOffset >>> PAGE_SHIFT; page <= last; page++) {
      Atomics.or(block.dirty, page >>> 5, 1 << (page & 31));
    }
  }
}
