// A VM on this host: the shared memory, the engine's module compiled once, a thread for each vCPU and one for
// the translator.
import { WherryError } from "../base/errors.ts";
import { CodeCache } from "../hypervisor/shared/code-cache.ts";
import { DEFAULT_ENGINE, type EngineKind } from "../hypervisor/shared/engine-kind.ts";
import type { IcountOptions } from "../hypervisor/requests/instruction-clock.ts";
import { ENGINE_MAXIMUM_PAGES, type EngineParts } from "../hypervisor/interpreter/engine-parts.ts";
import { DECODE_TABLES } from "../hypervisor/shared/memory-map.ts";
import {
  DEFAULT_CODE_CACHE_BYTES,
  DEFAULT_TRANSLATE_AFTER,
  type TranslationOptions,
} from "../hypervisor/shared/translation-options.ts";
import { planMemory, type RamBlockPlan, Vm } from "../hypervisor/vm/vm.ts";
import { compileModule, createSharedMemory, WASM_PAGE_SIZE } from "../wasm/webassembly.ts";
import type { WasmMemory, WasmModule } from "../base/runtime-globals.ts";
import type { Platform } from "./platform.ts";

/** The engine that executes the guest's instructions. */
export interface EngineConfig {
  /** Default: the platform's, or the hypervisor's. */
  readonly engine?: EngineKind | undefined;
  /** For the translator: the bytes of translated code to keep. Default: all the room there is. */
  readonly codeCacheBytes?: number | undefined;
  /** For the translator: how often code is executed before it is translated. */
  readonly translateAfter?: number | undefined;
}

export interface VmConfig extends EngineConfig {
  readonly icount?: IcountOptions | undefined;
  readonly vcpuCount: number;
  readonly blocks: readonly RamBlockPlan[];
  readonly builtinFirmware: boolean;
}

/**
 * Creates the VM with all vCPU threads parked. Rejects with WherryError if memory of that size is not
 * available.
 */
export async function createVm(config: VmConfig, platform: Platform): Promise<Vm> {
  const plan = planMemory(config.vcpuCount, config.blocks);
  const pages = Math.ceil(plan.size / WASM_PAGE_SIZE);
  const mebibytes = Math.ceil(plan.size / 2 ** 20);
  if (pages > ENGINE_MAXIMUM_PAGES) {
    throw new WherryError(
      "host.memory",
      `the machine needs ${mebibytes} MiB in all, one WebAssembly memory holds at most 4096 MiB: give it less memory`,
    );
  }
  let memory: WasmMemory;
  try {
    memory = createSharedMemory(pages);
  } catch (cause) {
    throw new WherryError("host.memory", `cannot reserve ${mebibytes} MiB of shared memory`, { cause });
  }
  platform.beforeCompile?.();
  const { hasTotalStoreOrder = false } = platform;
  const engine = config.engine ?? platform.defaultEngine ?? DEFAULT_ENGINE;
  const { module, tables } = await engineOf(engine, platform);
  new Uint8Array(memory.buffer, DECODE_TABLES).set(tables);
  const options: TranslationOptions = {
    codeCacheBytes: config.codeCacheBytes ?? DEFAULT_CODE_CACHE_BYTES,
    translateAfter: config.translateAfter ?? DEFAULT_TRANSLATE_AFTER,
    exact: config.icount !== undefined,
    hasTotalStoreOrder,
  };
  new CodeCache(memory.buffer).heat = options.translateAfter;
  return new Vm({
    buffer: memory.buffer,
    vcpuCount: config.vcpuCount,
    blocks: config.blocks,
    builtinFirmware: config.builtinFirmware,
    monotonicNs: platform.clock.monotonicNs,
    icount: config.icount,
    exitPoll:
      platform.exitPollNs === undefined ? undefined : { ns: platform.exitPollNs, defer: platform.defer },
    spawnVcpu: (hart) =>
      platform.spawnVcpu({ module, memory, hart, engine, createdNs: platform.clock.monotonicNs() }),
    ...(engine === "translator"
      ? { spawnTranslator: () => platform.spawnTranslator({ module, memory, options }) }
      : {}),
  });
}

interface Engine extends Pick<EngineParts, "tables"> {
  readonly module: WasmModule;
}

/** The engines of this process: a second machine does not wait for a compilation. */
const engines = new Map<string, Engine>();

async function engineOf(
  kind: EngineKind,
  { builtEngine, hasTotalStoreOrder = false }: Platform,
): Promise<Engine> {
  const key = `${kind},${hasTotalStoreOrder}`;
  const known = engines.get(key);
  if (known !== undefined) return known;
  const { module, tables } = builtEngine?.(kind) ?? (await build(kind, hasTotalStoreOrder));
  const engine = { module: compileModule(module), tables };
  engines.set(key, engine);
  return engine;
}

/** Loads what builds an engine only where none was built before. */
async function build(...options: [EngineKind, boolean]): Promise<EngineParts> {
  const { buildEngine } = await import("../hypervisor/interpreter/engine-module.ts");
  return buildEngine(...options);
}
