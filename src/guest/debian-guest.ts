// The Debian guest: kernel, busybox and OpenSBI from a mirror of the Debian archive, verified by the
// archive's signature, unpacked, packed into an initramfs, and kept in a per-user cache.
import { createHash, randomUUID } from "node:crypto";
import { access, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { type AptSource, aptSources } from "./apt-sources.ts";
import { decompressBytes, unpackDeb } from "./deb-package.ts";
import { download, fetchText } from "./download.ts";
import { GuestError } from "./guest-error.ts";
import { buildInitramfs, MODULES } from "./initramfs.ts";
import { closeModules, type KernelModule, moduleName } from "./kernel-modules.ts";
import { type Package, readPackages } from "./packages-index.ts";
import { readKeyring, verifyRelease } from "./debian-release.ts";
import { DEFAULT_SUITE } from "./debian-suite.ts";

const DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** Every mirror has the first file; a copy made by apt may have only the second. */
const INDEXES = ["main/binary-riscv64/Packages.xz", "main/binary-riscv64/Packages"];
const KERNEL = "linux-image-riscv64";
/** Format of the unpacked directory; a directory in another format is unpacked again. */
const FORMAT = 3;

export interface GuestProgress {
  readonly step: "index" | "download" | "unpack";
  /** The name of a file or package. */
  readonly what: string;
  /** In bytes. */
  readonly done: number;
  readonly total: number;
}

export interface DebianGuestOptions {
  /**
   * URL of a Debian mirror's root (the directory with dists and pool). Default: the machine's apt sources.
   */
  readonly mirror?: string | undefined;
  readonly suite?: string | undefined;
  /** OpenPGP keyring file. Default: the apt source's Signed-By, else the debian-archive-keyring package's. */
  readonly keyring?: string | undefined;
  /** Default: wherry in $XDG_CACHE_HOME or ~/.cache. */
  readonly cache?: string | undefined;
  /** Contact the mirror even if the cache has a guest. */
  readonly refresh?: boolean;
  readonly aptDirectory?: string;
  readonly onProgress?: (progress: GuestProgress) => void;
  readonly signal?: AbortSignal;
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

/** Contents of an unpacked directory, and their source. */
interface Manifest {
  readonly format: number;
  readonly version: string;
  readonly packages: readonly Package[];
  readonly modules: readonly Omit<KernelModule, "bytes">[];
  /** What was looked for; a directory that lacks one of today's is unpacked again. */
  readonly wanted?: readonly string[];
}

export function defaultCache(): string {
  const base = process.env["XDG_CACHE_HOME"];
  return join(base !== undefined && base.startsWith("/") ? base : join(homedir(), ".cache"), "wherry");
}

/**
 * The guest, from the cache or from the first mirror that answers. Throws GuestError with one of the codes
 * guest.mirror (none known, reachable or complete), guest.keyring, guest.signature, guest.suite,
 * guest.checksum, ….
 */
export async function fetchDebianGuest(options: DebianGuestOptions = {}): Promise<DebianGuest> {
  const suite = options.suite ?? DEFAULT_SUITE;
  if (!/^[\w.-]+$/.test(suite))
    throw new GuestError("guest.suite", `'${suite}' is not the name of a Debian suite`);
  const directory = join(options.cache ?? defaultCache(), `debian-${suite}`);
  if (!options.refresh) {
    const unpacked = await currentUnpacked(directory);
    if (unpacked !== undefined) return assembleGuest(unpacked, suite);
  }
  await mkdir(directory, { recursive: true });
  const unpacked = await fromMirrors(directory, suite, options);
  return assembleGuest(unpacked, suite);
}

async function readManifest(unpacked: string): Promise<Manifest> {
  return JSON.parse(await readFile(join(unpacked, "manifest.json"), "utf8")) as Manifest;
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

async function fromMirrors(directory: string, suite: string, options: DebianGuestOptions): Promise<string> {
  const sources: AptSource[] =
    options.mirror === undefined
      ? await aptSources(options.aptDirectory)
      : [{ uri: options.mirror.replace(/\/$/, ""), signedBy: undefined }];
  const failures: string[] = [];
  for (const source of sources) {
    try {
      return await fromMirror(source, directory, suite, options);
    } catch (error) {
      if (!(error instanceof GuestError) || error.code !== "guest.mirror") throw error;
      failures.push(error.message);
    }
  }
  const hint = "name a Debian mirror with --mirror";
  throw new GuestError(
    "guest.mirror",
    failures.length > 0
      ? `no mirror serves the Debian guest: ${failures.join("; ")}; ${hint}`
      : `the machine's apt sources name no mirror of the Debian archive; ${hint}`,
  );
}

/** Downloads from one mirror and unpacks. Returns the unpacked directory. */
async function fromMirror(
  source: AptSource,
  directory: string,
  suite: string,
  options: DebianGuestOptions,
): Promise<string> {
  const { onProgress = () => {}, signal } = options;
  const dists = `${source.uri}/dists/${suite}`;
  const release = await fetchText(`${dists}/InRelease`, signal);
  const keys = await readKeyring(options.keyring ?? source.signedBy ?? DEFAULT_KEYRING);
  const files = await verifyRelease(release, keys, suite);
  const report =
    (step: GuestProgress["step"], what: string) =>
    (done: number, total: number): void =>
      onProgress({ step, what, done, total });
  const index = async (name: string): Promise<string> => {
    const expected = files.get(name);
    if (!expected) throw new GuestError("guest.index", `suite ${suite} has no index ${name}`);
    const path = join(directory, basename(name));
    await download(`${dists}/${name}`, path, expected, report("index", basename(name)), signal);
    return path;
  };
  const [packed, plain] = INDEXES as [string, string];
  const indexPath = await index(packed).catch((error: unknown) => {
    if (!(error instanceof GuestError) || error.code !== "guest.mirror") throw error;
    return index(plain).catch(() => {
      throw error;
    });
  });
  const packages = await choosePackages(indexPath);
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
        await download(`${source.uri}/${each.filename}`, path, each, report("download", each.name), signal);
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
  const modules = await Promise.all(
    manifest.modules.map(async (module) => ({
      ...module,
      bytes: await readFile(join(unpacked, module.file)),
    })),
  );
  const archive = await buildInitramfs(manifest.version, await readFile(join(unpacked, "busybox")), modules);
  const hash = createHash("sha256").update(archive).digest("hex").slice(0, 16);
  const initrd = join(unpacked, `initrd-${hash}.cpio`);
  if (!(await readdir(unpacked)).includes(basename(initrd))) await writeAtomically(initrd, archive);
  return {
    kernel: join(unpacked, "Image"),
    initrd,
    opensbi: join(unpacked, "opensbi.bin"),
    version: manifest.version,
    suite,
  };
}

async function writeAtomically(path: string, data: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${randomUUID()}.tmp`;
  await writeFile(temporary, data);
  await rename(temporary, path);
}
