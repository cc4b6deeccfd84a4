// What devices compare or limit in their own code after their state was read, so that no message of QEMU
// names it: the usual causes, by the section's name.
import type { Explanation } from "./complaint-formats.ts";
import { CHECK } from "./complaint-formats.ts";

const OWN_CHECKS: readonly (readonly [RegExp, string, string])[] = [
  [
    /(^|\/)cpu$|^cpu$/,
    "the CPU refused its registers: another CPU model or feature (Arm: a register or a number of registers that this CPU does not have, or another value of one that is fixed; pmu=, sve=, el2, el3)",
    "use the same -cpu with the same properties (and the same -M secure=, virtualization=) on both sides, with KVM the same kind of host",
  ],
  [
    /virtio-(console|serial)$/,
    "the virtio-serial device has other ports than the saved one: fewer, others, or a smaller max_ports",
    "give the target the same ports (-device virtserialport or virtconsole with the same nr=, and max_ports=)",
  ],
  [
    /virtio-net/,
    "virtio-net's features, queues or lengths do not fit: another backend (offloads, vnet_hdr), mq, queue sizes, or a transport with other properties",
    "give both sides the same -netdev (tap or user, vhost, queues=) and device properties (mq, rx_queue_size, tx_queue_size, disable-legacy)",
  ],
  [
    /virtio-(blk|scsi)/,
    "the disk's queues or features do not fit: num-queues, queue-size, or properties of the transport",
    "give both sides the same num-queues, queue-size, iothread and transport properties, and the same machine type",
  ],
  [
    /virtio-gpu|virtio-vga/,
    "the GPU's outputs or resources do not fit: max_outputs, xres, yres, hostmem, blob",
    "give both sides the same max_outputs, hostmem, blob and edid; virgl and blob resources cannot be migrated",
  ],
  [
    /virtio-/,
    "the virtio device's features, queues or configuration do not fit: other properties, another backend or machine type",
    "give the device the same properties, backend and machine type on both sides",
  ],
  [
    /root-port|bridge|downstream|upstream/,
    "the port's configuration space differs: another kind of port, chassis, slot, or hotplug",
    "give the port the same type and properties (chassis, slot, hotplug, x-speed, x-width) on both sides",
  ],
  [
    /(^|\/)spapr/,
    "the machine's capabilities do not fit",
    "start both sides with the same -M pseries,cap-…=… and max-cpu-compat",
  ],
  [
    /(^|\/)ram$/,
    "the target's RAM does not fit: another size, name or kind of a block, or a damaged list of blocks",
    "give both sides the same -m, memory backends, firmware and devices with memory",
  ],
  [
    /e1000e?|igb|rtl8139|vmxnet3/,
    "the network card's state does not fit: other properties (subsys_ven, subsys, init-vet), queues or machine type",
    "give the card the same properties and machine type on both sides",
  ],
  [
    /ahci|ide|scsi|nvme/,
    "the controller's ports, slots or requests do not fit",
    "give both sides the same drives at the same ports",
  ],
  [
    /usb|hci/,
    "the USB controller's ports or devices do not fit",
    "give both sides the same controller, ports and devices (port=)",
  ],
  [
    /gic|apic|xive|xics|plic|imsic/,
    "the interrupt controller has other interrupts or CPUs",
    "give both sides the same -smp, -M gic-version= (or aia=, ic-mode=) and kernel-irqchip",
  ],
  [
    /qxl|vga/,
    "the display has other sizes of memory or another revision",
    "give it the same vgamem_mb, ram_size_mb, vram_size_mb and revision on both sides",
  ],
  [
    /fw_cfg/,
    "the firmware's table of files is larger, or in another order",
    "use the same machine type, firmware and -fw_cfg files on both sides",
  ],
  [/pflash|flash/, "the flash has another size or layout", "give both sides flash images of the same size"],
  [
    /tpm/,
    "the TPM's state does not fit, or swtpm refused it",
    "run the same version of swtpm, with the same TPM version, on both sides",
  ],
];

/** Cause and cure of a refusal; empty for a device without usual ones. */
export function ownCheck(device: string): Explanation {
  const known = OWN_CHECKS.find(([pattern]) => pattern.test(device));
  if (known === undefined) return {};
  return { cause: known[1], cure: `${known[2]}; ${CHECK}` };
}
