// Parameters of the translator, for threads that do not load the translator itself.
import { CODE_BYTES_SIZE } from "./code-cache.ts";

/** What a translation thread is started with. */
export interface TranslationOptions {
  /** Maximum size of translated code, in bytes of WebAssembly. */
  readonly codeCacheBytes: number;
  /** Number of executions of an entry before it is translated. */
  readonly translateAfter: number;
  /** Count each instruction, so that a slice ends at exactly its budget (`--icount`). */
  readonly exact: boolean;
  readonly hasTotalStoreOrder: boolean;
}

/** The whole area. */
export const DEFAULT_CODE_CACHE_BYTES = CODE_BYTES_SIZE;
export const DEFAULT_TRANSLATE_AFTER = 64;
