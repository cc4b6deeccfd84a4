// The engine as a WebAssembly module: the interpreter and what vCPU threads call around it. Deterministic bytes,
// compiled once and shared by all workers. The host gives memory and the imports below.
import { instantiateModule, type WasmMemory, type WasmModule } from "../../wasm/host.ts";
import { buildModule } from "../../wasm/module.ts";
import { DEFAULT_ENGINE, type EngineKind } from "../engine-kind.ts";
import { hartLayout } from "./hart.ts";
import { makeRun } from "./interpreter.ts";
import { makeFpSlow } from "./softfloat.ts";
import { flushTlb, flushTlbPage, protectCode } from "./tlb.ts";

export { initEngineTables } from "./decoder.ts";
export { EXIT } from "./semantics.ts";

/** Pages of 64 KiB that the shared memory may have: 4 GiB. */
export const ENGINE_MAXIMUM_PAGES = 65536;

export interface EngineImports {
  /** Time in 10 MHz ticks, not below 0. */
  hostTicks(): number;
  /** 1 if something answered (value at CTL_MMIO_DATA), 0: access fault. `size` is 1, 2, 4 or 8, naturally aligned. */
  mmioRead(guestPhys: bigint, size: number): number;
  mmioWrite(guestPhys: bigint, size: number, value: bigint): number;
}

/** `hartBase` is the byte offset of the hart's area in shared memory. */
export interface EngineExports {
  /** Execute about `budget` instructions; returns EXIT.*. The state is in memory whenever this is not executing. */
  run(hartBase: number, budget: number): number;
  flushTlb(hartBase: number): void;
  /** Forget the page of a guest-virtual address. */
  flushTlbPage(hartBase: number, guestVirt: bigint): void;
  /** Forget translations for writing: after pages became code pages. */
  protectCode(hartBase: number): void;
}

/** The module's bytes; it decodes with tables that `initEngineTables` has put at `tablesBase`. */
export function buildEngineModule(tablesBase: number): Uint8Array<ArrayBuffer> {
  return buildModule({
    memory: {
      module: "host",
      name: "memory",
      initialPages: 1,
      maximumPages: ENGINE_MAXIMUM_PAGES,
      shared: true,
    },
    exports: { run: makeRun(tablesBase), flushTlb, flushTlbPage, protectCode },
  });
}

/** What the module imports from "host", but the memory: the caller's functions and the slow path of float arithmetic. */
export function engineHost(
  buffer: SharedArrayBuffer,
  imports: EngineImports,
): Record<string, CallableFunction> {
  const words = new Int32Array(buffer);
  const fflags = hartLayout.offsetOf("fflags");
  const fpSlow = makeFpSlow((hart, flags) => {
    words[(hart + fflags) >>> 2] = (words[(hart + fflags) >>> 2] as number) | flags;
  });
  return { ...imports, fpSlow };
}

/** A hart's instance of the engine on the VM's memory. */
export function instantiateEngine(
  module: WasmModule,
  memory: WasmMemory,
  imports: EngineImports,
  _kind: EngineKind = DEFAULT_ENGINE,
): EngineExports {
  const host = { memory, ...engineHost(memory.buffer, imports) };
  return instantiateModule(module, { host }) as unknown as EngineExports;
}
