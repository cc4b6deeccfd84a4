// The parts of the board that the profiles need: the machine, its controllers' state, and the devices'
// properties that must match on the other side.
import type { IrqchipPort } from "../../accelerator/accelerator.ts";
import type { Cpus } from "../../vmm/cpus.ts";
import type { Machine } from "../../vmm/machine.ts";
import type { BootImages } from "../boot/boot-block.ts";

/**
 * State of the interrupt controllers, as defined in the hypervisor half (src/hypervisor/irqchip/plic.ts,
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

/** A virtio device, for command lines and refusals. */
export interface QemuVirtio {
  /** Such as `virtio-blk`. */
  readonly kind: string;
  /** Largest size of each queue. */
  readonly queues: readonly number[];
  /** Queue sizes that the driver has chosen. */
  readonly queueSizes: () => readonly number[];
  readonly offeredFeatures: bigint;
  readonly guestFeatures: () => bigint;
  /** Names of serial ports; undefined for a console. */
  readonly ports: readonly string[] | undefined;
}

export interface QemuParts {
  readonly machine: Machine;
  readonly cpus: Cpus;
  readonly irqchip: Irqchip;
  readonly memorySize: number;
  /** Extensions that guests which start here are told of. */
  readonly isaExtensions: readonly string[];
  readonly legacyVirtio: boolean;
  /** Time base of the real-time clock. QEMU's follows the host. */
  readonly rtcClock: "host" | "vm";
  readonly virtio: readonly QemuVirtio[];
  /** Tags of the shares that the guest has mounted. */
  mountedShares(): readonly string[];
  /** What a reset boots. */
  images(): BootImages;
  readonly fwCfg: { curEntry: number; curOffset: number; dmaAddr: bigint };
  /** The UART's timer is in guest time. Call `update` after a change. */
  readonly serial: { readonly state: { fifoTimeoutTimer: bigint }; update(): void };
  /** The real-time clock's state is QEMU's. In ns: QEMU's virtual clock, and guest time here. */
  rtcLoaded(virtual: bigint, guestTime: bigint): void;
}
