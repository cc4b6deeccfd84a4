// Which of QEMU's options make the device whose state a section has, by the section's name (idstr): a path on
// the buses, if the device is on one, and the name of the device's state.
import { isVirtioType, virtioType } from "../decode/virtio-devices.ts";

/** Options by name of the state. `$at` stands for bus and address. */
const OPTIONS: Readonly<Record<string, string>> = {
  // Buses and their devices.
  "virtio-console": "-device virtio-serial-pci$at",
  "virtio-serial": "-device virtio-serial-pci$at",
  "virtio-gpu": "-device virtio-gpu-pci$at (or virtio-vga, virtio-gpu-gl-pci)",
  "virtio-gpu-virgl": "-device virtio-gpu-gl-pci$at",
  "virtio-input": "-device virtio-keyboard-pci$at (or virtio-tablet-pci, virtio-mouse-pci)",
  "virtio-hid": "-device virtio-keyboard-pci$at (or virtio-tablet-pci, virtio-mouse-pci)",
  "virtio-9p": "-virtfs local,… (-device virtio-9p-pci$at)",
  "virtio-sound": "-device virtio-sound-pci$at",
  "virtio-iommu": "-device virtio-iommu-pci$at",
  "vhost-vsock": "-device vhost-vsock-pci$at,guest-cid=N",
  "virtio-vhost_vsock": "-device vhost-vsock-pci$at,guest-cid=N",
  "vhost-user-fs": "-device vhost-user-fs-pci$at",
  "vhost-user-blk": "-device vhost-user-blk-pci$at",
  "vhost-scsi": "-device vhost-scsi-pci$at",
  "usb-ptr": "-device usb-tablet$at (or usb-mouse)",
  "usb-kbd": "-device usb-kbd$at",
  "usb-hub": "-device usb-hub$at",
  "usb-storage": "-device usb-storage$at",
  "usb-redir": "-device usb-redir$at",
  "usb-host": "-device usb-host$at",
  "usb-ccid": "-device usb-ccid$at",
  "usb-serial": "-device usb-serial$at",
  "usb-audio": "-device usb-audio$at",
  "usb-wacom": "-device usb-wacom-tablet$at",
  "scsi-disk": "-device scsi-hd$at (or scsi-cd)",
  "scsi-generic": "-device scsi-generic$at",
  xhci: "-device qemu-xhci$at (or nec-usb-xhci)",
  ehci: "-device usb-ehci$at",
  "ich9-ehci-usb": "-device ich9-usb-ehci1$at",
  uhci: "-device piix3-usb-uhci$at (or ich9-usb-uhci1 to 6)",
  ohci: "-device pci-ohci$at",
  "piix3-usb-uhci": "-usb, or -M …,usb=on",
  "pcie-root-port": "-device pcie-root-port$at",
  "pcie-root-port-base": "-device pcie-root-port$at",
  "ioh-3240-express-root-port": "-device ioh3420$at",
  "xio3130-express-upstream-port": "-device x3130-upstream$at",
  "xio3130-express-downstream-port": "-device xio3130-downstream$at",
  "pcie-pci-bridge": "-device pcie-pci-bridge$at",
  pci_bridge: "-device pci-bridge,chassis_nr=N$at",
  i82801b11_bridge: "-device i82801b11-bridge$at",
  pxb: "-device pxb$at",
  e1000: "-device e1000$at",
  e1000e: "-device e1000e$at",
  igb: "-device igb$at",
  rtl8139: "-device rtl8139$at",
  vmxnet3: "-device vmxnet3$at",
  tulip: "-device tulip$at",
  pcnet: "-device pcnet$at",
  ne2000: "-device ne2k_pci$at",
  i82550: "-device i82550$at",
  i82559er: "-device i82559er$at",
  vga: "-vga std (-device VGA$at)",
  "secondary-vga": "-device secondary-vga$at",
  "bochs-display": "-device bochs-display$at",
  qxl: "-vga qxl (-device qxl-vga$at; a second display: -device qxl)",
  cirrus_vga: "-vga cirrus (-device cirrus-vga$at)",
  vmware_vga: "-vga vmware (-device vmware-svga$at)",
  "virtio-vga": "-device virtio-vga$at",
  ati_vga: "-device ati-vga$at",
  ramfb: "-device ramfb",
  "intel-hda": "-device intel-hda$at (or ich9-intel-hda)",
  "hda-audio": "-device hda-duplex (or hda-output, hda-micro) with -audiodev",
  ac97: "-device AC97$at with -audiodev",
  es1370: "-device ES1370$at with -audiodev",
  sb16: "-device sb16 with -audiodev",
  audio: "a sound device with -audiodev",
  ich9_ahci: "-device ich9-ahci$at",
  ahci: "-device ahci$at",
  lsiscsi: "-device lsi53c895a$at",
  mptsas: "-device mptsas1068$at",
  megasas: "-device megasas$at",
  "megasas-gen2": "-device megasas-gen2$at",
  pvscsi: "-device pvscsi$at",
  esp: "-device am53c974$at",
  nvme: "-device nvme,serial=S$at",
  sdhci: "-device sdhci-pci$at",
  i6300esb_wdt: "-device i6300esb$at (-watchdog i6300esb)",
  ib700: "-device ib700",
  ivshmem: "-device ivshmem-plain$at (or ivshmem-doorbell)",
  "ivshmem-plain": "-device ivshmem-plain$at",
  "ivshmem-doorbell": "-device ivshmem-doorbell$at",
  "pci-serial": "-device pci-serial$at",
  pvpanic: "-device pvpanic",
  "pci-testdev": "-device pci-testdev$at",
  edu: "-device edu$at",
  "vfio-pci": "-device vfio-pci$at",
  // x86 boards.
  hpet: "-M …,hpet=on (libvirt: <timer name='hpet' present='yes'/>)",
  vmmouse: "-M …,vmport=on and the i8042 controller (libvirt: <vmport state='on'/>)",
  vmport: "-M …,vmport=on (libvirt: <vmport state='on'/>)",
  apic: "-smp with more CPUs, or the CPUs that were hot-plugged (device_add)",
  cpu_common: "-smp with more CPUs, or the CPUs that were hot-plugged (device_add)",
  cpu: "-smp with more CPUs, or the CPUs that were hot-plugged (device_add)",
  kvmclock: "-accel kvm: it is the clock of a guest under KVM, and a target with TCG has none",
  "kvm-tpr-opt": "-accel kvm, with the in-kernel APIC",
  i8254: "-M …,pit=on",
  pit: "-M …,pit=on",
  i8259: "-M …,pic=on",
  ioapic: "-M …,kernel-irqchip=on, off or split as on the source",
  fdc: "-device isa-fdc, or a machine type with a floppy controller",
  "isa-fdc": "-device isa-fdc",
  serial: "-serial … or -device isa-serial (-nodefaults takes it away)",
  parallel_isa: "-parallel … or -device isa-parallel",
  pckbd: "-M …,i8042=on (QEMU 7.1 and newer)",
  ps2kbd: "-M …,i8042=on (QEMU 7.1 and newer)",
  ps2mouse: "-M …,i8042=on (QEMU 7.1 and newer)",
  vmgenid: "-device vmgenid",
  vmcoreinfo: "-device vmcoreinfo (libvirt: <features><vmcoreinfo state='on'/>)",
  "tpm-crb": "-tpmdev … and -device tpm-crb,tpmdev=… (libvirt: <tpm model='tpm-crb'>)",
  "tpm-tis": "-tpmdev … and -device tpm-tis,tpmdev=… (libvirt: <tpm model='tpm-tis'>)",
  "tpm-tis-device": "-tpmdev … and -device tpm-tis-device,tpmdev=…",
  "tpm-spapr": "-tpmdev … and -device tpm-spapr,tpmdev=…",
  "tpm-emulator": "-tpmdev emulator,… with swtpm",
  "smbus-eeprom": "-M …,smbus=on",
  pm_smbus: "-M …,smbus=on",
  "sgx-epc": "-M …,sgx-epc.0.memdev=…",
  "intel-iommu": "-device intel-iommu",
  vtd: "-device intel-iommu",
  "amd-iommu": "-device amd-iommu",
  "ipmi-bmc-sim": "-device ipmi-bmc-sim,id=… and an interface (isa-ipmi-kcs, isa-ipmi-bt)",
  "isa-ipmi-kcs": "-device isa-ipmi-kcs",
  "isa-ipmi-bt": "-device isa-ipmi-bt",
  pflash_cfi01: "-drive if=pflash,… or -M …,pflash0=… (libvirt: <loader type='pflash'>)",
  nvdimm: "-M …,nvdimm=on with -device nvdimm",
  "pc-dimm": "-object memory-backend-…,id=M and -device pc-dimm,memdev=M, with -m …,slots=N,maxmem=SIZE",
  "acpi-ghes": "-M …,ras=on",
  // Arm boards.
  arm_gic: "-M virt,gic-version=2",
  arm_gic_common: "-M virt,gic-version=2",
  arm_gicv3: "-M virt,gic-version=3",
  arm_gicv3_its: "-M virt,its=on with gic-version=3 or 4",
  smmuv3: "-M virt,iommu=smmuv3",
  smmu: "-M virt,iommu=smmuv3",
  pl011: "-serial …; in a guest with TrustZone the second one too (-M virt,secure=on)",
  pl061: "a machine type with GPIO (-M virt), or -M virt,secure=on",
  pl031: "-M virt",
  "gpio-key": "-M virt with ACPI off",
  // POWER.
  "xive-source": "-M pseries,ic-mode=xive or dual, as on the source",
  "xive-tctx": "-M pseries,ic-mode=xive or dual, as on the source",
  "spapr-xive": "-M pseries,ic-mode=xive or dual, as on the source",
  ics: "-M pseries,ic-mode=xics or dual, as on the source",
  icp: "-M pseries,ic-mode=xics or dual, and as many CPUs (-smp)",
  spapr_pci: "-device spapr-pci-host-bridge,index=N",
  "spapr/htab":
    "a hash-table guest: -M pseries with max-cpu-compat as on the source, and KVM of the same kind",
  spapr_llan: "-device spapr-vlan",
  spapr_vscsi: "-device spapr-vscsi",
  spapr_nvram: "-M pseries",
  // s390x.
  s390_css:
    "-M s390-ccw-virtio-2.10 or a newer version: older ones, and some early builds, have no such section",
  "s390-sclpevent": "-M s390-ccw-virtio of the source's version",
  s390_skeys: "-M s390-ccw-virtio of the source's version",
  "s390-stattrib": "-M s390-ccw-virtio of the source's version, with KVM and cmma",
  "s390-zpci": "-device zpci",
  // RISC-V and LoongArch.
  riscv_sifive_plic: "-M virt,aia=none",
  riscv_aplic: "-M virt,aia=aplic or aplic-imsic",
  riscv_imsic: "-M virt,aia=aplic-imsic",
  riscv_aclint_mtimer: "-M virt,aclint=… as on the source",
  "riscv-iommu": "-device riscv-iommu-pci or -M virt,iommu-sys=on",
  loongarch_extioi: "-M virt with the source's kernel-irqchip",
  // What is no device.
  slirp: "-netdev user (or -nic user)",
  "dirty-bitmap": "the capability dirty-bitmaps on the target (migrate-set-capabilities)",
  block:
    "disk migration without QEMU's block migration (it was removed in 9.1): drive-mirror to an NBD server",
  ram: "a QEMU that saves RAM",
  "dbus-vmstate": "-object dbus-vmstate,id=…,addr=…",
  vfio: "-device vfio-pci",
  globalstate: "a machine type of 2.4 or newer",
  configuration: "a machine type of 2.4 or newer",
  cpr: "a target that runs the same mode of migration (-M aux-ram-share=on)",
  colo: "the capability x-colo on both sides",
  "pbs-state":
    "Proxmox VE's QEMU: it adds this section (the state of backups to a Proxmox Backup Server); upgrade the target's pve-qemu-kvm to at least the source's version",
};

