// The translation thread of a VM: translates hot guest code to WebAssembly, away from the harts. It
// communicates with them only through the shared memory (memory-map.ts). With the interpreter alone there is
// no such thread.
import type { WasmMemory } from "../../base/host-globals.ts";
import { CODE_BYTES_SIZE, CodeCache } from "../shared/code-cache.ts";
import {
  DECODE_TABLES_SIZE,
  VM_CODE_CACHE,
  VM_TRANSLATOR_RUN,
  TRANSLATOR_RUN,
} from "../shared/memory-map.ts";
import { RegionModules } from "./region-module.ts";
import { type BeforeCompile, Translations } from "./translations.ts";

/** How the translator works. */
export interface TranslationOptions {
  /** How much translated code may be kept, in bytes of WebAssembly. */
  readonly codeCacheBytes: number;
  /** How often an entry is executed before it is translated. */
  readonly translateAfter: number;
  /** Each instruction counts by itself, so that a slice ends at exactly its budget (`--icount`). */
  readonly exact: boolean;
  readonly hasTotalStoreOrder: boolean;
}

/** All that there is room for. */
export const DEFAULT_CODE_CACHE_BYTES = CODE_BYTES_SIZE;
export const DEFAULT_TRANSLATE_AFTER = 64;

/** How long requests are gathered before a module is made of them: one for many regions is cheaper. */
const GATHER_MS = 1;
/** Requests to a module, at most: the first regions of many are not to wait for the last. */
const BATCH = 24;
/** Sleeps end by themselves now and then, so that changed code is forgotten even if nothing new gets hot. */
const IDLE_MS = 1000;

/** Works until the VMM says END. Blocks its thread. */
export function runTranslationThread(
  memory: WasmMemory,
  options: TranslationOptions,
  beforeCompile?: BeforeCompile,
): void {
  const { buffer } = memory;
  const words = new Int32Array(buffer);
  const run = VM_TRANSLATOR_RUN >>> 2;
  const cache = new CodeCache(buffer);
  const tables = (words[VM_CODE_CACHE >>> 2] as number) - DECODE_TABLES_SIZE;
  const modules = new RegionModules(tables, options);
  const translations = new Translations(buffer, modules, options.codeCacheBytes, beforeCompile);
  while (Atomics.load(words, run) === TRANSLATOR_RUN.GO) {
    if (cache.waitForRequest(IDLE_MS)) Atomics.wait(words, run, TRANSLATOR_RUN.GO, GATHER_MS);
    translations.translate(cache.takeRequests(BATCH));
  }
}
