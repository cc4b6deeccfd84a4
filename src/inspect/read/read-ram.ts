// The section `ram`: records of pages, and the pages of mapped-ram files (QEMU's migration/ram.c, versions 3 and 4 of the
// section). The records are looked at where they lie in the buffer; pages are neither copied nor looked into unless
// somebody asks. What RAM blocks a stream claims costs no memory until their pages come.
import { ByteReader } from "../../base/bytes.ts";
import { hex } from "../../base/hex.ts";
import { decodeUtf8 } from "../../base/text.ts";
import {
  decodeMappedRamHeader,
  isWithoutPages,
  MAPPED_RAM_HEADER_BYTES,
  mappedRamBitmapBytes,
  mappedRamFault,
  mappedRamRuns,
} from "../../stream/mapped-ram.ts";
import { RAM_SAVE_FLAG } from "../../stream/wire.ts";
import { XBZRLE_ENCODING } from "../../stream/xbzrle.ts";
import type { PageKind, RamBlockReport } from "../model/stream-report.ts";
import { stop } from "../model/problems.ts";
import type { Scan } from "./scan.ts";

/**
 * Called for each page in the order of the stream. `bytes` is valid during the call only: the page itself (`page`), its
 * XBZRLE encoding (`xbzrle`), its deflated bytes (`compressed`); for `zero` undefined, and `fill` is the byte.
 */
export type PageVisitor = (
  block: RamBlockReport,
  offset: number,
  kind: PageKind,
  bytes: Uint8Array | undefined,
  fill: number,
) => void;

const { ZERO, MEM_SIZE, PAGE, EOS, CONTINUE, XBZRLE, HOOK, COMPRESS_PAGE, MULTIFD_FLUSH } = RAM_SAVE_FLAG;
const ONE_PAGE = ZERO | PAGE | XBZRLE | COMPRESS_PAGE;
const MAX_BLOCKS = 65_536;
/** 512 GiB of pages of 4 KiB; made of untouched memory. */
const MAX_HEAT = 2 ** 27;
/** Of a block in a mapped-ram file: 2 TiB of pages of 4 KiB. */
const MAX_BITMAP_BYTES = 2 ** 26;
/** Tried in this order where the stream does not say it. */
const PAGE_SIZES = [4096, 8192, 1024, 16384, 65536, 2048, 512];
const MAX_PAGE_SIZE = 65536;
const MAX_RECORD_HEAD = 8 + 1 + 255;

interface Block {
  readonly name: string;
  readonly size: number;
  readonly records: Record<PageKind, number>;
  heat: Uint8Array;
  pages: number;
  repeated: number;
  pageSize: number;
  zeroContent: number;
  hostPageSize?: number;
  address?: bigint;
  mapped?: { readonly bitmapOffset: number; readonly pagesOffset: number };
}

export class RamScan {
  readonly #scan: Scan;
  readonly #onPage: PageVisitor | undefined;
  readonly #lookForZeros: boolean;
  readonly #blocks = new Map<string, Block>();
  #heatLeft = MAX_HEAT;
  #block: Block | undefined;

  constructor(scan: Scan, onPage: PageVisitor | undefined, lookForZeros: boolean) {
    this.#scan = scan;
    this.#onPage = onPage;
    this.#lookForZeros = lookForZeros;
  }

  get blocks(): readonly RamBlockReport[] {
    return [...this.#blocks.values()];
  }

  #stop(
    code: "ram.flags" | "ram.block" | "ram.range" | "ram.list",
    at: number,
    expected: string,
    found: string,
  ): never {
    const where = this.#block === undefined ? this.#scan.where : `ram block ${this.#block.name}`;
    stop(code, where, at, expected, found);
  }

