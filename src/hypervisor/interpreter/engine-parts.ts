// What a machine's engine is made of, as data. engine-module.ts builds it; a machine whose engine was built
// before does not load that.

/** Maximum size of the shared memory, in pages of 64 KiB: 4 GiB. */
export const ENGINE_MAXIMUM_PAGES = 65536;

/** The memory that the engine and translated code import: the VM's. */
export const ENGINE_MEMORY = {
  module: "env",
  name: "memory",
  initialPages: 1,
  maximumPages: ENGINE_MAXIMUM_PAGES,
  shared: true,
} as const;

/** An engine that was built: its bytes are the same in each build of one version. */
export interface EngineParts {
  /** The WebAssembly module. */
  readonly module: Uint8Array<ArrayBuffer>;
  /** The interpreter's decode tables. */
  readonly tables: Uint8Array;
}
