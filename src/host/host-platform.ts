// What a host (Node, a browser tab, another runtime) gives Wherry. Everything above it is the same code on all hosts.
import type { Clock, SetTimer } from "../base/clock.ts";
import type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
import type { ThreadHandle } from "../hypervisor/vm/vm.ts";
import type { TranslatorThreadData } from "./run-translator.ts";
import type { VcpuThreadData } from "./run-vcpu.ts";

/**
 * What a host (Node, a browser's page, another runtime) gives Wherry: clocks, timers, randomness, threads.
 */
export interface HostPlatform {
  /** `monotonicNs` has one origin in the VMM's thread and all vCPU threads. */
  readonly clock: Clock;
  readonly setTimer: SetTimer;
  readonly randomBytes: (length: number) => Uint8Array<ArrayBuffer>;
  /** Run a task soon, after other events of the VMM thread had their turn. */
  readonly defer: (task: () => void) => void;
  /** Start a thread that calls `runVcpu` with this data. The data can be posted as it is. */
  readonly spawnVcpu: (data: VcpuThreadData) => ThreadHandle;
  /** Start a thread that calls `runTranslator` with this data. The data can be posted as it is. */
  readonly spawnTranslator: (data: TranslatorThreadData) => ThreadHandle;
  /** The engine of a machine whose options name none. Default: the hypervisor's. */
  readonly defaultEngine?: EngineKind | undefined;
  /** Called before the first WebAssembly module is compiled: set up the host's compiler. */
  readonly beforeCompile?: (() => void) | undefined;
}
