// The host's WebAssembly (JavaScript API 2.0): compile, instantiate, shared memory.
import { hostGlobals, type WasmMemory, type WasmModule, type WasmTable } from "../base/host-globals.ts";

const { WebAssembly } = hostGlobals;

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
