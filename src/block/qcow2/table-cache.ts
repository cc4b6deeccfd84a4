// Tables of an image (L2 tables, refcount blocks) in memory, each one cluster. A change stays in memory until
// the image's flush writes it in its order; tables that are not changed give way to others.
import type { BlockFile } from "../block-file.ts";
import { viewOf } from "./qcow2-header.ts";

/** Unit in which a part of a table is written. */
const SECTOR = 512;

export interface Table {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** A part of the file as it is to be written. */
export interface Patch {
  readonly offset: number;
  readonly data: Uint8Array;
}

interface Held extends Table {
  /** The changed part, in bytes; empty if `from` ≥ `to`. */
  from: number;
  to: number;
}

export class TableCache {
  readonly #file: BlockFile;
  readonly #tableBytes: number;
  readonly #maxTables: number;
  /** The one that was used longest ago comes first. */
  readonly #tables = new Map<number, Held>();
  /** The last of them. */
  #latest: Held | undefined;
  readonly #loading = new Map<number, Promise<void>>();
  readonly #changed = new Set<Held>();
  /** Of those that are being written: they must not give way to what the file still has. */
  readonly #writing = new Map<Held, { readonly from: number; readonly to: number }>();

  constructor(file: BlockFile, tableBytes: number, maxBytes: number) {
    this.#file = file;
    this.#tableBytes = tableBytes;
    this.#maxTables = Math.max(4, Math.floor(maxBytes / tableBytes));
  }

  has(offset: number): boolean {
    return this.#tables.has(offset);
  }

  /** The table at `offset` if it is in memory. It may change in the next turn. */
  peek(offset: number): Table | undefined {
    const table = this.#tables.get(offset);
    if (table !== undefined && table !== this.#latest) {
      this.#tables.delete(offset);
      this.#tables.set(offset, table);
      this.#latest = table;
    }
    return table;
  }

  /** So many changes that they should be written. */
  get isFull(): boolean {
    return this.#changed.size >= this.#maxTables;
  }

  /** Calls `task` with the table at `offset`, which it may use only until it returns. */
  async use<T>(offset: number, task: (table: Table) => T): Promise<T> {
    for (;;) {
      const table = this.peek(offset);
      if (table !== undefined) return task(table);
      await this.#load(offset);
    }
  }

  #load(offset: number): Promise<void> {
    let loading = this.#loading.get(offset);
    if (loading === undefined) {
      const bytes = new Uint8Array(this.#tableBytes);
      loading = this.#file
        .read(offset, bytes)
        .then(() => void this.#add(offset, bytes))
        .finally(() => this.#loading.delete(offset));
      this.#loading.set(offset, loading);
    }
    return loading;
  }

  #add(offset: number, bytes: Uint8Array): Held {
    const added = { offset, bytes, view: viewOf(bytes), from: bytes.length, to: 0 };
    this.#tables.set(offset, added);
    this.#latest = added;
    for (const [other, table] of this.#tables) {
      if (this.#tables.size <= this.#maxTables) break;
      if (table.from >= table.to && other !== offset && !this.#writing.has(table)) this.#tables.delete(other);
    }
    return added;
  }

  /** A new table, all of which is to be written. */
  create(offset: number, bytes: Uint8Array = new Uint8Array(this.#tableBytes)): Table {
    const table = this.#add(offset, bytes);
    this.changed(table, 0, bytes.length);
    return table;
  }

  /** Bytes of a table in use have changed. */
  changed(table: Table, from: number, to: number): void {
    const held = table as Held;
    held.from = Math.min(held.from, Math.floor(from / SECTOR) * SECTOR);
    held.to = Math.max(held.to, Math.ceil(to / SECTOR) * SECTOR);
    this.#changed.add(held);
  }

  /** The table is no longer part of the image. */
  drop(offset: number): void {
    const table = this.#tables.get(offset);
    if (table === undefined) return;
    this.#tables.delete(offset);
    this.#changed.delete(table);
  }

  /** All changes. Call `settle` before the next call. */
  takeChanges(): Patch[] {
    const patches: Patch[] = [];
    for (const table of this.#changed) {
      patches.push({ offset: table.offset + table.from, data: table.bytes.slice(table.from, table.to) });
      this.#writing.set(table, { from: table.from, to: table.to });
      table.from = table.bytes.length;
      table.to = 0;
    }
    this.#changed.clear();
    return patches;
  }

  /** The changes that were taken have been written, or could not be: then they are to be written again. */
  settle(isWritten: boolean): void {
    for (const [table, { from, to }] of this.#writing) {
      if (!isWritten && this.#tables.get(table.offset) === table) this.changed(table, from, to);
    }
    this.#writing.clear();
  }
}
