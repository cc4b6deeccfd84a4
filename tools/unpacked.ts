// Debian packages with all dependencies, unpacked into a folder, like the first stage of debootstrap:
// programs for a guest, the same programs for this host, and releases of QEMU other than the machine's own.
// apt fetches and verifies them; nothing is installed and no maintainer script runs. Kept in the user's
// cache.
//   npx node tools/unpacked.ts      fetches every QEMU that the checks use (CI runs this once, early)
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { access, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { defaultCache } from "../src/guest/debian-archive.ts";
import { DEFAULT_SUITE } from "../src/guest/debian-suite.ts";
import { separateApt } from "./apt.ts";

/** The folder for everything fetched and for what the bench builds of it: per user, outside the tree. */
export const cache: string = join(defaultCache(), "bench");

export const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

export interface Packages {
  /** First part of the folder's name; the rest depends on architecture and packages, not on the suite. */
  readonly name: string;
  readonly architecture: string;
  readonly packages: readonly string[];
  /** Debian's suite; for backports, its base suite is used as well. Default: the guest's. */
  readonly suite?: string;
}

/** The folder with `packages` and their dependencies; fetches them if missing. Throws if apt cannot. */
export async function unpacked(wanted: Packages): Promise<string> {
  const { name, architecture, packages, suite = DEFAULT_SUITE } = wanted;
  const key = createHash("sha256")
    .update([architecture, ...packages].join())
    .digest("hex")
    .slice(0, 8);
  const folder = join(cache, `${name}-${architecture}-${key}`);
  if (await exists(folder)) return folder;
  // On stderr: some callers print a list on stdout.
  console.error(`fetching ${suite}'s ${packages.join(", ")} for ${architecture} into ${folder}`);
  await mkdir(cache, { recursive: true });
  const root = await mkdtemp(join(cache, "apt-"));
  try {
    const suites = new Set([suite.replace(/-backports$/, ""), suite]);
    const { archives, run } = await separateApt(root, architecture, [...suites]);
    const flags = ["-q", "-y", "--no-install-recommends", "--download-only", "--target-release", suite];
    run("apt-get", "install", ...flags, ...packages);
    const part = join(root, "unpacked");
    await mkdir(part);
    for (const file of await readdir(archives)) {
      if (file.endsWith(".deb")) execFileSync("dpkg-deb", ["-x", join(archives, file), part]);
    }
    await rename(part, folder).catch(async (error: unknown) => {
      // Another process may have been faster.
      if (!(await exists(folder))) throw error;
    });
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  return folder;
}

/** The library directories of Debian's packages; before trixie some are outside usr. */
const LIBRARIES = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/** Runs a program of a folder on this host, with the folder's own dynamic linker and libraries. */
export function hosted(folder: string, program: string): string[] {
  const libraries = LIBRARIES.map((path) => join(folder, path));
  const linkers = libraries.map((path) => join(path, "ld-linux-x86-64.so.2"));
  const linker = linkers.find((path) => existsSync(path)) ?? "";
  return [linker, "--library-path", libraries.join(":"), join(folder, "usr/bin", program)];
}

export function needX64(): void {
  if (process.arch !== "x64") throw new Error("Debian's packages are unpacked and run for amd64 only");
}

export type QemuRelease = "7.2" | "10.0" | "11.1";
export type QemuTarget = "riscv64" | "x86_64" | "aarch64" | "s390x" | "ppc64";

const SUITE: Record<QemuRelease, string> = {
  "7.2": "bookworm",
  "10.0": "trixie",
  "11.1": "trixie-backports",
};
const OTHER_TARGETS = ["qemu-system-x86", "qemu-system-arm", "qemu-system-ppc"];
const EFI = "qemu-efi-aarch64";
/** Firmware directories below a folder's root: QEMU's own, SeaBIOS, option ROMs. */
const FIRMWARE = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

const MODULES = "usr/lib/x86_64-linux-gnu/qemu";

function folderOf(release: QemuRelease, target: QemuTarget): Promise<string> {
  const old = release === "7.2";
  const riscv = old ? "qemu-system-misc" : "qemu-system-riscv";
  const others = [...OTHER_TARGETS, old ? "qemu-system-misc" : "qemu-system-s390x", EFI];
  return unpacked({
    // The name of the newest one has no release, for the bench.
    name: release === "11.1" ? "qemu" : `qemu-${release}`,
    architecture: "amd64",
    packages: target === "riscv64" ? [riscv] : others,
    suite: SUITE[release],
  });
}

function releaseOf(command: readonly string[]): string | undefined {
  const [program = "", ...args] = command;
  try {
    const text = execFileSync(program, [...args, "--version"], { encoding: "utf8" });
    return /version (\d+\.\d+)\./.exec(text)?.[1];
  } catch {
    return undefined;
  }
}

/**
 * The directory of the modules of a folder's QEMU. QEMU would take missing modules from the machine's own
 * QEMU of another release and crash: empty files replace them.
 */
async function ownModules(folder: string): Promise<string> {
  const modules = join(folder, MODULES);
  const machine = await readdir(join("/", MODULES)).catch((): string[] => []);
  for (const name of machine) {
    const path = join(modules, name);
    if (name.endsWith(".so") && !(await exists(path))) await writeFile(path, "");
  }
  return modules;
}

/**
 * QEMU's command with the arguments that precede all others: the machine's own QEMU if it has that release,
 * otherwise Debian's packages in the cache, fetched if needed. Throws if neither is available.
 */
export async function qemu(release: QemuRelease, target: QemuTarget): Promise<string[]> {
  const program = `qemu-system-${target}`;
  if (releaseOf([program]) === release) return [program];
  needX64();
  const folder = await folderOf(release, target);
  const command = hosted(folder, program);
  const found = releaseOf(command);
  if (found !== release) {
    throw new Error(
      `expected QEMU ${release} in Debian's ${SUITE[release]}, found ${found ?? "a program that does not run"} in ${folder}`,
    );
  }
  return [
    "env",
    `QEMU_MODULE_DIR=${await ownModules(folder)}`,
    ...command,
    ...FIRMWARE.flatMap((path) => ["-L", join(folder, path)]),
  ];
}

/** The path of a firmware file in the packages of `release`, such as `usr/share/AAVMF/AAVMF_CODE.fd`. */
export async function qemuFile(release: QemuRelease, target: QemuTarget, path: string): Promise<string> {
  return join(await folderOf(release, target), path);
}

if (import.meta.main) {
  for (const release of ["7.2", "10.0", "11.1"] as const) {
    console.log(`QEMU ${release}: ${(await qemu(release, "riscv64")).join(" ")}`);
  }
  console.log(`QEMU 10.0: ${(await qemu("10.0", "x86_64")).join(" ")}`);
}
