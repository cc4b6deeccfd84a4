// The entry of a platform's vCPU worker: an engine instance on the shared memory, and the vCPU thread's loop.
import type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
import { type VcpuPlatform, VcpuThread } from "../hypervisor/vcpu/vcpu-thread.ts";
import type { WasmMemory, WasmModule } from "../base/runtime-globals.ts";
import { instantiateEngine } from "../hypervisor/vcpu/engine-instance.ts";

/** The initial data of a vCPU thread. */
export interface VcpuThreadData {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
  readonly hart: number;
  readonly engine: EngineKind;
}

/** Runs the vCPU; returns when the VMM ends it. Blocks its thread: nothing else can run there. */
export function runVcpu(data: VcpuThreadData, platform: VcpuPlatform): void {
  const { module, memory, hart, engine } = data;
  const thread = new VcpuThread(memory.buffer, hart, {
    ...platform,
    instantiate: (imports) => instantiateEngine(module, memory, imports, engine),
  });
  thread.run();
}
