// A root file system of Debian, built from the archive without root: packages and what they need, unpacked
// into an ext4 image with dpkg's state, then configured by their own scripts in the guest itself. The result
// is kept in the cache for each set of packages; an image for a user is a copy of it.
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { access, link, mkdir, open, readdir, readFile, rename, rm, stat, truncate } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { messageOf } from "../base/errors.ts";
import { Ext4Error } from "../ext4/ext4-tree.ts";
import { Ext4Writer } from "../ext4/ext4-writer.ts";
import {
  type Archive,
  type ArchiveOptions,
  checkSuite,
  defaultCache,
  withMirrors,
} from "./debian-archive.ts";
import { DEFAULT_SUITE } from "./debian-suite.ts";
import { Resolver } from "./dependencies.ts";
import { type Control, DpkgState, hasPreinst, readControl } from "./dpkg-state.ts";
import { isAlive } from "./download.ts";
import { GuestError } from "./guest-error.ts";
import { type IndexEntry, readIndex } from "./packages-index.ts";
import { applyRecording, recordingFor, recordingTexts } from "./recorded-configuration.ts";
import { RootFiles } from "./root-files.ts";
import { settingsText, writeSettings } from "./root-settings.ts";

export { defaultCache };

/** In addition to the packages of priority required: what a machine needs, not a container. */
const MACHINE = ["apt", "e2fsprogs", "ifupdown", "dhcpcd-base", "iproute2", "kmod", "procps"];
const INIT = "sysvinit-core";
/** Packages that are an init themselves; INIT is left out then. */
const OTHER_INITS = ["systemd-sysv", "runit-init", "openrc", "init"];
const SYSTEMD = ["systemd-sysv", "init"];
/** What systemd recommends, and its users take for granted: sessions, and the bus for its tools. */
const WITH_SYSTEMD = ["dbus", "libpam-systemd", "udev"];
/** A change of what is written into images makes others. */
const FORMAT = 1;
const MiB = 2 ** 20;
const MIN_BASE = 2048 * MiB;
const DOWNLOADS = 4;
export const DEFAULT_SIZE = 4096 * MiB;

export interface ImageProgress {
  readonly step: "index" | "download" | "unpack" | "configure";
  readonly what: string;
  readonly done: number;
  readonly total: number;
}

export interface DebianImageOptions extends ArchiveOptions {
  readonly suite?: string | undefined;
  /** Names of packages in addition to the default ones. */
  readonly include?: readonly string[];
  readonly onProgress?: (progress: ImageProgress) => void;
  /**
   * Boots the image, in which guests/debian/configure runs, until the guest has powered off. `packages` is
   * the number of those to configure. Rejects if the guest has not reported success.
   */
  readonly configure: (disk: string, packages: number) => Promise<void>;
  /** Take what is recorded of the default packages' configuration, where it applies. Default: true. */
  readonly isRecorded?: boolean;
}

export interface DebianBase {
  /** The configured image in the cache: a raw ext4 file system, sparse. */
  readonly path: string;
  readonly bytes: number;
  readonly suite: string;
  readonly packages: number;
}

/** The base image for a set of packages, from the cache or new. Rejects with GuestError. */
export async function debianBase(options: DebianImageOptions): Promise<DebianBase> {
  const suite = options.suite ?? DEFAULT_SUITE;
  checkSuite(suite);
  const cache = options.cache ?? defaultCache();
  const directory = join(cache, `debian-${suite}`);
  for (const each of [directory, join(cache, "packages"), join(cache, "images")])
    await mkdir(each, { recursive: true });
  const { onProgress = () => {} } = options;
  const onIndex = (what: string, done: number, total: number): void =>
    onProgress({ step: "index", what, done, total });
  return withMirrors(directory, suite, { ...options, offline: true }, onIndex, (archive) =>
    baseFrom(archive, cache, options),
  );
}

/** The packages to install, dependencies first, and what is known of each. */
interface Selection {
  readonly all: readonly IndexEntry[];
  /** Those that the machine has without `include`. */
  readonly tested: ReadonlySet<string>;
  readonly roots: ReadonlySet<string>;
  readonly essential: readonly string[];
}

