// The translation thread of a VM: translates hot guest code to WebAssembly, away from the harts. It
// communicates with them only through the shared memory (memory-map.ts). With the interpreter alone there is
// no such thread.
import type { WasmMemory, WasmModule } from "../../base/runtime-globals.ts";
import { CodeCache } from "../shared/code-cache.ts";
import { exportNames } from "../../wasm/webassembly.ts";
import { VM_TRANSLATOR_RUN, TRANSLATOR_RUN } from "../shared/memory-map.ts";
import type { TranslationOptions } from "../shared/translation-options.ts";
import { RegionModules } from "./region-module.ts";
import { type BeforeCompile, Translations } from "./translations.ts";

/** How long requests are collected before a module is generated: one module for many regions is cheaper. */
const GATHER_MS = 1;
/** Maximum number of requests for a module: the first of many regions should not wait for the last. */
const BATCH = 24;
/** Maximum time asleep, so that changed code is dropped even if no new code becomes hot. */
const IDLE_MS = 1000;

/** Runs until the VMM sets END. Blocks its thread. */
export function runTranslationThread(
  engine: WasmModule,
  memory: WasmMemory,
  options: TranslationOptions,
  beforeCompile?: BeforeCompile,
  collectGarbage?: () => void,
): void {
  const { buffer } = memory;
  const words = new Int32Array(buffer);
  const run = VM_TRANSLATOR_RUN >>> 2;
  const cache = new CodeCache(buffer);
  const modules = new RegionModules(exportNames(engine), options);
  const translations = new Translations(
    buffer,
    modules,
    options.codeCacheBytes,
    beforeCompile,
    collectGarbage,
  );
  while (Atomics.load(words, run) === TRANSLATOR_RUN.GO) {
    if (cache.waitForRequest(IDLE_MS)) Atomics.wait(words, run, TRANSLATOR_RUN.GO, GATHER_MS);
    translations.translate(cache.takeRequests(BATCH));
  }
}
