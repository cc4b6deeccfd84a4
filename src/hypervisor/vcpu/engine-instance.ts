// A hart's instance of the engine, and with the translator the modules in its function table. Separate from
// the code that builds the engine, which vCPU threads need not load.
import type { EngineExports, EngineImports } from "../hart/engine-interface.ts";
import { compileModule, createFunctionTable, instantiateModule } from "../../wasm/webassembly.ts";
import type { WasmMemory, WasmModule } from "../../base/runtime-globals.ts";
import { CodeCache, type CachedModule, IMPROVE, MANY_DROPPED, SLOT_COUNT } from "../shared/code-cache.ts";
import { DEFAULT_ENGINE, type EngineKind } from "../shared/engine-kind.ts";
import { CodePageSet } from "../shared/memory-slots.ts";

/** A hart's instance of the engine on the VM's memory. */
export function instantiateEngine(
  module: WasmModule,
  memory: WasmMemory,
  imports: EngineImports,
  kind: EngineKind = DEFAULT_ENGINE,
): EngineExports {
  const env = { memory, ...imports };
  if (kind === "interpreter") return instantiateModule(module, { env }) as unknown as EngineExports;
  return new TranslatingEngine(module, env, memory.buffer).exports;
}

/** A hart's function table, and the modules that it has adopted. */
class TranslatingEngine {
  readonly exports: EngineExports;
  readonly #cache: CodeCache;
  readonly #codePages: CodePageSet;
  readonly #table = createFunctionTable();
  readonly #imports: Record<string, Record<string, unknown>>;
  readonly #empty: unknown;
  /** By module id. */
  readonly #collectGarbage: (() => void) | undefined;
  /** Modules dropped since the last garbage collection. */
  #dropped = 0;
  readonly #adopted = new Map<number, Omit<CachedModule, "bytes">>();

  constructor(module: WasmModule, env: EngineImports & { memory: WasmMemory }, buffer: SharedArrayBuffer) {
    this.#cache = new CodeCache(buffer);
    this.#codePages = new CodePageSet(buffer);
    const { runAdoption = (work: () => void) => work() } = env;
    this.#collectGarbage = env.collectGarbage;
    const requestTranslation = (address: number): number => {
      this.#cache.request(address >>> 0);
      return 0;
    };
    const imports = {
      hot: requestTranslation,
      improve: (address: number) => this.#cache.request((address | IMPROVE) >>> 0),
      ...env,
      table: this.#table,
      adopt: (slot: number) => runAdoption(() => this.#adopt(slot)),
      dropStale: () => runAdoption(() => this.#cache.dropStale(this.#codePages)),
      dropRetired: () => runAdoption(() => this.#dropRetired()),
    };
    const exports = instantiateModule(module, { env: imports });
    this.#empty = exports["notAdopted"];
    this.#table.grow(SLOT_COUNT, this.#empty);
    this.#imports = { env: imports, engine: exports };
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
