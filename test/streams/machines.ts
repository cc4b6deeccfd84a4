// The machines that write the streams: QEMU's arguments, the guest that runs until it is stopped, and the
// migration. Together they cover every transport, most device models of QEMU's boards, and every form of a
// stream.
import type { QemuRelease, QemuTarget } from "../../tools/unpacked.ts";

/** Placeholders in the arguments, in braces. */
export type Place = "disk" | "disk2" | "kernel" | "initrd" | "loop" | "aavmf" | "shared" | "folder";

export interface StreamSpec {
  readonly name: string;
  readonly release: QemuRelease;
  readonly target: QemuTarget;
  readonly args: readonly string[];
  /** The guest runs for this many seconds … */
  readonly seconds: number;
  /** … or until its serial console has printed this, within `seconds`. */
  readonly until?: string;
  readonly capabilities?: readonly string[];
  readonly parameters?: Record<string, string | number | boolean>;
  /**
   * How the stream gets into its file: `exec` (cat), `file` (QEMU's own file channel), `live` (as exec, but
   * the guest runs meanwhile, slowed down to several rounds), `relay` (a second QEMU receives; all that is
   * sent is kept, each further connection in a file of its own), `postcopy` (as relay, and postcopy starts
   * after a while). Default: exec.
   */
  readonly by?: "exec" | "file" | "live" | "relay" | "postcopy";
  /** Skipped in CI: too slow, or it needs rights that a user lacks there. */
  readonly extra?: boolean;
}

const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== "");
const drive = (id: string, file: Place): string =>
  `-drive if=none,id=${id},format=raw,file={${file}},snapshot=on`;

const DISKS = `${drive("d0", "disk")} ${drive("d1", "disk2")}`;
const pci = (rest: string, rom = ""): string =>
  `${DISKS} -nodefaults -netdev user,id=n0 -device virtio-blk-pci,drive=d0,serial=first
   -device virtio-scsi-pci,id=s0 -device scsi-hd,bus=s0.0,drive=d1 -device virtio-net-pci,netdev=n0${rom}
   -device virtio-rng-pci -device virtio-serial-pci -device virtconsole,chardev=c0
   -chardev null,id=c0 ${rest}`;

const Q35 = pci(
  `-serial chardev:con -device virtio-balloon-pci -device virtio-keyboard-pci -device virtio-tablet-pci
   -device virtio-gpu-pci -device virtio-vga -device qemu-xhci,id=usb -device usb-kbd,bus=usb.0 -device usb-tablet,bus=usb.0
   -device pcie-root-port,id=rp1,chassis=1,slot=1 -device e1000e,bus=rp1 -device ich9-intel-hda -device hda-duplex,audiodev=a0 -audiodev none,id=a0
   -device virtio-net-pci,disable-modern=on,disable-legacy=off,mq=on,vectors=6 -device i6300esb -device edu
   -device virtio-blk-pci,drive=d2,disable-legacy=on,iommu_platform=on,ats=on,packed=on
   ${drive("d2", "disk2")}`,
);

/** Mmio transports from the first one on, as on Wherry's own board. */
const riscvMmio = (legacy: boolean): string =>
  `-M virt ${legacy ? "" : "-global virtio-mmio.force-legacy=false"} ${DISKS} -nodefaults -serial chardev:con
   -netdev user,id=n0 -device virtio-blk-device,drive=d0 -device virtio-net-device,netdev=n0 -device virtio-rng-device
   -device virtio-serial-device,max_ports=1 -device virtconsole,chardev=c0 -chardev null,id=c0`;
const RISCV_PCI = `-M virt,aia=aplic-imsic ${pci(`-serial chardev:con -device virtio-balloon-pci -device virtio-iommu-pci`, ",romfile=")}`;
const LINUX = "-m 128M -smp 2 -kernel {kernel} -initrd {initrd} -append console=ttyS0";
/** A guest of a few instructions that keeps changing its memory: see dirty-loop.ts. */
const LOOP = "-M virt -m 64M -nodefaults -bios none -kernel {loop}";