export async function selectPackages(index: string, include: readonly string[]): Promise<Selection> {
  const packages = await readIndex(index);
  const resolver = new Resolver(packages);
  const required = [...packages.values()].filter((each) => each.field("Priority") === "required");
  const essential = required.map(({ name }) => name);
  const hasInit = include.some((name) => OTHER_INITS.includes(name));
  const init = SYSTEMD.filter((name) => include.includes(name));
  const base = [...essential, ...MACHINE, ...(hasInit ? [] : [INIT])];
  if (init.length > 0) base.push(...init, ...WITH_SYSTEMD);
  const all = resolver.resolve([...base, ...include]);
  // base-files first: its links of the merged /usr and its directories' modes are the right ones.
  const first = all.filter(({ name }) => name === "base-files");
  return {
    all: [...first, ...all.filter((each) => !first.includes(each))],
    tested: new Set(
      include.length === 0 ? all.map(({ name }) => name) : resolver.resolve(base).map(({ name }) => name),
    ),
    roots: new Set([...base, ...include]),
    essential,
  };
}

async function baseFrom(archive: Archive, cache: string, options: DebianImageOptions): Promise<DebianBase> {
  const { onProgress = () => {}, include = [], isRecorded = true } = options;
  const selection = await selectPackages(archive.index, include);
  const { all } = selection;
  const key = createHash("sha256")
    .update(
      [
        ...[FORMAT, archive.uri, archive.suite, await settingsText()],
        ...[...(isRecorded ? await recordingTexts(archive.suite) : []), ...all.map((each) => each.sha256)],
      ].join(),
    )
    .digest("hex")
    .slice(0, 16);
  const path = join(cache, "images", `debian-${archive.suite}-${key}.img`);
  const known = await stat(path).catch(() => undefined);
  if (known !== undefined) return { path, bytes: known.size, suite: archive.suite, packages: all.length };

  const debs = all.map((each) => join(cache, "packages", basename(each.filename)));
  await fetchAll(archive, all, debs, onProgress);
  const bytes = baseSize(all);
  await complete(path, async (temporary) => {
    const waiting = await writeBase(temporary, bytes, archive, selection, debs, isRecorded, onProgress);
    if (waiting > 0) await options.configure(temporary, waiting);
  });
  return { path, bytes, suite: archive.suite, packages: all.length };
}

/**
 * Makes the file at `path`: `make` writes another one beside it, which is renamed when it is complete, and
 * removed however this process ends otherwise. Rejects with GuestError.
 */
async function complete(
  path: string,
  make: (temporary: string) => Promise<void>,
  replaces = true,
): Promise<void> {
  const directory = dirname(resolve(path));
  const prefix = `${basename(path)}.`;
  // What a killed process left.
  for (const name of await readdir(directory).catch((): string[] => [])) {
    const pid = /^(\d+)\.[0-9a-f-]+\.tmp$/.exec(
      name.startsWith(prefix) ? name.slice(prefix.length) : "",
    )?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await rm(join(directory, name), { force: true });
  }
  const temporary = join(directory, `${prefix}${process.pid}.${randomUUID()}.tmp`);
  const remove = (): void => rmSync(temporary, { force: true });
  process.once("exit", remove);
  try {
    await make(temporary);
    // A link fails if another process has made the file meanwhile; the temporary name is removed below.
    await (replaces ? rename : link)(temporary, path);
  } catch (cause) {
    if (!replaces) await refuseExisting(path);
    if (cause instanceof Ext4Error) throw new GuestError("guest.image", cause.message, { cause });
    if (cause instanceof GuestError) throw cause;
    const isFull = /ENOSPC|No space left/.test(messageOf(cause));
    const what = isFull ? "no space is left on the device" : messageOf(cause).trim();
    throw new GuestError(isFull ? "guest.space" : "guest.image", `cannot write ${path}: ${what}`, { cause });
  } finally {
    remove();
    process.off("exit", remove);
  }
}

/** Installed-Size is in KiB; the packages of the image and dpkg's own files come on top. */
function baseSize(all: readonly IndexEntry[]): number {
  const installed = all.reduce(
    (sum, each) => sum + Number(each.field("Installed-Size") ?? 0) * 1024 + each.size,
    0,
  );
  return Math.max(MIN_BASE, Math.ceil((installed * 1.5 + 512 * MiB) / (256 * MiB)) * 256 * MiB);
}

