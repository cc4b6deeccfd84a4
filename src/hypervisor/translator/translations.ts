// The state of the translation thread: which pages have regions, which modules hold them, what can be reused.
// To translate hot entries it protects their pages (every hart drops its write translations, so that the next
// store is noticed), reads and translates the code, and publishes the regions that nobody has written to
// meanwhile. Regions whose code has changed, and the oldest modules when space runs out, are retired; their
// slots and tables are reused after every hart has noticed.
import { runtimeGlobals } from "../../base/runtime-globals.ts";
import { compileModule } from "../../wasm/webassembly.ts";
import type { WasmModule } from "../../base/runtime-globals.ts";
import {
  CODE_BYTES_SIZE,
  CodeCache,
  IMPROVE,
  MANY_DROPPED,
  MODULE_COUNT,
  PAGE_TABLE_COUNT,
  SLOT_COUNT,
} from "../shared/code-cache.ts";
import { HEAT_ENTRIES, HEAT_OFFSET } from "../shared/memory-map.ts";
import { ENTRY_SHIFT } from "../interpreter/code-dispatch.ts";
import { findRegion, findRegions, PAGE_SIZE, type Profile, type Region } from "./region.ts";
import type { RegionModules } from "./region-module.ts";
import { hartBase, TRANSLATION_STATS, VM_TRANSLATION_STATS, VM_VCPU_COUNT } from "../shared/memory-map.ts";
import { makeRequests, REQ, VcpuRequests } from "../requests/vcpu-requests.ts";
import { SelfModifyingPages } from "./self-modifying-pages.ts";
import { CodePageSet } from "../shared/memory-slots.ts";

/**
 * What harts have executed in the page at this host address, regardless of existing translations. With a heat
 * of 0 all code counts as reached.
 */
