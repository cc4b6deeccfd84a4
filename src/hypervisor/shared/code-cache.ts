// The code cache in shared memory: which guest code has been translated, and the modules' bytes. The
// translation thread adds to it; harts look up (in WebAssembly, interpreter/code-dispatch.ts), adopt modules,
// and drop pages whose code has changed. A page of guest code has a table with a word for each halfword: the
// translation that starts there. Table 0 means no table. Code that adds or drops holds the lock. A dropped
// table or slot is reused only after every hart has noticed.
import { CODE_CACHE, VM_CODE_STALE } from "./memory-map.ts";
import type { CodePageSet } from "./memory-slots.ts";
import { withLock } from "./spin-lock.ts";

// Words at the start of the cache.
const LOCK = 0x00;
/** Counts drops: a hart whose jump caches are from another epoch must empty them. */
export const CODE_EPOCH = 0x04;
/** The value of VM_CODE_STALE when stale pages were last dropped. */
export const CODE_STALE_DONE = 0x08;
const REQUESTS_HEAD = 0x0c;
const REQUESTS_TAIL = 0x10;
/** How many executions make code hot; 0 to 255. */
export const CODE_HEAT = 0x14;
/**
 * Counts changes of pages into code pages: a hart that saw another number must drop its write translations.
 */
export const CODE_PROTECTION = 0x18;

/** So many dropped modules are worth a garbage collection in a thread that had them: about 10 MB of code. */
export const MANY_DROPPED = 64;

/** A flag in a request, whose address is even: the page has translations, and needs better ones. */
export const IMPROVE = 1;

const REQUESTS = 0x1000;
/** A power of two: the ring's counters wrap. */
const REQUESTS_CAPACITY = 1024;
/** u16 for each slot of the function tables: the module that the slot belongs to. */
const SLOT_MODULES = 0x8000;
export const SLOT_COUNT = 0x10000;
/** Modules: u32 generation (odd: live), offset of the bytes, their length, u16 first slot, u16 slots. */
const MODULES = 0x30000;
const MODULE_SIZE = 16;
export const MODULE_COUNT = 0x1000;
/** u16 for each page of the shared memory: the number of its table. */
export const CODE_PAGES = 0x40000;
export const CODE_PAGE_TABLES = 0x240000;
export const PAGE_TABLE_SIZE = 0x2000;
export const PAGE_TABLE_COUNT = 0x2000;
const CODE_BYTES = CODE_PAGE_TABLES + PAGE_TABLE_COUNT * PAGE_TABLE_SIZE;
export const CODE_BYTES_SIZE = 0x4000000;

export interface CachedModule {
  readonly id: number;
  readonly generation: number;
  readonly firstSlot: number;
  readonly slotCount: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

export class CodeCache {
  readonly #buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #halves: Uint16Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.#buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#halves = new Uint16Array(buffer);
  }

