// mapped-ram (QEMU 9.0 and later, files only): every page has a fixed place in the file. In the list of
// blocks, each entry has a header; the block's bitmap follows (one bit per page, in little-endian 64-bit
// words, except on s390x hosts), then its pages, aligned to 1 MiB; then the list continues. A page whose bit
// is clear contains zeros.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { StreamCursor } from "./stream-cursor.ts";

export const MAPPED_RAM_HEADER_BYTES = 28;
const MAPPED_RAM_VERSION = 1;
const PAGES_ALIGNMENT = 1024 * 1024;
/** The bitmap of a 2 TiB block with 4 KiB pages. */
const MAX_BITMAP_BYTES = 2 ** 26;
/** Consecutive pages reach the sink in pieces of this size. */
const PIECE_BYTES = 256 * 1024;

export interface MappedRamHeader {
  readonly version: number;
  readonly pageSize: number;
  /** File offset. */
  readonly bitmapOffset: number;
  readonly pagesOffset: number;
}

/** Throws EndOfBytes. `mappedRamFault` checks the header. */
export function decodeMappedRamHeader(reader: ByteReader): MappedRamHeader {
  const version = reader.u32();
  const pageSize = Number(reader.u64());
  return { version, pageSize, bitmapOffset: Number(reader.u64()), pagesOffset: Number(reader.u64()) };
}

export function encodeMappedRamHeader(writer: ByteWriter, header: MappedRamHeader): void {
  writer.u32(header.version).u64(BigInt(header.pageSize));
  writer.u64(BigInt(header.bitmapOffset)).u64(BigInt(header.pagesOffset));
}

/** Length in bytes of the bitmap for a block of `size` bytes. */
export function mappedRamBitmapBytes(size: number, pageSize: number): number {
  return Math.ceil(Math.ceil(size / pageSize) / 64) * 8;
}

/** Places bitmap and pages of a block of `size` bytes, whose header starts at file offset `at`. */
export function placeMappedRam(at: number, size: number, pageSize: number): MappedRamHeader {
  const bitmapOffset = at + MAPPED_RAM_HEADER_BYTES;
  const bitmapEnd = bitmapOffset + mappedRamBitmapBytes(size, pageSize);
  const pagesOffset = Math.ceil(bitmapEnd / PAGES_ALIGNMENT) * PAGES_ALIGNMENT;
  return { version: MAPPED_RAM_VERSION, pageSize, bitmapOffset, pagesOffset };
}

/**
 * The fault of a header that ends at file offset `end`; undefined if the file can be read from front to back.
 * A size of 0 means that the block's pages are not in the file (ignore-shared).
 */
export function mappedRamFault(header: MappedRamHeader, size: number, end: number): string | undefined {
  const { version, pageSize, bitmapOffset, pagesOffset } = header;
  if (version !== MAPPED_RAM_VERSION) return `mapped-ram version ${version}, expected ${MAPPED_RAM_VERSION}`;
  if (pageSize < 512 || pageSize > 65536 || (pageSize & (pageSize - 1)) !== 0)
    return `pages of ${pageSize} bytes, expected a power of two from 512 to 65536`;
  if (isWithoutPages(header)) return undefined;
  const bitmapBytes = mappedRamBitmapBytes(size, pageSize);
  if (bitmapBytes > MAX_BITMAP_BYTES)
    return `a bitmap of ${bitmapBytes} bytes, at most ${MAX_BITMAP_BYTES} are read`;
  if (bitmapOffset < end || bitmapOffset > end + PAGES_ALIGNMENT)
    return `its bitmap is at file offset ${bitmapOffset}, expected ${end}`;
  const bitmapEnd = bitmapOffset + bitmapBytes;
  if (
    pagesOffset < bitmapEnd ||
    pagesOffset > bitmapEnd + 16 * PAGES_ALIGNMENT ||
    pagesOffset % pageSize !== 0
  )
    return `its pages are at file offset ${pagesOffset}, expected an aligned place soon after ${bitmapEnd}`;
  return undefined;
}

/** True with ignore-shared: the block has a file of its own. */
export function isWithoutPages(header: MappedRamHeader): boolean {
  return header.bitmapOffset === 0 && header.pagesOffset === 0;
}

/** Runs of set bits among the first `pages` bits of a bitmap from the file. */
export function* mappedRamRuns(
  bitmap: Uint8Array,
  pages: number,
): Generator<{ readonly first: number; readonly count: number }> {
  let first = -1;
  for (let page = 0; page < pages; page++) {
    const byte = bitmap[page >>> 3] ?? 0;
    if ((page & 7) === 0 && (first < 0 ? byte === 0 : byte === 0xff) && page + 8 <= pages) {
      page += 7;
      continue;
    }
    const set = ((byte >>> (page & 7)) & 1) === 1;
    if (set === first >= 0) continue;
    if (set) first = page;
    else {
      yield { first, count: page - first };
      first = -1;
    }
  }
  if (first >= 0) yield { first, count: pages - first };
}

/** Receives the pages of a block from a mapped-ram file. */
export interface MappedPagesSink {
  /** The file holds pages [first, first + count). Returns false to skip them. */
  run(first: number, count: number): boolean;
  /** One or more pages, from `offset` in the block: `length` bytes at `at` in the cursor's buffer. */
  pages(offset: number, at: number, length: number): void;
}

/**
 * Reads bitmap and pages of a block of `size` bytes, after its header. Leaves the cursor where the list
 * continues.
 */
export async function readMappedPages(
  cursor: StreamCursor,
  { pageSize, bitmapOffset, pagesOffset }: MappedRamHeader,
  size: number,
  sink: MappedPagesSink,
): Promise<void> {
  const base = cursor.fileOffset - cursor.offset;
  await cursor.skipTo(bitmapOffset - base);
  const bytes = mappedRamBitmapBytes(size, pageSize);
  await cursor.need(bytes);
  const bitmap = cursor.bytes(bytes).slice();
  for (const { first, count } of mappedRamRuns(bitmap, Math.ceil(size / pageSize))) {
    if (!sink.run(first, count)) continue;
    const end = Math.min((first + count) * pageSize, size);
    await cursor.skipTo(pagesOffset - base + first * pageSize);
    for (let offset = first * pageSize; offset < end; ) {
      const piece = Math.min(end - offset, PIECE_BYTES);
      if (cursor.available < piece) await cursor.need(piece);
      const { at } = cursor;
      cursor.skip(piece);
      sink.pages(offset, at, piece);
      offset += piece;
    }
  }
  await cursor.skipTo(pagesOffset - base + size);
}
