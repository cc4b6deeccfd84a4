// QEMU's own reader of streams, scripts/analyze-migration.py: extracted with apt from Debian's source package
// of the newest release, into the user's cache. It is neither in this repository nor in a binary package.
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { separateApt } from "../../tools/apt.ts";
import { cache, exists } from "../../tools/unpacked.ts";

const SUITE = "trixie-backports";

/**
 * Path of the script: $WHERRY_ANALYZE_MIGRATION, or in the cache; fetched if missing (40 MB, of which one
 * file is kept). Throws if apt cannot fetch it: a mirror need not have sources.
 */
export async function analyzeScript(): Promise<string> {
  const given = process.env["WHERRY_ANALYZE_MIGRATION"];
  if (given !== undefined) return given;
  const path = join(cache, "analyze-migration.py");
  if (await exists(path)) return path;
  await mkdir(cache, { recursive: true });
  const root = await mkdtemp(join(cache, "apt-"));
  try {
    const { archives, run } = await separateApt(root, "amd64", ["trixie", SUITE], true);
    run("apt-get", "source", "-qq", "--download-only", `qemu/${SUITE}`);
    const archive = (await readdir(archives)).find((name) => /\.orig\.tar\.\w+$/.test(name));
    if (archive === undefined) throw new Error("Debian's source package of QEMU has no sources");
    const one = ["--wildcards", "--strip-components=2", "*/scripts/analyze-migration.py"];
    execFileSync("tar", ["-xf", join(archives, archive), "-C", root, ...one]);
    await rename(join(root, "analyze-migration.py"), path);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  return path;
}

if (import.meta.main) console.log(await analyzeScript());
