// The worker of one vCPU: makes its engine instance on the shared memory and runs the vCPU thread until it ends.
import { parentPort, workerData } from "node:worker_threads";
import { instantiateEngine } from "../hypervisor/riscv/engine.ts";
import { VcpuThread } from "../hypervisor/vcpu-thread.ts";
import type { WasmMemory, WasmModule } from "../wasm/host.ts";
import { monotonicNs } from "./platform.ts";

export interface VcpuWorkerData {
  readonly module: WasmModule;
  readonly memory: WasmMemory;
  readonly hart: number;
}

const { module, memory, hart } = workerData as VcpuWorkerData;

/** CPU time of this thread; Node has it from 23.9 on. */
const { threadCpuUsage } = process as { threadCpuUsage?: () => { user: number; system: number } };

const thread = new VcpuThread(memory.buffer, hart, {
  monotonicNs,
  signal: () => parentPort?.postMessage(0),
  instantiate: (imports) => instantiateEngine(module, memory, imports),
  ...(threadCpuUsage === undefined
    ? {}
    : {
        threadCpuNs: () => {
          const { user, system } = threadCpuUsage.call(process);
          return (user + system) * 1000;
        },
      }),
});
thread.run();
