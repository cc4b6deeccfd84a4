// The globals beyond ECMAScript's library that every platform has and that the layers below use. Only `dom`
// and `node` declare them, and no layer below the platforms sees those types: this is the one declaration.

/** A compiled WebAssembly module. Opaque; it can be posted to workers. */
export interface WasmModule {
  readonly wasmModule?: never;
}

/** A shared WebAssembly.Memory; it can be posted to workers. */
export interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
}

/** A table of functions, which belongs to one thread. */
export interface WasmTable {
  /** Adds `count` entries. */
  grow(count: number, value: unknown): number;
  set(index: number, value: unknown): void;
}

interface RuntimeGlobals {
  readonly TextEncoder: new () => { encode(text: string): Uint8Array<ArrayBuffer> };
  readonly TextDecoder: new (label: string) => { decode(bytes: Uint8Array): string };
  readonly performance: { readonly timeOrigin: number; now(): number };
  readonly crypto: { getRandomValues(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> };
  readonly console: { error(...data: readonly unknown[]): void };
  setTimeout(fire: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** Deno only. */
  readonly Deno?: object;
  /** Node only. */
  setImmediate?(fire: () => void): unknown;
  /** JavaScript API 2.0. */
  readonly WebAssembly: {
    readonly Module: {
      new (bytes: Uint8Array<ArrayBuffer>): WasmModule;
      exports(module: WasmModule): { readonly name: string }[];
    };
    readonly Instance: new (
      module: WasmModule,
      imports: Record<string, Record<string, unknown>>,
    ) => { readonly exports: Record<string, unknown> };
    readonly Memory: new (descriptor: { initial: number; maximum: number; shared: boolean }) => WasmMemory;
    readonly Table: new (descriptor: { initial: number; element: string }) => WasmTable;
  };
}

export const runtimeGlobals = globalThis as unknown as RuntimeGlobals;
