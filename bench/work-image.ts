// The disk image of `npm run bench:work`: Debian with the jobs' packages, booted once to make what the jobs
// work on. Kept in the cache; each boot of the bench gets a copy.
import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { copySparse } from "../src/guest/debian-image.ts";
import { rootInitrd } from "../src/guest/unpacked-guest.ts";
import { wherry } from "../test/support/machine.ts";
import { cache, exists, unpacked } from "../tools/unpacked.ts";
import { BenchMachine, wherryMonitor } from "./machines.ts";
import { HEADERS, PACKAGES, SETUP } from "./work-jobs.ts";

const BYTES = 6 * 2 ** 30;
const BUILD_MS = 60 * 60_000;
/** Of root's shell, which the console logs in. */
export const PROMPT: RegExp = /root@debian:\S*# /;

export interface WorkGuest {
  readonly kernel: string;
  /** Mounts the disk's root file system. */
  readonly initrd: string;
  readonly opensbi: string;
  readonly version: string;
  readonly disk: string;
}

/** The guest; its image is made first if the cache has none of these packages and this setup. */
export async function workGuest(): Promise<WorkGuest> {
  const { kernel, opensbi, version } = await fetchDebianGuest();
  const initrd = await rootInitrd(kernel);
  if (initrd === undefined) throw new Error(`${kernel} has no modules beside it`);
  const key = createHash("sha256")
    .update([BYTES, ...PACKAGES, HEADERS, ...SETUP].join("\n"))
    .digest("hex")
    .slice(0, 16);
  const disk = join(cache, `work-${key}.img`);
  if (!(await exists(disk))) {
    await mkdir(cache, { recursive: true });
    for (const old of await readdir(cache)) if (/^work-.*\.img$/.test(old)) await rm(join(cache, old));
    await makeImage(disk, kernel, initrd);
  }
  return { kernel, initrd, opensbi, version, disk };
}

async function makeImage(disk: string, kernel: string, initrd: string): Promise<void> {
  const temporary = `${disk}.${process.pid}.tmp`;
  try {
    console.log("building the guest's image, once: some minutes");
    const include = ["--include", PACKAGES.join(","), "--size", `${BYTES / 2 ** 20}M`];
    const { code, err } = await wherry(["guest", "debian", ...include, temporary], BUILD_MS);
    if (code !== 0) throw new Error(`wherry guest debian: ${err.trim().split("\n").at(-1)}`);
    await addHeaders(temporary);
    const hardware = { harts: 2, memoryMib: 1024, kernel, initrd, disk: temporary, prompt: PROMPT };
    const machine = await BenchMachine.boot(wherryMonitor(""), hardware);
    await machine.resume();
    await machine.ask("mkdir /work && cd /work");
    for (const line of SETUP) await machine.ask(line);
    await machine.powerOff();
    await rename(temporary, disk);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** The headers that are compiled: of any architecture, so that the guest need not configure their package. */
async function addHeaders(disk: string): Promise<void> {
  const folder = await unpacked({ name: "headers", architecture: "riscv64", packages: [HEADERS] });
  const archive = `${disk}.tar`;
  try {
    execFileSync("tar", ["-C", join(folder, "usr/include/stb"), "-cf", archive, "."]);
    execFileSync("debugfs", ["-w", "-R", `write ${archive} c.tar`, disk], { stdio: "ignore" });
  } finally {
    await rm(archive, { force: true });
  }
}

/** A copy for a machine that writes to it. */
export async function copyOf({ disk }: WorkGuest, path: string): Promise<void> {
  await rm(path, { force: true });
  await copySparse(disk, path, BYTES);
}
