// The command lines that start equivalent machines in QEMU and in Wherry.
import { keptHart } from "./qemu-kept.ts";
import type { QemuParts, QemuVirtio } from "./qemu-parts.ts";
import type { Release } from "./qemu-releases.ts";

const MIB = 1024 * 1024;
const VIRTIO_BLK_F_RO = 1n << 5n;

export function commandLines(
  parts: QemuParts,
  release: Release,
): { qemu: readonly string[]; wherry: readonly string[] } {
  return { qemu: qemu(parts, release), wherry: wherry(parts) };
}

/** What a reset boots; the stream does not carry it. */
function bootOptions({ images }: QemuParts, dash: "-" | "--"): string[] {
  const { kernel, initrd, append } = images();
  return [
    ...(kernel === undefined ? [] : [`${dash}kernel`, "FILE"]),
    ...(initrd === undefined ? [] : [`${dash}initrd`, "FILE"]),
    ...(append === "" ? [] : [`${dash}append`, "TEXT"]),
  ];
}

function qemu(parts: QemuParts, release: Release): string[] {
  const { cpus, memorySize, isaExtensions, legacyVirtio, virtio } = parts;
  const isOurs = cpus.all[0] === undefined || keptHart(cpus.all[0]) === undefined;
  const asked = isOurs ? isaExtensions.map((e) => release.extensions[e]) : [];
  const cpu = ["rv64", ...asked.filter((option) => option !== undefined)].join(",");
  return [
    ...["qemu-system-riscv64", "-M", "virt", "-cpu", cpu],
    ...["-smp", String(cpus.all.length), "-m", `${memorySize / MIB}M`, "-bios", "default", "-nographic"],
    ...bootOptions(parts, "-"),
    ...(legacyVirtio ? [] : ["-global", "virtio-mmio.force-legacy=false"]),
    ...virtio.flatMap(qemuDevice),
    ...["-incoming", "URI"],
  ];
}

const readonlyOption = (offeredFeatures: bigint): string =>
  (offeredFeatures & VIRTIO_BLK_F_RO) === 0n ? "" : ",readonly=on";

/** In the board's order: the first device uses the highest slot in QEMU, too. */
function qemuDevice({ kind, queues, offeredFeatures, ports }: QemuVirtio, i: number): string[] {
  if (ports !== undefined) {
    return [
      ...["-device", `virtio-serial-device,id=serial${i}`],
      ...ports.flatMap((name, port) => [
        ...["-chardev", `socket,id=port${i}.${port},path=PATH,server=on,wait=off`],
        ...["-device", `virtserialport,bus=serial${i}.0,chardev=port${i}.${port},name=${name}`],
      ]),
    ];
  }
  switch (kind) {
    case "virtio-blk":
      return [
        ...["-drive", `if=none,id=drive${i},format=raw,file=FILE${readonlyOption(offeredFeatures)}`],
        ...[
          "-device",
          `virtio-blk-device,drive=drive${i}${queues.length > 1 ? `,num-queues=${queues.length}` : ""}`,
        ],
      ];
    case "virtio-net":
      return [...["-netdev", `user,id=net${i}`], ...["-device", `virtio-net-device,netdev=net${i},mac=MAC`]];
    case "virtio-console":
      return [
        ...["-device", "virtio-serial-device,max_ports=1"],
        // With -nographic, standard input and output belong to the serial console.
        ...["-chardev", `socket,id=console${i},path=PATH,server=on,wait=off`],
        ...["-device", `virtconsole,chardev=console${i}`],
      ];
    case "virtio-9p":
      return [
        ...["-fsdev", `local,id=share${i},path=DIR,security_model=none`],
        ...["-device", `virtio-9p-device,fsdev=share${i},mount_tag=TAG`],
      ];
    default:
      return ["-device", `${kind}-device`];
  }
}

const WHERRY_DEVICE: Readonly<Record<string, readonly string[]>> = {
  "virtio-net": ["--net", "socket:connect=HOST:PORT"],
  "virtio-rng": ["--rng"],
  "virtio-9p": ["--share", "path=DIR,tag=TAG,uid=none"],
  "virtio-console": ["--console", "unix:PATH"],
};

function wherry(parts: QemuParts): string[] {
  const { cpus, memorySize, legacyVirtio, virtio } = parts;
  return [
    ...["wherry", "run", "--smp", String(cpus.all.length), "--memory", `${memorySize / MIB}M`],
    ...["--firmware", "FILE"],
    ...bootOptions(parts, "--"),
    ...(legacyVirtio ? ["--virtio", "legacy"] : []),
    ...virtio.flatMap(({ kind, offeredFeatures, ports }) =>
      kind === "virtio-blk"
        ? ["--drive", `file=FILE${readonlyOption(offeredFeatures)}`]
        : (ports?.flatMap((name) => ["--serial-port", `name=${name},path=unix:PATH`]) ??
          WHERRY_DEVICE[kind] ??
          []),
    ),
    ...["--incoming", "URI"],
  ];
}
