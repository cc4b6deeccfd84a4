// The engine as a WebAssembly module: the interpreter and the functions that vCPU threads call. Its bytes are
// deterministic; it is compiled once and shared by all workers. A vCPU thread provides the memory and the
// imports.
import type { AnyFn } from "../../wasm/function.ts";
import { buildModule, reachableFunctions } from "../../wasm/module.ts";
import { DEFAULT_ENGINE, type EngineKind } from "../shared/engine-kind.ts";
import { notAdopted } from "./code-dispatch.ts";
import { loadSlowAt, storeSlowAt } from "../hart/mmu.ts";
import { makeRun, syncCode } from "./interpreter.ts";
import { decodeTables } from "../isa/instruction-decoder.ts";
import { ENGINE_MEMORY, type EngineParts } from "./engine-parts.ts";
import { flushSpace, flushTlb, flushTlbPage, protectCode } from "../hart/hart-tlb.ts";

/** The engine for a host with or without total store order. */
export function buildEngine(kind: EngineKind, hasTotalStoreOrder: boolean): EngineParts {
  return { module: buildEngineModule(kind, hasTotalStoreOrder), tables: decodeTables() };
}

/**
 * The module's bytes. With the translator it exports, by their names, all functions that translated
 * code may import.
 */
export function buildEngineModule(
  kind: EngineKind = DEFAULT_ENGINE,
  hasTotalStoreOrder = false,
): Uint8Array<ArrayBuffer> {
  const translates = kind === "translator";
  const run = makeRun(translates, hasTotalStoreOrder);
  const exports: AnyFn[] = [run, flushTlb, flushTlbPage, flushSpace, protectCode];
  if (!translates) return buildModule({ memory: ENGINE_MEMORY, exports: byName(exports) });
  const helpers = reachableFunctions([run, loadSlowAt, storeSlowAt]).filter((fn) => fn !== syncCode);
  return buildModule({
    memory: ENGINE_MEMORY,
    exports: byName([...exports, notAdopted, ...helpers]),
    table: { module: "env", name: "table" },
  });
}

function byName(functions: readonly AnyFn[]): Record<string, AnyFn> {
  const named: Record<string, AnyFn> = {};
  for (const fn of functions) {
    const other = (named[fn.name] ??= fn);
    if (other !== fn) throw new TypeError(`two functions of the engine are named ${fn.name}`);
  }
  return named;
}
