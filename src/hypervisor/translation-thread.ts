// The translation thread of a VM: makes WebAssembly of guest code that is hot, away from the harts. It talks with them
// through the shared memory alone (layout.ts), and there is none where the engine is the interpreter alone.
import type { WasmMemory } from "../wasm/host.ts";
import { VM_TRANSLATOR_RUN } from "./layout.ts";

/** VM_TRANSLATOR_RUN: what the VMM wants of the thread, and the thread's answer to END. */
export const TRANSLATOR_RUN = { GO: 0, END: 1, ENDED: 2 } as const;

export interface TranslationOptions {
  /** How much translated code may be kept, in bytes of WebAssembly. */
  readonly codeCacheBytes: number;
  /** How often an entry is executed before it is translated. */
  readonly translateAfter: number;
  /** Each instruction counts by itself, so that a slice ends at exactly its budget (`--icount`). */
  readonly exact: boolean;
}

export const DEFAULT_CODE_CACHE_BYTES = 64 * 2 ** 20;
export const DEFAULT_TRANSLATE_AFTER = 64;

/** Works until the VMM says END. Blocks its thread. */
export function runTranslationThread(memory: WasmMemory, _options: TranslationOptions): void {
  const words = new Int32Array(memory.buffer);
  const run = VM_TRANSLATOR_RUN >>> 2;
  while (Atomics.load(words, run) === TRANSLATOR_RUN.GO) Atomics.wait(words, run, TRANSLATOR_RUN.GO);
}
