// The entry of a platform's vCPU worker: an engine instance on the shared memory, and the vCPU thread's loop.
import type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
import { type VcpuPlatform, VcpuThread } from "../hypervisor/vcpu/vcpu-thread.ts";
import type { WasmMemory, WasmModule } from "../base/runtime-globals.ts";
import { WherryError } from "../base/errors.ts";
import { instantiateEngine } from "../hypervisor/vcpu/engine-instance.ts";

/** The initial data of a vCPU thread. */
export interface VcpuThreadData {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
  readonly hart: number;
  readonly engine: EngineKind;
  /** The VMM's clock when it made this thread. */
  readonly createdNs: number;
}

/** More than a thread takes to start on any host. */
const MAX_START_NS = 600e9;

/** With clocks of different origins (`process.hrtime` of Bun), guest time would run backwards. */
export function checkClock(createdNs: number, nowNs: number): void {
  const age = nowNs - createdNs;
  if (age >= 0 && age <= MAX_START_NS) return;
  const found = `${(age / 1e9).toFixed(3)} s`;
  throw new WherryError(
    "host.clock",
    `the clocks of this runtime's threads disagree: expected an age of 0 to ${MAX_START_NS / 1e9} s, found ${found}; use Node, Bun, Deno or a browser`,
  );
}

/** Runs the vCPU; returns when the VMM ends it. Blocks its thread: nothing else can run there. */
export function runVcpu(data: VcpuThreadData, platform: VcpuPlatform): void {
  const { module, memory, hart, engine, createdNs } = data;
  checkClock(createdNs, platform.monotonicNs());
  const thread = new VcpuThread(memory.buffer, hart, {
    ...platform,
    instantiate: (imports) => instantiateEngine(module, memory, imports, engine),
  });
  thread.run();
}
