// What the translation thread knows: which pages have regions, which modules hold them, what may be used again.
// From hot entries it makes a module: protect the pages (every hart drops its translations for writing, so that the next
// store is noticed), read and translate, publish what nobody has written to meanwhile. What harts found changed, and the oldest
// modules when there is no more room, are retired; slots and tables are used again once every hart has noticed.
import { compileModule, type WasmModule } from "../wasm/host.ts";
import {
  CODE_BYTES_SIZE,
  CodeCache,
  MODULE_COUNT,
  PAGE_TABLE_COUNT,
  type PublishedRegion,
  SLOT_COUNT,
} from "./code-cache.ts";
import { HEAT_ENTRIES, HEAT_OFFSET } from "./riscv/hart.ts";
import { ENTRY_SHIFT } from "./riscv/dispatch.ts";
import { findRegion, PAGE_SIZE, type Profile, type Region } from "./riscv/region.ts";
import type { RegionModules } from "./riscv/region-module.ts";
import { hartBase, TRANSLATION_STATS, VM_TRANSLATION_STATS, VM_VCPU_COUNT } from "./layout.ts";
import { makeRequests, REQ, VcpuRequests } from "./requests.ts";
import { CodePageSet } from "./slots.ts";

/** What harts have done in a page at this host address, with no regard to what is translated. With no heat at all everything counts as reached. */
export function reachProfile(buffer: SharedArrayBuffer, page: number): Profile {
  const view = new DataView(buffer);
  const initial = new CodeCache(buffer).heat;
  const harts = view.getUint32(VM_VCPU_COUNT, true);
  return {
    isTranslated: () => false,
    isReached: (offset) => {
      const at = HEAT_OFFSET + (((page + offset) >>> 1) & (HEAT_ENTRIES - 1));
      if (initial === 0) return true;
      for (let hart = 0; hart < harts; hart++)
        if (view.getUint8(hartBase(hart) + at) !== initial) return true;
      return false;
    },
  };
}

interface TranslatedPage {
  readonly table: number;
  readonly modules: Set<LiveModule>;
}

interface LiveModule {
  readonly id: number;
  readonly at: number;
  readonly length: number;
  readonly firstSlot: number;
  readonly slotCount: number;
  readonly pages: readonly number[];
  /** Kept so that harts which compile the same bytes find them compiled. */
  readonly compiled: WasmModule;
  /** Regions that can still be entered. */
  live: number;
}

export class Translations {
  readonly #view: DataView<SharedArrayBuffer>;
  readonly #stats: BigUint64Array<SharedArrayBuffer>;
  readonly #cache: CodeCache;
  readonly #vcpus: readonly VcpuRequests[];
  readonly #codePages: CodePageSet;
  readonly #builder: RegionModules;
  readonly #pages = new Map<number, TranslatedPage>();
  /** Oldest first. */
  readonly #modules = new Set<LiveModule>();
  readonly #freeTables: number[] = range(1, PAGE_TABLE_COUNT).reverse();
  readonly #freeModules: number[] = range(1, MODULE_COUNT).reverse();
  /** Bound of all modules' bytes. */
  readonly #capacity: number;
  /** Where the next module's bytes go. */
  #next = 0;
  /** And its slots; slot 0 is no translation. */
  #nextSlot = 1;

  constructor(buffer: SharedArrayBuffer, builder: RegionModules, codeCacheBytes: number) {
    this.#view = new DataView(buffer);
    this.#stats = new BigUint64Array(buffer, VM_TRANSLATION_STATS);
    this.#cache = new CodeCache(buffer);
    this.#codePages = new CodePageSet(buffer);
    this.#builder = builder;
    this.#capacity = Math.min(codeCacheBytes, CODE_BYTES_SIZE);
    const count = this.#view.getUint32(VM_VCPU_COUNT, true);
    this.#vcpus = Array.from({ length: count }, (_, i) => new VcpuRequests(buffer, i));
  }

