// Machines in this Node process: a worker thread for each vCPU and one for the translator; this thread is the
// VMM's.
import { availableParallelism } from "node:os";
import { WherryError } from "../base/errors.ts";
import { ENGINE_KINDS, type EngineKind } from "../hypervisor/shared/engine-kind.ts";
import { timeOrigin } from "../base/shared-clock.ts";
import type { Platform } from "../embed/platform.ts";
import type { VcpuThreadData } from "../embed/run-vcpu.ts";
import { builtEngine } from "./built-engine.ts";
import { clock, configureV8, randomBytes, yieldToHarts } from "./node-runtime.ts";
import { spawnThread } from "./node-thread.ts";
import { unpack } from "./node-unpack.ts";

/** Undefined in a bundle of the CommonJS format. */
const HERE = import.meta.url as string | undefined;

/** The data of a vCPU's worker. */
export interface NodeVcpuData extends VcpuThreadData {
  readonly originMs: number;
}

const hasTotalStoreOrder = process.arch === "x64" || process.arch === "ia32";

export const nodePlatform: Platform = {
  clock,
  setTimer: (delayMs, fire) => {
    const timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
  randomBytes,
  defer: (task) => void setImmediate(task),
  spawnVcpu: (data) => {
    const own: NodeVcpuData = { ...data, originMs: timeOrigin };
    return spawnThread("node-vcpu-worker", HERE, own, `vcpu-${data.hart}`);
  },
  // Translation makes much short-lived garbage: in a larger young generation, most of it dies before a
  // collection.
  spawnTranslator: (data) => {
    const thread = spawnThread("node-translator-worker", HERE, data, "translator", {
      maxYoungGenerationSizeMb: 16,
    });
    // Its first request to V8 to compile signals that it has started.
    thread.onSignal(yieldToHarts);
    return thread;
  },
  get defaultEngine() {
    return engineOfEnvironment();
  },
  hasTotalStoreOrder,
  exitPollNs: availableParallelism() > 1 ? 50_000 : undefined,
  builtEngine: (kind) => builtEngine(kind, hasTotalStoreOrder),
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
