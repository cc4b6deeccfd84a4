// The records of section "ram", versions 3 and 4 (QEMU's migration/ram.c): be64 (offset | flags), the name of
// the block unless CONTINUE is set, a payload. The sink gets each page in the cursor's buffer, without a
// copy; a run of pages that is buffered completely takes no await. ram-list.ts reads the section's list.
import { hex } from "../base/hex.ts";
import { decodeUtf8, quoted } from "../base/text.ts";
import { type RamListEntry, readRamList } from "./ram-list.ts";
import type { StreamCursor } from "./stream-cursor.ts";
import type { StreamFacts } from "./stream-facts.ts";
import type { FaultCode } from "./stream-fault.ts";
import { RAM_SAVE_FLAG } from "./wire.ts";
import { XBZRLE_ENCODING } from "./xbzrle.ts";

/**
 * The encoding of a page: whole, one byte that fills it (zero), a delta to its former contents (XBZRLE), or
 * deflated.
 */
export type RamPageKind = "page" | "zero" | "xbzrle" | "compressed";

export interface RamBlockOfList {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
}

/**
 * Receives records. Every method may throw. Methods that return no promise are called while pages are in the
 * buffer.
 */
export interface RamSink<Block extends RamBlockOfList> {
  /** An entry of the list. Reads the block's pages in a mapped-ram file, which follow the entry. */
  add(entry: RamListEntry, offset: number): Promise<void> | void;
  /** The list at `offset` is complete; its sizes add up to `total`. */
  listed(total: number, offset: number): void | Promise<void>;
  /** Finds a block of the list by name. */
  block(name: string): Block | undefined;
  /** Names of the listed blocks, for messages. */
  readonly names: Iterable<string>;
  /**
   * A record that is neither a whole page nor a zero page, at `offset`. Called before its payload is read.
   */
  admit(kind: "xbzrle" | "compressed" | "hook" | "flush", flags: number, offset: number): void;
  /**
   * A page at `pageOffset` in its block. The payload (for a zero page, the byte that fills it) is `length`
   * bytes at `at` in the cursor's buffer, and the cursor is past it. `offset` is the record's.
   */
  page(block: Block, kind: RamPageKind, pageOffset: number, at: number, length: number, offset: number): void;
  /** A synchronisation point of the multifd channels, as a record (8.1 and later). */
  flush(): Promise<void> | void;
  /** The end of a part of the section. */
  end(): Promise<void> | void;
}

const { ZERO, MEM_SIZE, PAGE, EOS, CONTINUE, XBZRLE, HOOK, COMPRESS_PAGE, MULTIFD_FLUSH } = RAM_SAVE_FLAG;
const ONE_PAGE = ZERO | PAGE | XBZRLE | COMPRESS_PAGE;
const KINDS: ReadonlyMap<number, RamPageKind> = new Map([
  [ZERO, "zero"],
  [PAGE, "page"],
  [XBZRLE, "xbzrle"],
  [COMPRESS_PAGE, "compressed"],
]);
const A_RECORD = "a RAM record (zero 0x2, page 0x8, end 0x10, continue 0x20)";
/** Candidates, in this order, where the stream does not state the page size. */
const PAGE_SIZES = [4096, 8192, 1024, 16384, 65536, 2048, 512];
const MAX_PAGE_SIZE = 65536;
const MAX_RECORD_HEAD = 8 + 1 + 255;
const SHOWN_NAMES = 20;

export class RamRecords<Block extends RamBlockOfList> {
  readonly #cursor: StreamCursor;
  readonly #facts: StreamFacts;
  readonly #sink: RamSink<Block>;
  #isListed = false;
  /** Block of the last record. CONTINUE is valid across parts. */
  #block: Block | undefined;

  constructor(cursor: StreamCursor, facts: StreamFacts, sink: RamSink<Block>) {
    this.#cursor = cursor;
    this.#facts = facts;
    this.#sink = sink;
  }

