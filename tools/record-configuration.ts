// Records what the scripts of the default packages do: builds an image in which the guest configures all of
// them, and compares it with the image as it was before. Usage, as root (debugfs gives the files' owners to
// no one else), after a build, with e2fsprogs:
//   npx node tools/record-configuration.ts CACHE
//   npx node tools/record-configuration.ts CACHE BEFORE.img AFTER.img
import { execFileSync } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { configureImage } from "../src/cli/commands/configure-image.ts";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { copySparse, debianBase, selectPackages } from "../src/guest/debian-image.ts";
import { DEFAULT_SUITE } from "../src/guest/debian-suite.ts";
import { readControl } from "../src/guest/dpkg-state.ts";
import { type RecordedEntry, scriptsHash } from "../src/guest/recorded-configuration.ts";
import { rootInitrd } from "../src/guest/unpacked-guest.ts";

/** What each image has of its own, and what is made anew when it is needed: caches, dpkg's database. */
const LEFT_OUT =
  /^(lost\+found|var\/lib\/wherry|var\/lib\/dpkg\/(status|info|lock)|var\/cache|etc\/(ld\.so\.cache|machine-id|\.pwd\.lock))|-old$|wherry/;

const [cache = "", before, after] = process.argv.slice(2);
const work = mkdtempSync(join(tmpdir(), "wherry-record-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));

/** The image's files below a directory. */
function unpacked(image: string, name: string): string {
  const target = join(work, name);
  mkdirSync(target);
  execFileSync("debugfs", ["-R", `rdump / ${target}`, image], { stdio: "ignore" });
  return target;
}

function* walk(root: string, path = ""): Generator<string> {
  for (const name of readdirSync(join(root, path)).toSorted()) {
    const own = path === "" ? name : `${path}/${name}`;
    if (LEFT_OUT.test(own)) continue;
    yield own;
    if (lstatSync(join(root, own)).isDirectory()) yield* walk(root, own);
  }
}

function entryOf(root: string, path: string): RecordedEntry | undefined {
  const at = join(root, path);
  const stats = lstatSync(at, { throwIfNoEntry: false });
  if (stats === undefined) return undefined;
  const own = { path, mode: stats.mode & 0o7777, uid: stats.uid, gid: stats.gid };
  if (stats.isSymbolicLink()) return { ...own, target: readlinkSync(at) };
  return stats.isFile() ? { ...own, text: readFileSync(at, "latin1") } : own;
}

/** Images before and after the guest has configured the packages. */
async function images(): Promise<readonly [string, string]> {
  if (before !== undefined && after !== undefined) return [before, after];
  const { kernel } = await fetchDebianGuest({ cache });
  const initrd = (await rootInitrd(kernel)) as string;
  const early = join(work, "before.img");
  const { path } = await debianBase({
    cache,
    isRecorded: false,
    configure: async (disk, packages) => {
      await copySparse(disk, early, lstatSync(disk).size);
      const onProgress = (what: string): void => console.error(what);
      await configureImage({ kernel, initrd, disk, packages, onProgress });
    },
  });
  return [early, path];
}

const [early, late] = (await images()).map((image, i) => unpacked(image, String(i))) as [string, string];
const entries: RecordedEntry[] = [];
for (const path of walk(late)) {
  const entry = entryOf(late, path);
  if (entry === undefined || JSON.stringify(entry) === JSON.stringify(entryOf(early, path))) continue;
  if ([...(entry.text ?? "")].some((char) => char === "\0" || char > "~"))
    throw new Error(`/${path} is no text`);
  entries.push(entry);
}
const { all } = await selectPackages(join(cache, `debian-${DEFAULT_SUITE}`, "Packages.xz"), []);
const hashes = await Promise.all(
  all.map(async ({ name, filename }) => {
    const control = await readControl(join(cache, "packages", basename(filename)));
    return [name, scriptsHash(control)] as const;
  }),
);
const packages = Object.fromEntries(hashes.filter(([, hash]) => hash !== undefined));
const target = new URL(`../guests/debian/configured-${DEFAULT_SUITE}.json`, import.meta.url);
writeFileSync(target, `${JSON.stringify({ packages, entries }, undefined, 1)}\n`);
