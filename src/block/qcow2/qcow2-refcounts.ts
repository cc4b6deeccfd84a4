// Refcounts of a qcow2 image's clusters, and with them the allocation of clusters. Changes are made in
// memory; the image's flush writes them before the tables that refer to new clusters.
import { BlockError, type BlockFile } from "../block-file.ts";
import {
  HEADER_AT,
  MAX_FILE_BYTES,
  MAX_REFCOUNT_ENTRIES,
  type Qcow2Header,
  u64,
  viewOf,
} from "./qcow2-header.ts";
import { Turns } from "../range-lock.ts";
import { type Patch, type Table, TableCache } from "./table-cache.ts";

const CACHE_BYTES = 8 << 20;
/** Blocks of clusters in use behind the end of the file, which a crash may leave: more are no crash's. */
const MAX_BLOCKS_BEYOND = 64;

/** Clusters in a row. */
export interface ClusterRun {
  readonly offset: number;
  readonly clusters: number;
}

/** New clusters. */
export interface NewRun extends ClusterRun {
  /** Nothing was ever written there: they read as zeros. */
  readonly isFresh: boolean;
}

/** Refcount number `index` of a block. Widths of 64 bits are read as far as numbers are exact. */
export function readRefcount(view: DataView, order: number, index: number): number {
  if (order === 4) return view.getUint16(index * 2);
  if (order === 5) return view.getUint32(index * 4);
  if (order === 6) return u64(view, index * 8);
  if (order === 3) return view.getUint8(index);
  const bits = 1 << order;
  const bit = index * bits;
  return (view.getUint8(bit >> 3) >> (bit & 7)) & ((1 << bits) - 1);
}

export function writeRefcount(view: DataView, order: number, index: number, value: number): void {
  if (order === 4) view.setUint16(index * 2, value);
  else if (order === 5) view.setUint32(index * 4, value);
  else if (order === 6) view.setBigUint64(index * 8, BigInt(value));
  else if (order === 3) view.setUint8(index, value);
  else {
    const bits = 1 << order;
    const bit = index * bits;
    const mask = ((1 << bits) - 1) << (bit & 7);
    view.setUint8(bit >> 3, (view.getUint8(bit >> 3) & ~mask) | (value << (bit & 7)));
  }
}

/** Where entry `index` of a refcount table has its block; 0: nowhere. Beyond 2^53 it is no exact number. */
export const refcountBlockAt = (table: DataView, index: number): number =>
  table.getUint32(index * 8) * 2 ** 32 + ((table.getUint32(index * 8 + 4) & ~511) >>> 0);

export const maxRefcount = (order: number): number =>
  order >= 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1;

/** What cannot be in a place: a hostile image can say that two things are in the same one. */
export interface Reserved {
  /** A cluster that is in use whatever its refcount is. */
  readonly cluster: (offset: number) => boolean;
  /** No refcount block is there. */
  readonly block: (offset: number) => boolean;
}

export class Refcounts {
  /** Exclude each other: allocations, releases, and the writing of changes. */
  readonly turns: Turns = new Turns();
  readonly #file: BlockFile;
  readonly #header: Qcow2Header;
  readonly #clusterBytes: number;
  readonly #order: number;
  /** Refcounts in a block. */
  readonly #perBlock: number;
  readonly #blocks: TableCache;
  readonly #isReserved: Reserved;
  /** Offsets of blocks; 0: none, all its clusters are free. */
  #table: Float64Array;
  readonly #changedEntries = new Set<number>();
  #takenEntries: number[] = [];
  /** No cluster before it is free. */
  #firstFree = 0;
  /** Nothing was written from here on. */
  #freshFrom: number;

  constructor(file: BlockFile, header: Qcow2Header, table: Uint8Array, isReserved: Reserved) {
    this.#file = file;
    this.#header = header;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#order = header.refcountOrder;
    this.#perBlock = 2 ** (header.clusterBits + 3 - header.refcountOrder);
    this.#blocks = new TableCache(file, this.#clusterBytes, CACHE_BYTES);
    this.#isReserved = isReserved;
    this.#table = new Float64Array(table.length / 8);
    const view = viewOf(table);
    for (let i = 0; i < this.#table.length; i++) {
      this.#table[i] = refcountBlockAt(view, i);
    }
    this.#freshFrom = Math.ceil(file.size / this.#clusterBytes) * this.#clusterBytes;
  }