function linux(release: QemuRelease): StreamSpec[] {
  const common = { release, target: "riscv64", seconds: 150, until: "wherry:~#" } as const;
  return [
    { ...common, name: `riscv64-${release}-linux-legacy`, args: words(`${riscvMmio(true)} ${LINUX}`) },
    {
      ...common,
      name: `riscv64-${release}-linux-modern`,
      args: words(`${riscvMmio(false)} ${LINUX}`),
      extra: release !== "7.2",
    },
  ];
}

function variants(release: QemuRelease): StreamSpec[] {
  const common = { release, target: "riscv64", args: words(LOOP), seconds: 1 } as const;
  const named = (name: string) => ({ ...common, name: `loop-${release}-${name}` });
  const off = (...names: string[]) =>
    words([LOOP, ...names.map((name) => `-global migration.${name}=off`)].join(" "));
  // Newer releases crash on a description without a configuration.
  const noDescription = (args: string[]) =>
    args.map((arg) => (arg === "virt" ? "virt,suppress-vmdesc=on" : arg));
  const newer: StreamSpec[] = [
    { ...named("mapped-ram"), by: "file", capabilities: ["mapped-ram"] },
    {
      ...named("mapped-ram-multifd"),
      by: "file",
      capabilities: ["mapped-ram", "multifd"],
      parameters: { "multifd-channels": 3 },
    },
    { ...named("file"), by: "file" },
    {
      ...named("mapped-ram-live"),
      by: "file",
      capabilities: ["mapped-ram"],
      seconds: 0,
      parameters: { "max-bandwidth": 50_000_000 },
    },
  ];
  return [
    { ...named("plain") },
    { ...named("no-footers"), args: off("send-section-footer") },
    { ...named("no-configuration"), args: noDescription(off("send-configuration")) },
    { ...named("no-globalstate"), args: off("store-global-state") },
    {
      ...named("bare"),
      args: noDescription(off("send-section-footer", "send-configuration", "store-global-state")),
    },
    { ...named("no-vmdesc"), args: noDescription(words(LOOP)) },
    { ...named("live"), by: "live" },
    {
      ...named("xbzrle"),
      by: "live",
      capabilities: ["xbzrle"],
      parameters: { "xbzrle-cache-size": 2 ** 23 },
    },
    {
      ...named("no-zero"),
      capabilities: [],
      parameters: release === "7.2" ? {} : { "zero-page-detection": "none" },
    },
    {
      ...named("ignore-shared"),
      args: words(
        `${LOOP.replace("-M virt", "-M virt,memory-backend=mem")} -object memory-backend-file,id=mem,size=64M,share=on,mem-path={shared}`,
      ),
      capabilities: ["x-ignore-shared"],
    },
    { ...named("return-path"), by: "relay", capabilities: ["return-path"] },
    { ...named("multifd"), by: "relay", capabilities: ["multifd"], parameters: { "multifd-channels": 2 } },
    {
      ...named("multifd-zstd"),
      by: "relay",
      capabilities: ["multifd"],
      parameters: { "multifd-channels": 2, "multifd-compression": "zstd" },
    },
    { ...named("postcopy"), by: "postcopy", capabilities: ["postcopy-ram"], extra: true },
    { ...named("background-snapshot"), by: "live", capabilities: ["background-snapshot"], extra: true },
    ...(release === "7.2" ? [] : newer),
  ];
}

