// Consistency of a qcow2 image: what its tables refer to, against its refcounts; and their repair. Takes time
// and memory by what is in the file, not by what a hostile header claims.
import { BlockError, type BlockFile } from "../block-file.ts";
import { HEADER_AT, INCOMPATIBLE, type Qcow2Header, readSnapshots, u64, viewOf } from "./qcow2-header.ts";
import { entryOffset, isCopiedFlag, readEntry, writeCopied } from "./qcow2-l2.ts";
import { maxRefcount, readRefcount, refcountBlockAt, writeRefcount } from "./qcow2-refcounts.ts";

const CHUNK = 4096;
/** 512 MiB of counters. */
const MAX_CHUNKS = 32768;
const MAX_MESSAGES = 1000;
const BITMAPS_EXTENSION = 0x23852875;

export type Repair = "none" | "leaks" | "all";

/** As `qemu-img check --output json` has it. */
export interface CheckResult {
  corruptions: number;
  leaks: number;
  corruptionsFixed: number;
  leaksFixed: number;
  /** Clusters of the disk, and of these: stored, not behind the one before, compressed. */
  totalClusters: number;
  allocatedClusters: number;
  fragmentedClusters: number;
  compressedClusters: number;
  imageEnd: number;
  /** A line for each finding, the first thousand. */
  readonly messages: string[];
}