  get isFull(): boolean {
    return this.#blocks.isFull;
  }

  /** True for a refcount block in memory. */
  hasBlock(offset: number): boolean {
    return this.#blocks.has(offset);
  }

  #damaged(what: string): never {
    throw new BlockError("qcow2.corrupt", `${this.#file.name}: ${what}; \`wherry image check\` tells more`);
  }

  #blockOffset(block: number): number {
    const offset = this.#table[block] ?? 0;
    if (offset % this.#clusterBytes !== 0 || offset > MAX_FILE_BYTES)
      this.#damaged(`refcount block ${block} is at ${offset}, which is no cluster's start`);
    if (offset !== 0 && this.#isReserved.block(offset))
      this.#damaged(`refcount block ${block} is at ${offset}, where another table is`);
    return offset;
  }

  async get(offset: number): Promise<number> {
    const cluster = offset / this.#clusterBytes;
    const block = Math.floor(cluster / this.#perBlock);
    const at = this.#blockOffset(block);
    if (at === 0) return 0;
    return await this.#blocks.use(at, ({ view }) =>
      readRefcount(view, this.#order, cluster % this.#perBlock),
    );
  }

  #set(table: Table, index: number, value: number): void {
    writeRefcount(table.view, this.#order, index, value);
    const byte = Math.floor((index * 2 ** this.#order) / 8);
    this.#blocks.changed(table, byte, byte + Math.max(1, 2 ** this.#order / 8));
  }

  /** Adds `delta` to the refcount of a cluster in use. */
  async #add(offset: number, delta: number): Promise<void> {
    const cluster = offset / this.#clusterBytes;
    const at = this.#blockOffset(Math.floor(cluster / this.#perBlock));
    const change = (table: Table): number => {
      const value = readRefcount(table.view, this.#order, cluster % this.#perBlock);
      if (value + delta >= 0 && value > 0 && value + delta <= maxRefcount(this.#order))
        this.#set(table, cluster % this.#perBlock, value + delta);
      return value;
    };
    const before = at === 0 ? 0 : await this.#blocks.use(at, change);
    if (before === 0) this.#damaged(`the cluster at ${offset} is in use with refcount 0`);
    if (before + delta > maxRefcount(this.#order))
      throw new BlockError(
        "qcow2.full",
        `${this.#file.name}: refcount of the cluster at ${offset} overflows`,
      );
    if (before + delta === 0) this.#firstFree = Math.min(this.#firstFree, cluster);
  }

  /** Another reference to a cluster. False if its refcount cannot be larger. */
  addReference(offset: number): Promise<boolean> {
    return this.turns.run(async () => {
      if ((await this.get(offset)) >= maxRefcount(this.#order)) return false;
      await this.#add(offset, 1);
      return true;
    });
  }

  /** Sets the refcount of a cluster, to repair it. */
  repair(offset: number, value: number): Promise<void> {
    return this.turns.run(async () => {
      const cluster = offset / this.#clusterBytes;
      const block = Math.floor(cluster / this.#perBlock);
      if (this.#blockOffset(block) === 0) this.#damaged(`no refcount block ${block}`);
      await this.#blocks.use(this.#blockOffset(block), (table) =>
        this.#set(table, cluster % this.#perBlock, value),
      );
    });
  }

  /** Drops a reference to each cluster; those with none are free. */
  release(runs: readonly ClusterRun[]): Promise<void> {
    return this.turns.run(async () => {
      for (const { offset, clusters } of runs) {
        for (let i = 0; i < clusters; i++) await this.#add(offset + i * this.#clusterBytes, -1);
      }
    });
  }

  /** The host gets the space of what of `runs` has but one reference, while nobody can take it. */
  punch(runs: readonly ClusterRun[]): Promise<void> {
    if (this.#file.punch === undefined) return Promise.resolve();
    return this.turns.run(async () => {
      for (const { offset, clusters } of runs) {
        let start = offset;
        const end = offset + clusters * this.#clusterBytes;
        for (let at = offset; at <= end; at += this.#clusterBytes) {
          if (at < end && !this.#isReserved.cluster(at) && (await this.get(at)) === 1) continue;
          if (at > start) await this.#file.punch?.(start, at - start);
          start = at + this.#clusterBytes;
        }
      }
    });
  }

  /** At most `clusters` clusters in a row, at least one; their refcount is 1. */
  allocate(clusters: number): Promise<NewRun> {
    return this.turns.run(async () => {
      for (let cluster = this.#firstFree; ; ) {
        const block = Math.floor(cluster / this.#perBlock);
        const at = this.#blockOffset(block);
        if (at === 0) {
          await this.#append(block, 0);
          continue;
        }
        const first = block * this.#perBlock;
        if (
          first * this.#clusterBytes >
          this.#file.size + MAX_BLOCKS_BEYOND * this.#perBlock * this.#clusterBytes
        )
          this.#damaged("clusters far beyond the end of the file are in use");
        const found = await this.#blocks.use(at, (table) => {
          let index = cluster - first;
          while (index < this.#perBlock && readRefcount(table.view, this.#order, index) !== 0) index++;
          const start = index;
          for (; index < Math.min(this.#perBlock, start + clusters); index++) {
            if (readRefcount(table.view, this.#order, index) !== 0) break;
            this.#set(table, index, 1);
          }
          return { start: first + start, end: first + index };
        });
        cluster = this.#firstFree = found.end;
        if (found.end > found.start) return this.#taken(found.start, found.end - found.start);
      }
    });
  }

  /** Exactly `clusters` clusters in a row, behind all others. */
  allocateRow(clusters: number): Promise<NewRun> {
    return this.turns.run(async () => {
      let block = this.#table.length;
      while (block > 0 && this.#table[block - 1] === 0) block--;
      return this.#taken(await this.#append(block, clusters), clusters);
    });
  }

  #taken(cluster: number, clusters: number): NewRun {
    const offset = cluster * this.#clusterBytes;
    const end = offset + clusters * this.#clusterBytes;
    if (end > MAX_FILE_BYTES) throw new BlockError("qcow2.full", `${this.#file.name}: the file cannot grow`);
    for (let at = offset; at < end; at += this.#clusterBytes) {
      if (this.#isReserved.cluster(at)) this.#damaged(`its table at ${at} has refcount 0`);
    }
    const isFresh = offset >= this.#freshFrom;
    this.#freshFrom = Math.max(this.#freshFrom, end);
    return { offset, clusters, isFresh };
  }

  /**
   * Makes the block `block` and as many after it as `clusters` more clusters in a row need, all at the start
   * of the range that `block` counts, where no cluster is in use. Returns the first of the clusters.
   */
  async #append(block: number, clusters: number): Promise<number> {
    const perTableCluster = this.#clusterBytes / 8;
    const blocksFor = (more: number): number => {
      let blocks = 1;
      while (blocks * this.#perBlock < blocks + more) blocks++;
      return blocks;
    };
    let blocks = blocksFor(clusters);
    let tableClusters = 0;
    if (block + blocks > this.#table.length) {
      let entries = this.#table.length;
      do {
        entries = Math.max(entries * 2, perTableCluster);
        tableClusters = Math.ceil(entries / perTableCluster);
        blocks = blocksFor(clusters + tableClusters);
      } while (block + blocks > entries);
      if (entries > MAX_REFCOUNT_ENTRIES && block + blocks <= MAX_REFCOUNT_ENTRIES) {
        tableClusters = MAX_REFCOUNT_ENTRIES / perTableCluster;
        blocks = blocksFor(clusters + tableClusters);
      }
      if (tableClusters * perTableCluster > MAX_REFCOUNT_ENTRIES)
        throw new BlockError("qcow2.full", `${this.#file.name}: the refcount table cannot grow any more`);
    }
    const first = block * this.#perBlock;
    this.#taken(first, blocks + tableClusters + clusters);
    const table = tableClusters === 0 ? this.#table : new Float64Array(tableClusters * perTableCluster);
    if (table !== this.#table) table.set(this.#table);
    const used = blocks + tableClusters + clusters;
    const offsets = Array.from({ length: blocks }, (_, i) => (first + i) * this.#clusterBytes);
    for (const [i, offset] of offsets.entries()) {
      const made = this.#blocks.create(offset);
      for (let j = 0; j < Math.min(this.#perBlock, used - i * this.#perBlock); j++) this.#set(made, j, 1);
      table[block + i] = offset;
      this.#changedEntries.add(block + i);
    }
    if (table !== this.#table) {
      try {
        await this.#moveTable(table, (first + blocks) * this.#clusterBytes);
      } catch (error) {
        // The old table stays, which does not have them.
        for (const [i, offset] of offsets.entries()) {
          this.#blocks.drop(offset);
          this.#changedEntries.delete(block + i);
        }
        throw error;
      }
    }
    return first + blocks + tableClusters;
  }

  /** The header refers to the new table once that, and all blocks, are durable. */
  async #moveTable(table: Float64Array, offset: number): Promise<void> {
    const header = this.#header;
    const old = { offset: header.refcountTableOffset, clusters: header.refcountTableClusters };
    const blocks = this.#blocks.takeChanges();
    try {
      for (const patch of blocks) await this.#file.write(patch.offset, patch.data);
      this.#blocks.settle(true);
    } catch (error) {
      this.#blocks.settle(false);
      throw error;
    }
    const bytes = new Uint8Array(table.length * 8);
    const view = viewOf(bytes);
    for (const [i, at] of table.entries()) view.setBigUint64(i * 8, BigInt(at));
    await this.#file.write(offset, bytes);
    await this.#file.flush();
    const head = new Uint8Array(12);
    viewOf(head).setBigUint64(0, BigInt(offset));
    viewOf(head).setUint32(8, bytes.length / this.#clusterBytes);
    await this.#file.write(HEADER_AT.REFCOUNT_TABLE, head);
    await this.#file.flush();
    header.refcountTableOffset = offset;
    header.refcountTableClusters = bytes.length / this.#clusterBytes;
    this.#table = table;
    this.#changedEntries.clear();
    for (let i = 0; i < old.clusters; i++) await this.#add(old.offset + i * this.#clusterBytes, -1);
  }

  /** What is to be written, blocks before entries. Only in a turn; `settle` must follow in it. */
  takeChanges(): { readonly blocks: readonly Patch[]; readonly entries: readonly Patch[] } {
    const blocks = this.#blocks.takeChanges();
    this.#takenEntries = [...this.#changedEntries];
    this.#changedEntries.clear();
    const entries = this.#takenEntries.map((index) => {
      const data = new Uint8Array(8);
      viewOf(data).setBigUint64(0, BigInt(this.#table[index] ?? 0));
      return { offset: this.#header.refcountTableOffset + index * 8, data };
    });
    return { blocks, entries };
  }

  settle(isWritten: boolean): void {
    this.#blocks.settle(isWritten);
    if (!isWritten) for (const index of this.#takenEntries) this.#changedEntries.add(index);
    this.#takenEntries = [];
  }

  /** Cuts off what is free at the end of the file: at most `clusters`, to which no table refers any more. */
  trim(clusters: number): Promise<void> {
    return this.turns.run(async () => {
      // Clusters that a request has taken, and not yet written, can be behind the end of the file.
      let end = this.#freshFrom / this.#clusterBytes;
      for (let left = clusters; left > 0 && end > 1; left--, end--) {
        if ((await this.get((end - 1) * this.#clusterBytes)) !== 0) break;
      }
      if (end * this.#clusterBytes >= this.#file.size) return;
      await this.#file.truncate(end * this.#clusterBytes);
      this.#freshFrom = end * this.#clusterBytes;
    });
  }
}
