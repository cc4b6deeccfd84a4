// Builds the bench's part of the guest: bench/programs compiled for RISC-V and for this host, and an
// initramfs of the Debian guest with it and optionally Debian's packages below /debian. Compiled programs are
// cached by their sources.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, readlink, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CpioEntry, cpio } from "../src/guest/cpio.ts";
import { cache, exists } from "../tools/unpacked.ts";

const SOURCES = fileURLToPath(new URL("./programs/", import.meta.url));
/** Contraction would change results on a host without fused multiply-add. */
const FLAGS = ["-O2", "-static", "-pthread", "-ffp-contract=off", "-Wall", "-Werror"];
const DATA_BYTES = 2 ** 20;

function compilerVersion(compiler: string, debian: string): string {
  try {
    return execFileSync(compiler, ["--version"], { encoding: "utf8" }).split("\n")[0] as string;
  } catch (cause) {
    throw new Error(`no ${compiler} here: apt-get install ${debian}`, { cause });
  }
}

/** Compiles `wbench` with a compiler of the Debian packages `debian`. */
async function compile(compiler: string, debian: string, name: string): Promise<string> {
  const files = (await readdir(SOURCES)).toSorted();
  const hash = createHash("sha256").update([compilerVersion(compiler, debian), ...FLAGS].join("\n"));
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

export const compileNative = (): Promise<string> => compile("gcc", "gcc libc6-dev", "wbench-native");
export const compileGuest = (): Promise<string> =>
  compile("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross", "wbench-riscv64");

/** The input of gzip and xz: words of a small vocabulary, the same bytes each time. */
export function dataFile(): Buffer {
  let state = 1;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 16) % below;
  };
  const letters = (count: number): string =>
    Array.from({ length: count }, () => String.fromCharCode(97 + random(26))).join("");
  const words = Array.from({ length: 3000 }, () => letters(2 + random(9)));
  let text = "";
  while (text.length < DATA_BYTES)
    text += `${words[random(1 + random(3000))]}${random(9) === 0 ? "\n" : " "}`;
  return Buffer.from(text.slice(0, DATA_BYTES));
}

/** True for files of a package that the programs need. */
const isNeeded = (path: string): boolean =>
  /^usr\/(bin|lib)(\/|$)/.test(path) && !/\/(gconv|engines-3|__pycache__)(\/|$)/.test(path);

async function tree(folder: string, under: string, below: string): Promise<CpioEntry[]> {
  const entries: CpioEntry[] = [];
  for (const item of (await readdir(join(folder, below), { withFileTypes: true })).toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  )) {
    const path = join(below, item.name);
    if (path !== "usr" && !isNeeded(path)) continue;
    const name = `${under}/${path}`;
    const source = join(folder, path);
    if (item.isSymbolicLink()) entries.push({ name, type: "link", target: await readlink(source) });
    else if (item.isDirectory())
      entries.push({ name, type: "directory" }, ...(await tree(folder, under, path)));
    else if (item.isFile())
      entries.push({
        name,
        type: "file",
        bytes: await readFile(source),
        executable: path.startsWith("usr/bin/") || item.name.includes(".so"),
      });
  }
  return entries;
}

/**
 * Writes the guest's initramfs with `wbench` to `path`; the folder `packages`, if given, becomes /debian, for
 * chroot. Linux unpacks archives one after the other.
 */
export async function writeInitramfs(
  path: string,
  guestInitrd: string,
  wbench: string,
  packages: string | undefined,
): Promise<void> {
  const entries: CpioEntry[] = [
    { name: "usr/bin/wbench", type: "file", bytes: await readFile(wbench), executable: true },
  ];
  if (packages !== undefined)
    entries.push(
      { name: "debian", type: "directory" },
      { name: "debian/lib", type: "link", target: "usr/lib" },
      { name: "debian/data", type: "file", bytes: dataFile() },
      ...(await tree(packages, "debian", "")),
    );
  await writeFile(path, Buffer.concat([await readFile(guestInitrd), cpio(entries)]));
}
