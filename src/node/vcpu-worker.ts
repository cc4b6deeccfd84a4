// The worker of one vCPU: makes its engine instance on the shared memory and runs the vCPU thread until it ends.
import { parentPort, workerData } from "node:worker_threads";
import { engineHost, type EngineExports } from "../hypervisor/riscv/engine.ts";
import { VcpuThread } from "../hypervisor/vcpu-thread.ts";
import { monotonicNs } from "./platform.ts";

export interface VcpuWorkerData {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly hart: number;
}

const { module, memory, hart } = workerData as VcpuWorkerData;
const buffer = memory.buffer as unknown as SharedArrayBuffer;

/** CPU time of this thread; Node has it from 23.9 on. */
const { threadCpuUsage } = process as { threadCpuUsage?: () => { user: number; system: number } };

const thread = new VcpuThread(buffer, hart, {
  monotonicNs,
  signal: () => parentPort?.postMessage(0),
  instantiate: (imports) => {
    const host = { memory, ...engineHost(buffer, imports) } as WebAssembly.ModuleImports;
    return new WebAssembly.Instance(module, { host }).exports as unknown as EngineExports;
  },
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
