// The engine as a WebAssembly module: the interpreter and the functions that vCPU threads call. Its bytes are
// deterministic; it is compiled once and shared by all workers. A vCPU thread provides the memory and the
// imports.
import type { AnyFn } from "../../wasm/function.ts";
import { buildModule, reachableFunctions } from "../../wasm/module.ts";
import { DEFAULT_ENGINE, type EngineKind } from "../shared/engine-kind.ts";
import { DECODE_TABLES_SIZE } from "../shared/memory-map.ts";
import { notAdopted } from "./code-dispatch.ts";
import { loadSlowAt, storeSlowAt } from "../hart/mmu.ts";
import { makeRun, makeSyncCode } from "./interpreter.ts";
import { flushSpace, flushTlb, flushTlbPage, protectCode } from "../hart/hart-tlb.ts";

export { initEngineTables } from "../isa/instruction-decoder.ts";

/** Maximum size of the shared memory, in pages of 64 KiB: 4 GiB. */
export const ENGINE_MAXIMUM_PAGES = 65536;

/** The memory that the engine and translated code import: the VM's. */
export const ENGINE_MEMORY = {
  module: "env",
  name: "memory",
  initialPages: 1,
  maximumPages: ENGINE_MAXIMUM_PAGES,
  shared: true,
} as const;

/**
 * The module's bytes, for a host with or without total store order; it decodes with the tables that
 * `initEngineTables` has written at `tablesBase`.
 */
export function buildEngineModule(
  tablesBase: number,
  kind: EngineKind = DEFAULT_ENGINE,
  hasTotalStoreOrder = false,
): Uint8Array<ArrayBuffer> {
  const calls = { flushTlb, flushTlbPage, flushSpace, protectCode };
  if (kind === "interpreter") {
    const run = makeRun(tablesBase, undefined, hasTotalStoreOrder);
    return buildModule({ memory: ENGINE_MEMORY, exports: { run, ...calls } });
  }
  const cache = tablesBase + DECODE_TABLES_SIZE;
  const syncCode = makeSyncCode(cache);
  const run = makeRun(tablesBase, { cache, syncCode }, hasTotalStoreOrder);
  const helpers = [...helperNames(run, syncCode)].map(([fn, name]) => [name, fn] as const);
  return buildModule({
    memory: ENGINE_MEMORY,
    exports: { run, ...calls, notAdopted, ...Object.fromEntries(helpers) },
    table: { module: "env", name: "table" },
  });
}

/** The functions of the engine's module that translated code may import, with their export names. */
export function engineHelpers(tablesBase: number): ReadonlyMap<AnyFn, string> {
  const cache = tablesBase + DECODE_TABLES_SIZE;
  const syncCode = makeSyncCode(cache);
  return helperNames(makeRun(tablesBase, { cache, syncCode }), syncCode);
}

function helperNames(run: AnyFn, syncCode: AnyFn): ReadonlyMap<AnyFn, string> {
  const names = new Map<AnyFn, string>();
  for (const fn of reachableFunctions([run, loadSlowAt, storeSlowAt])) {
    if (fn !== run && fn !== syncCode) names.set(fn, `${names.size} ${fn.name}`);
  }
  return names;
}
