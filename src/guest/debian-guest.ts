// The Debian guest: kernel, busybox and OpenSBI from a mirror of the Debian archive, verified by the
// archive's signature, unpacked, packed into an initramfs, and kept in a per-user cache.
import { createHash } from "node:crypto";
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { decompressBytes, unpackDeb } from "./deb-package.ts";
import { GuestError } from "./guest-error.ts";
import { buildInitramfs, MODULES } from "./initramfs.ts";
import { closeModules, moduleName } from "./kernel-modules.ts";
import { type Package, readPackages } from "./packages-index.ts";
import {
  type Archive,
  type ArchiveOptions,
  checkSuite,
  defaultCache,
  withMirrors,
} from "./debian-archive.ts";
import { DEFAULT_SUITE } from "./debian-suite.ts";
import {
  FORMAT,
  keepInitrd,
  type Manifest,
  readManifest,
  readModules,
  writeAtomically,
} from "./unpacked-guest.ts";

const KERNEL = "linux-image-riscv64";
export interface GuestProgress {
  readonly step: "index" | "download" | "unpack";
  /** The name of a file or package. */
  readonly what: string;
  /** In bytes. */
  readonly done: number;
  readonly total: number;
}

export interface DebianGuestOptions extends ArchiveOptions {
  readonly suite?: string | undefined;
  /** Contact the mirror even if the cache has a guest. */
  readonly refresh?: boolean;
  readonly onProgress?: (progress: GuestProgress) => void;
}

/** Paths of the guest's files. */
export interface DebianGuest {
  /** A raw RISC-V Image. */
  readonly kernel: string;
  readonly initrd: string;
  /** OpenSBI's fw_dynamic.bin. */
  readonly opensbi: string;
  /** The kernel's release, as `uname -r` gives it. */
  readonly version: string;
  readonly suite: string;
}

/**
 * The guest, from the cache or from the first mirror that answers. Throws GuestError with one of the codes
 * guest.mirror (none known, reachable or complete), guest.keyring, guest.signature, guest.suite,
 * guest.checksum, ….
 */
export async function fetchDebianGuest(options: DebianGuestOptions = {}): Promise<DebianGuest> {
  const suite = options.suite ?? DEFAULT_SUITE;
  checkSuite(suite);
  const directory = join(options.cache ?? defaultCache(), `debian-${suite}`);
  if (!options.refresh) {
    const unpacked = await currentUnpacked(directory);
    if (unpacked !== undefined) return assembleGuest(unpacked, suite);
  }
  await mkdir(directory, { recursive: true });
  const unpacked = await fetchUnpacked(directory, suite, options);
  return assembleGuest(unpacked, suite);
}

async function currentUnpacked(directory: string): Promise<string | undefined> {
  try {
    const unpacked = join(directory, (await readFile(join(directory, "current"), "utf8")).trim());
    const { format, wanted = [] } = await readManifest(unpacked);
    return format === FORMAT && MODULES.every((name) => wanted.includes(name)) ? unpacked : undefined;
  } catch {
    return undefined;
  }
}

/** Downloads from a mirror and unpacks. Returns the unpacked directory. */
async function fetchUnpacked(directory: string, suite: string, options: DebianGuestOptions): Promise<string> {
  const { onProgress = () => {} } = options;
  const report =
    (step: GuestProgress["step"], what: string) =>
    (done: number, total: number): void =>
      onProgress({ step, what, done, total });
  const onIndex = (what: string, done: number, total: number): void =>
    onProgress({ step: "index", what, done, total });
  return withMirrors(directory, suite, options, onIndex, (archive) =>
    unpackedFrom(archive, directory, report),
  );
}

async function unpackedFrom(
  archive: Archive,
  directory: string,
  report: (step: GuestProgress["step"], what: string) => (done: number, total: number) => void,
): Promise<string> {
  const packages = await choosePackages(archive.index);
  const key = createHash("sha256")
    .update([FORMAT, ...packages.map((each) => each.sha256), ...MODULES].join())
    .digest("hex")
    .slice(0, 16);
  const unpacked = join(directory, key);
  const isThere = (): Promise<boolean> =>
    access(join(unpacked, "manifest.json")).then(
      () => true,
      () => false,
    );
  if (!(await isThere())) {
    try {
      const paths: string[] = [];
      for (const each of packages) {
        const path = join(directory, basename(each.filename));
        await archive.fetch(each, path, report("download", each.name));
        paths.push(path);
      }
      try {
        await unpack(unpacked, packages, paths, report);
      } catch (error) {
        // Another process was faster and has removed the packages: then the directory exists.
        await access(join(unpacked, "manifest.json")).catch(() => {
          throw error;
        });
      }
      for (const path of paths) await rm(path, { force: true });
    } catch (error) {
      // Another process may have been faster, and removed the packages that this one was about to read.
      if (!(await isThere())) throw error;
    }
  }
  await writeAtomically(join(directory, "current"), key);
  return unpacked;
}

