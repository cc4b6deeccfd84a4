// Reads section `ram` into a report: pages and resent pages counted by block, and the pages of mapped-ram
// files. The grammar is src/stream/ram-records.ts. Pages are neither copied nor examined unless the caller
// requests it. Memory for a block's page counts is allocated at its first page.
import { isWithoutPages, type MappedRamHeader, readMappedPages } from "../../stream/mapped-ram.ts";
import type { RamListEntry } from "../../stream/ram-list.ts";
import { type RamPageKind, RamRecords, type RamSink } from "../../stream/ram-records.ts";
import type { RamBlockReport } from "../model/stream-report.ts";
import type { Scan } from "./scan.ts";

/**
 * Called for each page in stream order. `bytes` is valid only during the call: the page (`page`), its XBZRLE
 * encoding (`xbzrle`) or its deflated bytes (`compressed`). For `zero` it is undefined, and `fill` is the
 * byte.
 */
export type PageVisitor = (
  block: RamBlockReport,
  offset: number,
  kind: RamPageKind,
  bytes: Uint8Array | undefined,
  fill: number,
) => void;

/** Maximum pages in the heat map: 512 GiB of 4-KiB pages. Untouched parts of the array take no memory. */
const MAX_HEAT = 2 ** 27;

interface Block {
  readonly name: string;
  readonly size: number;
  readonly records: Record<RamPageKind, number>;
  heat: Uint8Array;
  pages: number;
  repeated: number;
  pageSize: number;
  zeroContent: number;
  hostPageSize?: number;
  address?: bigint;
  mapped?: { readonly bitmapOffset: number; readonly pagesOffset: number };
}

export class RamScan implements RamSink<Block> {
  readonly #scan: Scan;
  readonly #onPage: PageVisitor | undefined;
  readonly #lookForZeros: boolean;
  readonly #records: RamRecords<Block>;
  readonly #blocks = new Map<string, Block>();
  #heatLeft = MAX_HEAT;

  constructor(scan: Scan, onPage: PageVisitor | undefined, lookForZeros: boolean) {
    this.#scan = scan;
    this.#onPage = onPage;
    this.#lookForZeros = lookForZeros;
    this.#records = new RamRecords(scan, scan.facts, this);
  }

  get blocks(): readonly RamBlockReport[] {
    return [...this.#blocks.values()];
  }

  /** Reads records up to and including the EOS of one part of the section. */
  async records(): Promise<void> {
    await this.#records.part();
  }

  get names(): Iterable<string> {
    return this.#blocks.keys();
  }

  block(name: string): Block | undefined {
    return this.#blocks.get(name);
  }

  async add({ name, size, hostPageSize, address, mapped }: RamListEntry): Promise<void> {
    const block: Block = {
      name,
      size,
      pageSize: this.#scan.facts.pageSize ?? 4096,
      records: { page: 0, zero: 0, xbzrle: 0, compressed: 0 },
      pages: 0,
      repeated: 0,
      zeroContent: 0,
      heat: new Uint8Array(0),
      ...(hostPageSize === undefined ? {} : { hostPageSize }),
      ...(address === undefined ? {} : { address }),
    };
    this.#blocks.set(name, block);
    if (mapped !== undefined && !isWithoutPages(mapped)) await this.#mapped(block, mapped);
  }

  listed(): void {}

  admit(kind: "xbzrle" | "compressed" | "hook" | "flush"): void {
    this.#scan.facts.capabilities.add(CAPABILITIES[kind]);
  }

  flush(): void {}
  end(): void {}

  page(block: Block, kind: RamPageKind, offset: number, at: number, length: number): void {
    const { buffer, view, facts } = this.#scan;
    const pageSize = facts.pageSize ?? 4096;
    if (block.pageSize !== pageSize) this.#resize(block, pageSize);
    this.#touch(block, offset);
    const { records } = block;
    const onPage = this.#onPage;
    if (kind === "page") {
      records.page++;
      if (this.#lookForZeros && isZero(view, at, length)) block.zeroContent++;
      onPage?.(block, offset, kind, buffer.subarray(at, at + length), 0);
    } else if (kind === "zero") {
      records.zero++;
      onPage?.(block, offset, kind, undefined, buffer[at]!);
    } else {
      records[kind]++;
      onPage?.(block, offset, kind, buffer.subarray(at, at + length), 0);
    }
  }

  #makeHeat(block: Block): void {
    const pages = Math.min(Math.ceil(block.size / block.pageSize), this.#heatLeft);
    this.#heatLeft -= pages;
    block.heat = new Uint8Array(pages);
  }

  #touch(block: Block, offset: number): void {
    if (block.pages === 0) this.#makeHeat(block);
    const { heat } = block;
    const page = offset / block.pageSize;
    const count = heat[page];
    if (count === 0) {
      heat[page] = 1;
      block.pages++;
    } else if (count === undefined) block.pages++;
    else {
      block.repeated++;
      if (count < 255) heat[page] = count + 1;
    }
  }

  /** Changes the page size after zero pages were read with a wrong one. */
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

  /** Reads a block's pages in a mapped-ram file. A page without a bit counts as a zero record. */
  async #mapped(block: Block, header: MappedRamHeader): Promise<void> {
    const scan: Scan = this.#scan;
    const { bitmapOffset, pagesOffset, pageSize } = header;
    scan.facts.pageSize ??= pageSize;
    block.pageSize = pageSize;
    block.mapped = { bitmapOffset, pagesOffset };
    scan.where = `ram block ${block.name}`;
    const visit = this.#onPage !== undefined || this.#lookForZeros;
    await readMappedPages(scan, header, block.size, {
      run: (first, count) => {
        for (let page = first; page < first + count; page++) this.#touch(block, page * pageSize);
        block.records.page += count;
        return visit;
      },
      pages: (from, at, length) => {
        for (let done = 0; done + pageSize <= length; done += pageSize) {
          if (this.#lookForZeros && isZero(scan.view, at + done, pageSize)) block.zeroContent++;
          const bytes = scan.buffer.subarray(at + done, at + done + pageSize);
          this.#onPage?.(block, from + done, "page", bytes, 0);
        }
      },
    });
    block.records.zero = Math.ceil(block.size / pageSize) - block.records.page;
    scan.where = "section ram/0";
  }
}

/** The source's capability that each kind of record implies. */
const CAPABILITIES = {
  xbzrle: "xbzrle",
  compressed: "compress",
  hook: "rdma",
  flush: "multifd",
} as const;

/** Most pages that are not zero have a nonzero word near the start. */
function isZero(view: DataView, at: number, length: number): boolean {
  for (let i = at; i < at + length; i += 8) {
    if (view.getFloat64(i) !== 0 || view.getInt32(i) !== 0) return false;
  }
  return true;
}
