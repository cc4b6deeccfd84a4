// Debian packages with all they depend on, unpacked into a folder, as debootstrap unpacks its first stage: the
// guest's programs (riscv64), the same ones for this host, and a newer QEMU. apt fetches and verifies them; nothing
// is installed and no maintainer script runs. Kept in the user's cache until that is removed.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { DEFAULT_SUITE } from "../src/guest/debian.ts";
import { separateApt } from "../tools/apt.ts";
import { cache, exists } from "./cache.ts";

const BACKPORTS = `${DEFAULT_SUITE}-backports`;

export const PROGRAM_PACKAGES = ["gzip", "xz-utils", "openssl", "python3.13-minimal"];
const QEMU_PACKAGES = ["qemu-system-riscv"];

/** The folder with `packages` and their dependencies. Backports only where asked for. */
async function unpacked(
  name: string,
  architecture: string,
  packages: readonly string[],
  backports: boolean,
): Promise<string> {
  const key = createHash("sha256")
    .update([architecture, ...packages].join())
    .digest("hex")
    .slice(0, 8);
  const folder = join(cache, `${name}-${architecture}-${key}`);
  if (await exists(folder)) return folder;
  console.log(`fetching Debian's ${packages.join(", ")} for ${architecture} into ${folder}`);
  await mkdir(cache, { recursive: true });
  const root = await mkdtemp(join(cache, "apt-"));
  try {
    const suites = backports ? [DEFAULT_SUITE, BACKPORTS] : [DEFAULT_SUITE];
    const { archives, run } = await separateApt(root, architecture, suites);
    const from = backports ? ["--target-release", BACKPORTS] : [];
    const flags = ["-q", "-y", "--no-install-recommends", "--download-only", ...from];
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

/** A program of a folder for this host, by the folder's own dynamic linker and libraries. */
export function hosted(folder: string, program: string): string[] {
  const libraries = join(folder, "usr/lib/x86_64-linux-gnu");
  return [
    join(libraries, "ld-linux-x86-64.so.2"),
    "--library-path",
    libraries,
    join(folder, "usr/bin", program),
  ];
}

function needX64(): void {
  if (process.arch !== "x64") throw new Error(`the bench knows Debian's packages for amd64 only`);
}

export const guestPrograms = (): Promise<string> => unpacked("programs", "riscv64", PROGRAM_PACKAGES, false);

export async function hostPrograms(): Promise<string> {
  needX64();
  return unpacked("programs", "amd64", PROGRAM_PACKAGES, false);
}

/** The newest QEMU of the backports: its command with arguments that come before all others. */
export async function newQemu(): Promise<string[]> {
  needX64();
  const folder = await unpacked("qemu", "amd64", QEMU_PACKAGES, true);
  return [...hosted(folder, "qemu-system-riscv64"), "-L", join(folder, "usr/share/qemu")];
}
