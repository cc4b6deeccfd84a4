// What has come or changed between two ext4 images, as debugfs (e2fsprogs) reads them: contents of files,
// targets of links, and each entry's mode and owner.
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RecordedEntry } from "../src/guest/recorded-configuration.ts";

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

interface Status {
  /** With the file's type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

const debugfs = (image: string, ...args: readonly string[]): string =>
  execFileSync("debugfs", [...args, image], {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    stdio: ["ignore", "pipe", "ignore"],
  });

/**
 * The status of all that is below the directories, from the image itself: the copies on this machine have
 * other modes and owners (a change of the owner clears setgid, and only root may change it).
 */
function statuses(image: string, directories: readonly string[], script: string): Map<string, Status> {
  writeFileSync(script, directories.map((path) => `ls -p "/${path}"\n`).join(""));
  const found = new Map<string, Status>();
  let at = "";
  for (const line of debugfs(image, "-f", script).split("\n")) {
    const directory = /^debugfs: ls -p "\/(.*)"$/.exec(line)?.[1];
    if (directory !== undefined) at = directory === "" ? "" : `${directory}/`;
    const match = /^\/\d+\/([0-7]+)\/(\d+)\/(\d+)\/(.+)\/\d*\/$/.exec(line);
    if (match === null) continue;
    const [, mode, uid, gid, name] = match as unknown as [string, string, string, string, string];
    if (name === "." || name === "..") continue;
    found.set(at + name, { mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid) });
  }
  return found;
}

function* directoriesOf(root: string, path = ""): Generator<string> {
  yield path;
  for (const each of readdirSync(join(root, path), { withFileTypes: true }))
    if (each.isDirectory()) yield* directoriesOf(root, path === "" ? each.name : `${path}/${each.name}`);
}

/** Entries of an image by path, without devices. */
function entriesOf(image: string, work: string, leftOut: RegExp): Map<string, RecordedEntry> {
  const root = mkdtempSync(join(work, "image-"));
  const files = join(root, "files");
  mkdirSync(files);
  debugfs(image, "-R", `rdump / ${files}`);
  const found = new Map<string, RecordedEntry>();
  for (const [path, { mode, uid, gid }] of statuses(image, [...directoriesOf(files)], join(root, "script"))) {
    if (leftOut.test(path)) continue;
    const own = { path, mode: mode & 0o7777, uid, gid };
    const type = mode & S_IFMT;
    if (type === S_IFDIR) found.set(path, own);
    if (type === S_IFREG) found.set(path, { ...own, text: readFileSync(join(files, path), "latin1") });
    if (type === S_IFLNK) found.set(path, { ...own, target: readlinkSync(join(files, path)) });
  }
  return found;
}

/** What `after` has and `before` has not, or has otherwise, by path. `leftOut` matches whole paths. */
export function imageDifference(before: string, after: string, leftOut: RegExp): RecordedEntry[] {
  const work = mkdtempSync(join(tmpdir(), "wherry-difference-"));
  try {
    const early = entriesOf(before, work, leftOut);
    return [...entriesOf(after, work, leftOut).values()]
      .filter((entry) => JSON.stringify(entry) !== JSON.stringify(early.get(entry.path)))
      .map((entry) => {
        const { text, ...status } = entry;
        return text !== undefined && early.get(entry.path)?.text === text ? status : entry;
      })
      .toSorted((a, b) => (a.path < b.path ? -1 : 1));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
