// A VM in this Node process: the shared memory, the engine's module compiled once, a worker for each vCPU.
import { Worker } from "node:worker_threads";
import { WherryError } from "../base/errors.ts";
import { buildEngineModule, ENGINE_MAXIMUM_PAGES, initEngineTables } from "../hypervisor/riscv/engine.ts";
import { planMemory, type RamBlockPlan, type ThreadHandle, Vm } from "../hypervisor/vm.ts";
import { compileModule, createSharedMemory, WASM_PAGE_SIZE, type WasmMemory } from "../wasm/host.ts";
import { monotonicNs } from "./platform.ts";
import type { VcpuWorkerData } from "./vcpu-worker.ts";

export interface VmConfig {
  readonly vcpuCount: number;
  readonly blocks: readonly RamBlockPlan[];
  readonly builtinFirmware: boolean;
}

/** `.ts` when run from source, `.js` when built. */
const workerUrl = new URL(
  `./vcpu-worker${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`,
  import.meta.url,
);

/** Creates the VM with all its vCPU threads parked. Throws WherryError if memory of that size cannot be had. */
export function createVm(config: VmConfig): Vm {
  const plan = planMemory(config.vcpuCount, config.blocks);
  const pages = Math.ceil(plan.size / WASM_PAGE_SIZE);
  const mebibytes = Math.ceil(plan.size / 2 ** 20);
  if (pages > ENGINE_MAXIMUM_PAGES) {
    throw new WherryError(
      "vm-host.memory",
      `the machine needs ${mebibytes} MiB in all, 4096 MiB is the most one WebAssembly memory holds: give it less --memory`,
    );
  }
  let memory: WasmMemory;
  try {
    memory = createSharedMemory(pages);
  } catch (cause) {
    throw new WherryError("vm-host.memory", `cannot reserve ${mebibytes} MiB of shared memory`, { cause });
  }
  const module = compileModule(buildEngineModule(plan.tables));
  initEngineTables(memory.buffer, plan.tables);
  return new Vm({
    buffer: memory.buffer,
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
