// A VM in this Node process: the shared memory, the engine's module compiled once, a worker for each vCPU.
import { Worker } from "node:worker_threads";
import { WherryError } from "../base/errors.ts";
import { buildEngineModule, initEngineTables } from "../hypervisor/riscv/engine.ts";
import { planMemory, type RamBlockPlan, type ThreadHandle, Vm } from "../hypervisor/vm.ts";
import { monotonicNs } from "./platform.ts";
import type { VcpuWorkerData } from "./vcpu-worker.ts";

const WASM_PAGE = 0x10000;
const MAX_WASM_PAGES = 0x10000;

export interface VmConfig {
  readonly vcpuCount: number;
  readonly blocks: readonly RamBlockPlan[];
  readonly builtinFirmware: boolean;
}

/** `.ts` when run from source, `.js` when built. */
const workerUrl = new URL(`./vcpu-worker${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url);

/** Creates the VM with all its vCPU threads parked. Throws WherryError if memory of that size cannot be had. */
export function createVm(config: VmConfig): Vm {
  const plan = planMemory(config.vcpuCount, config.blocks);
  const pages = Math.ceil(plan.size / WASM_PAGE);
  if (pages > MAX_WASM_PAGES) {
    throw new WherryError(
      "vm-host.memory",
      `the machine needs ${Math.ceil(plan.size / 2 ** 20)} MiB in all, 4096 MiB is the most one WebAssembly memory holds: give it less --memory`,
    );
  }
  let memory: WebAssembly.Memory;
  try {
    memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new WherryError("vm-host.memory", `cannot reserve ${Math.ceil(plan.size / 2 ** 20)} MiB of shared memory`, { cause });
  }
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  const module = new WebAssembly.Module(buildEngineModule(plan.tables));
  initEngineTables(buffer, plan.tables);
  return new Vm({
    buffer,
    vcpuCount: config.vcpuCount,
    blocks: config.blocks,
    builtinFirmware: config.builtinFirmware,
    monotonicNs,
    spawnVcpu: (hart) => spawnWorker({ module, memory, hart }),
  });
}

function spawnWorker(data: VcpuWorkerData): ThreadHandle {
  const worker = new Worker(workerUrl, { workerData: data, name: `vcpu-${data.hart}` });
  return {
    onSignal: (listener) => worker.on("message", listener),
    onFault: (listener) => worker.on("error", listener),
    terminate: async () => {
      await worker.terminate();
    },
  };
}
