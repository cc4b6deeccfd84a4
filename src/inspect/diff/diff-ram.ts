// Compares the RAM of two streams page by page. A stream's final RAM is kept as one 64-bit hash per page.
// Records may come in any order and number: the last record of a page counts, and a zero record is a zero
// page. Applying deltas (XBZRLE) needs a page's previous contents: further passes over the stream keep the
// contents of a limited number of pages. Deflated pages of QEMU's old `compress` capability are reported
// as not compared.
import { Xxh32 } from "../../base/xxh32.ts";
import { tryApplyXbzrle } from "../../stream/xbzrle.ts";
import type { RamPageKind } from "../../stream/ram-records.ts";
import { leavesOutZeros, type RamBlockReport, type StreamReport } from "../model/stream-report.ts";
import type { ByteSource } from "../read/byte-source.ts";
import { type PageVisitor, type ReadOptions, readStream } from "../read/read-stream.ts";

/** Pages per array of hashes: 16 MiB of RAM with 4-KiB pages. */
const SEGMENT_PAGES = 4096;
/**
 * Limit per stream: hashes of 128 GiB. Sizes that a stream claims are not allocated; pages beyond the limit
 * are not compared.
 */
const MAX_SEGMENTS = 8192;
/** Maximum number of page contents that one pass keeps: 64 MiB. */
const KEPT_PAGES = 16384;
const MAX_PASSES = 64;

/** High word of a page's 64-bit hash if the page was not sent. */
const ABSENT = 0;
/** Low word of a page that was sent in an unsupported encoding; its high word is ABSENT. */
const UNKNOWN = 1;

class PageHash {
  readonly #low = new Xxh32(0);
  readonly #high = new Xxh32(0x5bd1e995);
  readonly #filled = new Map<string, readonly [number, number]>();

  of(bytes: Uint8Array): readonly [number, number] {
    const low = this.#low.reset().update(bytes).digest();
    // The high word of a hash is never ABSENT.
    return [low, this.#high.reset().update(bytes).digest() || 1];
  }
  filled(size: number, byte: number): readonly [number, number] {
    const key = `${size}/${byte}`;
    let known = this.#filled.get(key);
    if (known === undefined) this.#filled.set(key, (known = this.of(new Uint8Array(size).fill(byte))));
    return known;
  }
}

/** The pages of one block. */
class BlockPages {
  readonly name: string;
  readonly pageSize: number;
  readonly segments = new Map<number, Uint32Array>();

  constructor({ name, pageSize }: RamBlockReport) {
    this.name = name;
    this.pageSize = pageSize;
  }
}

/** The final RAM of a stream, as hashes. Call `visit` for every page. */
export class RamPages {
  /** @internal */
  readonly blocks = new Map<string, BlockPages>();
  readonly #hash = new PageHash();
  /** Pages sent as deltas, by block: a further pass resolves them. */
  readonly #differences = new Map<string, Set<number>>();
  #segments = 0;
  /** Number of pages beyond the limit. */
  beyond = 0;

  readonly visit: PageVisitor = (block, offset, kind, bytes, fill) => {
    const page = Math.floor(offset / block.pageSize);
    if (kind === "xbzrle") {
      const pages = this.#differences.get(block.name) ?? new Set();
      // At most as many as all passes together can resolve.
      if (pages.size < MAX_PASSES * KEPT_PAGES) this.#differences.set(block.name, pages.add(page));
    }
    this.#record(block, page, kind, bytes, fill);
  };

  #record(
    block: RamBlockReport,
    page: number,
    kind: RamPageKind,
    bytes: Uint8Array | undefined,
    fill: number,
  ): void {
    let pages = this.blocks.get(block.name);
    if (pages === undefined) this.blocks.set(block.name, (pages = new BlockPages(block)));
    const index = Math.floor(page / SEGMENT_PAGES);
    let segment = pages.segments.get(index);
    if (segment === undefined) {
      if (this.#segments === MAX_SEGMENTS) {
        this.beyond++;
        return;
      }
      this.#segments++;
      pages.segments.set(index, (segment = new Uint32Array(2 * SEGMENT_PAGES)));
    }
    const at = 2 * (page % SEGMENT_PAGES);
    const [low, high] =
      kind === "zero"
        ? this.#hash.filled(block.pageSize, fill)
        : kind === "page" && bytes !== undefined
          ? this.#hash.of(bytes)
          : [UNKNOWN, ABSENT];
    segment[at] = low;
    segment[at + 1] = high;
  }

  /** Applies deltas in further passes over the stream. Pages that remain unknown are reported. */
  async resolveDifferences(source: ByteSource, options: ReadOptions): Promise<void> {
    const todo = [...this.#differences].flatMap(([block, pages]) =>
      [...pages].map((page) => ({ block, page })),
    );
    for (let pass = 0; pass < MAX_PASSES && pass * KEPT_PAGES < todo.length; pass++) {
      const kept = new Map<string, Uint8Array | undefined>();
      for (const { block, page } of todo.slice(pass * KEPT_PAGES, (pass + 1) * KEPT_PAGES)) {
        kept.set(`${page} ${block}`, undefined);
      }
      const onPage: PageVisitor = (block, offset, kind, bytes, fill) => {
        const page = Math.floor(offset / block.pageSize);
        const key = `${page} ${block.name}`;
        if (!kept.has(key)) return;
        const contents = kept.get(key) ?? new Uint8Array(block.pageSize);
        kept.set(key, contents);
        if (kind === "zero") contents.fill(fill);
        else if (kind === "page" && bytes !== undefined) contents.set(bytes);
        else if (!(kind === "xbzrle" && bytes !== undefined && tryApplyXbzrle(bytes, contents)))
          kept.delete(key);
        if (kept.has(key)) this.#record(block, page, "page", contents, 0);
        else this.#record(block, page, kind, bytes, fill);
      };
      await readStream(source, { ...options, skipIntegrity: true, onPage });
    }
  }
}

