// The services that a platform (Node, a browser's page, another runtime) provides. The machine made from them
// is the same on all platforms.
import type { Clock, SetTimer } from "../base/clock.ts";
import type { EngineParts } from "../hypervisor/interpreter/engine-parts.ts";
import type { EngineKind } from "../hypervisor/shared/engine-kind.ts";
import type { ThreadHandle } from "../hypervisor/vm/vm.ts";
import type { PackedFormat } from "../machines/boot/packed-kernel.ts";
import type { TranslatorThreadData } from "./run-translator.ts";
import type { VcpuThreadData } from "./run-vcpu.ts";

/**
 * What a platform (Node, a browser's page, another runtime) gives Wherry: clocks, timers, randomness,
 * threads.
 */
export interface Platform {
  /** `monotonicNs` has the same origin in the VMM thread and all vCPU threads. */
  readonly clock: Clock;
  readonly setTimer: SetTimer;
  readonly randomBytes: (length: number) => Uint8Array<ArrayBuffer>;
  /** Runs a task soon, after pending events of the VMM thread. */
  readonly defer: (task: () => void) => void;
  /** Starts a thread that calls `runVcpu` with this data, which can be posted. */
  readonly spawnVcpu: (data: VcpuThreadData) => ThreadHandle;
  /** Starts a thread that calls `runTranslator` with this data, which can be posted. */
  readonly spawnTranslator: (data: TranslatorThreadData) => ThreadHandle;
  /** The engine of a machine whose options do not name one. Default: the hypervisor's. */
  readonly defaultEngine?: EngineKind | undefined;
  /**
   * The processor reorders only a store with a later load, as x86 does. Default: false, which is right
   * everywhere: each guest fence is then a full one.
   */
  readonly hasTotalStoreOrder?: boolean | undefined;
  /**
   * Decompresses a kernel, to at most `maxBytes`; resolves with undefined if the platform does not have the
   * format. Default: none, so kernels must be given uncompressed.
   */
  readonly unpack?:
    | ((format: PackedFormat, bytes: Uint8Array, maxBytes: number) => Promise<Uint8Array | undefined>)
    | undefined;
  /**
   * How long the VMM thread looks for the next exit of a vCPU before it returns to its event loop, in ns,
   * where exits follow each other closely. Default: not at all, which is right where there is one core.
   */
  readonly exitPollNs?: number | undefined;
  /** An engine that was built beforehand, for this processor. Default: each process builds its own. */
  readonly builtEngine?: ((kind: EngineKind) => EngineParts | undefined) | undefined;
  /** Called before the first WebAssembly module is compiled, to configure the platform's compiler. */
  readonly beforeCompile?: (() => void) | undefined;
}

/** The former name of `Platform`. */
export type HostPlatform = Platform;
