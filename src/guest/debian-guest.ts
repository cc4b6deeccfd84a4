// The Debian guest: kernel, busybox and OpenSBI from a mirror of the Debian archive, verified by the
// archive's signature, unpacked, packed into an initramfs, and kept in a per-user cache.
import { createHash } from "node:crypto";
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
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
/** The kernel's Image in its package, and its release; one in several packages has it beside the modules. */
const IMAGE = /^(?:boot\/vmlinu[xz]-(.+)|(?:usr\/)?lib\/modules\/([^/]+)\/vmlinu[xz])$/;
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
  return withMirrors(directory, suite, options, onIndex, async (archive) => {
    const base = baseOf(suite);
    if (base === undefined) return unpackedFrom([archive], directory, report);
    const beside = join(dirname(directory), `debian-${base}`);
    return withMirrors(beside, base, { ...options, mirror: archive.uri }, onIndex, (other) =>
      unpackedFrom([archive, other], directory, report),
    );
  });
}

/** The suite that another one adds packages to. */
function baseOf(suite: string): string | undefined {
  return /^(.+?)-(?:backports(?:-sloppy)?|updates|proposed-updates)$/.exec(suite)?.[1];
}

/** From the first of the archives that has a package. */
async function unpackedFrom(
  archives: readonly Archive[],
  directory: string,
  report: (step: GuestProgress["step"], what: string) => (done: number, total: number) => void,
): Promise<string> {
  const { kernels, busybox, opensbi } = await choosePackages(archives);
  const chosen = [...kernels, busybox, opensbi];
  const packages = chosen.map(({ entry }) => entry);
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
      for (const { archive, entry } of chosen) {
        const path = join(directory, basename(entry.filename));
        await archive.fetch(entry, path, report("download", entry.name));
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

interface Chosen {
  readonly archive: Archive;
  readonly entry: Package;
}

/**
 * The kernel that the meta package depends on, busybox and OpenSBI. Since Linux 7.x a kernel is split: its
 * package only depends on those of the Image and the modules.
 */
async function choosePackages(archives: readonly Archive[]): Promise<{
  readonly kernels: readonly Chosen[];
  readonly busybox: Chosen;
  readonly opensbi: Chosen;
}> {
  const found = new Map<string, Chosen>();
  const isKernel = (name: string): boolean =>
    /^linux-(?:image|binary|modules)-/.test(name) && name.endsWith("riscv64");
  for (const archive of archives) {
    const packages = await readPackages(
      archive.index,
      (name) => name === "busybox-static" || name === "opensbi" || isKernel(name),
    );
    for (const [name, entry] of packages) if (!found.has(name)) found.set(name, { archive, entry });
  }
  const chosen = (name: string): Chosen => {
    const one = found.get(name);
    const suites = archives.map(({ suite }) => suite).join(" and ");
    if (one === undefined)
      throw new GuestError("guest.index", `the index of ${suites} has no package ${name} for riscv64`);
    return one;
  };
  const meta = chosen(KERNEL).entry;
  const name = meta.depends.find((each) => each.startsWith("linux-image-"));
  if (name === undefined) throw new GuestError("guest.index", `${KERNEL} ${meta.version} needs no kernel`);
  const kernel = chosen(name);
  const parts = kernel.entry.depends.filter((each) => /^linux-(?:binary|modules)-/.test(each));
  return {
    kernels: parts.length === 0 ? [kernel] : parts.map(chosen),
    busybox: chosen("busybox-static"),
    opensbi: chosen("opensbi"),
  };
}

/**
 * Extracts the guest's files from the packages (those of the kernel, busybox, OpenSBI); the directory appears
 * complete or not at all.
 */
async function unpack(
  target: string,
  packages: readonly Package[],
  paths: readonly string[],
  report: (step: "unpack", what: string) => (done: number, total: number) => void,
): Promise<void> {
  const temporary = await mkdtemp(`${target}.`);
  try {
    const kernelFiles = new Map<string, Uint8Array>();
    for (const [n, deb] of paths.slice(0, -2).entries())
      for (const [name, bytes] of await unpackDeb(
        deb,
        (each) => IMAGE.test(each) || /\.ko(\.\w+)?$/.test(each),
        report("unpack", packages[n]?.name ?? ""),
      ))
        kernelFiles.set(name, bytes);
    const [busyboxDeb, opensbiDeb] = paths.slice(-2);
    const [image = "", bytes] = [...kernelFiles].find(([name]) => IMAGE.test(name)) ?? [];
    const [, inBoot, besideModules] = IMAGE.exec(image) ?? [];
    const version = inBoot ?? besideModules;
    if (!bytes || version === undefined)
      throw new GuestError("guest.deb", "the kernel's packages have no boot/vmlinux-… or vmlinuz");
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