/** A run of pages of one block with one kind of difference. */
export interface RamRange {
  readonly block: string;
  /** Offsets in the block, in bytes; `end` is after the last page. */
  readonly start: number;
  readonly end: number;
  readonly pages: number;
  /** `unknown`: a page was sent in an unsupported encoding. */
  readonly kind: "changed" | "only in first" | "only in second" | "unknown";
}

/** The differences in the RAM of a block. */
export interface RamDifference {
  readonly block: string;
  readonly ranges: readonly RamRange[];
  /** Why the block was not compared; `ranges` is then empty. */
  readonly reason?: string;
}

/** Reads a stream and its RAM. Reads `source` again if the stream has deltas and the source permits it. */
export async function readWithRam(
  source: ByteSource,
  options: ReadOptions = {},
): Promise<{ report: StreamReport; ram: RamPages }> {
  const ram = new RamPages();
  const report = await readStream(source, { ...options, onPage: ram.visit });
  if (source.size !== undefined) await ram.resolveDifferences(source, options);
  return { report, ram };
}

/** True if the pages were sent over other connections (multifd). */
const pagesElsewhere = ({ warnings }: StreamReport) => warnings.some(({ code }) => code === "ram.elsewhere");

/** Differing blocks of the first stream, in its order. diffStreams reports blocks that only one side has. */
export function diffRam(
  first: { report: StreamReport; ram: RamPages },
  second: { report: StreamReport; ram: RamPages },
): RamDifference[] {
  const zero = new PageHash();
  const found: RamDifference[] = [];
  for (const block of first.report.ram) {
    const other = second.report.ram.find(({ name }) => name === block.name);
    if (other === undefined) continue;
    if (other.pageSize !== block.pageSize) {
      const reason = `pages of ${block.pageSize} and of ${other.pageSize} bytes are not compared`;
      found.push({ block: block.name, ranges: [], reason });
      continue;
    }
    const elsewhere = pagesElsewhere(first.report) || pagesElsewhere(second.report);
    if (elsewhere) {
      found.push({
        block: block.name,
        ranges: [],
        reason: "the pages of one stream were sent over other connections (multifd)",
      });
      continue;
    }
    const nothing = new BlockPages(block);
    const a = first.ram.blocks.get(block.name) ?? nothing;
    const b = second.ram.blocks.get(block.name) ?? nothing;
    const zeros = zero.filled(block.pageSize, 0);
    const pages = Math.ceil(Math.max(block.size, other.size) / block.pageSize);
    const ranges = blockRanges(
      a,
      b,
      pages,
      [leavesOutZeros(first.report), leavesOutZeros(second.report)],
      zeros,
    );
    if (ranges.length > 0) found.push({ block: block.name, ranges });
  }
  const beyond = first.ram.beyond + second.ram.beyond;
  if (beyond > 0) found.push({ block: "*", ranges: [], reason: `${beyond} pages beyond 128 GiB of RAM` });
  return found;
}

function blockRanges(
  a: BlockPages,
  b: BlockPages,
  pages: number,
  absentIsZero: readonly [boolean, boolean],
  [zeroLow, zeroHigh]: readonly [number, number],
): RamRange[] {
  const ranges: RamRange[] = [];
  const none = new Uint32Array(2 * SEGMENT_PAGES);
  const indexes = [...new Set([...a.segments.keys(), ...b.segments.keys()])].sort((x, y) => x - y);
  const add = (page: number, kind: RamRange["kind"]) => {
    const start = page * a.pageSize;
    const last = ranges.at(-1);
    if (last?.kind === kind && last.end === start) {
      ranges[ranges.length - 1] = { ...last, end: start + a.pageSize, pages: last.pages + 1 };
    } else ranges.push({ block: a.name, start, end: start + a.pageSize, pages: 1, kind });
  };
  for (const index of indexes) {
    const left = a.segments.get(index) ?? none;
    const right = b.segments.get(index) ?? none;
    const inBlock = Math.min(SEGMENT_PAGES, pages - index * SEGMENT_PAGES);
    for (let page = 0; page < inBlock; page++) {
      let [leftLow, leftHigh] = [left[2 * page] as number, left[2 * page + 1] as number];
      let [rightLow, rightHigh] = [right[2 * page] as number, right[2 * page + 1] as number];
      if (absentIsZero[0] && leftLow === ABSENT && leftHigh === ABSENT) {
        [leftLow, leftHigh] = [zeroLow, zeroHigh];
      }
      if (absentIsZero[1] && rightLow === ABSENT && rightHigh === ABSENT) {
        [rightLow, rightHigh] = [zeroLow, zeroHigh];
      }
      const known = leftHigh !== ABSENT && rightHigh !== ABSENT;
      if (known && leftLow === rightLow && leftHigh === rightHigh) continue;
      const at = index * SEGMENT_PAGES + page;
      if (leftHigh === ABSENT && leftLow === UNKNOWN) add(at, "unknown");
      else if (rightHigh === ABSENT && rightLow === UNKNOWN) add(at, "unknown");
      else if (known) add(at, "changed");
      else if (rightHigh !== ABSENT) add(at, "only in second");
      else if (leftHigh !== ABSENT) add(at, "only in first");
    }
  }
  return ranges;
}
