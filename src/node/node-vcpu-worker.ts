// The worker thread of one vCPU in Node.
import { parentPort, workerData } from "node:worker_threads";
import { runVcpu, type VcpuThreadData } from "../embed/run-vcpu.ts";
import { collectGarbage, monotonicNs } from "./node-runtime.ts";

/** CPU time of this thread, in Node 23.9 and later. */
const { threadCpuUsage } = process as { threadCpuUsage?: () => { user: number; system: number } };

runVcpu(workerData as VcpuThreadData, {
  monotonicNs,
  signal: () => parentPort?.postMessage(0),
  collectGarbage,
  ...(threadCpuUsage === undefined
    ? {}
    : {
        threadCpuNs: () => {
          const { user, system } = threadCpuUsage.call(process);
          return (user + system) * 1000;
        },
      }),
});
