// Machines in this Node process: a worker thread for each vCPU and one for the translator; this thread is the
// VMM's.
import { type ResourceLimits, Worker } from "node:worker_threads";
import { WherryError } from "../base/errors.ts";
import { ENGINE_KINDS, type EngineKind } from "../hypervisor/shared/engine-kind.ts";
import type { ThreadHandle } from "../hypervisor/vm/vm.ts";
import type { Platform } from "../embed/platform.ts";
import type { TranslatorThreadData } from "../embed/run-translator.ts";
import type { VcpuThreadData } from "../embed/run-vcpu.ts";
import { clock, configureV8, randomBytes, yieldToHarts } from "./node-runtime.ts";
import { unpack } from "./node-unpack.ts";

/** `.ts` when run from source, `.js` when compiled. */
const suffix = import.meta.url.endsWith(".ts") ? ".ts" : ".js";

export const nodePlatform: Platform = {
  clock,
  setTimer: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  randomBytes,
  defer: (task) => void setImmediate(task),
  spawnVcpu: (data) => spawn("node-vcpu-worker", data, `vcpu-${data.hart}`),
  // Translation makes much short-lived garbage: in a larger young generation, most of it dies before a
  // collection.
  spawnTranslator: (data) => {
    const thread = spawn("node-translator-worker", data, "translator", { maxYoungGenerationSizeMb: 16 });
    // Its first request to V8 to compile signals that it has started.
    thread.onSignal(yieldToHarts);
    return thread;
  },
  get defaultEngine() {
    return engineOfEnvironment();
  },
  hasTotalStoreOrder: process.arch === "x64" || process.arch === "ia32",
  unpack,
  beforeCompile: configureV8,
};

/** WHERRY_ENGINE selects the engine for whole test suites. */
function engineOfEnvironment(): EngineKind | undefined {
  const name = process.env["WHERRY_ENGINE"];
  if (name === undefined || name === "") return undefined;
  const kind = ENGINE_KINDS.find((k) => k === name);
  if (kind !== undefined) return kind;
  throw new WherryError("host.engine", `WHERRY_ENGINE=${name}: expected ${ENGINE_KINDS.join(" or ")}`);
}

function spawn(
  script: string,
  workerData: VcpuThreadData | TranslatorThreadData,
  name: string,
  resourceLimits: ResourceLimits = {},
): ThreadHandle {
  const url = new URL(`./${script}${suffix}`, import.meta.url);
  const worker = new Worker(url, { workerData, name, resourceLimits });
  return {
    onSignal: (listener) => worker.on("message", listener),
    onFault: (listener) => worker.on("error", listener),
    terminate: async () => {
      await worker.terminate();
    },
  };
}