/** How many references each cluster has. */
class Counters {
  readonly #chunks = new Map<number, Uint32Array>();
  readonly #name: string;
  /** The chunk that was asked for last, mostly the next one too. */
  #index = -1;
  #chunk: Uint32Array | undefined;
  constructor(name: string) {
    this.#name = name;
  }
  #chunkOf(index: number): Uint32Array | undefined {
    if (index !== this.#index) [this.#index, this.#chunk] = [index, this.#chunks.get(index)];
    return this.#chunk;
  }
  add(cluster: number, times: number): number {
    const index = Math.floor(cluster / CHUNK);
    let chunk = this.#chunkOf(index);
    if (chunk === undefined) {
      if (this.#chunks.size >= MAX_CHUNKS)
        throw new BlockError("qcow2.check", `${this.#name}: has too many clusters to be checked in memory`);
      this.#chunks.set(index, (this.#chunk = chunk = new Uint32Array(CHUNK)));
    }
    return (chunk[cluster % CHUNK] = (chunk[cluster % CHUNK] ?? 0) + times);
  }
  get(cluster: number): number {
    return this.#chunkOf(Math.floor(cluster / CHUNK))?.[cluster % CHUNK] ?? 0;
  }
  /** False if no cluster of the chunk was counted. */
  has(cluster: number): boolean {
    return this.#chunks.has(Math.floor(cluster / CHUNK));
  }
  /** The chunks' first clusters, in order. */
  get starts(): number[] {
    return [...this.#chunks.keys()].sort((a, b) => a - b).map((index) => index * CHUNK);
  }
}

interface L2Use {
  readonly isActive: boolean;
  references: number;
}

class Checker {
  readonly result: CheckResult;
  readonly file: BlockFile;
  readonly header: Qcow2Header;
  readonly clusterBytes: number;
  readonly perBlock: number;
  readonly counts: Counters;
  readonly l2 = new Map<number, L2Use>();
  /** Refcount blocks by the index of their entry. */
  readonly blocks = new Map<number, number>();
  /** The refcounts cannot be set where they are. */
  isBroken = false;
  /** Corruptions that new refcounts mend. */
  countErrors = 0;
  /** Of the file as it was found: what repairs append is counted separately. */
  readonly fileEnd: number;

  constructor(file: BlockFile, header: Qcow2Header) {
    this.file = file;
    this.header = header;
    this.clusterBytes = 2 ** header.clusterBits;
    this.perBlock = 2 ** (header.clusterBits + 3 - header.refcountOrder);
    this.counts = new Counters(file.name);
    this.fileEnd = file.size;
    this.result = {
      corruptions: 0,
      leaks: 0,
      corruptionsFixed: 0,
      leaksFixed: 0,
      totalClusters: Math.ceil(header.sizeBytes / this.clusterBytes),
      allocatedClusters: 0,
      fragmentedClusters: 0,
      compressedClusters: 0,
      imageEnd: 0,
      messages: [],
    };
  }

  say(message: string): void {
    if (this.result.messages.length < MAX_MESSAGES) this.result.messages.push(message);
  }
  corrupt(message: string): void {
    this.result.corruptions++;
    this.say(`ERROR ${message}`);
  }

  /** Counts the clusters of a range. False if it is not within the file. */
  count(what: string, offset: number, bytes: number, times = 1): boolean {
    if (bytes === 0) return true;
    const last = Math.floor((offset + bytes - 1) / this.clusterBytes);
    // A file may end within its last cluster.
    if (last * this.clusterBytes > this.fileEnd) {
      this.corrupt(`${what} at ${offset} is beyond the end of the file`);
      return false;
    }
    for (let cluster = Math.floor(offset / this.clusterBytes); cluster <= last; cluster++)
      this.counts.add(cluster, times);
    return true;
  }

  async bytes(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    // What lies beyond the end is zero: it need not be read, however long it claims to be.
    const inside = Math.max(0, Math.min(length, this.file.size - offset));
    if (inside > 0) await this.file.read(offset, bytes.subarray(0, inside));
    return bytes;
  }

  async l1(what: string, offset: number, entries: number, isActive: boolean): Promise<void> {
    if (entries === 0) return;
    if (offset % this.clusterBytes !== 0)
      return this.corrupt(`${what} at ${offset} is at no cluster's start`);
    if (!this.count(what, offset, entries * 8)) return;
    const view = viewOf(await this.bytes(offset, entries * 8));
    const seen = new Set<number>();
    for (let i = 0; i < entries; i++) {
      const at = entryOffset(view.getUint32(i * 8), view.getUint32(i * 8 + 4));
      if (at === 0) continue;
      if (at % this.clusterBytes !== 0) {
        this.corrupt(`${what}: entry ${i}: L2 table at ${at} is at no cluster's start`);
        continue;
      }
      if (!this.count(`${what}: entry ${i}: L2 table`, at, this.clusterBytes)) continue;
      if (seen.has(at)) this.corrupt(`${what}: entry ${i}: L2 table at ${at} is another entry's too`);
      seen.add(at);
      const use = this.l2.get(at);
      if (use === undefined) this.l2.set(at, { isActive, references: 1 });
      else use.references++;
    }
  }

  get entryFormat(): { clusterBits: number; hasZeroFlag: boolean; isExtended: boolean } {
    const { clusterBits, version, incompatible } = this.header;
    return {
      clusterBits,
      hasZeroFlag: version === 3,
      isExtended: (incompatible & INCOMPATIBLE.EXTENDED_L2) !== 0n,
    };
  }

  async l2Entries(): Promise<void> {
    const format = this.entryFormat;
    const { result, clusterBytes } = this;
    const step = format.isExtended ? 32 : 1;
    const entries = clusterBytes / (format.isExtended ? 16 : 8);
    let next = 0;
    for (const [at, { isActive, references }] of this.l2) {
      const bytes = await this.bytes(at, clusterBytes);
      const table = { offset: at, bytes, view: viewOf(bytes) };
      for (let i = 0; i < entries; i++) {
        const entry = readEntry(table, i * step, format);
        if (entry.host === 0) continue;
        const what = `L2 table at ${at}: entry ${i}: cluster`;
        const isCompressed = entry.kind === "compressed";
        if (!isCompressed && entry.host % clusterBytes !== 0) {
          this.corrupt(`${what} at ${entry.host} is at no cluster's start`);
          continue;
        }
        // The last sector of a compressed one may be beyond the end.
        const length = isCompressed ? Math.min(entry.compressedBytes, 512) : clusterBytes;
        const rest = isCompressed ? this.fileEnd - entry.host : 0;
        const bytesUsed = isCompressed
          ? Math.max(length, Math.min(entry.compressedBytes, rest))
          : clusterBytes;
        this.count(what, entry.host, bytesUsed, references);
        if (!isActive) continue;
        result.allocatedClusters++;
        if (isCompressed) result.compressedClusters++;
        if (isCompressed || (next !== 0 && entry.host !== next)) result.fragmentedClusters++;
        next = isCompressed ? 0 : entry.host + clusterBytes;
      }
    }
  }

  /** Persistent bitmaps, unless a program that does not know them has changed the image. */
  async bitmaps(): Promise<void> {
    const extension = this.header.extensions.find(({ type }) => type === BITMAPS_EXTENSION)?.data;
    if (extension === undefined || extension.length < 24 || (this.header.autoclear & 1n) === 0n) return;
    const view = viewOf(extension);
    const [bitmaps, bytes, offset] = [view.getUint32(0), u64(view, 8), u64(view, 16)];
    if (bytes > 64 << 20) return this.corrupt(`a directory of bitmaps of ${bytes} bytes`);
    if (!this.count("directory of bitmaps", offset, bytes)) return;
    const directory = viewOf(await this.bytes(offset, bytes));
    for (let i = 0, at = 0; i < bitmaps && at + 24 <= bytes; i++) {
      const [table, entries] = [u64(directory, at), directory.getUint32(at + 8)];
      at += Math.ceil((24 + directory.getUint16(at + 18) + directory.getUint32(at + 20)) / 8) * 8;
      if (!this.count(`bitmap ${i}`, table, entries * 8)) continue;
      const data = viewOf(await this.bytes(table, entries * 8));
      for (let j = 0; j < entries; j++) {
        const host = entryOffset(data.getUint32(j * 8), data.getUint32(j * 8 + 4));
        if (host !== 0) this.count(`bitmap ${i}: cluster`, host, this.clusterBytes);
      }
    }
  }

  async refcountBlocks(): Promise<void> {
    const { header, clusterBytes } = this;
    const tableBytes = header.refcountTableClusters * clusterBytes;
    if (!this.count("refcount table", header.refcountTableOffset, tableBytes)) this.isBroken = true;
    const table = viewOf(await this.bytes(header.refcountTableOffset, tableBytes));
    for (let i = 0; i < tableBytes / 8; i++) {
      const offset = refcountBlockAt(table, i);
      if (offset === 0) continue;
      const before = this.result.corruptions;
      if (offset % clusterBytes !== 0)
        this.corrupt(`refcount block ${i} at ${offset} is at no cluster's start`);
      else if (this.count(`refcount block ${i}`, offset, clusterBytes)) {
        if (this.counts.get(offset / clusterBytes) > 1)
          this.corrupt(`refcount block ${i} at ${offset} is where something else is`);
        else this.blocks.set(i, offset);
      }
      if (this.result.corruptions === before) continue;
      this.isBroken = true;
      this.countErrors += this.result.corruptions - before;
    }
  }

  /** Calls `see` for each cluster that has references or a refcount. */
  async eachCount(see: (cluster: number, refcount: number, references: number) => void): Promise<void> {
    const { perBlock, header } = this;
    const ranges = new Set([...this.blocks.keys()]);
    for (const start of this.counts.starts) {
      for (let at = start; at < start + CHUNK; at += perBlock) ranges.add(Math.floor(at / perBlock));
    }
    for (const index of [...ranges].sort((a, b) => a - b)) {
      const offset = this.blocks.get(index);
      const view = offset === undefined ? undefined : viewOf(await this.bytes(offset, this.clusterBytes));
      for (let i = 0; i < perBlock; i++) {
        const cluster = index * perBlock + i;
        // Where nothing is counted on either side, a whole chunk is passed over.
        if (view === undefined && cluster % CHUNK === 0 && !this.counts.has(cluster)) {
          i += CHUNK - 1;
          continue;
        }
        const refcount = view === undefined ? 0 : readRefcount(view, header.refcountOrder, i);
        const references = this.counts.get(cluster);
        if (refcount !== 0 || references !== 0) see(cluster, refcount, references);
      }
    }
  }

  /** Flags of entries that say that a refcount is 1; `refcount` tells what it is. */
  async copiedFlags(refcount: (cluster: number) => number, repairs: boolean): Promise<void> {
    const { header, result, clusterBytes } = this;
    const format = this.entryFormat;
    const step = format.isExtended ? 2 : 1;
    const fix = async (
      offset: number,
      bytes: Uint8Array,
      fixes: readonly [number, boolean][],
    ): Promise<void> => {
      result.corruptions += fixes.length;
      if (!repairs || fixes.length === 0) return;
      for (const [index, isCopied] of fixes) writeCopied(viewOf(bytes), index, isCopied);
      await this.file.write(offset, bytes);
      result.corruptionsFixed += fixes.length;
    };
    const l1 = await this.bytes(header.l1Offset, header.l1Entries * 8);
    const l1Fixes: [number, boolean][] = [];
    const l1View = viewOf(l1);
    for (let i = 0; i < header.l1Entries; i++) {
      const hi = l1View.getUint32(i * 8);
      const at = entryOffset(hi, l1View.getUint32(i * 8 + 4));
      if (!this.l2.has(at)) continue;
      const isSole = refcount(at / clusterBytes) === 1;
      if (isCopiedFlag(hi) !== isSole) {
        this.say(`ERROR OFLAG_COPIED L2 cluster: l1_index=${i} refcount=${refcount(at / clusterBytes)}`);
        l1Fixes.push([i, isSole]);
      }
    }
    for (const [at, { isActive }] of this.l2) {
      if (!isActive) continue;
      const bytes = await this.bytes(at, clusterBytes);
      const table = { offset: at, bytes, view: viewOf(bytes) };
      const fixes: [number, boolean][] = [];
      for (let i = 0; i < clusterBytes / (8 * step); i++) {
        const entry = readEntry(table, format.isExtended ? i * 32 : i, format);
        if (entry.kind === "compressed" || entry.host === 0 || entry.host % clusterBytes !== 0) continue;
        const found = refcount(entry.host / clusterBytes);
        if (entry.isCopied === (found === 1)) continue;
        this.say(`ERROR OFLAG_COPIED data cluster: L2 table at ${at}: entry ${i}: refcount=${found}`);
        fixes.push([i * step, found === 1]);
      }
      await fix(at, bytes, fixes);
    }
    await fix(header.l1Offset, l1, l1Fixes);
  }

  /** Sets refcounts where they are. */
  async setRefcounts(values: ReadonlyMap<number, number>): Promise<void> {
    const byBlock = new Map<number, [number, number][]>();
    for (const entry of values) {
      const index = Math.floor(entry[0] / this.perBlock);
      const entries = byBlock.get(index);
      if (entries === undefined) byBlock.set(index, [entry]);
      else entries.push(entry);
    }
    for (const [index, entries] of byBlock) {
      const offset = this.blocks.get(index);
      if (offset === undefined) continue;
      const block = await this.bytes(offset, this.clusterBytes);
      for (const [cluster, value] of entries)
        writeRefcount(viewOf(block), this.header.refcountOrder, cluster % this.perBlock, value);
      await this.file.write(offset, block);
    }
    await this.file.flush();
  }

  /** Writes a new refcount table and new blocks behind all that is in use. */
  async rebuild(): Promise<void> {
    const { header, file, clusterBytes, perBlock, counts } = this;
    const drop = (offset: number): void => {
      if (counts.get(offset / clusterBytes) > 0) counts.add(offset / clusterBytes, -1);
    };
    for (const offset of this.blocks.values()) drop(offset);
    for (let i = 0; i < header.refcountTableClusters; i++)
      drop(header.refcountTableOffset + i * clusterBytes);
    const starts = counts.starts;
    const first = Math.max(Math.ceil(file.size / clusterBytes), (starts.at(-1) ?? 0) + CHUNK);
    let [tableClusters, blocks] = [1, 1];
    for (;;) {
      const wanted = Math.ceil((first + tableClusters + blocks) / perBlock);
      const table = Math.ceil((wanted * 8) / clusterBytes);
      if (wanted === blocks && table === tableClusters) break;
      [tableClusters, blocks] = [Math.max(table, tableClusters), Math.max(wanted, blocks)];
      if (blocks > 1 << 20)
        throw new BlockError("qcow2.check", `${file.name}: is too large for new refcounts`);
    }
    for (let i = 0; i < tableClusters + blocks; i++) counts.add(first + i, 1);
    const tableBytes = new Uint8Array(tableClusters * clusterBytes);
    const max = maxRefcount(header.refcountOrder);
    for (let index = 0; index < blocks; index++) {
      const offset = (first + tableClusters + index) * clusterBytes;
      const block = new Uint8Array(clusterBytes);
      const view = viewOf(block);
      for (let i = 0; i < perBlock; i++) {
        const value = Math.min(counts.get(index * perBlock + i), max);
        if (value !== 0) writeRefcount(view, header.refcountOrder, i, value);
      }
      await file.write(offset, block);
      viewOf(tableBytes).setBigUint64(index * 8, BigInt(offset));
    }
    await file.write(first * clusterBytes, tableBytes);
    await file.flush();
    const head = new Uint8Array(12);
    viewOf(head).setBigUint64(0, BigInt(first * clusterBytes));
    viewOf(head).setUint32(8, tableClusters);
    await file.write(HEADER_AT.REFCOUNT_TABLE, head);
    await file.flush();
    header.refcountTableOffset = first * clusterBytes;
    header.refcountTableClusters = tableClusters;
  }
}

/** Checks an image that nobody has open, and repairs it. Rejects with BlockError if it cannot be checked. */
export async function checkQcow2(file: BlockFile, header: Qcow2Header, repair: Repair): Promise<CheckResult> {
  const check = new Checker(file, header);
  const { result } = check;
  check.count("header", 0, check.clusterBytes);
  await check.l1("L1 table", header.l1Offset, header.l1Entries, true);
  const snapshots = await readSnapshots(file, header);
  check.count("snapshot table", header.snapshotsOffset, snapshots.bytes);
  for (const { id, l1Offset, l1Entries } of snapshots.entries)
    await check.l1(`L1 table of snapshot ${id}`, l1Offset, l1Entries, false);
  await check.l2Entries();
  await check.bitmaps();
  await check.refcountBlocks();

  const leaked = new Map<number, number>();
  const refcounts = new Counters(file.name);
  let end = 0;
  await check.eachCount((cluster, refcount, references) => {
    end = cluster + 1;
    refcounts.add(cluster, refcount);
    if (refcount === references) return;
    const numbers = `cluster ${cluster} refcount=${refcount} reference=${references}`;
    if (refcount > references) {
      leaked.set(cluster, references);
      result.leaks++;
      check.say(`Leaked ${numbers}`);
    } else {
      check.countErrors++;
      check.corrupt(numbers);
    }
  });
  result.imageEnd = end * check.clusterBytes;

  const mendsAll = repair === "all" && (check.countErrors > 0 || check.isBroken);
  const mendsLeaks = repair !== "none" && leaked.size > 0 && !check.isBroken;
  if (mendsAll) {
    await check.rebuild();
    result.corruptionsFixed += check.countErrors;
    result.leaksFixed += result.leaks;
  } else if (mendsLeaks) {
    await check.setRefcounts(leaked);
    result.leaksFixed += result.leaks;
  }
  const now = mendsAll
    ? (cluster: number) => check.counts.get(cluster)
    : (cluster: number) => (mendsLeaks ? leaked.get(cluster) : undefined) ?? refcounts.get(cluster);
  await check.copiedFlags(now, repair === "all");
  if (repair !== "none") await file.flush();
  return result;
}
