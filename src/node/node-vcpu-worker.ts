// The worker thread of one vCPU in Node.
import { parentPort, workerData } from "node:worker_threads";
import { runVcpu } from "../embed/run-vcpu.ts";
import type { NodeVcpuData } from "./node-platform.ts";
import { collectGarbage, monotonicOf } from "./node-runtime.ts";

/** CPU time of this thread, in Node 23.9 and later. */
const { threadCpuUsage } = process as { threadCpuUsage?: () => { user: number; system: number } };

const data = workerData as NodeVcpuData;
runVcpu(data, {
  monotonicNs: monotonicOf(data.originMs),
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