  /** Translate the code at these host addresses and all that belongs to it. */
  translate(addresses: readonly number[]): void {
    this.#reclaim();
    const wanted = this.#wanted(addresses);
    if (wanted.size === 0) return;
    this.#protect([...wanted.keys()]);
    const start = performanceNow();
    const regions: Region[] = [];
    for (const [page, offsets] of wanted) {
      for (const offset of offsets) {
        const covered = regions.some((r) => r.page === page && r.entries.some((b) => b.start === offset));
        if (!covered) regions.push(findRegion(this.#view, page, [offset], this.#profile(page)));
      }
    }
    const usable = regions.filter((region) => region.entries.length > 0);
    const firstSlot = this.#takeSlots(usable.length);
    const bytes = this.#builder.build(usable.map((region, i) => ({ region, slot: firstSlot + i })));
    const translated = performanceNow();
    const compiled = compileModule(bytes);
    this.#count(TRANSLATION_STATS.translateNs, (translated - start) * 1e6);
    this.#count(TRANSLATION_STATS.compileNs, (performanceNow() - translated) * 1e6);
    this.#publish(usable, firstSlot, bytes, compiled);
  }

  #profile(page: number): Profile {
    return {
      ...reachProfile(this.#view.buffer, page),
      isTranslated: (offset) => this.#cache.translationOf(page + offset) !== 0,
    };
  }

  /** Entry offsets by page, of code that has no translation yet. */
  #wanted(addresses: readonly number[]): Map<number, Set<number>> {
    const wanted = new Map<number, Set<number>>();
    for (const address of addresses) {
      if (this.#cache.translationOf(address) !== 0) continue;
      const page = address - (address % PAGE_SIZE);
      if (!this.#codePages.has(page)) continue;
      const offsets = wanted.get(page);
      if (offsets === undefined) wanted.set(page, new Set([address % PAGE_SIZE]));
      else offsets.add(address % PAGE_SIZE);
    }
    return wanted;
  }

  /** From here on, stores to these pages are noticed: every hart has dropped what lets it write them unnoticed. */
  #protect(pages: readonly number[]): void {
    const fresh = pages.filter((page) => !this.#codePages.isMarked(page));
    if (fresh.length === 0) return;
    for (const page of fresh) this.#codePages.mark(page);
    this.#cache.nextProtection();
    makeRequests(REQ.OUTSIDE_GUEST_MODE, this.#vcpus);
  }

  #publish(
    regions: readonly Region[],
    firstSlot: number,
    bytes: Uint8Array<ArrayBuffer>,
    compiled: WasmModule,
  ): void {
    const at = this.#makeRoom(bytes.length);
    if (at === undefined) return;
    while (this.#freeModules.length === 0) this.#evictOldest();
    const id = this.#freeModules.pop() as number;
    const pages = [...new Set(regions.map((region) => region.page))];
    const slotCount = regions.length;
    const module: LiveModule = {
      id,
      at,
      length: bytes.length,
      firstSlot,
      slotCount,
      pages,
      compiled,
      live: 0,
    };
    this.#cache.putModule(id, at, bytes, firstSlot, slotCount);
    this.#modules.add(module);
    this.#cache.locked(() => {
      regions.forEach((region, i) => {
        if (!this.#codePages.isMarked(region.page)) return;
        const page = this.#pageFor(region.page);
        if (page === undefined) return;
        page.modules.add(module);
        module.live++;
        this.#enter({
          page: region.page,
          slot: firstSlot + i,
          entries: region.entries.map((block) => block.start),
        });
      });
    });
    this.#count(TRANSLATION_STATS.regions, regions.length);
    this.#count(TRANSLATION_STATS.modules, 1);
    this.#count(TRANSLATION_STATS.bytes, bytes.length);
    const instructions = regions.flatMap((r) => r.blocks).reduce((n, b) => n + b.instructions.length, 0);
    this.#count(TRANSLATION_STATS.guestInstructions, instructions);
    this.#countLive();
  }

  #enter({ page, slot, entries }: PublishedRegion): void {
    entries.forEach((offset, i) => {
      if (this.#cache.translationOf(page + offset) !== 0) return;
      this.#cache.setTranslation(page + offset, slot | (i << ENTRY_SHIFT));
    });
  }

  /** Under the lock. */
  #pageFor(page: number): TranslatedPage | undefined {
    const known = this.#pages.get(page);
    if (known !== undefined && this.#cache.tableOf(page) === known.table) return known;
    const table = this.#freeTables.pop();
    if (table === undefined) return undefined;
    if (known !== undefined) this.#forget(page, known);
    this.#cache.setTable(page, table);
    const fresh: TranslatedPage = { table, modules: new Set() };
    this.#pages.set(page, fresh);
    return fresh;
  }

  // ---- room ----

  /** Tables, slots and modules to be used again, once every hart has seen this epoch. */
  #retired: { tables: number[]; modules: number[] } = { tables: [], modules: [] };

  /** A page's code has changed, and a hart has dropped its table; or it is dropped now. */
  #forget(page: number, { table, modules }: TranslatedPage): void {
    this.#pages.delete(page);
    this.#retired.tables.push(table);
    for (const module of modules) {
      const regions = module.pages.length === 1 ? module.live : 1;
      module.live -= regions;
      this.#count(TRANSLATION_STATS.staleDrops, regions);
      if (module.pages.every((p) => !this.#pages.get(p)?.modules.has(module))) this.#retire(module);
    }
  }

  #retire(module: LiveModule): void {
    if (!this.#modules.delete(module)) return;
    this.#cache.retireModule(module.id);
    this.#retired.modules.push(module.id);
  }

  /** Find what harts have dropped, and wait for all of them to notice what is to be used again. */
  #reclaim(): void {
    for (const [page, known] of this.#pages) {
      if (this.#cache.tableOf(page) !== known.table) this.#forget(page, known);
    }
    const { tables, modules } = this.#retired;
    if (tables.length + modules.length === 0) return;
    this.#retired = { tables: [], modules: [] };
    this.#cache.nextEpoch();
    makeRequests(REQ.OUTSIDE_GUEST_MODE, this.#vcpus);
    this.#freeTables.push(...tables);
    this.#freeModules.push(...modules);
    this.#countLive();
  }

  #evictOldest(): void {
    const [oldest] = this.#modules;
    if (oldest === undefined) throw new RangeError("the code cache has no module to evict");
    this.#evict(oldest);
    this.#reclaim();
  }

  /** All pages of a module lose their translations: the hot ones are soon asked for again. */
  #evict(module: LiveModule): void {
    this.#cache.locked(() => {
      for (const page of module.pages) {
        const known = this.#pages.get(page);
        if (known === undefined || !known.modules.has(module)) continue;
        this.#cache.setTable(page, 0);
        this.#forget(page, known);
      }
      this.#retire(module);
    });
    this.#count(TRANSLATION_STATS.evictions, module.slotCount);
  }

  /** Evict all modules that `isInTheWay`, and wait until every hart has noticed. */
  #clear(isInTheWay: (module: LiveModule) => boolean): void {
    const evicted = [...this.#modules].filter(isInTheWay);
    for (const module of evicted) this.#evict(module);
    if (evicted.length > 0) this.#reclaim();
  }

  /** Room for a module's bytes: they follow each other round and round, the oldest makes way. */
  #makeRoom(length: number): number | undefined {
    if (length > this.#capacity) return undefined;
    if (this.#next + length > this.#capacity) this.#next = 0;
    const at = this.#next;
    this.#clear((module) => module.at < at + length && at < module.at + module.length);
    this.#next = at + length;
    return at;
  }

  #takeSlots(count: number): number {
    if (this.#nextSlot + count > SLOT_COUNT) this.#nextSlot = 1;
    const first = this.#nextSlot;
    this.#clear((module) => module.firstSlot < first + count && first < module.firstSlot + module.slotCount);
    this.#nextSlot = first + count;
    return first;
  }

  #count(stat: number, more: number): void {
    const at = stat >>> 3;
    this.#stats[at] = (this.#stats[at] as bigint) + BigInt(Math.round(more));
  }
  #countLive(): void {
    let bytes = 0;
    let regions = 0;
    for (const module of this.#modules) {
      bytes += module.length;
      regions += module.live;
    }
    this.#stats[TRANSLATION_STATS.liveBytes >>> 3] = BigInt(bytes);
    this.#stats[TRANSLATION_STATS.liveRegions >>> 3] = BigInt(regions);
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

const performanceNow = (): number =>
  (globalThis as unknown as { performance: { now(): number } }).performance.now();
