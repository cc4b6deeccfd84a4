// The directory in the cache with a Debian kernel's files: the Image, the modules, busybox, OpenSBI, and the
// initramfs archives that are made of them.
import { createHash, randomUUID } from "node:crypto";
import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { buildRootInitramfs } from "./initramfs.ts";
import type { KernelModule } from "./kernel-modules.ts";
import type { Package } from "./packages-index.ts";

/** Format of the unpacked directory; a directory in another format is unpacked again. */
export const FORMAT = 3;

/** Contents of an unpacked directory, and their source. */
export interface Manifest {
  readonly format: number;
  readonly version: string;
  readonly packages: readonly Package[];
  readonly modules: readonly Omit<KernelModule, "bytes">[];
  /** What was looked for; a directory that lacks one of today's is unpacked again. */
  readonly wanted?: readonly string[];
}

export async function readManifest(unpacked: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(unpacked, "manifest.json"), "utf8")) as Manifest;
}

export async function readModules(unpacked: string, manifest: Manifest): Promise<KernelModule[]> {
  const read = async (module: Omit<KernelModule, "bytes">): Promise<KernelModule> => ({
    ...module,
    bytes: await readFile(join(unpacked, module.file)),
  });
  return Promise.all(manifest.modules.map(read));
}

/** Keeps an archive beside the guest's other files, by its contents. Returns its path. */
export async function keepInitrd(unpacked: string, name: string, archive: Uint8Array): Promise<string> {
  const hash = createHash("sha256").update(archive).digest("hex").slice(0, 16);
  const path = join(unpacked, `${name}-${hash}.cpio`);
  if (!(await readdir(unpacked)).includes(basename(path))) await writeAtomically(path, archive);
  return path;
}

/**
 * The path of an initramfs that mounts a virtio disk as the root file system, for a kernel that
 * `fetchDebianGuest` returned; undefined for any other kernel.
 */
export async function rootInitrd(kernel: string): Promise<string | undefined> {
  const unpacked = dirname(kernel);
  const manifest = await readManifest(unpacked).catch(() => undefined);
  if (manifest?.format !== FORMAT || basename(kernel) !== "Image") return undefined;
  const busybox = await readFile(join(unpacked, "busybox"));
  const archive = await buildRootInitramfs(manifest.version, busybox, await readModules(unpacked, manifest));
  return keepInitrd(unpacked, "root", archive);
}

export async function writeAtomically(path: string, data: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  await writeFile(temporary, data);
  await rename(temporary, path);
}
