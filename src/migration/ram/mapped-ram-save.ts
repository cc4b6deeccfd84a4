// Writes RAM to a file with a fixed place for each page (mapped-ram), while the guest may run. Pages are
// written to their places when they are sent; zero pages only clear a bit in the bitmap, which is written
// last. Places that were never written remain holes.
import { PAGE_SHIFT, PAGE_SIZE } from "../../memory/guest-memory.ts";
import {
  encodeMappedRamHeader,
  type MappedRamHeader,
  mappedRamBitmapBytes,
  placeMappedRam,
} from "../../stream/mapped-ram.ts";
import type { RamPages } from "./ram-save.ts";
import type { StreamWriter } from "../../stream/stream-writer.ts";

/** Consecutive pages are written together, up to this many bytes. */
const BATCH_BYTES = 512 * 1024;

interface Place {
  readonly header: MappedRamHeader;
  readonly bitmap: Uint8Array;
}

export class MappedRamWriter implements RamPages {
  readonly #stream: StreamWriter;
  readonly #places = new Map<string, Place>();
  readonly #batch = new Uint8Array(BATCH_BYTES);
  /** Length of the batch, and its file offset. */
  #length = 0;
  #start = 0;

  constructor(stream: StreamWriter) {
    this.#stream = stream;
  }

  /** Writes the block's header after its entry in the list, and reserves space for its bitmap and pages. */
  async place(block: string, size: number): Promise<void> {
    const { base, offset, out } = this.#stream;
    const header = placeMappedRam(base + offset, size, PAGE_SIZE);
    encodeMappedRamHeader(out, header);
    await this.#stream.skipTo(header.pagesOffset - base + size);
    this.#places.set(block, { header, bitmap: new Uint8Array(mappedRamBitmapBytes(size, PAGE_SIZE)) });
  }

  #at(block: string, offset: number): number {
    return (this.#places.get(block)?.header.pagesOffset ?? 0) - this.#stream.base + offset;
  }

  fits(block: string, offset: number): boolean {
    if (this.#length === 0) return true;
    return this.#length < BATCH_BYTES && this.#at(block, offset) === this.#start + this.#length;
  }

  add(block: string, offset: number, page: Uint8Array): void {
    if (this.#length === 0) this.#start = this.#at(block, offset);
    this.#batch.set(page, this.#length);
    this.#length += PAGE_SIZE;
    this.#mark(block, offset, true);
  }

  zero(block: string, offset: number): void {
    this.#mark(block, offset, false);
  }

  #mark(block: string, offset: number, isSet: boolean): void {
    const page = offset >>> PAGE_SHIFT;
    const bitmap = this.#places.get(block)?.bitmap;
    if (bitmap === undefined) return;
    if (isSet) bitmap[page >>> 3]! |= 1 << (page & 7);
    else bitmap[page >>> 3]! &= ~(1 << (page & 7));
  }

  async send(): Promise<void> {
    if (this.#length === 0) return;
    await this.#stream.writeAt(this.#start, this.#batch.subarray(0, this.#length));
    this.#length = 0;
  }

  /** Writes the bitmaps, after all pages. */
  async finish(): Promise<void> {
    await this.send();
    for (const { header, bitmap } of this.#places.values()) {
      await this.#stream.writeAt(header.bitmapOffset - this.#stream.base, bitmap);
    }
  }
}
