// A whole machine on this host: the VM, the VMM's copy of its vCPUs, and the `virt` board around them.
import { aclintState } from "../hypervisor/aclint.ts";
import { plicState } from "../hypervisor/plic.ts";
import { cpuSections, irqchipSection } from "../machines/accelerator-sections.ts";
import { identitySection } from "../machines/identity-section.ts";
import { createVirtMachine, type VirtBackends, type VirtMachine, virtRamBlocks } from "../machines/virt.ts";
import { Cpus } from "../vmm/cpus.ts";
import { createVm, type EngineConfig } from "./create-vm.ts";
import type { HostPlatform } from "./platform.ts";

export interface MachineConfig extends EngineConfig {
  /** 1 to 32 harts. */
  readonly harts: number;
  /** Bytes of RAM, a multiple of 2 MiB. */
  readonly memoryBytes: number;
  /** Linux Image (not compressed) or ELF. */
  readonly kernel?: Uint8Array | undefined;
  readonly initrd?: Uint8Array | undefined;
  /** Kernel command line. */
  readonly append?: string | undefined;
  /** An image for M-mode, such as OpenSBI. Default: Wherry answers SBI calls itself. */
  readonly firmware?: Uint8Array | undefined;
  /** The machine's state arrives: it starts with neither kernel nor device tree in its memory. Default: false. */
  readonly incoming?: boolean | undefined;
  /** virtio-mmio version 1, for drivers from before virtio 1.0. Default: version 2. */
  readonly legacyVirtio?: boolean | undefined;
}

/** What is plugged in. */
export type MachineDevices = Pick<VirtBackends, "serial" | "virtio" | "drives">;

export interface CreatedMachine {
  readonly machine: VirtMachine;
  readonly cpus: Cpus;
}

/**
 * Makes the machine in its reset state, not started. Rejects with WherryError (an unusable image, no memory of that
 * size); nothing is left then. `machine.vm.destroy()` ends it.
 */
export async function createMachine(
  config: MachineConfig,
  devices: MachineDevices,
  platform: HostPlatform,
): Promise<CreatedMachine> {
  const { firmware, kernel, initrd } = config;
  const vm = createVm(
    {
      ...config,
      vcpuCount: config.harts,
      blocks: virtRamBlocks(config.memoryBytes),
      builtinFirmware: firmware === undefined,
    },
    platform,
  );
  try {
    const cpus = new Cpus(vm);
    const machine = createVirtMachine(
      {
        harts: config.harts,
        memorySize: config.memoryBytes,
        firmware: firmware ?? "builtin",
        ...(kernel === undefined ? {} : { kernel }),
        ...(initrd === undefined ? {} : { initrd }),
        append: config.append ?? "",
        incoming: config.incoming ?? false,
        legacyVirtio: config.legacyVirtio ?? false,
      },
      {
        vm,
        cpus,
        sections: [
          identitySection({ harts: config.harts, builtinFirmware: vm.builtinFirmware }),
          ...cpuSections(cpus),
          irqchipSection(aclintState, vm.aclint),
          irqchipSection(plicState, vm.plic),
        ],
      },
      {
        clock: platform.clock,
        setTimer: platform.setTimer,
        randomBytes: platform.randomBytes,
        defer: platform.defer,
        ...devices,
      },
    );
    await machine.initialize();
    return { machine, cpus };
  } catch (error) {
    await vm.destroy();
    throw error;
  }
}
