// A hart's instance of the engine: what a vCPU thread calls and gives it, and with the translator the modules that its
// function table has. Apart from what writes the engine's code, which vCPU threads need not load.
import {
  compileModule,
  createFunctionTable,
  instantiateModule,
  type WasmMemory,
  type WasmModule,
} from "../../wasm/host.ts";
import { CodeCache, type CachedModule, IMPROVE, SLOT_COUNT } from "../code-cache.ts";
import { DEFAULT_ENGINE, type EngineKind } from "../engine-kind.ts";
import { CodePageSet } from "../slots.ts";

/** Why run() returned. */
export const EXIT = {
  /** The budget is used up. */
  SLICE: 0,
  /** The kick word is set. */
  KICK: 1,
  /** An ecall from S-mode with the built-in firmware; pc is the ecall's. */
  ECALL: 2,
  /** A wfi with nothing pending; pc is after it. */
  WFI: 3,
  INTERNAL_ERROR: 4,
} as const;

/** In place of an ASID: every address space, global translations too. */
export const ALL_SPACES = -1;

export interface EngineImports {
  /** Time in 10 MHz ticks, not below 0. */
  hostTicks(): number;
  /** 1 if something answered (value at CTL_MMIO_DATA), 0: access fault. `size` is 1, 2, 4 or 8, naturally aligned. */
  mmioRead(guestPhys: bigint, size: number): number;
  mmioWrite(guestPhys: bigint, size: number, value: bigint): number;
  /** The translator: code at this host address is hot; non-zero if it is translated on return. Default: ask for it. */
  hot?(address: number): number;
  /** The translator: much time is spent in the translated code of this address's page. Default: ask for better code. */
  improve?(address: number): void;
  /**
   * The translator: many modules were dropped. A hart's thread makes so little garbage that its host would keep their
   * machine code for long.
   */
  collectGarbage?(): void;
  /** Does what the hart's thread itself has to do for translated code: adopt it, forget it. Default: just that. */
  adopting?(work: () => void): void;
}

/** `hartBase` is the byte offset of the hart's area in shared memory. */
export interface EngineExports {
  /** Execute about `budget` instructions; returns EXIT.*. The state is in memory whenever this is not executing. */
  run(hartBase: number, budget: number): number;
  /** Forget all: state, memory slots or dirty bits changed. */
  flushTlb(hartBase: number): void;
  /** sfence.vma: forget the page of a guest-virtual address in the address space with this ASID, or in ALL_SPACES. */
  flushTlbPage(hartBase: number, guestVirt: bigint, asid: number): void;
  /** sfence.vma: forget the address space with this ASID, but global pages; or ALL_SPACES. */
  flushSpace(hartBase: number, asid: number): void;
  /** Forget translations for writing: after pages became code pages. */
  protectCode(hartBase: number): void;
}

/** A hart's instance of the engine on the VM's memory. */
export function instantiateEngine(
  module: WasmModule,
  memory: WasmMemory,
  imports: EngineImports,
  kind: EngineKind = DEFAULT_ENGINE,
): EngineExports {
  const host = { memory, ...imports };
  if (kind === "interpreter") return instantiateModule(module, { host }) as unknown as EngineExports;
  return new TranslatingEngine(module, host, memory.buffer).exports;
}

/** Some 10 MB of machine code. */
const MANY_DROPPED = 64;

/** A hart's function table, and the modules that it has adopted into it. */
class TranslatingEngine {
  readonly exports: EngineExports;
  readonly #cache: CodeCache;
  readonly #codePages: CodePageSet;
  readonly #table = createFunctionTable();
  readonly #imports: Record<string, Record<string, unknown>>;
  readonly #empty: unknown;
  /** By their id. */
  readonly #collectGarbage: (() => void) | undefined;
  /** Modules dropped since garbage was collected. */
  #dropped = 0;
  readonly #adopted = new Map<number, Omit<CachedModule, "bytes">>();

  constructor(module: WasmModule, host: EngineImports & { memory: WasmMemory }, buffer: SharedArrayBuffer) {
    this.#cache = new CodeCache(buffer);
    this.#codePages = new CodePageSet(buffer);
    const { adopting = (work: () => void) => work() } = host;
    this.#collectGarbage = host.collectGarbage;
    const askFor = (address: number): number => {
      this.#cache.request(address >>> 0);
      return 0;
    };
    const imports = {
      hot: askFor,
      improve: (address: number) => this.#cache.request((address | IMPROVE) >>> 0),
      ...host,
      table: this.#table,
      adopt: (slot: number) => adopting(() => this.#adopt(slot)),
      dropStale: () => adopting(() => this.#cache.dropStale(this.#codePages)),
      dropRetired: () => adopting(() => this.#dropRetired()),
    };
    const exports = instantiateModule(module, { host: imports });
    this.#empty = exports["notAdopted"];
    this.#table.grow(SLOT_COUNT, this.#empty);
    this.#imports = { host: imports, engine: exports };
    this.exports = exports as unknown as EngineExports;
  }

  /** Instantiating a module puts its functions into the table. */
  #adopt(slot: number): void {
    const found = this.#cache.moduleOfSlot(slot);
    if (found === undefined) return;
    const { bytes, ...module } = found;
    instantiateModule(compileModule(bytes), this.#imports);
    this.#adopted.set(module.id, module);
  }

  #dropRetired(): void {
    for (const [id, { generation, firstSlot, slotCount }] of this.#adopted) {
      if (this.#cache.generationOf(id) === generation) continue;
      for (let i = 0; i < slotCount; i++) this.#table.set(firstSlot + i, this.#empty);
      this.#adopted.delete(id);
      this.#dropped++;
    }
    if (this.#dropped < MANY_DROPPED) return;
    this.#dropped = 0;
    this.#collectGarbage?.();
  }
}
