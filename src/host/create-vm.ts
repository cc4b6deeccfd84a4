// A VM on this host: the shared memory, the engine's module compiled once, a thread for each vCPU.
import { WherryError } from "../base/errors.ts";
import { buildEngineModule, ENGINE_MAXIMUM_PAGES, initEngineTables } from "../hypervisor/riscv/engine.ts";
import { planMemory, type RamBlockPlan, Vm } from "../hypervisor/vm.ts";
import { compileModule, createSharedMemory, WASM_PAGE_SIZE, type WasmMemory } from "../wasm/host.ts";
import type { HostPlatform } from "./platform.ts";

export interface VmConfig {
  readonly vcpuCount: number;
  readonly blocks: readonly RamBlockPlan[];
  readonly builtinFirmware: boolean;
}

/** Creates the VM with all its vCPU threads parked. Throws WherryError if memory of that size cannot be had. */
export function createVm(config: VmConfig, platform: HostPlatform): Vm {
  const plan = planMemory(config.vcpuCount, config.blocks);
  const pages = Math.ceil(plan.size / WASM_PAGE_SIZE);
  const mebibytes = Math.ceil(plan.size / 2 ** 20);
  if (pages > ENGINE_MAXIMUM_PAGES) {
    throw new WherryError(
      "host.memory",
      `the machine needs ${mebibytes} MiB in all, 4096 MiB is the most one WebAssembly memory holds: give it less memory`,
    );
  }
  let memory: WasmMemory;
  try {
    memory = createSharedMemory(pages);
  } catch (cause) {
    throw new WherryError("host.memory", `cannot reserve ${mebibytes} MiB of shared memory`, { cause });
  }
  const module = compileModule(buildEngineModule(plan.tables));
  initEngineTables(memory.buffer, plan.tables);
  return new Vm({
    buffer: memory.buffer,
    vcpuCount: config.vcpuCount,
    blocks: config.blocks,
    builtinFirmware: config.builtinFirmware,
    monotonicNs: platform.clock.monotonicNs,
    spawnVcpu: (hart) => platform.spawnVcpu({ module, memory, hart }),
  });
}