  #refuse(code: FaultCode, offset: number, expected: string, found: string): never {
    const block = this.#block;
    const where = block === undefined ? {} : { where: `ram block ${block.name}` };
    this.#cursor.refuse({ code, offset, expected, found, ...where });
  }

  /** Reads records up to and including the EOS that ends each part of the section. */
  async part(): Promise<void> {
    const cursor: StreamCursor = this.#cursor;
    const sink = this.#sink;
    for (;;) {
      if (cursor.available < 8) await cursor.need(8);
      this.#run();
      if (cursor.available < 8) continue;
      const at = cursor.offset;
      const high = cursor.u32();
      const low = cursor.u32();
      // Pages have at least 512 bytes, so flags below 0x200 never overlap an offset.
      const flags = low & ((this.#facts.pageSize ?? 1024) - 1);
      const offset = high * 2 ** 32 + (low - flags);
      if ((flags & ONE_PAGE) !== 0) await this.#page(flags, offset, at);
      else if (flags === EOS) {
        // QEMU ignores it.
        if (offset !== 0)
          cursor.report({
            code: "ram.flags",
            offset: at,
            expected: "the end, 0x10",
            found: hex(offset + flags),
          });
        await sink.end();
        return;
      } else if (flags === MEM_SIZE) await this.#list(offset, at);
      else if (flags === MULTIFD_FLUSH) {
        sink.admit("flush", flags, at);
        await sink.flush();
      } else if (flags === HOOK) sink.admit("hook", flags, at);
      else this.#refuse("ram.flags", at, A_RECORD, `flags ${hex(flags)} at page ${hex(offset)}`);
    }
  }

  async #list(total: number, at: number): Promise<void> {
    if (this.#isListed) this.#refuse("ram.list", at, "one list of RAM blocks", "a second list of RAM blocks");
    this.#isListed = true;
    await readRamList(this.#cursor, this.#facts, total, (entry, offset) => this.#sink.add(entry, offset));
    await this.#sink.listed(total, at);
  }

  /**
   * The common case: whole and zero pages of the current block, all buffered. Stops before any other record.
   */
  #run(): void {
    const block = this.#block;
    const { pageSize } = this.#facts;
    if (block === undefined || pageSize === undefined) return;
    const cursor = this.#cursor;
    const sink = this.#sink;
    const { view, end, at: first } = cursor;
    const start = cursor.offset - first;
    const mask = pageSize - 1;
    const wholePages = Math.floor(block.size / pageSize);
    const pagesIn4GiB = 2 ** 32 / pageSize;
    const shift = 31 - Math.clz32(pageSize);
    for (let at = first; at + 8 <= end; at = cursor.at) {
      const low = view.getUint32(at + 4);
      const flags = low & mask;
      const isPage = flags === (PAGE | CONTINUE);
      if (!isPage && flags !== (ZERO | CONTINUE)) return;
      const next = isPage ? at + 8 + pageSize : at + 9;
      if (next > end) return;
      const page = view.getUint32(at) * pagesIn4GiB + (low >>> shift);
      if (page >= wholePages) return;
      cursor.at = next;
      sink.page(block, isPage ? "page" : "zero", page * pageSize, at + 8, next - at - 8, start + at);
    }
  }

  async #page(flags: number, offset: number, at: number): Promise<void> {
    const cursor: StreamCursor = this.#cursor;
    const kind = KINDS.get(flags & ~CONTINUE);
    if (kind === undefined) this.#refuse("ram.flags", at, A_RECORD, `flags ${hex(flags)}`);
    if (kind === "xbzrle" || kind === "compressed") this.#sink.admit(kind, flags, at);
    if ((flags & CONTINUE) === 0) {
      const name = await cursor.nextString();
      const named = this.#sink.block(name);
      if (named === undefined) {
        const known = [...this.#sink.names].slice(0, SHOWN_NAMES).join(", ");
        const expected = known === "" ? "a list of RAM blocks" : `a RAM block of ${known}`;
        this.#refuse("ram.block", at, expected, `a page of RAM block ${quoted(name)}`);
      }
      this.#block = named;
    }
    const block = this.#block;
    if (block === undefined)
      this.#refuse("ram.block", at, "a page that names its RAM block", "one that continues the last page's");
    if (this.#facts.pageSize === undefined) await this.#detectPageSize(kind, offset);
    const pageSize = this.#facts.pageSize ?? PAGE_SIZES[0]!;
    if (offset >= block.size || offset % pageSize !== 0)
      this.#refuse("ram.range", at, `a page below ${hex(block.size)}`, `page ${hex(offset)}`);
    const length = kind === "page" ? pageSize : await this.#length(kind, pageSize, at);
    if (cursor.available < length) await cursor.need(length);
    const payload = cursor.at;
    cursor.skip(length);
    this.#sink.page(block, kind, offset, payload, length, at);
  }

  /** Payload length of a page that is not sent whole. */
  async #length(kind: Exclude<RamPageKind, "page">, pageSize: number, at: number): Promise<number> {
    const cursor: StreamCursor = this.#cursor;
    if (kind === "zero") return 1;
    if (kind === "compressed") {
      const length = await cursor.nextU32();
      if (length > 2 * pageSize)
        this.#refuse("ram.flags", at, `at most ${2 * pageSize} deflated bytes`, `${length}`);
      return length;
    }
    await cursor.need(3);
    const encoding = cursor.u8();
    const length = cursor.u16();
    if (encoding !== XBZRLE_ENCODING || length > pageSize) {
      const expected = `a delta of encoding ${XBZRLE_ENCODING} (XBZRLE) and at most ${pageSize} bytes`;
      this.#refuse("ram.flags", at, expected, `a delta of encoding ${encoding} and ${length} bytes`);
    }
    return length;
  }

  /**
   * Detects the page size. For a whole page (payload at the cursor), takes the size after which another
   * record starts; otherwise the first size that divides the offset.
   */
  async #detectPageSize(kind: RamPageKind, offset: number): Promise<void> {
    const cursor = this.#cursor;
    const facts = this.#facts;
    if (kind !== "page") {
      if (offset % PAGE_SIZES[0]! !== 0) facts.pageSize = PAGE_SIZES.find((size) => offset % size === 0);
      return;
    }
    await cursor.ahead(MAX_PAGE_SIZE + MAX_RECORD_HEAD);
    facts.pageSize = PAGE_SIZES.find((size) => this.#isRecord(cursor.at + size, size)) ?? PAGE_SIZES[0]!;
  }

  #isRecord(at: number, pageSize: number): boolean {
    const { view, buffer, end } = this.#cursor;
    if (at + 9 > end) return false;
    const low = view.getUint32(at + 4);
    const flags = low & (pageSize - 1);
    const offset = view.getUint32(at) * 2 ** 32 + (low - flags);
    if (flags === EOS || flags === MULTIFD_FLUSH || flags === HOOK) return offset === 0;
    if (!KINDS.has(flags & ~CONTINUE)) return false;
    if ((flags & CONTINUE) !== 0) return offset < (this.#block?.size ?? 0);
    const name = decodeUtf8(buffer.subarray(at + 9, Math.min(end, at + 9 + buffer[at + 8]!)));
    return offset < (this.#sink.block(name)?.size ?? 0);
  }
}
