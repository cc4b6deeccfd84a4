// Records what the scripts of the default packages do: builds an image in which the guest configures all of
// them, and compares it with the image as it was before. Usage, after a build, with e2fsprogs:
//   npx node tools/record-configuration.ts CACHE sysvinit|systemd
//   npx node tools/record-configuration.ts CACHE sysvinit|systemd BEFORE.img AFTER.img
import { lstatSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { configureImage } from "../src/cli/commands/configure-image.ts";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { copySparse, debianBase, selectPackages } from "../src/guest/debian-image.ts";
import { DEFAULT_SUITE } from "../src/guest/debian-suite.ts";
import { readControl } from "../src/guest/dpkg-state.ts";
import { scriptsHash } from "../src/guest/recorded-configuration.ts";
import { rootInitrd } from "../src/guest/unpacked-guest.ts";
import { imageDifference } from "./image-difference.ts";

/** What each image has of its own, and what is made anew when it is needed: caches, dpkg's database. */
const LEFT_OUT =
  /^(lost\+found|var\/lib\/wherry|var\/lib\/dpkg\/(status|info|lock)|var\/cache|var\/lib\/systemd\/catalog|etc\/(ld\.so\.cache|machine-id|\.pwd\.lock))|-old$|wherry/;

const [cache = "", init = "", before, after] = process.argv.slice(2);
if (init !== "sysvinit" && init !== "systemd") throw new Error(`${init}: expected sysvinit or systemd`);
const include = init === "systemd" ? ["systemd-sysv"] : [];
const work = mkdtempSync(join(tmpdir(), "wherry-record-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));

/** Images before and after the guest has configured the packages. */
async function images(): Promise<readonly [string, string]> {
  if (before !== undefined && after !== undefined) return [before, after];
  const { kernel } = await fetchDebianGuest({ cache });
  const initrd = (await rootInitrd(kernel)) as string;
  const early = join(work, "before.img");
  const { path } = await debianBase({
    cache,
    include,
    isRecorded: false,
    configure: async (disk, packages) => {
      await copySparse(disk, early, lstatSync(disk).size);
      const onProgress = (what: string): void => console.error(what);
      await configureImage({ kernel, initrd, disk, packages, onProgress });
    },
  });
  return [early, path];
}

const entries = imageDifference(...(await images()), LEFT_OUT);
for (const { path, text = "" } of entries)
  if ([...text].some((char) => char === "\0" || char > "~")) throw new Error(`/${path} is no text`);
const { all } = await selectPackages(join(cache, `debian-${DEFAULT_SUITE}`, "Packages.xz"), include);
const hashes = await Promise.all(
  all.map(async ({ name, filename }) => {
    const control = await readControl(join(cache, "packages", basename(filename)));
    return [name, scriptsHash(control)] as const;
  }),
);
const packages = Object.fromEntries(hashes.filter(([, hash]) => hash !== undefined));
const target = new URL(`../guests/debian/configured-${DEFAULT_SUITE}-${init}.json`, import.meta.url);
writeFileSync(target, `${JSON.stringify({ packages, entries }, undefined, 1)}\n`);
