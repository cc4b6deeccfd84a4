// A qcow2 image as a disk (QEMU's docs/interop/qcow2.txt): versions 2 and 3, backing images, zero and
// compressed clusters, internal snapshots (kept, and copied from on a write). Extended L2 entries are read
// only.
//
// A crash at any moment leaves at worst clusters that nothing uses. Data goes to the file at once, changed
// tables stay in memory until a flush, which writes in this order: refcounts (so that what is in use is
// counted), L2 tables, L1 table; only then are clusters free that the old tables still used. Each step is
// durable before the next one begins.
import { BlockError, type BlockFile } from "../block-file.ts";
import { type BlockImage, type Extent, readWithin } from "../block-image.ts";
import type { ClusterCodec } from "./cluster-codec.ts";
import {
  bytesOf,
  HEADER_AT,
  INCOMPATIBLE,
  isFixed,
  l1Coverage,
  LAZY_REFCOUNTS,
  MAX_FILE_BYTES,
  MAX_L1_ENTRIES,
  type Qcow2Header,
  viewOf,
} from "./qcow2-header.ts";
import {
  alikeEntries,
  type ClusterEntry,
  type ClusterEntries as Run,
  entryOffset,
  isCopiedFlag,
  isPossible,
  readEntry,
  writeCompressedEntry,
  writeEntry,
} from "./qcow2-l2.ts";
import { type ClusterRun, type NewRun, Refcounts } from "./qcow2-refcounts.ts";
import { InFlight } from "../in-flight.ts";
import { RangeLock, Turns } from "../range-lock.ts";
import { type Table, TableCache } from "./table-cache.ts";

const L2_CACHE_BYTES = 32 << 20;
/** Unpacked clusters that are kept. */
const UNPACKED_BYTES = 4 << 20;
/** Unit in which a part of the L1 table is written. */
const L1_SECTOR = 512;
/** Runs of freed clusters that are kept before a flush. */
const MAX_FREED = 4096;

export interface Qcow2Parts {
  readonly file: BlockFile;
  readonly header: Qcow2Header;
  readonly backing: BlockImage | undefined;
  readonly codec: ClusterCodec;
}

