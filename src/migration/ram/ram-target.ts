// RAM blocks while a stream is loaded: writes the pages of a block and records which have arrived. Shared by
// the main stream and the multifd channels. A dropped block discards its pages.
import { hex } from "../../base/hex.ts";
import { type GuestMemory, PAGE_SHIFT, PAGE_SIZE, type RamBlock } from "../../memory/guest-memory.ts";
import { MigrationError } from "../../stream/migration-error.ts";

export class RamTarget {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  readonly memory: GuestMemory;
  /** Undefined if the block is dropped. */
  readonly #block: RamBlock | undefined;
  /** One bit per page that has arrived. */
  readonly #arrived: Int32Array;

  constructor(memory: GuestMemory, name: string, size: number, block: RamBlock | undefined) {
    this.name = name;
    this.size = size;
    this.memory = memory;
    this.#block = block;
    this.#arrived = new Int32Array(block === undefined ? 0 : Math.ceil((size >>> PAGE_SHIFT) / 32));
  }

  /** Throws MigrationError if no page starts at this offset. */
  check(offset: number): void {
    if (offset < this.size && offset % PAGE_SIZE === 0) return;
    throw new MigrationError(
      "migration.ram",
      `page ${hex(offset)} lies outside RAM block ${this.name} of ${hex(this.size)} bytes`,
    );
  }

  /**
   * The page in guest memory, which the caller changes in place before `written`; undefined if the block is
   * dropped.
   */
  page(offset: number): Uint8Array | undefined {
    const block = this.#block;
    if (block === undefined) return undefined;
    const at = block.hostOffset + offset;
    return this.memory.bytes.subarray(at, at + PAGE_SIZE);
  }

  /** Writes whole pages from `offset` on. `check` must have accepted the first and the last. */
  set(offset: number, pages: Uint8Array): void {
    if (this.#block === undefined) return;
    this.memory.bytes.set(pages, this.#block.hostOffset + offset);
    this.written(offset, pages.length);
  }

  /** Fills a page with a byte. A page that was never written holds zeros, and is left alone. */
  fill(offset: number, byte: number): void {
    const block = this.#block;
    if (block === undefined) return;
    if (byte === 0 && !this.memory.isTouched(block, offset)) {
      this.#arrive(offset, PAGE_SIZE);
      return;
    }
    const at = block.hostOffset + offset;
    this.memory.bytes.fill(byte, at, at + PAGE_SIZE);
    this.written(offset, PAGE_SIZE);
  }

  written(offset: number, length: number): void {
    if (this.#block !== undefined) this.memory.markLoaded(this.#block, offset, length);
    this.#arrive(offset, length);
  }

  #arrive(offset: number, length: number): void {
    const end = (offset + length) >>> PAGE_SHIFT;
    for (let page = offset >>> PAGE_SHIFT; page < end; page++) this.#arrived[page >>> 5]! |= 1 << (page & 31);
  }

  get isUntouched(): boolean {
    return this.#arrived.every((word) => word === 0);
  }

  /** True if the block is not dropped and no page has arrived. */
  get isEmpty(): boolean {
    return this.#block !== undefined && this.isUntouched;
  }

  /** Offsets of the pages that have not arrived. */
  missing(): number[] {
    const offsets = Array.from({ length: this.size >>> PAGE_SHIFT }, (_, page) => page * PAGE_SIZE);
    return offsets.filter(
      (at) => ((this.#arrived[at >>> (PAGE_SHIFT + 5)]! >>> ((at >>> PAGE_SHIFT) & 31)) & 1) === 0,
    );
  }

  /** Zeroes the pages that have not arrived. */
  fillMissing(): void {
    if (this.#block === undefined) return;
    for (const [w, touched] of this.memory.touchedPages(this.#block).entries()) {
      for (let word = touched & ~this.#arrived[w]!; word !== 0; word &= word - 1) {
        this.fill((w * 32 + 31 - Math.clz32(word & -word)) * PAGE_SIZE, 0);
      }
    }
  }
}
