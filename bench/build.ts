// The bench's own part of the guest: bench/programs compiled for RISC-V and for this host, and an initramfs of the
// Debian guest with it. Cached per user by the content of the sources.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { access, mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CpioEntry, cpio } from "../src/guest/cpio.ts";
import { defaultCache } from "../src/guest/debian.ts";

const SOURCES = fileURLToPath(new URL("./programs/", import.meta.url));
/** Contraction would make other sums where the host has no fused multiply-add. */
const FLAGS = ["-O2", "-static", "-pthread", "-ffp-contract=off", "-Wall", "-Werror"];
const RISCV_COMPILER = "riscv64-linux-gnu-gcc";

export const cache: string = join(defaultCache(), "bench");

export const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

function compilerVersion(compiler: string): string {
  try {
    return execFileSync(compiler, ["--version"], { encoding: "utf8" }).split("\n")[0] as string;
  } catch (cause) {
    throw new Error(`no ${compiler}: install Debian's gcc-riscv64-linux-gnu and gcc`, { cause });
  }
}

async function compile(compiler: string, name: string): Promise<string> {
  const files = (await readdir(SOURCES)).toSorted();
  const hash = createHash("sha256").update([compilerVersion(compiler), ...FLAGS].join("\n"));
  for (const file of files) hash.update(file).update(await readFile(SOURCES + file));
  const path = join(cache, `${name}-${hash.digest("hex").slice(0, 16)}`);
  if (await exists(path)) return path;
  await mkdir(cache, { recursive: true });
  const sources = files.filter((file) => file.endsWith(".c")).map((file) => SOURCES + file);
  const temporary = `${path}.${process.pid}`;
  execFileSync(compiler, [...FLAGS, ...sources, "-o", temporary, "-lm"], { stdio: "inherit" });
  await rename(temporary, path);
  return path;
}

export interface Built {
  /** `wbench` for this host. */
  readonly native: string;
  /** The guest's initramfs with `wbench`. */
  readonly initrd: string;
}

/** Compiles, and appends to the guest's initramfs: Linux unpacks archives one after the other. */
export async function build(guestInitrd: string): Promise<Built> {
  const native = await compile("gcc", "wbench-native");
  const riscv = await compile(RISCV_COMPILER, "wbench-riscv64");
  const entries: CpioEntry[] = [
    { name: "usr/bin/wbench", type: "file", bytes: await readFile(riscv), executable: true },
  ];
  const initrd = join(cache, `initrd-${process.pid}.cpio`);
  await writeFile(initrd, Buffer.concat([await readFile(guestInitrd), cpio(entries)]));
  return { native, initrd };
}
