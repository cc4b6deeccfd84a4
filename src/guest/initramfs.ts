// The Debian guest's initramfs: busybox, the kernel modules for our board, the witness, and the scripts of
// guests/debian. Not compressed as a whole: the guest would decompress it at every boot.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { assemble } from "../asm/assembler.ts";
import { staticElf } from "../asm/elf.ts";
import { encodeUtf8 } from "../base/text.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import { type KernelModule, modulesAlias, modulesDep } from "./kernel-modules.ts";

const SOURCES = fileURLToPath(new URL("../../guests/debian/", import.meta.url));
const WITNESS_ADDRESS = 0x10000n;

const DIRECTORIES = "bin sbin usr usr/bin usr/sbin etc dev proc sys run tmp root mnt lib lib/modules".split(
  " ",
);

/**
 * Modules for the board's devices, and ext4 and 9p for mount; their dependencies are added. A driver
 * built into the kernel has no module.
 */
export const MODULES = [
  "virtio_mmio",
  "virtio_blk",
  "virtio_net",
  "virtio_rng",
  "virtio_console",
  "9pnet_virtio",
  "9p",
  "ext4",
  "crc32c_generic",
];

async function text(name: string): Promise<Uint8Array> {
  return readFile(SOURCES + name);
}

/** The witness program (guests/debian/witness.s) as a static Linux executable. */
export async function buildWitness(): Promise<Uint8Array<ArrayBuffer>> {
  const source = { name: "witness.s", text: await readFile(`${SOURCES}witness.s`, "utf8") };
  return staticElf(assemble([source], { base: WITNESS_ADDRESS, sectionAlign: 4096 }));
}

const modulesFolder = (kernelVersion: string): string => `lib/modules/${kernelVersion}`;

/** Tables and files of the modules, in `folder`. */
function moduleEntries(folder: string, modules: readonly KernelModule[]): CpioEntry[] {
  return [
    { name: `${folder}/modules.dep`, type: "file", bytes: encodeUtf8(modulesDep(modules)) },
    { name: `${folder}/modules.alias`, type: "file", bytes: encodeUtf8(modulesAlias(modules)) },
    ...modules.map(({ file, bytes }): CpioEntry => ({ name: `${folder}/${file}`, type: "file", bytes })),
  ];
}

/** The initramfs that mounts a virtio disk as the root file system: guests/debian/root-init and modules. */
export async function buildRootInitramfs(
  kernelVersion: string,
  busybox: Uint8Array,
  modules: readonly KernelModule[],
): Promise<Buffer> {
  const folder = modulesFolder(kernelVersion);
  return cpio([
    ...[...DIRECTORIES, folder].map((name): CpioEntry => ({ name, type: "directory" })),
    { name: "dev/console", type: "device", major: 5, minor: 1 },
    { name: "bin/busybox", type: "file", bytes: busybox, executable: true },
    { name: "init", type: "file", bytes: await text("root-init"), executable: true },
    ...moduleEntries(folder, modules),
  ]);
}

/** The bytes of the archive. `kernelVersion` names the directory of the modules, as printed by `uname -r`. */
export async function buildInitramfs(
  kernelVersion: string,
  busybox: Uint8Array,
  modules: readonly KernelModule[],
): Promise<Buffer> {
  const folder = modulesFolder(kernelVersion);
  const entries: CpioEntry[] = [
    ...[...DIRECTORIES, folder].map((name): CpioEntry => ({ name, type: "directory" })),
    // The kernel opens the console for init before devtmpfs is mounted.
    { name: "dev/console", type: "device", major: 5, minor: 1 },
    { name: "bin/busybox", type: "file", bytes: busybox, executable: true },
    { name: "init", type: "file", bytes: await text("init"), executable: true },
    { name: "etc/inittab", type: "file", bytes: await text("inittab") },
    { name: "etc/profile", type: "file", bytes: await text("profile") },
    // Where Debian's busybox looks for it.
    { name: "etc/udhcpc", type: "directory" },
    { name: "etc/udhcpc/default.script", type: "file", bytes: await text("udhcpc"), executable: true },
    { name: "etc/workload", type: "file", bytes: await text("workload"), executable: true },
    { name: "usr/bin/witness", type: "file", bytes: await buildWitness(), executable: true },
    ...moduleEntries(folder, modules),
  ];
  return cpio(entries);
}