/** The kernel that the meta package depends on, busybox and OpenSBI. */
async function choosePackages(indexPath: string): Promise<Package[]> {
  const others = ["busybox-static", "opensbi"];
  const found = await readPackages(
    indexPath,
    (name) => others.includes(name) || (name.startsWith("linux-image-") && name.endsWith("riscv64")),
  );
  const kernel = found.get(KERNEL)?.depends.find((name) => name.startsWith("linux-image-"));
  return [kernel ?? KERNEL, ...others].map((name) => {
    const entry = found.get(name);
    if (!entry || name === KERNEL)
      throw new GuestError("guest.index", `the archive's index has no package for ${name}`);
    return entry;
  });
}

/** Extracts the guest's files from the packages; the directory appears complete or not at all. */
async function unpack(
  target: string,
  packages: readonly Package[],
  [kernelDeb, busyboxDeb, opensbiDeb]: readonly string[],
  report: (step: "unpack", what: string) => (done: number, total: number) => void,
): Promise<void> {
  const temporary = await mkdtemp(`${target}.`);
  try {
    const kernelFiles = await unpackDeb(
      kernelDeb as string,
      (name) => name.startsWith("boot/vmlinu") || /\.ko(\.\w+)?$/.test(name),
      report("unpack", packages[0]?.name ?? ""),
    );
    const [image, bytes] = [...kernelFiles].find(([name]) => name.startsWith("boot/")) ?? [];
    const version = /^boot\/vmlinu[xz]-(.+)$/.exec(image ?? "")?.[1];
    if (!bytes || version === undefined)
      throw new GuestError("guest.deb", "the kernel package has no boot/vmlinux-…");
    await writeFile(join(temporary, "Image"), await rawImage(bytes));
    const modulePaths = new Map([...kernelFiles.keys()].map((name) => [moduleName(name), name]));
    const modules = await closeModules(MODULES, async (name) => {
      const path = modulePaths.get(name);
      if (path === undefined) return undefined;
      const packed = kernelFiles.get(path) as Uint8Array;
      return { path, packed, bytes: await decompressBytes(packed, path) };
    });
    for (const { file, bytes } of modules) await writeFile(join(temporary, file), bytes);
    await writeFile(join(temporary, "busybox"), await fileOf(busyboxDeb as string, /^(usr\/)?bin\/busybox$/));
    await writeFile(
      join(temporary, "opensbi.bin"),
      await fileOf(opensbiDeb as string, /\/riscv64[^/]*\/opensbi\/generic\/fw_dynamic\.bin$/),
    );
    const manifest: Manifest = {
      format: FORMAT,
      version,
      packages,
      modules: modules.map(({ name, file, depends, aliases }) => ({ name, file, depends, aliases })),
      wanted: MODULES,
    };
    await writeFile(join(temporary, "manifest.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    // Another process was faster.
    if (["ENOTEMPTY", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) return;
    throw error;
  }
}

async function fileOf(deb: string, pattern: RegExp): Promise<Uint8Array> {
  const [bytes] = (await unpackDeb(deb, (name) => pattern.test(name))).values();
  if (!bytes)
    throw new GuestError("guest.deb", `${basename(deb)} has no file that matches ${pattern.source}`);
  return bytes;
}

/** A kernel image as a raw Image ("RSC\x05" at byte 56), decompressed if it is gzipped. */
async function rawImage(bytes: Uint8Array): Promise<Uint8Array> {
  const raw = bytes[0] === 0x1f && bytes[1] === 0x8b ? await decompressBytes(bytes, ".gz") : bytes;
  const magic = Buffer.from(raw.subarray(56, 60)).toString("latin1");
  if (magic !== "RSC\x05") throw new GuestError("guest.deb", "the kernel is not a RISC-V Image");
  return raw;
}

/** The guest of an unpacked directory; builds its initramfs again if our part of it changed. */
async function assembleGuest(unpacked: string, suite: string): Promise<DebianGuest> {
  const manifest = await readManifest(unpacked);
  const modules = await readModules(unpacked, manifest);
  const archive = await buildInitramfs(manifest.version, await readFile(join(unpacked, "busybox")), modules);
  return {
    kernel: join(unpacked, "Image"),
    initrd: await keepInitrd(unpacked, "initrd", archive),
    opensbi: join(unpacked, "opensbi.bin"),
    version: manifest.version,
    suite,
  };
}
