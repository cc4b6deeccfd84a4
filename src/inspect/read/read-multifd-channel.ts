// A multifd channel stored in a file: a hello, then packets of pages, to the end
// (src/stream/multifd-packet.ts has the format). Pages are counted by block; uncompressed ones can be
// visited. The list of blocks and their sizes is in the main channel's stream, so a block here ends with its
// last page.
import { WherryError } from "../../base/errors.ts";
import {
  decodeMultifdHello,
  decodeMultifdPacket,
  MULTIFD_HELLO_BYTES,
  multifdPacketBytes,
  type MultifdPacket,
} from "../../stream/multifd-packet.ts";
import { isPageSize } from "../../stream/stream-facts.ts";
import type { RamPageKind } from "../../stream/ram-records.ts";
import type { RamBlockReport, StreamReport } from "../model/stream-report.ts";
import { stop } from "../model/problems.ts";
import type { PageVisitor } from "./read-ram.ts";
import type { Scan } from "./scan.ts";

/** QEMU's MULTIFD_PACKET_SIZE: number of pages in a packet times the page size. */
const PACKET_PAGES_BYTES = 512 * 1024;
/** Offset of the field pagesAlloc in a packet. */
const PAGES_ALLOC = 12;
const MAX_BLOCKS = 65_536;
/** Maximum pages in the heat map: 64 GiB of 4-KiB pages. Later pages are only counted. */
const MAX_HEAT = 2 ** 24;

interface Block {
  readonly name: string;
  size: number;
  readonly pageSize: number;
  readonly records: Record<RamPageKind, number>;
  heat: Uint8Array;
  pages: number;
  repeated: number;
}

export class ChannelScan {
  readonly #scan: Scan;
  readonly #onPage: PageVisitor | undefined;
  readonly #blocks = new Map<string, Block>();
  #heatLeft = MAX_HEAT;

  constructor(scan: Scan, onPage: PageVisitor | undefined) {
    this.#scan = scan;
    this.#onPage = onPage;
  }

  get blocks(): readonly RamBlockReport[] {
    return [...this.#blocks.values()];
  }

  /** Reads from the hello on. `report` receives the progress. */
  async read(report: (channel: NonNullable<StreamReport["channel"]>) => void): Promise<void> {
    const scan: Scan = this.#scan;
    scan.where = "multifd hello";
    scan.facts.capabilities.add("multifd");
    await scan.need(MULTIFD_HELLO_BYTES);
    const { id, uuid } = this.#decoded(() => decodeMultifdHello(scan.bytes(MULTIFD_HELLO_BYTES)));
    report({ id, uuid, packets: 0 });
    for (let packets = 0; await scan.ahead(1); report({ id, uuid, packets: ++packets })) {
      scan.where = `multifd packet ${packets}`;
      await scan.need(PAGES_ALLOC + 4);
      scan.facts.pageSize ??= pageSizeOf(scan.view.getUint32(scan.at + PAGES_ALLOC));
      const { pageSize } = scan.facts;
      const size = multifdPacketBytes(pageSize);
      await scan.need(size);
      const packet = this.#decoded(() => decodeMultifdPacket(scan.bytes(size), pageSize));
      await this.#pages(packet, pageSize);
    }
  }

  #decoded<T>(decode: () => T): T {
    const { where, offset } = this.#scan;
    try {
      return decode();
    } catch (error) {
      if (!(error instanceof WherryError)) throw error;
      return stop("multifd.packet", where, offset, "a multifd packet", error.message);
    }
  }

  async #pages(packet: MultifdPacket, pageSize: number): Promise<void> {
    const scan: Scan = this.#scan;
    const { compression, normal, zero, payloadBytes } = packet;
    if (compression !== "none") scan.facts.capabilities.add(`multifd-compression ${compression}`);
    if (normal.length + zero.length === 0) return scan.pass(payloadBytes);
    const block = this.#block(packet.block, pageSize);
    for (const offset of zero) {
      this.#touch(block, offset, "zero");
      this.#onPage?.(block, offset, "zero", undefined, 0);
    }
    for (const offset of normal) {
      this.#touch(block, offset, compression === "none" ? "page" : "compressed");
      if (compression !== "none") continue;
      await scan.need(pageSize);
      const bytes = scan.bytes(pageSize);
      this.#onPage?.(block, offset, "page", bytes, 0);
    }
    if (compression !== "none") await scan.pass(payloadBytes);
  }

  #block(name: string, pageSize: number): Block {
    let block = this.#blocks.get(name);
    if (block === undefined) {
      const { where, offset } = this.#scan;
      if (this.#blocks.size >= MAX_BLOCKS)
        stop("stream.limit", where, offset, `at most ${MAX_BLOCKS} blocks`, "more");
      const records = { page: 0, zero: 0, xbzrle: 0, compressed: 0 };
      block = { name, size: 0, pageSize, records, heat: new Uint8Array(0), pages: 0, repeated: 0 };
      this.#blocks.set(name, block);
    }
    return block;
  }

  #touch(block: Block, offset: number, kind: RamPageKind): void {
    const { pageSize } = block;
    const page = offset / pageSize;
    if (!Number.isInteger(page) || !Number.isSafeInteger(offset + pageSize)) {
      const where = `ram block ${block.name}`;
      stop("ram.range", where, this.#scan.offset, `a multiple of ${pageSize}`, `${offset}`);
    }
    block.records[kind]++;
    block.size = Math.max(block.size, offset + pageSize);
    if (page >= block.heat.length) this.#grow(block, page);
    const count = block.heat[page];
    if (count === undefined || count === 0) block.pages++;
    else block.repeated++;
    if (count !== undefined) block.heat[page] = Math.min(255, count + 1);
  }

  #grow(block: Block, page: number): void {
    const most = block.heat.length + this.#heatLeft;
    const length = Math.min(most, Math.max(page + 1, 2 * block.heat.length));
    if (page >= length) return;
    const heat = new Uint8Array(length);
    heat.set(block.heat);
    this.#heatLeft -= length - block.heat.length;
    block.heat = heat;
  }
}

function pageSizeOf(pagesInPacket: number): number {
  const size = PACKET_PAGES_BYTES / pagesInPacket;
  return isPageSize(size) ? size : 4096;
}