/** Where a section's device is, and what it is. */
interface Place {
  readonly type: string;
  readonly at: string;
  readonly words: string;
}

/** Domain, bus and slots of a PCI device: behind a bridge, one slot for each bridge and for the device. */
const PCI = /^([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2}\.[0-7](?::[0-9a-f]{2}\.[0-7])*)(?:\/(.*))?\/([^/]+)$/i;

function placeOf(idstr: string): Place {
  const [, , root = "00", slots = "", on, type] = PCI.exec(idstr) ?? [];
  if (type === undefined) {
    return { type: idstr.slice(idstr.lastIndexOf("/") + 1), at: "", words: "" };
  }
  const path = slots.split(":");
  const slot = path.at(-1) ?? "";
  const bridge = path.at(-2);
  const bus =
    bridge === undefined ? (root === "00" ? "" : `,bus=(bus 0x${root})`) : `,bus=(the port at ${bridge})`;
  if (on === undefined) {
    return { type, at: `${bus},addr=${slot}`, words: ` at PCI address ${path.join(" → ")}` };
  }
  const inner = on.split(":");
  const unit =
    inner.length === 3
      ? `,channel=${inner[0]},scsi-id=${inner[1]},lun=${inner[2]}`
      : /^\d+(\.\d+)*$/.test(on)
        ? `,port=${on}`
        : "";
  return {
    type,
    at: `,bus=(the controller at ${slot})${unit}`,
    words: ` at ${on} of the controller at PCI address ${path.join(" → ")}`,
  };
}