async function fetchAll(
  archive: Archive,
  all: readonly IndexEntry[],
  paths: readonly string[],
  onProgress: (progress: ImageProgress) => void,
): Promise<void> {
  const total = all.reduce((sum, each) => sum + each.size, 0);
  const received = new Map<string, number>();
  let next = 0;
  const work = async (): Promise<void> => {
    for (let n = next++; n < all.length; n = next++) {
      const each = all[n] as IndexEntry;
      const report = (bytes: number): void => {
        received.set(each.name, bytes);
        const done = [...received.values()].reduce((sum, size) => sum + size, 0);
        onProgress({ step: "download", what: each.name, done, total });
      };
      await archive.fetch(each, paths[n] as string, report);
      received.set(each.name, each.size);
    }
  };
  await Promise.all(Array.from({ length: DOWNLOADS }, work));
}

/** Writes the image with its packages unpacked. Returns how many are to be configured. */
async function writeBase(
  path: string,
  bytes: number,
  archive: Archive,
  { all, tested, roots, essential }: Selection,
  debs: readonly string[],
  isRecorded: boolean,
  onProgress: (progress: ImageProgress) => void,
): Promise<number> {
  const controls = new Map<string, Control>();
  for (const [n, { name }] of all.entries()) controls.set(name, await readControl(debs[n] as string));
  const recording = isRecorded ? await recordingFor(archive.suite, controls) : undefined;
  const isConfigured = (name: string): boolean => recording?.packages[name] !== undefined;
  const file = await open(path, "wx");
  try {
    await file.truncate(bytes);
    const sink = {
      async write(offset: number, data: Uint8Array): Promise<void> {
        for (let at = 0; at < data.length; )
          at += (await file.write(data, at, data.length - at, offset + at)).bytesWritten;
      },
    };
    const time = Math.floor(Date.now() / 1000);
    const identity = { uuid: uuid(), hashSeed: uuid(), label: "debian", time };
    const writer = new Ext4Writer(sink, bytes, identity);
    const files = new RootFiles(writer, time);
    const dpkg = new DpkgState(files);
    const total = all.reduce((sum, each) => sum + each.size, 0);
    const preinst: string[] = [];
    let before = 0;
    let inGuest = 0;
    for (const [n, { name, size }] of all.entries()) {
      const deb = debs[n] as string;
      const control = controls.get(name) as Control;
      onProgress({ step: "unpack", what: name, done: before, total });
      // What a preinst expects before the package's files are there is known for the tested packages only.
      if (hasPreinst(control) && !tested.has(name)) {
        await files.write(`var/lib/wherry/packages/${basename(deb)}`, await readFile(deb));
        inGuest++;
      } else {
        const key = await dpkg.unpack(deb, control, isConfigured(name), (done) =>
          onProgress({ step: "unpack", what: name, done: before + done, total }),
        );
        if (hasPreinst(control) && !isConfigured(name)) preinst.push(key);
      }
      before += size;
    }
    if (recording !== undefined) await applyRecording(files, recording);
    await dpkg.finish(all.map(({ name }) => name).filter((name) => !roots.has(name)));
    const waiting = dpkg.unconfigured + inGuest;
    const pending = essential.filter((name) => !isConfigured(name));
    const toDo = waiting > 0 ? { preinst, essential: pending } : undefined;
    await writeSettings(files, { suite: archive.suite, mirror: archive.uri, toDo });
    await writer.finish(files.root);
    await file.sync();
    return waiting;
  } finally {
    await file.close();
  }
}

/** A random UUID (version 4) as bytes. */
function uuid(): Uint8Array {
  const bytes = randomBytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes;
}

/** Copies holes as holes, and shares blocks where the host's file system can. */
export async function copySparse(from: string, to: string, size: number): Promise<void> {
  await promisify(execFile)("cp", ["--sparse=always", "--reflink=auto", "--", from, to]);
  await truncate(to, size);
}

/**
 * An image of `size` bytes at `target` that `copy` makes with the contents of the base, and that shares
 * nothing with it; its file system grows at the first boot. `target` appears complete or not at all. Rejects
 * with GuestError "guest.image" if it exists or the size is too small.
 */
export async function copyBase(
  base: DebianBase,
  target: string,
  size: number,
  copy: typeof copySparse = copySparse,
): Promise<void> {
  if (size < base.bytes)
    throw new GuestError(
      "guest.image",
      `--size ${Math.floor(size / MiB)}M is too small for these packages: they need ${base.bytes / MiB}M`,
    );
  await refuseExisting(target);
  await complete(target, (temporary) => copy(base.path, temporary, size), false);
}

export async function refuseExisting(target: string): Promise<void> {
  const exists = await access(target).then(
    () => true,
    () => false,
  );
  if (exists)
    throw new GuestError("guest.image", `${target} exists: remove it first, or choose another name`);
}
