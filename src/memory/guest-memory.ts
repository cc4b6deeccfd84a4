// Guest-physical memory for devices and migration: RAM blocks in one SharedArrayBuffer (the WebAssembly
// memory that the harts run on). Every write goes through this class and marks dirty pages. A device never
// sees a host offset. An access out of range is reported by return value, never thrown: it is the guest's
// fault.

export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;
const ZEROS = new Uint8Array(PAGE_SIZE);

/**
 * Two bitmaps for one block, one bit for each page: pages that translated code was made from, and such pages
 * that have been written since. Shared with the harts, whose write translations set the same bits
 * (hypervisor/hart/mmu.ts). To mark a code page, first set its bit, then make the harts flush their write
 * translations, then read the page.
 */
export class CodePages {
  readonly #pages: Int32Array<SharedArrayBuffer>;
  readonly #stale: Int32Array<SharedArrayBuffer>;
  readonly #count: Int32Array<SharedArrayBuffer>;

  /**
   * Two bitmaps of `size` bytes, one after the other, at byte `offset`. The u32 at `countOffset` counts pages
   * that became stale.
   */
  constructor(buffer: SharedArrayBuffer, offset: number, size: number, countOffset: number) {
    this.#pages = new Int32Array(buffer, offset, size / 4);
    this.#stale = new Int32Array(buffer, offset + size, size / 4);
    this.#count = new Int32Array(buffer, countOffset, 1);
  }

