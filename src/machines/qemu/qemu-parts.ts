// What the profiles need of the board: the machine, its controllers' state, and devices by what their other
// side must match.
import type { IrqchipPort } from "../../accelerator/accelerator.ts";
import type { Cpus } from "../../vmm/cpus.ts";
import type { Machine } from "../../vmm/machine.ts";

/**
 * State of the interrupt controllers as the hypervisor half has it (src/hypervisor/irqchip/plic.ts,
 * aclint.ts).
 */
export interface PlicPortState {
  numSources: number;
  numContexts: number;
  numEnableWords: number;
  numBitWords: number;
  sourcePriority: Uint32Array;
  targetPriority: Uint32Array;
  pending: Uint32Array;
  claimed: Uint32Array;
  enable: Uint32Array;
  level: Uint32Array;
}
interface AclintPortState {
  numHarts: number;
  timecmp: BigUint64Array;
  msip: Uint32Array;
}
export interface Irqchip {
  readonly plic: IrqchipPort<PlicPortState>;
  readonly aclint: IrqchipPort<AclintPortState>;
}

/** A virtio device as the command lines and refusals need it. */
export interface QemuVirtio {
  /** `virtio-blk`, … */
  readonly kind: string;
  /** The device's own size of each queue. */
  readonly queues: readonly number[];
  /** What the driver has chosen. */
  readonly queueSizes: () => readonly number[];
  readonly offeredFeatures: bigint;
  readonly guestFeatures: () => bigint;
}

export interface QemuParts {
  readonly machine: Machine;
  readonly cpus: Cpus;
  readonly irqchip: Irqchip;
  readonly memorySize: number;
  /** What guests that start here are told of. */
  readonly isaExtensions: readonly string[];
  readonly legacyVirtio: boolean;
  /** What the real-time clock follows: QEMU's follows the host. */
  readonly rtcClock: "host" | "vm";
  readonly virtio: readonly QemuVirtio[];
  readonly fwCfg: { curEntry: number; curOffset: number; dmaAddr: bigint };
  /** The UART's timer is in guest time; call `update` after it was changed. */
  readonly serial: { readonly state: { fifoTimeoutTimer: bigint }; update(): void };
}
