// The browser's services: time, randomness, turns of the event loop, and workers.
import { monotonicSince, timeOrigin } from "../base/shared-clock.ts";
import type { ThreadHandle } from "../hypervisor/vm/vm.ts";
import type { Platform } from "../embed/platform.ts";
import type { TranslatorThreadData } from "../embed/run-translator.ts";
import type { VcpuThreadData } from "../embed/run-vcpu.ts";
import {
  defaultEnvironment,
  type MigrationEnvironment,
} from "../migration/environment/migration-environment.ts";
import { unpack } from "./browser-unpack.ts";

/** The message from the VMM's worker to a vCPU's worker. */
export interface VcpuWorkerData extends VcpuThreadData {
  readonly originMs: number;
}

/** The limit of one call of crypto.getRandomValues. */
const RANDOM_QUOTA = 65536;

function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += RANDOM_QUOTA) {
    crypto.getRandomValues(bytes.subarray(at, at + RANDOM_QUOTA));
  }
  return bytes;
}

/** A turn of the event loop without the 4 ms that browsers add to repeated timers. */
function immediates(): (task: () => void) => void {
  const tasks: (() => void)[] = [];
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => tasks.shift()?.();
  return (task) => {
    tasks.push(task);
    port2.postMessage(0);
  };
}

const defer = immediates();

/** The platform of the worker that runs the VMM. */
export const browserPlatform: Platform = {
  clock: {
    monotonicNs: monotonicSince(timeOrigin),
    wallNs: () => BigInt(Date.now()) * 1_000_000n,
  },
  setTimer: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  randomBytes,
  defer,
  unpack,
  exitPollNs: navigator.hardwareConcurrency > 1 ? 50_000 : undefined,
  spawnVcpu: (data) =>
    handle(
      new Worker(new URL("./browser-vcpu-worker.js", import.meta.url), {
        type: "module",
        name: `vcpu-${data.hart}`,
      }),
      { ...data, originMs: timeOrigin } satisfies VcpuWorkerData,
    ),
  spawnTranslator: (data) =>
    handle(
      new Worker(new URL("./browser-translator-worker.js", import.meta.url), {
        type: "module",
        name: "translator",
      }),
      data,
    ),
};

export const browserMigrationEnvironment: MigrationEnvironment = {
  ...defaultEnvironment,
  yieldToEventLoop: () => new Promise((resolve) => defer(resolve)),
};

function handle(worker: Worker, data: VcpuWorkerData | TranslatorThreadData): ThreadHandle {
  worker.postMessage(data);
  return {
    onSignal: (listener) => worker.addEventListener("message", listener),
    onFault: (listener) =>
      worker.addEventListener("error", (event) =>
        listener(
          new Error(
            event.message ||
              "its worker could not be loaded: is dist/browser served with the page? (docs/embedding.md, Bundlers)",
          ),
        ),
      ),
    terminate: async () => worker.terminate(),
  };
}
