// A whole machine on this host: the VM, the VMM's cached vCPU state, and the `virt` board.
import { WherryError } from "../base/errors.ts";
import type { PerfControl } from "../accelerator/perf-report.ts";
import { aclintState } from "../hypervisor/irqchip/aclint.ts";
import type { IcountOptions } from "../hypervisor/requests/instruction-clock.ts";
import { plicState } from "../hypervisor/irqchip/plic.ts";
import { cpuSections, irqchipSection } from "../machines/accelerator-sections.ts";
import { SaveTime } from "../machines/save-time.ts";
import {
  createVirtMachine,
  type RtcOptions,
  type VirtBackends,
  type VirtMachine,
  virtRamBlocks,
} from "../machines/virt.ts";
import { Cpus } from "../vmm/cpus.ts";
import { createVm, type EngineConfig } from "./create-vm.ts";
import type { Platform } from "./platform.ts";
import { seededRandom } from "./seeded-random.ts";
import { unpackKernel } from "./unpack-kernel.ts";

/**
 * What a machine is made of. Both ends of a save and restore or of a move must agree on harts, memory
 * and devices.
 */
export interface MachineConfig extends EngineConfig {
  /** 1 to 32 harts. */
  readonly harts: number;
  /** Bytes of RAM, a multiple of 2 MiB. */
  readonly memoryBytes: number;
  /**
   * What QEMU's -kernel takes, for S-mode (M-mode code goes to `firmware`): a Linux Image, an ELF file, a
   * uImage, or raw code, which starts at 0x80200000 or at the first multiple of 2 MiB after the firmware.
   * gzip, and zstd where the platform has it, are unpacked, also in an EFI zboot image (vmlinuz.efi).
   */
  readonly kernel?: Uint8Array | undefined;
  /** An initial RAM disk, as the kernel takes it. */
  readonly initrd?: Uint8Array | undefined;
  /** Kernel command line. */
  readonly append?: string | undefined;
  /**
   * An image for M-mode, such as OpenSBI. `builtin`: Wherry handles SBI calls itself, which is the default;
   * a machine that arrives with an image of its own then keeps it.
   */
  readonly firmware?: Uint8Array | "builtin" | undefined;
  /**
   * The machine's state arrives by migration: no kernel or device tree is written to its memory. Default:
   * false.
   */
  readonly incoming?: boolean | undefined;
  /**
   * Guest time counts instructions (one hart only), and random values are the same in each run: runs without
   * external input repeat exactly.
   */
  readonly icount?: IcountOptions | undefined;
  /** The real-time clock. Default: the host's time, or with `icount` ICOUNT_EPOCH_NS and guest time. */
  readonly rtc?: RtcOptions | undefined;
  /** virtio-mmio version 1, for drivers from before virtio 1.0. Default: version 2. */
  readonly legacyVirtio?: boolean | undefined;
  /** The extensions in the device tree, in canonical order. Default: all that the harts have. */
  readonly isaExtensions?: readonly string[] | undefined;
}

/** The devices of the machine. */
export type MachineDevices = Pick<VirtBackends, "serial" | "virtio" | "drives" | "shares" | "network">;

/** The real-time clock's default start with `icount`: 2025-01-01. */
export const ICOUNT_EPOCH_NS = BigInt(Date.UTC(2025, 0, 1)) * 1_000_000n;

/**
 * The source of a machine's entropy device: the host's randomness, or with `icount` a repeatable sequence.
 */
export function randomSource(
  { icount }: Pick<MachineConfig, "icount">,
  platform: Pick<Platform, "randomBytes">,
): Platform["randomBytes"] {
  return icount === undefined ? platform.randomBytes : seededRandom();
}

export interface CreatedMachine {
  readonly perf: PerfControl;
  readonly machine: VirtMachine;
  readonly cpus: Cpus;
}

/**
 * Creates the machine in its reset state, not started. Rejects with WherryError (an unusable image, no memory
 * of that size); then nothing is left open. `machine.vm.destroy()` ends it.
 */
export async function createMachine(
  config: MachineConfig,
  devices: MachineDevices,
  platform: Platform,
): Promise<CreatedMachine> {
  const { firmware, initrd, icount, memoryBytes } = config;
  if (config.incoming === true && config.rtc?.baseNs !== undefined) {
    throw new WherryError(
      "machine.rtc",
      "the real-time clock of a machine that arrives shows its own time: leave its start (base) out",
    );
  }
  const kernel = config.kernel && (await unpackKernel(config.kernel, memoryBytes, platform));
  const rtc = icount === undefined ? {} : { baseNs: ICOUNT_EPOCH_NS };
  const vm = await createVm(
    {
      ...config,
      vcpuCount: config.harts,
      blocks: virtRamBlocks(config.memoryBytes),
      builtinFirmware: !(firmware instanceof Uint8Array),
    },
    platform,
  );
  try {
    const cpus = new Cpus(vm);
    // Runs that repeat write streams that do.
    const saveTime = new SaveTime(icount === undefined ? platform.clock.wallNs : undefined);
    const machine = createVirtMachine(
      {
        harts: config.harts,
        memorySize: config.memoryBytes,
        ...(firmware === undefined ? {} : { firmware }),
        ...(kernel === undefined ? {} : { kernel }),
        ...(initrd === undefined ? {} : { initrd }),
        append: config.append ?? "",
        incoming: config.incoming ?? false,
        legacyVirtio: config.legacyVirtio ?? false,
        ...(config.isaExtensions === undefined ? {} : { isaExtensions: config.isaExtensions }),
        rtc: { ...rtc, ...config.rtc },
        countsInstructions: icount !== undefined,
      },
      {
        vm,
        cpus,
        sections: [
          ...cpuSections(cpus),
          irqchipSection(aclintState, vm.aclint),
          irqchipSection(plicState, vm.plic),
        ],
        irqchip: vm,
        saveTime,
      },
      {
        clock: platform.clock,
        setTimer: platform.setTimer,
        randomBytes: randomSource(config, platform),
        defer: platform.defer,
        ...devices,
      },
    );
    await machine.initialize();
    // The threads of a machine that arrives start while its state is read.
    if (config.incoming !== true) await vm.started;
    if (vm.failure !== undefined) throw new WherryError("host.thread", vm.failure);
    return { machine, cpus, perf: vm.perf };
  } catch (error) {
    await vm.destroy();
    throw error;
  }
}
