// The worker of one vCPU in a browser, nested in the VMM's worker. It receives one message and then runs the
// vCPU: all else goes through shared memory, since a worker that never returns to its event loop receives no
// messages.
import { runVcpu } from "../embed/run-vcpu.ts";
import { monotonicSince } from "../base/shared-clock.ts";
import type { VcpuWorkerData } from "./browser-platform.ts";

addEventListener(
  "message",
  ({ data }: MessageEvent<VcpuWorkerData>) =>
    runVcpu(data, { monotonicNs: monotonicSince(data.originMs), signal: () => postMessage(0) }),
  { once: true },
);