export class Qcow2Image implements BlockImage {
  readonly format = "qcow2";
  readonly file: BlockFile;
  readonly header: Qcow2Header;
  backing: BlockImage | undefined;
  readonly readonly: boolean;
  readonly clusterBytes: number;
  readonly #codec: ClusterCodec;
  /** What an entry covers: a cluster, or a part of one. */
  readonly #unitBytes: number;
  readonly #perTable: number;
  readonly #entries: {
    readonly clusterBits: number;
    readonly hasZeroFlag: boolean;
    readonly isExtended: boolean;
  };
  /** As in the file. */
  #l1: DataView;
  readonly #l1Changed = new Set<number>();
  readonly #l2: TableCache;
  readonly #refcounts: Refcounts;
  readonly #lock = new RangeLock();
  readonly #flushes = new Turns();
  #nextFlush: Promise<void> | undefined;
  /** Clusters that the tables in the file may still use. */
  #freed: ClusterRun[] = [];
  readonly #reads = new InFlight();
  readonly #unpacked = new Map<number, Uint8Array>();
  /** Where the next packed cluster may begin. */
  #packedAt = 0;
  #isCorrupt = false;

  private constructor(parts: Qcow2Parts, l1: Uint8Array, refcountTable: Uint8Array) {
    const { file, header } = parts;
    this.file = file;
    this.header = header;
    this.backing = parts.backing;
    this.#codec = parts.codec;
    this.readonly = file.readonly;
    this.clusterBytes = 2 ** header.clusterBits;
    const isExtended = (header.incompatible & INCOMPATIBLE.EXTENDED_L2) !== 0n;
    this.#unitBytes = isExtended ? this.clusterBytes / 32 : this.clusterBytes;
    this.#perTable = (this.clusterBytes / (isExtended ? 16 : 8)) * (isExtended ? 32 : 1);
    this.#entries = { clusterBits: header.clusterBits, hasZeroFlag: header.version === 3, isExtended };
    this.#l1 = viewOf(l1);
    this.#l2 = new TableCache(file, this.clusterBytes, L2_CACHE_BYTES);
    this.#refcounts = new Refcounts(file, header, refcountTable, {
      cluster: (offset) => this.#isMetadata(offset),
      block: (offset) => isFixed(this.header, offset) || this.#l2.has(offset),
    });
  }

  /**
   * Opens an image, for writing if its file is. Rejects with BlockError if it cannot be used so. A dirty one
   * (its refcounts are not up to date) must be repaired before it is written.
   */
  static async open(parts: Qcow2Parts): Promise<Qcow2Image> {
    const { file, header } = parts;
    const l1 = new Uint8Array(header.l1Entries * 8);
    await file.read(header.l1Offset, l1);
    const refcountTable = new Uint8Array(header.refcountTableClusters * 2 ** header.clusterBits);
    if (!file.readonly) await file.read(header.refcountTableOffset, refcountTable);
    const image = new Qcow2Image(parts, l1, refcountTable);
    if (!file.readonly) await image.#prepareWrites();
    return image;
  }

  async #prepareWrites(): Promise<void> {
    const { header, file } = this;
    const fail = (why: string): never => {
      throw new BlockError("qcow2.readonly", `${file.name}: ${why}`);
    };
    if ((header.incompatible & INCOMPATIBLE.CORRUPT) !== 0n)
      fail("is marked corrupt: it can be read only, or repaired with `wherry image check -r all`");
    if ((header.incompatible & INCOMPATIBLE.DIRTY) !== 0n)
      fail("was not closed and its refcounts are not up to date: `wherry image check -r all` repairs it");
    if (this.#entries.isExtended)
      fail(
        "has extended L2 entries: it can be read only; `wherry image convert` makes one that can be written",
      );
    // Their owners learn from it that the image has changed without them (bitmaps, for example).
    if (header.autoclear !== 0n) await this.#writeFeatures({ autoclear: 0n });
  }

  get sizeBytes(): number {
    return this.header.sizeBytes;
  }

  async #writeFeatures(changed: Partial<Pick<Qcow2Header, "incompatible" | "autoclear">>): Promise<void> {
    const { header, file } = this;
    for (const [at, value] of [
      [HEADER_AT.INCOMPATIBLE, changed.incompatible],
      [HEADER_AT.AUTOCLEAR, changed.autoclear],
    ] as const) {
      if (value === undefined) continue;
      const bytes = new Uint8Array(8);
      viewOf(bytes).setBigUint64(0, value);
      await file.write(at, bytes);
    }
    await file.flush();
    Object.assign(header, changed);
  }

  /** The image contradicts itself: nothing may write to it any more. */
  async #corrupt(what: string): Promise<never> {
    if (!this.readonly && !this.#isCorrupt) {
      this.#isCorrupt = true;
      const { version, incompatible } = this.header;
      if (version === 3) await this.#writeFeatures({ incompatible: incompatible | INCOMPATIBLE.CORRUPT });
    }
    const how = "`wherry image check` tells more";
    throw new BlockError("qcow2.corrupt", `${this.file.name}: the image is corrupt: ${what}; ${how}`);
  }

  /** True for a cluster of the header or of a table that is known. */
  #isMetadata(offset: number): boolean {
    return isFixed(this.header, offset) || this.#l2.has(offset) || this.#refcounts.hasBlock(offset);
  }

  // Looking up.

  #l2Offset(index: number): number {
    if (index * 8 >= this.#l1.byteLength) return 0;
    return entryOffset(this.#l1.getUint32(index * 8), this.#l1.getUint32(index * 8 + 4));
  }

  /** No snapshot shares the table. */
  #isOwnTable(index: number): boolean {
    return index * 8 < this.#l1.byteLength && isCopiedFlag(this.#l1.getUint32(index * 8));
  }

  async #l2Table(index: number): Promise<number> {
    const offset = this.#l2Offset(index);
    if (offset % this.clusterBytes !== 0 || offset > MAX_FILE_BYTES)
      await this.#corrupt(`L2 table ${index} is at ${offset}, which is no cluster's start`);
    return offset;
  }

  /** What is at `offset`, for at most `length` bytes, within one L2 table. */
  async #find(offset: number, length: number): Promise<Run> {
    const known = this.#findNow(offset, length);
    if (known !== undefined) return known;
    const index = Math.floor(offset / this.#unitBytes / this.#perTable);
    const at = await this.#l2Table(index);
    const run = await this.#l2.use(at, (table) => this.#runIn(table, offset, length));
    if (!isPossible(run, this.#unitBytes))
      await this.#corrupt(
        `the cluster of disk offset ${offset} is at ${run.host}, which is no cluster's start`,
      );
    return run;
  }

  /** The same at once, if the table is in memory and nothing is wrong. */
  #findNow(offset: number, length: number): Run | undefined {
    const index = Math.floor(offset / this.#unitBytes / this.#perTable);
    const at = this.#l2Offset(index);
    if (at === 0) {
      const end = Math.min(offset + length, (index + 1) * this.#perTable * this.#unitBytes);
      return { kind: "absent", host: 0, isCopied: false, compressedBytes: 0, length: end - offset };
    }
    const table = this.#l2.peek(at);
    const run = table && this.#runIn(table, offset, length);
    return run !== undefined && isPossible(run, this.#unitBytes) ? run : undefined;
  }

  /** The entry of `offset` and those that continue it. */
  #runIn(table: Table, offset: number, length: number): Run {
    const unit = Math.floor(offset / this.#unitBytes);
    const first = unit % this.#perTable;
    const last = Math.min(Math.ceil((offset + length) / this.#unitBytes) - (unit - first), this.#perTable);
    const { kind, host, isCopied, compressedBytes } = readEntry(table, first, this.#entries);
    const bytes = alikeEntries(table, first, last, this.#entries) * this.#unitBytes;
    const within = offset % this.#unitBytes;
    return { kind, host, isCopied, compressedBytes, length: Math.min(length, bytes - within) };
  }

  // Reading.

  async read(offset: number, target: Uint8Array): Promise<void> {
    const reading = this.#reads.begin();
    try {
      const run = this.#findNow(offset, target.length);
      if (run?.kind === "data" && run.length === target.length)
        await this.file.read(run.host + (offset % this.#unitBytes), target);
      else await this.#read(offset, target);
    } finally {
      this.#reads.end(reading);
    }
  }

  readNow(offset: number, target: Uint8Array): boolean {
    const run = this.#findNow(offset, target.length);
    if (run?.length !== target.length) return false;
    if (run.kind === "data")
      return this.file.readNow?.(run.host + (offset % this.#unitBytes), target) ?? false;
    const isZero = run.kind === "zero" || (run.kind === "absent" && this.backing === undefined);
    if (isZero) target.fill(0);
    return isZero;
  }

  async #read(offset: number, target: Uint8Array): Promise<void> {
    const parts: Promise<void>[] = [];
    try {
      for (let done = 0; done < target.length; ) {
        const at = offset + done;
        const run = await this.#find(at, target.length - done);
        const part = target.subarray(done, done + run.length);
        if (run.kind === "data") parts.push(this.file.read(run.host + (at % this.#unitBytes), part));
        else if (run.kind === "compressed") {
          const cluster = await this.#unpack(run);
          part.set(cluster.subarray(at % this.clusterBytes, (at % this.clusterBytes) + part.length));
        } else if (run.kind === "zero" || this.backing === undefined) part.fill(0);
        else parts.push(readWithin(this.backing, at, part));
        done += run.length;
      }
    } finally {
      // No part is left behind that still writes to `target`.
      await Promise.allSettled(parts);
    }
    await Promise.all(parts);
  }

  async #unpack({ host, compressedBytes }: ClusterEntry): Promise<Uint8Array> {
    const known = this.#unpacked.get(host);
    if (known !== undefined) return known;
    const packed = new Uint8Array(Math.max(0, Math.min(compressedBytes, this.file.size - host)));
    await this.file.read(host, packed);
    let cluster: Uint8Array;
    try {
      cluster = await this.#codec.unpack(this.header.compression, packed, this.clusterBytes);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      const what = `the compressed cluster at ${host}: ${why}`;
      throw new BlockError("qcow2.compressed", `${this.file.name}: ${what}`, { cause });
    }
    this.#unpacked.set(host, cluster);
    for (const other of this.#unpacked.keys()) {
      if (this.#unpacked.size * this.clusterBytes <= UNPACKED_BYTES || other === host) break;
      this.#unpacked.delete(other);
    }
    return cluster;
  }

  async extent(offset: number, length: number): Promise<Extent> {
    const { file, backing } = this;
    const run = await this.#find(offset, length);
    const common = { length: run.length, depth: 0, isCompressed: run.kind === "compressed", file };
    const within = offset % this.#unitBytes;
    if (run.kind === "data") return { ...common, kind: "data", host: run.host + within };
    if (run.kind === "compressed") return { ...common, kind: "data", host: undefined };
    if (run.kind === "zero") return { ...common, kind: "zero", host: undefined };
    if (backing === undefined || offset >= backing.sizeBytes)
      return { ...common, kind: "absent", host: undefined };
    const below = await backing.extent(offset, Math.min(run.length, backing.sizeBytes - offset));
    return { ...below, depth: below.depth + 1 };
  }

  // Writing.

  #refuseWrites(): void {
    const why = this.readonly ? "is open for reading only" : "is corrupt";
    if (this.readonly || this.#isCorrupt) throw new BlockError("qcow2.readonly", `${this.file.name}: ${why}`);
  }

  /** Changes have piled up in memory. */
  get #isFull(): boolean {
    return this.#l2.isFull || this.#refcounts.isFull || this.#freed.length > MAX_FREED;
  }

  /** Before a request that changes tables. */
  async #makeRoom(): Promise<void> {
    this.#refuseWrites();
    if (this.#isFull) await this.flush();
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    for (let done = 0; done < data.length; ) {
      this.#refuseWrites();
      if (this.#isFull) await this.flush();
      done += await this.#writeSome(offset + done, data.subarray(done));
    }
  }

  /** Only where nothing but the data changes. */
  writeNow(offset: number, data: Uint8Array): boolean {
    const run = this.#findNow(offset, data.length);
    if (this.readonly || this.#isCorrupt || run?.length !== data.length) return false;
    if (run.kind !== "data" || !run.isCopied) return false;
    const within = offset % this.clusterBytes;
    const [first, end] = [offset / this.clusterBytes, (offset + data.length) / this.clusterBytes];
    if (!this.#lock.isFree(Math.floor(first), Math.ceil(end) - 1, false)) return false;
    for (let at = run.host; at < run.host + within + run.length; at += this.clusterBytes)
      if (this.#isMetadata(at)) return false;
    return this.file.writeNow?.(run.host + within, data) ?? false;
  }

  /** Writes to clusters of one L2 table that are alike. Returns the number of bytes. */
  async #writeSome(offset: number, data: Uint8Array): Promise<number> {
    const first = Math.floor(offset / this.clusterBytes);
    const table = Math.floor(first / this.#perTable);
    const end = Math.min(offset + data.length, (table + 1) * this.#perTable * this.clusterBytes);
    const last = Math.ceil(end / this.clusterBytes) - 1;
    const part = data.subarray(0, end - offset);
    const inPlace = await this.#lock.during(first, last, false, () => this.#writeInPlace(offset, part));
    if (inPlace > 0) return inPlace;
    return await this.#lock.during(first, last, true, async () => {
      // Another request may have made the cluster meanwhile.
      const done = await this.#writeInPlace(offset, part);
      return done > 0 ? done : await this.#writeNew(offset, part);
    });
  }

  /** Returns 0 if the first cluster cannot be written where it is. */
  async #writeInPlace(offset: number, data: Uint8Array): Promise<number> {
    const run = this.#findNow(offset, data.length) ?? (await this.#find(offset, data.length));
    if (run.kind !== "data" || !run.isCopied) return 0;
    const within = offset % this.clusterBytes;
    for (let at = run.host; at < run.host + within + run.length; at += this.clusterBytes) {
      if (this.#isMetadata(at))
        await this.#corrupt(`a cluster near disk offset ${offset} is at ${at}, where a table is`);
    }
    await this.file.write(run.host + within, data.subarray(0, run.length));
    return run.length;
  }

  /** Writes to new clusters, as many as are needed, or come in a row. */
  async #writeNew(offset: number, data: Uint8Array): Promise<number> {
    const start = offset - (offset % this.clusterBytes);
    const index = Math.floor(start / this.clusterBytes);
    const slot = index % this.#perTable;
    const table = await this.#l2ForWriting(Math.floor(index / this.#perTable));
    const wanted = Math.ceil((offset + data.length - start) / this.clusterBytes);
    const old = await this.#l2.use(table, (l2) => {
      const entries: ClusterEntry[] = [];
      for (let i = 0; i < wanted; i++) {
        const entry = readEntry(l2, slot + i, this.#entries);
        if (entry.kind === "data" && entry.isCopied) break;
        entries.push(entry);
      }
      return entries;
    });
    const run = await this.#allocate(old.length);
    const clusters = run.clusters;
    const end = start + clusters * this.clusterBytes;
    const written = Math.min(data.length, end - offset);
    try {
      await this.#fill(run, { start, end, offset, data: data.subarray(0, written) }, [
        old[0],
        old[clusters - 1],
      ]);
      await this.#l2.use(table, (l2) => {
        for (let i = 0; i < clusters; i++)
          writeEntry(l2, slot + i, run.offset + i * this.clusterBytes, false);
        this.#l2.changed(l2, slot * 8, (slot + clusters) * 8);
      });
    } catch (error) {
      await this.#refcounts.release([run]);
      throw error;
    }
    for (const entry of old.slice(0, clusters)) this.#free(entry);
    return written;
  }

  /** Writes `data`, and around it what the first and last cluster had before. */
  async #fill(
    run: NewRun,
    range: {
      readonly start: number;
      readonly end: number;
      readonly offset: number;
      readonly data: Uint8Array;
    },
    [first, last]: readonly [ClusterEntry | undefined, ClusterEntry | undefined],
  ): Promise<void> {
    const { start, end, offset, data } = range;
    const isBlank = (entry: ClusterEntry | undefined): boolean =>
      entry?.kind === "zero" || (entry?.kind === "absent" && this.backing === undefined);
    const dataEnd = offset + data.length;
    const needsHead = offset > start && !(run.isFresh && isBlank(first));
    const needsTail = dataEnd < end && !(run.isFresh && isBlank(last));
    const from = needsHead ? start : offset;
    const to = needsTail ? end : dataEnd;
    if (from === offset && to === dataEnd) return await this.file.write(run.offset + offset - start, data);
    const bytes = new Uint8Array(to - from);
    const before = bytes.subarray(0, offset - from);
    const after = bytes.subarray(dataEnd - from);
    if (before.length > 0 && !isBlank(first)) await this.#read(from, before);
    if (after.length > 0 && !isBlank(last)) {
      const inside = Math.max(0, Math.min(after.length, this.sizeBytes - dataEnd));
      await this.#read(dataEnd, after.subarray(0, inside));
    }
    bytes.set(data, offset - from);
    await this.file.write(run.offset + from - start, bytes);
  }

  async #allocate(clusters: number): Promise<NewRun> {
    await this.#markDirty();
    try {
      return await this.#refcounts.allocate(clusters);
    } catch (error) {
      if (error instanceof BlockError && error.code === "qcow2.corrupt") await this.#corrupt(error.message);
      throw error;
    }
  }

  get #isLazy(): boolean {
    return (this.header.compatible & LAZY_REFCOUNTS) !== 0n && this.header.version === 3;
  }

  /** With lazy refcounts, those in the file need not be right while the image is dirty. */
  async #markDirty(): Promise<void> {
    const { incompatible } = this.header;
    if (this.#isLazy && (incompatible & INCOMPATIBLE.DIRTY) === 0n)
      await this.#writeFeatures({ incompatible: incompatible | INCOMPATIBLE.DIRTY });
  }

  /** What an entry that was replaced used is free once the flush has written the new one. */
  #free({ kind, host, compressedBytes }: ClusterEntry): void {
    if (host === 0) return;
    const first = host - (host % this.clusterBytes);
    const bytes = kind === "compressed" ? host + compressedBytes - first : this.clusterBytes;
    this.#release(first, Math.ceil(bytes / this.clusterBytes));
  }

  #release(offset: number, clusters: number): void {
    const before = this.#freed.at(-1);
    if (before !== undefined && before.offset + before.clusters * this.clusterBytes === offset)
      this.#freed[this.#freed.length - 1] = { offset: before.offset, clusters: before.clusters + clusters };
    else this.#freed.push({ offset, clusters });
  }

  /** The offset of an L2 table that may be changed: a new one, or a copy of one that snapshots share. */
  async #l2ForWriting(index: number): Promise<number> {
    const known = await this.#l2Table(index);
    if (known !== 0 && (isFixed(this.header, known) || this.#refcounts.hasBlock(known)))
      await this.#corrupt(`L2 table ${index} is at ${known}, where another table is`);
    if (known !== 0 && this.#isOwnTable(index)) return known;
    return await this.#l2Making.run(async () => {
      const old = this.#l2Offset(index);
      if (old !== 0 && this.#isOwnTable(index)) return old;
      const { offset } = await this.#allocate(1);
      if (old === 0) this.#l2.create(offset);
      else this.#l2.create(offset, await this.#l2.use(old, ({ bytes }) => bytes.slice()));
      this.#l1.setBigUint64(index * 8, BigInt(offset) | (1n << 63n));
      this.#l1Changed.add(index);
      if (old !== 0) this.#release(old, 1);
      return offset;
    });
  }
  readonly #l2Making = new Turns();

  /** Calls `task` for each L2 table of a range of whole clusters, with the range locked. */
  async #eachTable(
    offset: number,
    length: number,
    task: (table: number, slot: number, clusters: number) => Promise<void>,
  ): Promise<void> {
    const end = Math.floor((offset + length) / this.clusterBytes);
    for (let first = Math.ceil(offset / this.clusterBytes); first < end; ) {
      const table = Math.floor(first / this.#perTable);
      const clusters = Math.min(end, (table + 1) * this.#perTable) - first;
      const [from, slot] = [first, first % this.#perTable];
      await this.#makeRoom();
      await this.#lock.during(from, from + clusters - 1, true, () => task(table, slot, clusters));
      first += clusters;
    }
  }

  /** Changes entries; what they used is freed. `change` returns false to leave an entry as it is. */
  async #replace(
    table: number,
    slot: number,
    clusters: number,
    change: (entry: ClusterEntry) => { readonly host: number; readonly isZero: boolean } | undefined,
  ): Promise<void> {
    if ((await this.#l2Table(table)) === 0 && this.backing === undefined) return;
    const at = await this.#l2ForWriting(table);
    await this.#l2.use(at, (l2) => {
      for (let i = slot; i < slot + clusters; i++) {
        const entry = readEntry(l2, i, this.#entries);
        const next = change(entry);
        if (next === undefined) continue;
        writeEntry(l2, i, next.host, next.isZero);
        this.#l2.changed(l2, i * 8, i * 8 + 8);
        if (next.host === 0) this.#free(entry);
      }
    });
  }

  /** Whole clusters are freed. They read as zeros afterwards, and not as what the backing image has. */
  async discard(offset: number, length: number): Promise<void> {
    this.#refuseWrites();
    // An end of the disk within a cluster is one.
    const end = offset + length >= this.sizeBytes ? this.#clusterEnd(this.sizeBytes) : offset + length;
    const { hasZeroFlag } = this.#entries;
    if (!hasZeroFlag && this.backing !== undefined) return;
    await this.#eachTable(offset, end - offset, (table, slot, clusters) =>
      this.#replace(table, slot, clusters, ({ kind, host }) =>
        kind === "absent" || (kind === "zero" && host === 0) ? undefined : { host: 0, isZero: hasZeroFlag },
      ),
    );
  }

  readonly #clusterEnd = (offset: number): number =>
    Math.ceil(offset / this.clusterBytes) * this.clusterBytes;

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    this.#refuseWrites();
    const { hasZeroFlag } = this.#entries;
    const isEnd = offset + length >= this.sizeBytes;
    const first = Math.min(this.#clusterEnd(offset), offset + length);
    const last = isEnd ? this.sizeBytes : offset + length - ((offset + length) % this.clusterBytes);
    await this.#writeZeroData(offset, first - offset);
    if (last > first) {
      if (hasZeroFlag || (this.backing === undefined && mayUnmap))
        await this.#eachTable(first, this.#clusterEnd(last) - first, (table, slot, clusters) =>
          this.#replace(table, slot, clusters, ({ kind, host, isCopied }) => {
            if (kind === "absent" && this.backing === undefined) return undefined;
            if (kind === "zero" && (host === 0 || !mayUnmap)) return undefined;
            const keeps = !mayUnmap && kind === "data" && isCopied;
            return { host: keeps ? host : 0, isZero: hasZeroFlag };
          }),
        );
      else await this.#writeZeroData(first, last - first);
    }
    const tail = Math.max(first, last);
    await this.#writeZeroData(tail, offset + length - tail);
  }

  /** For parts of clusters, and where there is no flag for it. Nothing is written that is zero already. */
  async #writeZeroData(offset: number, length: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const { kind, length: found } = await this.#find(at, Math.min(length - done, 1 << 20));
      if (kind !== "zero" && (kind !== "absent" || this.backing !== undefined))
        await this.write(at, new Uint8Array(found));
      done += found;
    }
  }

  /** Writes a whole cluster (or the disk's last) compressed, or as it is if that is not smaller. */
  async writeCompressed(offset: number, data: Uint8Array): Promise<void> {
    const { clusterBytes, header } = this;
    const cluster = data.length === clusterBytes ? data : new Uint8Array(clusterBytes);
    if (cluster !== data) cluster.set(data);
    const packed = await this.#codec.pack?.(header.compression, cluster);
    if (packed === undefined || packed.length >= clusterBytes) return await this.write(offset, data);
    await this.#makeRoom();
    const index = Math.floor(offset / clusterBytes);
    await this.#lock.during(index, index, true, async () => {
      const table = await this.#l2ForWriting(Math.floor(index / this.#perTable));
      const host = await this.#packing.run(() => this.#allocateBytes(packed.length));
      await this.file.write(host, packed);
      const slot = index % this.#perTable;
      const { clusterBits } = header;
      const old = await this.#l2.use(table, (l2) => {
        const before = readEntry(l2, slot, this.#entries);
        writeCompressedEntry(l2, slot, { host, bytes: packed.length, clusterBits });
        this.#l2.changed(l2, slot * 8, slot * 8 + 8);
        return before;
      });
      this.#free(old);
    });
  }
  readonly #packing = new Turns();

  /** Room for a packed cluster: behind the last one in its cluster, and in the next if that is in a row. */
  async #allocateBytes(bytes: number): Promise<number> {
    const { clusterBytes } = this;
    // A flush may forget the place meanwhile; a cluster that has one reference more is still there.
    const at = this.#packedAt;
    const end = this.#clusterEnd(at);
    const left = end - at;
    // The last sector may reach beyond the packed bytes, but not beyond the cluster.
    const fits = left >= bytes && (await this.#refcounts.addReference(end - clusterBytes));
    if (fits) return (this.#packedAt = at + bytes) - bytes;
    const { offset } = await this.#allocate(1);
    const isInRow = left > 0 && left < bytes && offset === end;
    const reaches = isInRow && (await this.#refcounts.addReference(end - clusterBytes));
    const host = reaches ? at : offset;
    this.#packedAt = host + bytes;
    return host;
  }

  // Making durable.

  flush(): Promise<void> {
    if (this.readonly) return Promise.resolve();
    this.#refuseWrites();
    // Who comes while one waits for its turn is served by that one.
    this.#nextFlush ??= this.#flushes.run(() => {
      this.#nextFlush = undefined;
      return this.#flushNow();
    });
    return this.#nextFlush;
  }

  async #flushNow(): Promise<void> {
    const { file } = this;
    const writeAll = async (patches: readonly { offset: number; data: Uint8Array }[]): Promise<void> => {
      await Promise.all(patches.map(({ offset, data }) => file.write(offset, data)));
    };
    let freed: ClusterRun[] = [];
    let l1Changed: number[] = [];
    try {
      const tables = await this.#refcounts.turns.run(async () => {
        const counts = this.#refcounts.takeChanges();
        // All of one moment: no table refers to a cluster whose refcount comes later.
        const taken = this.#l2.takeChanges();
        [freed, this.#freed] = [this.#freed, []];
        l1Changed = [...this.#l1Changed];
        this.#l1Changed.clear();
        const l1 = this.#l1Patches(l1Changed);
        try {
          await writeAll(counts.blocks);
          if (counts.entries.length > 0) {
            if (!this.#isLazy) await file.flush();
            await writeAll(counts.entries);
          }
          this.#refcounts.settle(true);
        } catch (error) {
          this.#refcounts.settle(false);
          throw error;
        }
        return { l1, l2: taken };
      });
      if (tables.l2.length > 0) {
        // Data comes before, too: a cluster that is new here may have another one's old data.
        await file.flush();
        await writeAll(tables.l2);
      }
      if (tables.l1.length > 0) {
        await file.flush();
        await writeAll(tables.l1);
      }
      await file.flush();
      this.#l2.settle(true);
    } catch (error) {
      this.#l2.settle(false);
      for (const index of l1Changed) this.#l1Changed.add(index);
      this.#freed.unshift(...freed);
      throw error;
    }
    if (freed.length > 0) await this.#releaseFreed(freed);
  }

  #l1Patches(indexes: readonly number[]): { offset: number; data: Uint8Array }[] {
    const sectors = new Set(indexes.map((index) => Math.floor((index * 8) / L1_SECTOR)));
    return [...sectors].map((sector) => {
      const data = bytesOf(this.#l1).slice(sector * L1_SECTOR, (sector + 1) * L1_SECTOR);
      return { offset: this.header.l1Offset + sector * L1_SECTOR, data };
    });
  }

  /** No table in the file uses these clusters any more, but a read that began before may. */
  async #releaseFreed(freed: readonly ClusterRun[]): Promise<void> {
    await this.#reads.drain();
    this.#unpacked.clear();
    this.#packedAt = 0;
    await this.#refcounts.punch(freed);
    await this.#refcounts.release(freed);
    await this.#refcounts.trim(freed.reduce((sum, { clusters }) => sum + clusters, 0));
  }

  // The disk's size.

  async resize(sizeBytes: number): Promise<void> {
    this.#refuseWrites();
    const old = this.sizeBytes;
    if (this.header.version === 2 && this.header.snapshots > 0)
      throw new BlockError(
        "qcow2.size",
        `${this.file.name}: a version 2 image with snapshots keeps its size`,
      );
    // Nothing of what is cut off may come back with a later growth.
    const unmapped = { host: 0, isZero: false };
    if (sizeBytes < old)
      await this.#eachTable(sizeBytes, this.#clusterEnd(old) - sizeBytes, (table, slot, clusters) =>
        this.#replace(table, slot, clusters, ({ kind }) => (kind === "absent" ? undefined : unmapped)),
      );
    const entries = Math.ceil(sizeBytes / l1Coverage(this.header.clusterBits));
    if (entries > MAX_L1_ENTRIES)
      throw new BlockError(
        "qcow2.size",
        `${this.file.name}: ${sizeBytes} bytes are too many for clusters of ${this.clusterBytes}`,
      );
    await this.#lock.during(0, Number.MAX_SAFE_INTEGER, true, () =>
      this.#flushes.run(async () => {
        await this.#flushNow();
        if (entries > this.header.l1Entries) await this.#growL1(entries);
        const size = new Uint8Array(8);
        viewOf(size).setBigUint64(0, BigInt(sizeBytes));
        await this.file.write(HEADER_AT.SIZE, size);
        await this.file.flush();
        this.header.sizeBytes = sizeBytes;
      }),
    );
    if (sizeBytes <= old) return;
    // What an earlier shrink left in the last cluster, and what a longer backing image has.
    const clusterEnd = Math.min(this.#clusterEnd(old), sizeBytes);
    const backed = Math.min(this.backing?.sizeBytes ?? 0, sizeBytes);
    await this.writeZeroes(old, Math.max(clusterEnd, backed) - old, true);
    await this.flush();
  }

  async #growL1(entries: number): Promise<void> {
    const { header, file, clusterBytes } = this;
    const clusters = Math.ceil((entries * 8) / clusterBytes);
    await this.#markDirty();
    const { offset } = await this.#refcounts.allocateRow(clusters);
    const l1 = new Uint8Array(clusters * clusterBytes);
    await this.#flushNow();
    l1.set(bytesOf(this.#l1));
    await file.write(offset, l1);
    await file.flush();
    const head = new Uint8Array(12);
    viewOf(head).setUint32(0, entries);
    viewOf(head).setBigUint64(4, BigInt(offset));
    await file.write(HEADER_AT.L1_SIZE, head);
    await file.flush();
    const old = { offset: header.l1Offset, clusters: Math.ceil((header.l1Entries * 8) / clusterBytes) };
    Object.assign(header, { l1Offset: offset, l1Entries: entries });
    this.#l1 = viewOf(l1.slice(0, entries * 8));
    if (old.clusters > 0) await this.#refcounts.release([old]);
  }

  async close(): Promise<void> {
    try {
      await this.settle();
    } finally {
      await this.file.close();
      await this.backing?.close();
    }
  }

  /** The refcounts are right then, also lazy ones. */
  async settle(): Promise<void> {
    if (this.readonly || this.#isCorrupt) return;
    await this.flush();
    // The refcounts of what that flush freed.
    await this.flush();
    const { incompatible } = this.header;
    if ((incompatible & INCOMPATIBLE.DIRTY) !== 0n)
      await this.#writeFeatures({ incompatible: incompatible & ~INCOMPATIBLE.DIRTY });
  }
}
