// The entry of a platform's translation worker.
import { VM_TRANSLATOR_RUN } from "../hypervisor/shared/memory-map.ts";
import { runTranslationThread } from "../hypervisor/translator/translation-thread.ts";
import { type TranslationOptions } from "../hypervisor/shared/translation-options.ts";
import { TRANSLATOR_RUN } from "../hypervisor/shared/memory-map.ts";
import type { BeforeCompile } from "../hypervisor/translator/translations.ts";
import type { WasmMemory, WasmModule } from "../base/runtime-globals.ts";

/** The initial data of the translation thread. */
export interface TranslatorThreadData {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
  readonly options: TranslationOptions;
}

/** Translates until the VMM ends it. Blocks its thread: nothing else can run there. */
export function runTranslator(
  { module, memory, options }: TranslatorThreadData,
  beforeCompile?: BeforeCompile,
  collectGarbage?: () => void,
): void {
  try {
    runTranslationThread(module, memory, options, beforeCompile, collectGarbage);
  } finally {
    const words = new Int32Array(memory.buffer);
    Atomics.store(words, VM_TRANSLATOR_RUN >>> 2, TRANSLATOR_RUN.ENDED);
    Atomics.notify(words, VM_TRANSLATOR_RUN >>> 2);
  }
}