  #word(offset: number): number {
    return (CODE_CACHE + offset) >>> 2;
  }
  #half(offset: number): number {
    return (CODE_CACHE + offset) >>> 1;
  }
  locked<T>(body: () => T): T {
    return withLock(this.#words, this.#word(LOCK), body);
  }

  get heat(): number {
    return this.#words[this.#word(CODE_HEAT)] as number;
  }
  set heat(reaches: number) {
    this.#words[this.#word(CODE_HEAT)] = Math.max(0, Math.min(255, reaches));
  }

  // ---- requests: harts make them, the translation thread takes them ----

  /**
   * Request a translation of the code at a host address. If the ring is full, the oldest request is lost; its
   * code makes a new one if it stays hot.
   */
  request(address: number): void {
    this.locked(() => {
      const head = this.#words[this.#word(REQUESTS_HEAD)] as number;
      const tail = this.#words[this.#word(REQUESTS_TAIL)] as number;
      if (((head - tail) | 0) >= REQUESTS_CAPACITY) this.#words[this.#word(REQUESTS_TAIL)] = tail + 1;
      this.#words[this.#request(head)] = address;
      Atomics.store(this.#words, this.#word(REQUESTS_HEAD), head + 1);
    });
    Atomics.notify(this.#words, this.#word(REQUESTS_HEAD));
  }

  /** Word index of a request, by its number. */
  #request(number: number): number {
    return this.#word(REQUESTS + (number & (REQUESTS_CAPACITY - 1)) * 4);
  }

  /**
   * The newest requests, at most `count`: code that harts execute now is translated first. During a boot,
   * requests come faster than they are handled; taken in order, hot code waited behind a thousand requests
   * that no longer mattered.
   */
  takeRequests(count: number): number[] {
    return this.locked(() => {
      const tail = this.#words[this.#word(REQUESTS_TAIL)] as number;
      const head = this.#words[this.#word(REQUESTS_HEAD)] as number;
      const length = Math.min((head - tail) | 0, count);
      const from = head - length;
      Atomics.store(this.#words, this.#word(REQUESTS_HEAD), from);
      return Array.from({ length }, (_, i) => (this.#words[this.#request(from + i)] as number) >>> 0);
    });
  }

  /** Sleep until there is a request, at most `timeoutMs`. Returns false if there is none. */
  waitForRequest(timeoutMs: number): boolean {
    const isEmpty = (): boolean =>
      Atomics.load(this.#words, this.#word(REQUESTS_HEAD)) === this.#words[this.#word(REQUESTS_TAIL)];
    if (isEmpty()) {
      Atomics.wait(
        this.#words,
        this.#word(REQUESTS_HEAD),
        this.#words[this.#word(REQUESTS_TAIL)] as number,
        timeoutMs,
      );
    }
    return !isEmpty();
  }
  /** Wake the translation thread for another reason. */
  wake(): void {
    Atomics.notify(this.#words, this.#word(REQUESTS_HEAD));
  }

  // ---- modules and translations ----

  /** The table of a page; 0 if it has none. */
  tableOf(page: number): number {
    return Atomics.load(this.#halves, this.#half(CODE_PAGES + (page >>> 12) * 2));
  }
  /** The translation of the code at a host address, as slot and entry number; 0 if there is none. */
  translationOf(address: number): number {
    const table = this.tableOf(address);
    if (table === 0) return 0;
    return this.#words[this.#entry(table, address & 0xffe)] as number;
  }
  #entry(table: number, offset: number): number {
    return this.#word(CODE_PAGE_TABLES + table * PAGE_TABLE_SIZE + offset * 2);
  }

  /** Address of a table in the shared memory. */
  tableAddress(table: number): number {
    return CODE_CACHE + CODE_PAGE_TABLES + table * PAGE_TABLE_SIZE;
  }

  /** Under the lock: assign an empty table to a page; 0 removes its table. */
  setTable(page: number, table: number): void {
    if (table !== 0) {
      const from = this.#word(CODE_PAGE_TABLES + table * PAGE_TABLE_SIZE);
      this.#words.fill(0, from, from + PAGE_TABLE_SIZE / 4);
    }
    Atomics.store(this.#halves, this.#half(CODE_PAGES + (page >>> 12) * 2), table);
  }
  setTranslation(address: number, translation: number): void {
    Atomics.store(this.#words, this.#entry(this.tableOf(address), address & 0xffe), translation);
  }

  /** Store a module at an offset of the byte area, with the slots that it fills. */
  putModule(id: number, at: number, bytes: Uint8Array, firstSlot: number, slotCount: number): void {
    new Uint8Array(this.#buffer).set(bytes, CODE_CACHE + CODE_BYTES + at);
    const module = this.#word(MODULES + id * MODULE_SIZE);
    this.#words[module + 1] = at;
    this.#words[module + 2] = bytes.length;
    this.#words[module + 3] = firstSlot | (slotCount << 16);
    const from = this.#half(SLOT_MODULES + firstSlot * 2);
    this.#halves.fill(id, from, from + slotCount);
    Atomics.add(this.#words, module, 1);
  }
  /** Mark the module as dead: harts that have adopted it drop its slots. */
  retireModule(id: number): void {
    Atomics.add(this.#words, this.#word(MODULES + id * MODULE_SIZE), 1);
  }
  generationOf(id: number): number {
    return Atomics.load(this.#words, this.#word(MODULES + id * MODULE_SIZE));
  }
  /** The module that a slot belongs to; undefined if it has been retired. */
  moduleOfSlot(slot: number): CachedModule | undefined {
    const id = Atomics.load(this.#halves, this.#half(SLOT_MODULES + slot * 2));
    const module = this.#word(MODULES + id * MODULE_SIZE);
    const generation = this.generationOf(id);
    const at = CODE_CACHE + CODE_BYTES + (this.#words[module + 1] as number);
    const length = this.#words[module + 2] as number;
    const bytes = new Uint8Array(this.#buffer).slice(at, at + length) as unknown as Uint8Array<ArrayBuffer>;
    const slots = this.#words[module + 3] as number;
    if (generation % 2 === 0 || this.generationOf(id) !== generation) return undefined;
    return { id, generation, firstSlot: slots & 0xffff, slotCount: slots >>> 16, bytes };
  }

  // ---- changes that harts must notice ----

  advanceProtection(): void {
    Atomics.add(this.#words, this.#word(CODE_PROTECTION), 1);
  }

  /** Make harts empty their jump caches before they execute translated code. */
  advanceEpoch(): void {
    Atomics.add(this.#words, this.#word(CODE_EPOCH), 1);
  }

  /** Drop the translations of pages that have been written to. */
  dropStale(pages: CodePageSet): void {
    this.locked(() => {
      const done = Atomics.load(this.#words, VM_CODE_STALE >>> 2);
      pages.takeStale((page) => this.setTable(page, 0));
      this.advanceEpoch();
      Atomics.store(this.#words, this.#word(CODE_STALE_DONE), done);
    });
  }
}