  /** Records up to and with the EOS that ends each part of the section. */
  async records(): Promise<void> {
    const scan: Scan = this.#scan;
    const { cursor } = scan;
    for (;;) {
      if (cursor.available < 8) await scan.need(8);
      this.#run();
      if (cursor.available < 8) continue;
      const at = cursor.offset;
      const high = cursor.u32();
      const low = cursor.u32();
      // Pages are at least 512 bytes: no flag reaches beyond what is no offset, whatever the size.
      const mask = (scan.pageSize ?? 1024) - 1;
      const flags = low & mask;
      const offset = high * 2 ** 32 + (low - flags);
      if ((flags & ONE_PAGE) !== 0) await this.#page(flags, offset, at);
      else if (flags === EOS) return;
      else if (flags === MEM_SIZE) await this.#list(offset, at);
      else if (flags === MULTIFD_FLUSH) scan.capabilities.add("multifd");
      else if (flags === HOOK) scan.capabilities.add("rdma");
      else this.#stop("ram.flags", at, "a record's flags", hex((BigInt(high) << 32n) | BigInt(low)));
    }
  }

  /** The many: whole and zero pages of the block that is being sent, all in the buffer. Leaves the cursor at another. */
  #run(): void {
    const block: Block | undefined = this.#block;
    const { cursor, pageSize } = this.#scan;
    if (block === undefined || pageSize === undefined) return;
    const { view, bytes, end } = cursor;
    const { heat, records, size } = block;
    const onPage = this.#onPage;
    const look = this.#lookForZeros;
    const mask = pageSize - 1;
    const wholePages = Math.floor(size / pageSize);
    const pagesIn4GiB = 2 ** 32 / pageSize;
    const shift = 31 - Math.clz32(pageSize);
    let { at } = cursor;
    while (at + 8 <= end) {
      const low = view.getUint32(at + 4);
      const flags = low & mask;
      let next: number;
      if (flags === (PAGE | CONTINUE)) next = at + 8 + pageSize;
      else if (flags === (ZERO | CONTINUE)) next = at + 9;
      else break;
      if (next > end) break;
      const page = view.getUint32(at) * pagesIn4GiB + (low >>> shift);
      if (page >= wholePages) break;
      const count = heat[page];
      if (count === 0) {
        heat[page] = 1;
        block.pages++;
      } else if (count !== undefined) {
        block.repeated++;
        if (count < 255) heat[page] = count + 1;
      } else block.pages++;
      if (flags === (PAGE | CONTINUE)) {
        records.page++;
        if (look && isZero(view, at + 8, pageSize)) block.zeroContent++;
        onPage?.(block, page * pageSize, "page", bytes.subarray(at + 8, next), 0);
      } else {
        records.zero++;
        onPage?.(block, page * pageSize, "zero", undefined, bytes[at + 8]!);
      }
      at = next;
    }
    cursor.at = at;
  }

  #makeHeat(block: Block): void {
    const pages = Math.min(Math.ceil(block.size / block.pageSize), this.#heatLeft);
    this.#heatLeft -= pages;
    block.heat = new Uint8Array(pages);
  }

  #touch(block: Block, offset: number): void {
    if (block.pages === 0) this.#makeHeat(block);
    const page = offset / block.pageSize;
    const count = block.heat[page];
    if (count !== undefined && count > 0) {
      block.repeated++;
      block.heat[page] = Math.min(255, count + 1);
    } else {
      block.pages++;
      if (count === 0) block.heat[page] = 1;
    }
  }

  async #page(flags: number, offset: number, at: number): Promise<void> {
    const scan: Scan = this.#scan;
    const { cursor } = scan;
    if ((flags & CONTINUE) === 0) {
      const name = await scan.countedString();
      const block = this.#blocks.get(name);
      if (block === undefined) {
        const known = [...this.#blocks.keys()].slice(0, 20).join(", ");
        this.#stop(
          "ram.block",
          at,
          known === "" ? "a list of RAM blocks" : `one of ${known}`,
          `block ${JSON.stringify(name)}`,
        );
      }
      this.#block = block;
    }
    const block = this.#block;
    if (block === undefined)
      this.#stop("ram.block", at, "a record that names its block", "one that does not");
    const kind = KINDS.get(flags & ~CONTINUE);
    if (kind === undefined) this.#stop("ram.flags", at, "a record's flags", hex(flags));
    if (scan.pageSize === undefined) {
      if (kind === "page") await this.#detectPageSize();
      else if (offset % PAGE_SIZES[0]! !== 0) scan.pageSize = PAGE_SIZES.find((size) => offset % size === 0);
    }
    const pageSize = scan.pageSize ?? PAGE_SIZES[0]!;
    if (block.pageSize !== pageSize) this.#resize(block, pageSize);
    if (offset >= block.size || offset % pageSize !== 0)
      this.#stop("ram.range", at, `a page below ${hex(block.size)}`, hex(offset));
    let length = pageSize;
    if (kind === "zero") length = 1;
    else if (kind === "xbzrle") {
      const encoding = await scan.u8();
      length = await scan.u16();
      scan.capabilities.add("xbzrle");
      if (encoding !== XBZRLE_ENCODING || length > pageSize)
        this.#stop("ram.flags", at, `encoding 1 and at most ${pageSize} bytes`, `${encoding} and ${length}`);
    } else if (kind === "compressed") {
      length = await scan.u32();
      scan.capabilities.add("compress");
      if (length > 2 * pageSize)
        this.#stop("ram.flags", at, `at most ${2 * pageSize} deflated bytes`, `${length}`);
    }
    await scan.need(length);
    this.#touch(block, offset);
    block.records[kind]++;
    if (kind === "page" && this.#lookForZeros && isZero(cursor.view, cursor.at, length)) block.zeroContent++;
    const bytes = cursor.take(length);
    if (kind === "zero") this.#onPage?.(block, offset, kind, undefined, bytes[0]!);
    else this.#onPage?.(block, offset, kind, bytes, 0);
  }

  /** The size turned out to be another one after zero pages had come. */
  #resize(block: Block, pageSize: number): void {
    const { heat, pageSize: before } = block;
    block.pageSize = pageSize;
    if (block.pages === 0) return;
    this.#heatLeft += heat.length;
    this.#makeHeat(block);
    heat.forEach((count, page) => {
      if (count > 0) block.heat[(page * before) / pageSize] = count;
    });
  }

  /** The size with which a record follows the page at the cursor. */
  async #detectPageSize(): Promise<void> {
    const { cursor } = this.#scan;
    await cursor.need(MAX_PAGE_SIZE + MAX_RECORD_HEAD);
    this.#scan.pageSize = PAGE_SIZES.find((size) => this.#isRecord(cursor.at + size, size)) ?? PAGE_SIZES[0]!;
  }

  #isRecord(at: number, pageSize: number): boolean {
    const { view, bytes, end } = this.#scan.cursor;
    if (at + 9 > end) return false;
    const low = view.getUint32(at + 4);
    const flags = low & (pageSize - 1);
    const offset = view.getUint32(at) * 2 ** 32 + (low - flags);
    if (flags === EOS || flags === MULTIFD_FLUSH || flags === HOOK) return offset === 0;
    if (!KINDS.has(flags & ~CONTINUE)) return false;
    if ((flags & CONTINUE) !== 0) return offset < (this.#block?.size ?? 0);
    const name = decodeUtf8(bytes.subarray(at + 9, Math.min(end, at + 9 + bytes[at + 8]!)));
    return offset < (this.#blocks.get(name)?.size ?? 0);
  }

  /** The list of blocks: names and sizes, and what capabilities add to each. */
  async #list(total: number, at: number): Promise<void> {
    const scan: Scan = this.#scan;
    if (this.#blocks.size > 0) this.#stop("ram.list", at, "one list of RAM blocks", "a second one");
    let left = total;
    while (left > 0) {
      const entry = scan.offset;
      const name = await scan.countedString();
      const size = Number(await scan.u64());
      if (name === "" || this.#blocks.has(name) || size > left || this.#blocks.size >= MAX_BLOCKS)
        this.#stop(
          "ram.list",
          entry,
          `blocks of ${hex(left)} bytes altogether`,
          `${JSON.stringify(name)} of ${hex(size)}`,
        );
      left -= size;
      const block: Block = {
        name,
        size,
        pageSize: scan.pageSize ?? 4096,
        records: { page: 0, zero: 0, xbzrle: 0, compressed: 0 },
        pages: 0,
        repeated: 0,
        zeroContent: 0,
        heat: new Uint8Array(0),
      };
      this.#blocks.set(name, block);
      await this.#additions(block);
    }
  }

  /** What follows a block in the list. Nothing says what it is: a name is not empty, a record has flags. */
  async #additions(block: Block): Promise<void> {
    const scan: Scan = this.#scan;
    const { cursor, capabilities } = scan;
    const shared = capabilities.has("x-ignore-shared");
    if (scan.postcopyAdvised) {
      const word = async (ahead: number): Promise<bigint> => {
        await scan.need(ahead + 8);
        return cursor.view.getBigUint64(cursor.at + ahead);
      };
      const size = await word(0);
      const isSize = size >= 4096n && size < 1n << 56n && (size & (size - 1n)) === 0n;
      // An address can look like a size of pages: then it is one if another address comes after it.
      const next = isSize && shared ? await word(8) : 0n;
      if (isSize && next < 1n << 56n && (next & 0xfffn) === 0n) block.hostPageSize = Number(await scan.u64());
    }
    if (shared) block.address = await scan.u64();
    if (!capabilities.has("mapped-ram")) return;
    const at = scan.offset;
    await scan.need(MAPPED_RAM_HEADER_BYTES);
    const header = decodeMappedRamHeader(new ByteReader(cursor.take(MAPPED_RAM_HEADER_BYTES)));
    const fault = mappedRamFault(header, block.size, scan.offset, MAX_BITMAP_BYTES);
    if (fault !== undefined) stop("ram.list", `ram block ${block.name}`, at, "a mapped-ram header", fault);
    if (isWithoutPages(header)) return;
    scan.pageSize ??= header.pageSize;
    block.pageSize = header.pageSize;
    block.mapped = { bitmapOffset: header.bitmapOffset, pagesOffset: header.pagesOffset };
    await this.#mapped(block, header.bitmapOffset, header.pagesOffset);
  }

  /** A block's pages in a mapped-ram file. A page without a bit is zeros: it counts as a zero record. */
  async #mapped(block: Block, bitmapOffset: number, pagesOffset: number): Promise<void> {
    const scan: Scan = this.#scan;
    const { cursor } = scan;
    const { size, pageSize } = block;
    scan.where = `ram block ${block.name}`;
    const pages = Math.ceil(size / pageSize);
    await scan.skip(bitmapOffset - scan.offset);
    const bytes = mappedRamBitmapBytes(size, pageSize);
    await scan.need(bytes);
    const bitmap = cursor.take(bytes).slice();
    await scan.skip(pagesOffset - scan.offset);
    const visit = this.#onPage !== undefined || this.#lookForZeros;
    for (const { first, count } of mappedRamRuns(bitmap, pages)) {
      if (visit) await scan.skip(pagesOffset + first * pageSize - scan.offset);
      for (let page = first; page < first + count; page++) {
        this.#touch(block, page * pageSize);
        block.records.page++;
        if (!visit) continue;
        if (cursor.available < pageSize) await scan.need(pageSize);
        if (this.#lookForZeros && isZero(cursor.view, cursor.at, pageSize)) block.zeroContent++;
        this.#onPage?.(block, page * pageSize, "page", cursor.take(pageSize), 0);
      }
    }
    block.records.zero = pages - block.records.page;
    await scan.skip(pagesOffset + size - scan.offset);
    scan.where = "section ram/0";
  }
}

const KINDS: ReadonlyMap<number, PageKind> = new Map([
  [ZERO, "zero"],
  [PAGE, "page"],
  [XBZRLE, "xbzrle"],
  [COMPRESS_PAGE, "compressed"],
]);

/** Most pages that are not zero show it in their first words. */
function isZero(view: DataView, at: number, length: number): boolean {
  for (let i = at; i < at + length; i += 8) {
    if (view.getFloat64(i) !== 0 || view.getInt32(i) !== 0) return false;
  }
  return true;
}