  /** Records a write to the pages of [offset, offset + length) in the block. */
  written(offset: number, length: number): void {
    if (length <= 0) return;
    const last = (offset + length - 1) >>> PAGE_SHIFT;
    for (let page = offset >>> PAGE_SHIFT; page <= last; page++) {
      const bit = 1 << (page & 31);
      const marks = Atomics.load(this.#pages, page >>> 5);
      if (marks === 0) page |= 31;
      if ((marks & bit) === 0) continue;
      // Order matters: a thread that sees the page as stale may mark it again, and that mark must persist.
      if ((Atomics.and(this.#pages, page >>> 5, ~bit) & bit) === 0) continue;
      Atomics.or(this.#stale, page >>> 5, bit);
      Atomics.add(this.#count, 0, 1);
    }
  }
}

/** One block of guest RAM or ROM. Offsets and sizes are multiples of PAGE_SIZE. */
export interface RamBlock {
  /** QEMU's name for the block, such as `riscv_virt_board.ram`. */
  readonly name: string;
  readonly guestPhys: number;
  readonly size: number;
  /** Start of the block in the shared buffer. */
  readonly hostOffset: number;
  readonly readonly: boolean;
  /**
   * Dirty bits, one for each page, bit 0 of word 0 first. Shared with the harts: access them with Atomics
   * only.
   */
  readonly dirty: Int32Array<SharedArrayBuffer>;
  /** Absent if no code is translated. */
  readonly code?: CodePages;
}

/**
 * Guest memory starts as zeros that the host has not backed with pages of its own, and a host may back a page
 * when it is only read. So this class knows which pages have ever been written (`isTouched`), from the dirty
 * log, which is never off: a save, a load or a move leaves all others alone.
 */
export class GuestMemory {
  readonly blocks: readonly RamBlock[];
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly #view: DataView<SharedArrayBuffer>;
  /** For each block, the pages whose dirty bits were cleared, or that were written without setting them. */
  readonly #touched: ReadonlyMap<RamBlock, Int32Array>;

  constructor(buffer: SharedArrayBuffer, blocks: readonly RamBlock[]) {
    this.blocks = blocks;
    this.#touched = new Map(blocks.map((block) => [block, new Int32Array(block.dirty.length)]));
    this.bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
  }

  blockByName(name: string): RamBlock | undefined {
    return this.blocks.find((b) => b.name === name);
  }

  /** The block that contains all of [guestPhys, guestPhys + length), or undefined. */
  blockAt(guestPhys: number, length: number): RamBlock | undefined {
    for (const b of this.blocks) {
      if (guestPhys >= b.guestPhys && guestPhys + length <= b.guestPhys + b.size) return b;
    }
    return undefined;
  }

  /**
   * True if all of the range is RAM. With `write`, `readonly` blocks do not count: a device cannot write
   * them.
   */
  contains(guestPhys: number, length: number, write = false): boolean {
    const b = this.blockAt(guestPhys, length);
    return b !== undefined && !(write && b.readonly);
  }

  /** Copies guest memory into `target`. Returns false and copies nothing if out of range. */
  read(guestPhys: number, target: Uint8Array): boolean {
    const b = this.blockAt(guestPhys, target.length);
    if (b === undefined) return false;
    const at = b.hostOffset + (guestPhys - b.guestPhys);
    target.set(this.bytes.subarray(at, at + target.length));
    return true;
  }

  /**
   * Copies `source` into guest memory and marks its pages dirty. Returns false and writes nothing if out of
   * range.
   */
  write(guestPhys: number, source: Uint8Array): boolean {
    const b = this.blockAt(guestPhys, source.length);
    if (b === undefined || b.readonly) return false;
    this.bytes.set(source, b.hostOffset + (guestPhys - b.guestPhys));
    this.markDirty(b, guestPhys - b.guestPhys, source.length);
    return true;
  }

  /**
   * Writes for the board itself, to read-only blocks too: images, flash programming. Marks the pages dirty.
   */
  writeBlock(block: RamBlock, ramOffset: number, source: Uint8Array): void {
    if (ramOffset + source.length > block.size)
      throw new RangeError(`${block.name} ends before ${ramOffset + source.length}`);
    this.bytes.set(source, block.hostOffset + ramOffset);
    this.markDirty(block, ramOffset, source.length);
  }

  /** Zeroes [ramOffset, ramOffset + length), which is whole pages but for its ends. */
  zeroBlock(block: RamBlock, ramOffset: number, length: number): void {
    const end = ramOffset + length;
    for (let at = ramOffset; at < end; ) {
      const next = Math.min(end, (Math.floor(at / PAGE_SIZE) + 1) * PAGE_SIZE);
      if (this.isTouched(block, at)) this.writeBlock(block, at, ZEROS.subarray(0, next - at));
      at = next;
    }
  }

  /**
   * Little-endian loads; undefined if out of range. A u16 at an even address is one access (ring indexes).
   */
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

  /** A full memory barrier, which orders reads and writes of ring indexes. */
  barrier(): void {
    Atomics.store(this.#fence, 0, 0);
    Atomics.load(this.#fence, 0);
  }
  readonly #fence = new Int32Array(new SharedArrayBuffer(4));

  /**
   * Marks the pages of [ramOffset, ramOffset + length) dirty (always logged) and code translated from them
   * stale.
   */
  markDirty(block: RamBlock, ramOffset: number, length: number): void {
    if (length <= 0) return;
    const last = (ramOffset + length - 1) >>> PAGE_SHIFT;
    for (let page = ramOffset >>> PAGE_SHIFT; page <= last; page++) {
      Atomics.or(block.dirty, page >>> 5, 1 << (page & 31));
    }
    block.code?.written(ramOffset, length);
  }

  /** Marks the pages as `isTouched`, and code translated from them stale, but logs nothing: for a load. */
  markLoaded(block: RamBlock, ramOffset: number, length: number): void {
    if (length <= 0) return;
    const touched = this.#touchedOf(block);
    const last = (ramOffset + length - 1) >>> PAGE_SHIFT;
    for (let page = ramOffset >>> PAGE_SHIFT; page <= last; page++) touched[page >>> 5]! |= 1 << (page & 31);
    block.code?.written(ramOffset, length);
  }

  /** Clears the dirty bits of a block and returns what they were, one bit for each page, 32 to a word. */
  takeDirty(block: RamBlock): Int32Array {
    const { dirty } = block;
    const touched = this.#touchedOf(block);
    const log = new Int32Array(dirty.length);
    for (let i = 0; i < dirty.length; i++) {
      if (Atomics.load(dirty, i) !== 0) touched[i]! |= log[i] = Atomics.exchange(dirty, i, 0);
    }
    return log;
  }

  /** False if the page at this offset has never been written: it holds zeros. */
  isTouched(block: RamBlock, ramOffset: number): boolean {
    const page = ramOffset >>> PAGE_SHIFT;
    const word = page >>> 5;
    const bits = this.#touchedOf(block)[word]! | Atomics.load(block.dirty, word);
    return ((bits >>> (page & 31)) & 1) === 1;
  }

  /** Takes all code as changed, as after a reset: what was translated from it can be dropped. */
  dropCode(): void {
    for (const { code, size } of this.blocks) code?.written(0, size);
  }

  /** The pages that have ever been written, one bit for each; a copy. */
  touchedPages(block: RamBlock): Int32Array {
    return this.#touchedOf(block).map((bits, i) => bits | Atomics.load(block.dirty, i));
  }

  #touchedOf(block: RamBlock): Int32Array {
    const touched = this.#touched.get(block);
    if (touched === undefined) throw new RangeError(`${block.name} is not a block of this memory`);
    return touched;
  }
}