const others = (release: QemuRelease): StreamSpec[] => [
  {
    name: `x86_64-q35-${release}`,
    release,
    target: "x86_64",
    args: words(
      `-M q35,kernel-irqchip=split -cpu max -smp 2 -m 128M -device intel-iommu,intremap=on,device-iotlb=on,caching-mode=on ${Q35}`,
    ),
    seconds: 6,
  },
  {
    name: `x86_64-pc-${release}`,
    release,
    target: "x86_64",
    args: words(
      `-M pc -smp 2 -m 64M -serial chardev:con -hda {disk} -snapshot -netdev user,id=n0 -device e1000,netdev=n0 -device virtio-net-pci,netdev=n1 -netdev user,id=n1
       -device virtio-balloon-pci -usb -device usb-tablet -device sb16,audiodev=a0 -audiodev none,id=a0 -device pvpanic -device rtl8139 -device lsi53c895a -device am53c974 -device piix3-usb-uhci -device usb-ehci
       -device vmxnet3 -device cirrus-vga`,
    ),
    seconds: 6,
  },
  {
    name: `x86_64-pc-7.2-by-${release}`,
    release,
    target: "x86_64",
    args: words(
      `-M pc-i440fx-7.2 -m 64M -serial chardev:con -netdev user,id=n0 -device virtio-net-pci,netdev=n0`,
    ),
    seconds: 4,
  },
  {
    name: `x86_64-microvm-${release}`,
    release,
    target: "x86_64",
    args: words(
      `-M microvm -m 64M -nodefaults -serial chardev:con ${DISKS} -netdev user,id=n0 -device virtio-blk-device,drive=d0 -device virtio-net-device,netdev=n0 -device virtio-scsi-device -device scsi-hd,drive=d1 -device virtio-rng-device`,
    ),
    seconds: 4,
  },
  {
    name: `aarch64-virt-${release}`,
    release,
    target: "aarch64",
    args: words(
      `-M virt,gic-version=3,its=on,iommu=smmuv3,virtualization=on -cpu max -smp 2 -m 128M
       -drive if=pflash,format=raw,readonly=on,file={aavmf} ${pci("-serial chardev:con -device ramfb -device nec-usb-xhci -device virtio-balloon-pci")}`,
    ),
    seconds: 20,
  },
  {
    name: `aarch64-virt-gicv2-${release}`,
    release,
    target: "aarch64",
    args: words(`-M virt,gic-version=2 -cpu cortex-a57 -m 64M -nodefaults -serial chardev:con
       ${DISKS} -device virtio-blk-device,drive=d0 -device virtio-scsi-device -device scsi-hd,drive=d1`),
    seconds: 1,
  },
  {
    name: `s390x-ccw-${release}`,
    release,
    target: "s390x",
    args: words(
      `-M s390-ccw-virtio -action panic=pause -smp 2 -m 128M ${DISKS} -nodefaults -netdev user,id=n0 -device virtio-blk-ccw,drive=d0 -device virtio-net-ccw,netdev=n0
       -device virtio-scsi-ccw,id=s0 -device scsi-hd,bus=s0.0,drive=d1 -device virtio-rng-ccw -device virtio-serial-ccw -device virtconsole,chardev=con
       -device virtio-balloon-ccw -device sclpconsole,chardev=c0 -chardev null,id=c0`,
    ),
    seconds: 4,
  },
  {
    name: `ppc64-pseries-${release}`,
    release,
    target: "ppc64",
    args: words(
      `-M pseries -smp 2 -m 256M ${pci("-serial chardev:con -device nec-usb-xhci -device spapr-vscsi")}`,
    ),
    seconds: 12,
  },
  {
    name: `riscv64-pci-${release}`,
    release,
    target: "riscv64",
    args: words(`${RISCV_PCI} -m 64M`),
    seconds: 2,
  },
  {
    name: `riscv64-cpu-max-${release}`,
    release,
    target: "riscv64",
    args: words(`-M virt -cpu max -m 64M -nodefaults -serial chardev:con`),
    seconds: 2,
  },
];

/** Machine types of old releases, whose streams lack later additions. */
function old(version: string): StreamSpec {
  const [, minor = 0] = version.split(".").map(Number);
  return {
    name: `x86_64-pc-${version}-by-7.2`,
    release: "7.2",
    target: "x86_64",
    // 2.4 added footers and the configuration.
    args: words(`-M pc-i440fx-${version}${minor < 4 ? ",suppress-vmdesc=off" : ""} -m 64M -serial chardev:con
      -netdev user,id=n0 -device virtio-net-pci,netdev=n0 ${drive("d0", "disk")} -device virtio-blk-pci,drive=d0`),
    seconds: 4,
    extra: true,
  };
}

/** 7.2 lacks some of them, and describes arrays with null pointers (Arm's, s390x's) wrongly. */
const OLD_OTHERS = others("7.2").filter(({ target }) => target === "x86_64" || target === "ppc64");

export const SPECS: readonly StreamSpec[] = [
  ...others("10.0"),
  ...[...OLD_OTHERS, ...others("11.1")].map((spec) => ({ ...spec, extra: true })),
  ...["2.0", "2.3", "2.12", "5.2"].map(old),
  ...(["7.2", "10.0", "11.1"] as const).flatMap((release) => [...linux(release), ...variants(release)]),
];