/** The option that makes the device of a section; undefined if it is not known. */
export function deviceOption(idstr: string): string | undefined {
  const { type, at } = placeOf(idstr);
  const known = OPTIONS[type] ?? OPTIONS[idstr] ?? OPTIONS[type.replace(/_/g, "-")];
  if (known !== undefined) return known.replace("$at", at);
  if (!/^(virtio|vhost-user|vhost)-/.test(type) || !isVirtioType(virtioType(type))) return undefined;
  return at === "" && idstr.includes("/") ? `-device ${type}-device` : `-device ${type}-pci${at}`;
}

/** A section's device in words: `virtio-blk at PCI address 05.0`. */
export function deviceWords(idstr: string): string {
  const { type, words } = placeOf(idstr);
  return `${type}${words}`;
}

/** The option that makes the RAM block of a name; undefined if it is not known. */
export function blockOption(block: string): string | undefined {
  const pci =
    /^([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f.:]+)\/(.+?)(?:\.(rom|vram|vga\.vram|bar\d|ram|rom_bar|mmio|msix))?$/i.exec(
      block,
    );
  if (pci !== null) {
    const type = pci[2] === "vga" ? "vga" : (pci[2] ?? "").replace(/-pci$/, "");
    return deviceOption(`${pci[1]}/${type}`);
  }
  return BLOCKS.find(([pattern]) => pattern.test(block))?.[1];
}
const BLOCKS: readonly (readonly [RegExp, string])[] = [
  [/^\/rom@etc\/acpi|^\/rom@etc\/table-loader/, "-M …,acpi=on"],
  [
    /dimm|^mem\d|nvdimm/i,
    "-object memory-backend-…,id=NAME and -device pc-dimm,memdev=NAME, also for memory that was hot-plugged",
  ],
  [
    /^(pc|mach-virt|ppc_spapr|s390|riscv_virt_board|loongarch)\S*\.ram$|^ram-node|^pc\.ram/,
    "-M …,memory-backend=NAME or -m, with the same kind of board (the name of its memory is the board's)",
  ],
  [/flash/, "-drive if=pflash,unit=N,… (libvirt: <loader type='pflash'> and <nvram>)"],
  [/pc\.bios|\.bios$|pc\.rom|isa-bios/, "the source's machine type and -bios"],
  [/vga\.vram|^vga/, "-vga std"],
  [/qxl/, "-vga qxl"],
  [/ramfb/, "-device ramfb"],
  [/tpm|ppi/, "-device tpm-tis or tpm-crb"],
  [/vmcoreinfo|vmgenid/, "-device vmcoreinfo, -device vmgenid"],
  [/virtio-mem|vmem/, "-device virtio-mem-pci,memdev=NAME"],
  [/ivshmem|shmmem/, "-device ivshmem-plain,memdev=NAME"],
];
