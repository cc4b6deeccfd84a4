// Machines in this Node process: a worker thread for each vCPU; this thread is the VMM's.
import { Worker } from "node:worker_threads";
import type { ThreadHandle } from "../hypervisor/vm.ts";
import type { HostPlatform } from "../host/platform.ts";
import type { VcpuThreadData } from "../host/vcpu.ts";
import { clock, randomBytes } from "./platform.ts";

/** `.ts` when run from source, `.js` when built. */
const workerUrl = new URL(`./vcpu-worker${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url);

export const nodePlatform: HostPlatform = {
  clock,
  setTimer: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  randomBytes,
  defer: (task) => void setImmediate(task),
  spawnVcpu,
};

function spawnVcpu(data: VcpuThreadData): ThreadHandle {
  const worker = new Worker(workerUrl, { workerData: data, name: `vcpu-${data.hart}` });
  return {
    onSignal: (listener) => worker.on("message", listener),
    onFault: (listener) => worker.on("error", listener),
    terminate: async () => {
      await worker.terminate();
    },
  };
}