export function reachProfile(buffer: SharedArrayBuffer, page: number): Profile {
  const view = new DataView(buffer);
  const initial = new CodeCache(buffer).heat;
  const harts = view.getUint32(VM_VCPU_COUNT, true);
  return {
    isTranslated: () => false,
    isCovered: () => false,
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
  /** Its translated code forms as few regions as possible, until code is added. */
  isImproved: boolean;
  /** By slot: the shape of its improved region, from `shapeOf`. */
  readonly improved: Map<number, string>;
  /** By halfword: some region includes this instruction. */
  readonly covered: Uint8Array;
}

interface LiveModule {
  readonly id: number;
  readonly at: number;
  readonly length: number;
  readonly firstSlot: number;
  readonly slotCount: number;
  readonly pages: readonly number[];
  /** Retained so that harts that compile the same bytes find the compiled module. */
  readonly compiled: WasmModule;
  /** Number of regions that the tables of pages still refer to. */
  live: number;
}

/** Maximum number of instructions in an improved region. */
const IMPROVED_INSTRUCTIONS = 1200;

/** Called before a module is compiled: whether its code is known to be hot. */
export type BeforeCompile = (isHot: boolean) => void;

export class Translations {
  readonly #view: DataView<SharedArrayBuffer>;
  readonly #stats: BigUint64Array<SharedArrayBuffer>;
  readonly #cache: CodeCache;
  readonly #vcpus: readonly VcpuRequests[];
  readonly #codePages: CodePageSet;
  readonly #builder: RegionModules;
  readonly #pages = new Map<number, TranslatedPage>();
  readonly #selfModifying = new SelfModifyingPages();
  /** Oldest first. */
  readonly #modules = new Set<LiveModule>();
  readonly #freeTables: number[] = range(1, PAGE_TABLE_COUNT).reverse();
  readonly #freeModules: number[] = range(1, MODULE_COUNT).reverse();
  /** Maximum total size of the modules' bytes. */
  readonly #capacity: number;
  /** Offset for the next module's bytes. */
  #next = 0;
  /** The next module's first slot; slot 0 means no translation. */
  #nextSlot = 1;

  readonly #beforeCompile: BeforeCompile | undefined;
  /** The collector of this thread sees small objects, not their machine code: it is called for them. */
  readonly #collectGarbage: (() => void) | undefined;
  /** Modules dropped since then. */
  #dropped = 0;

  constructor(
    buffer: SharedArrayBuffer,
    builder: RegionModules,
    codeCacheBytes: number,
    beforeCompile?: BeforeCompile,
    collectGarbage?: () => void,
  ) {
    this.#beforeCompile = beforeCompile;
    this.#collectGarbage = collectGarbage;
    this.#view = new DataView(buffer);
    this.#stats = new BigUint64Array(buffer, VM_TRANSLATION_STATS);
    this.#cache = new CodeCache(buffer);
    this.#codePages = new CodePageSet(buffer);
    this.#builder = builder;
    this.#capacity = Math.min(codeCacheBytes, CODE_BYTES_SIZE);
    const count = this.#view.getUint32(VM_VCPU_COUNT, true);
    this.#vcpus = Array.from({ length: count }, (_, i) => new VcpuRequests(buffer, i));
  }

  /**
   * Translate the code at these host addresses and all code that belongs to it; with IMPROVE, translate all
   * translated code of the page again, with one region for each set of connected code. Without requests, only
   * drop what harts found changed.
   */
  translate(requests: readonly number[]): void {
    this.#reclaim();
    const wanted = this.#untranslated(requests.filter((request) => (request & IMPROVE) === 0));
    if (wanted.size > 0) {
      this.#protect([...wanted.keys()]);
      const regions: Region[] = [];
      for (const [page, offsets] of wanted) {
        for (const offset of offsets) {
          const covered = regions.some((r) => r.page === page && r.entries.some((b) => b.start === offset));
          if (!covered) regions.push(findRegion(this.#view, page, offset, this.#profile(page)));
        }
      }
      this.#generate(regions, false);
    }
    const pages = new Set(requests.filter((r) => (r & IMPROVE) !== 0).map((r) => r - (r % PAGE_SIZE)));
    for (const page of pages) this.#improve(page);
  }

  /** Not again until the page has new code. */
  #improve(page: number): void {
    const known = this.#pages.get(page);
    if (known === undefined || known.isImproved || this.#cache.tableOf(page) !== known.table) return;
    if (!this.#codePages.isMarked(page)) return;
    const entries: number[] = [];
    for (let offset = 0; offset < PAGE_SIZE; offset += 2) {
      if (this.#cache.translationOf(page + offset) !== 0) entries.push(offset);
    }
    const { isReached } = this.#profile(page);
    const profile = { isReached, isTranslated: () => false, isCovered: () => false };
    const regions = findRegions(this.#view, page, entries, profile, IMPROVED_INSTRUCTIONS);
    // An unchanged region keeps the code that V8 has optimised by now.
    const changed = regions.filter((region) => {
      const slots = new Set(region.entries.map(({ start }) => this.#slotOf(page + start)));
      const [slot] = slots;
      return slots.size !== 1 || known.improved.get(slot as number) !== shapeOf(region);
    });
    if (changed.length > 0) this.#generate(changed, true);
    known.isImproved = true;
  }

  /** The slot of the translation at this address; 0 if it has none. */
  #slotOf(address: number): number {
    return this.#cache.translationOf(address) & (SLOT_COUNT - 1);
  }

  /**
   * Generate one module from these regions; `replaces`: the pages' previous translations are no longer
   * entered.
   */
  #generate(regions: readonly Region[], replaces: boolean): void {
    // Retired modules no longer occupy room, but harts' tables still have their slots.
    this.#reclaim();
    const start = performanceNow();
    const usable = regions.filter((region) => region.entries.length > 0);
    const firstSlot = this.#takeSlots(usable.length);
    while (this.#freeTables.length < usable.length) this.#evictOldest();
    const pages = this.#cache.locked(() => usable.map((region) => this.#pageFor(region.page)));
    const bytes = this.#builder.build(
      usable.map((region, i) => {
        return {
          region,
          slot: firstSlot + i,
          table: this.#cache.tableAddress((pages[i] as TranslatedPage).table),
        };
      }),
      replaces,
    );
    const translated = performanceNow();
    this.#beforeCompile?.(replaces);
    const compiled = compileModule(bytes);
    this.#count(TRANSLATION_STATS.translateNs, (translated - start) * 1e6);
    this.#count(TRANSLATION_STATS.compileNs, (performanceNow() - translated) * 1e6);
    this.#publish(usable, pages, firstSlot, bytes, compiled, replaces);
  }

  #profile(page: number): Profile {
    return {
      ...reachProfile(this.#view.buffer, page),
      isTranslated: (offset) => this.#cache.translationOf(page + offset) !== 0,
      isCovered: (offset) => this.#pages.get(page)?.covered[offset >>> 1] === 1,
    };
  }

  /** Entry offsets by page, for code without a translation. */
  #untranslated(addresses: readonly number[]): Map<number, Set<number>> {
    const wanted = new Map<number, Set<number>>();
    const now = performanceNow();
    for (const address of addresses) {
      if (this.#cache.translationOf(address) !== 0) continue;
      const page = address - (address % PAGE_SIZE);
      if (!this.#codePages.has(page)) continue;
      // With a heat of 0, everything is translated.
      if (this.#cache.heat > 0 && this.#selfModifying.isBackedOff(page, now)) continue;
      const offsets = wanted.get(page);
      if (offsets === undefined) wanted.set(page, new Set([address % PAGE_SIZE]));
      else offsets.add(address % PAGE_SIZE);
    }
    return wanted;
  }

  /**
   * Make stores to these pages noticeable: when this returns, every hart has dropped its write translations.
   */
  #protect(pages: readonly number[]): void {
    const fresh = pages.filter((page) => !this.#codePages.isMarked(page));
    if (fresh.length === 0) return;
    for (const page of fresh) this.#codePages.mark(page);
    this.#cache.advanceProtection();
    makeRequests(REQ.OUTSIDE_GUEST_MODE, this.#vcpus);
  }

  #publish(
    regions: readonly Region[],
    tables: readonly TranslatedPage[],
    firstSlot: number,
    bytes: Uint8Array<ArrayBuffer>,
    compiled: WasmModule,
    replaces: boolean,
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
        const page = tables[i] as TranslatedPage;
        const isCurrent =
          this.#pages.get(region.page) === page && this.#cache.tableOf(region.page) === page.table;
        if (!isCurrent || !this.#codePages.isMarked(region.page)) return;
        page.modules.add(module);
        page.isImproved = replaces;
        for (const { instructions } of region.blocks) {
          for (const { offset } of instructions) page.covered[offset >>> 1] = 1;
        }
        module.live++;
        region.entries.forEach(({ start }, entry) => {
          if (!replaces && this.#cache.translationOf(region.page + start) !== 0) return;
          this.#cache.setTranslation(region.page + start, (firstSlot + i) | (entry << ENTRY_SHIFT));
        });
        if (replaces) {
          page.improved.set(firstSlot + i, shapeOf(region));
          this.#dropReplaced(region.page, page);
        }
      });
    });
    // Jump caches refer to the previous translations.
    if (replaces) this.#cache.advanceEpoch();
    this.#count(TRANSLATION_STATS.regions, regions.length);
    this.#count(TRANSLATION_STATS.modules, 1);
    this.#count(TRANSLATION_STATS.bytes, bytes.length);
    const instructions = regions.flatMap((r) => r.blocks).reduce((n, b) => n + b.instructions.length, 0);
    this.#count(TRANSLATION_STATS.guestInstructions, instructions);
    this.#countLive();
  }

  /** Under the lock: remove modules from the page that its table no longer refers to. */
  #dropReplaced(address: number, page: TranslatedPage): void {
    const slots = new Set<number>();
    for (let offset = 0; offset < PAGE_SIZE; offset += 2) {
      slots.add(this.#slotOf(address + offset));
    }
    for (const module of page.modules) {
      const own = range(module.firstSlot, module.firstSlot + module.slotCount);
      if (own.some((slot) => slots.has(slot))) continue;
      page.modules.delete(module);
      this.#retireIfUnused(module);
    }
    for (const slot of page.improved.keys()) if (!slots.has(slot)) page.improved.delete(slot);
  }

  /** Under the lock: the page with its table, a new one if a hart has dropped it. */
  #pageFor(page: number): TranslatedPage {
    const known = this.#pages.get(page);
    if (known !== undefined && this.#cache.tableOf(page) === known.table) return known;
    if (known !== undefined) this.#dropPage(page, known);
    const table = this.#freeTables.pop() as number;
    this.#cache.setTable(page, table);
    const fresh: TranslatedPage = {
      table,
      modules: new Set(),
      isImproved: false,
      improved: new Map(),
      covered: new Uint8Array(PAGE_SIZE / 2),
    };
    this.#pages.set(page, fresh);
    return fresh;
  }

  // ---- room ----

  /** Tables and modules that can be reused once every hart has seen this epoch. */
  #retired: { tables: number[]; modules: number[] } = { tables: [], modules: [] };

  /** A page's code has changed: a hart has dropped its table, or it is dropped now. */
  #dropPage(page: number, { table, modules }: TranslatedPage): void {
    this.#pages.delete(page);
    this.#retired.tables.push(table);
    for (const module of modules) {
      const regions = module.pages.length === 1 ? module.live : 1;
      module.live -= regions;
      this.#count(TRANSLATION_STATS.staleDrops, regions);
      this.#retireIfUnused(module);
    }
  }

  #retireIfUnused(module: LiveModule): void {
    if (module.pages.every((page) => !this.#pages.get(page)?.modules.has(module))) this.#retire(module);
  }

  #retire(module: LiveModule): void {
    if (!this.#modules.delete(module)) return;
    this.#cache.retireModule(module.id);
    this.#retired.modules.push(module.id);
  }

  /**
   * Find the pages that harts have dropped, and wait until all harts have noticed before their slots are
   * reused.
   */
  #reclaim(): void {
    for (const [page, known] of this.#pages) {
      if (this.#cache.tableOf(page) === known.table) continue;
      this.#selfModifying.changed(page, performanceNow());
      this.#dropPage(page, known);
    }
    const { tables, modules } = this.#retired;
    if (tables.length + modules.length === 0) return;
    this.#retired = { tables: [], modules: [] };
    this.#cache.advanceEpoch();
    makeRequests(REQ.OUTSIDE_GUEST_MODE, this.#vcpus);
    this.#freeTables.push(...tables);
    this.#freeModules.push(...modules);
    this.#dropped += modules.length;
    if (this.#dropped >= MANY_DROPPED) {
      this.#dropped = 0;
      this.#collectGarbage?.();
    }
    if (this.#modules.size === 0) {
      // All code was dropped, as by a reset: use the same room again, not all that there is in turn.
      this.#next = 0;
      this.#nextSlot = 1;
    }
    this.#countLive();
  }

  #evictOldest(): void {
    const [oldest] = this.#modules;
    if (oldest !== undefined) this.#evict(oldest);
    else {
      // Tables of pages that were written to before they had any translation.
      this.#cache.locked(() => {
        for (const [page, known] of this.#pages) {
          this.#cache.setTable(page, 0);
          this.#dropPage(page, known);
        }
      });
    }
    this.#reclaim();
  }

  /** All pages of a module lose their translations; hot code soon makes new requests. */
  #evict(module: LiveModule): void {
    this.#cache.locked(() => {
      for (const page of module.pages) {
        const known = this.#pages.get(page);
        if (known === undefined || !known.modules.has(module)) continue;
        this.#cache.setTable(page, 0);
        this.#dropPage(page, known);
      }
      this.#retire(module);
    });
    this.#count(TRANSLATION_STATS.evictions, module.slotCount);
  }

  /** Evict all modules for which `isInTheWay` is true, and wait until every hart has noticed. */
  #evictWhere(isInTheWay: (module: LiveModule) => boolean): void {
    const evicted = [...this.#modules].filter(isInTheWay);
    for (const module of evicted) this.#evict(module);
    if (evicted.length > 0) this.#reclaim();
  }

  /** Find room for a module's bytes in the ring; the oldest modules are evicted. */
  #makeRoom(length: number): number | undefined {
    if (length > this.#capacity) return undefined;
    if (this.#next + length > this.#capacity) this.#next = 0;
    const at = this.#next;
    this.#evictWhere((module) => module.at < at + length && at < module.at + module.length);
    this.#next = at + length;
    return at;
  }

  #takeSlots(count: number): number {
    if (this.#nextSlot + count > SLOT_COUNT) this.#nextSlot = 1;
    const first = this.#nextSlot;
    this.#evictWhere(
      (module) => module.firstSlot < first + count && first < module.firstSlot + module.slotCount,
    );
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

/**
 * Two regions of a page with the same shape are the same, as long as the code is unchanged, except for their
 * entries.
 */
function shapeOf({ blocks }: Region): string {
  return blocks.map(({ start, end }) => `${start}-${end}`).join();
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

const performanceNow = (): number => runtimeGlobals.performance.now();
