// WebAssembly's JavaScript API (2.0): compile, instantiate, shared memory.
import { runtimeGlobals, type WasmMemory, type WasmModule, type WasmTable } from "../base/runtime-globals.ts";

const { WebAssembly } = runtimeGlobals;

export const WASM_PAGE_SIZE = 0x10000;

/** Throws CompileError if the bytes are not a valid module. */
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

/** The names of the module's exports. */
export function exportNames(module: WasmModule): ReadonlySet<string> {
  return new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
}

/** An empty table of functions. */
export function createFunctionTable(): WasmTable {
  return new WebAssembly.Table({ initial: 0, element: "anyfunc" });
}

/** Shared memory of `pages` × 64 KiB that cannot grow. Throws RangeError if that much cannot be reserved. */
export function createSharedMemory(pages: number): WasmMemory {
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}
