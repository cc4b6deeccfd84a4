// The host's WebAssembly (JavaScript API 2.0): compile, instantiate, shared memory. Every platform has it,
// but only `dom` types it. Modules and memories can be posted to workers.

/** A compiled module. Opaque. */
export interface WasmModule {
  readonly wasmModule?: never;
}
/** Shared WebAssembly.Memory, which only `dom` and `node` type. */
export interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
}

/** A table of functions, which belongs to one thread. */
export interface WasmTable {
  /** Adds `count` entries. */
  grow(count: number, value: unknown): number;
  set(index: number, value: unknown): void;
}

interface Api {
  Module: new (bytes: Uint8Array<ArrayBuffer>) => WasmModule;
  Instance: new (
    module: WasmModule,
    imports: Record<string, Record<string, unknown>>,
  ) => { readonly exports: Record<string, unknown> };
  Memory: new (descriptor: { initial: number; maximum: number; shared: boolean }) => WasmMemory;
  Table: new (descriptor: { initial: number; element: string }) => WasmTable;
}
const { WebAssembly } = globalThis as unknown as { WebAssembly: Api };

export const WASM_PAGE_SIZE = 0x10000;

/** Throws the host's CompileError if the bytes are not a valid module. */
export function compileModule(bytes: Uint8Array<ArrayBuffer>): WasmModule {
  return new WebAssembly.Module(bytes);
}

/** Instantiates the module and returns its exports. */
export function instantiateModule(
  module: WasmModule,
  imports: Record<string, Record<string, unknown>>,
): Record<string, unknown> {
  return new WebAssembly.Instance(module, imports).exports;
}

/** An empty table of functions. */
export function createFunctionTable(): WasmTable {
  return new WebAssembly.Table({ initial: 0, element: "anyfunc" });
}

/** Shared memory of `pages` × 64 KiB that cannot grow. Throws RangeError if the host cannot reserve it. */
export function createSharedMemory(pages: number): WasmMemory {
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}
