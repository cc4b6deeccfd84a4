// `npm run check:ext4`: file systems of random trees, written by src/ext4 and judged by e2fsprogs: e2fsck -fn
// must find nothing, debugfs must read back every file, link, owner, mode, device and extended attribute. A
// planted fault (one flipped bit of metadata) must be found. The first cases are large directories, large
// files with many holes, and sizes at the edges of block groups.
//   --count N (default 12), --seed S, --keep: leave the last image in tmp/ext4.img
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { mkdirSync, copyFileSync, ftruncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { type Attributes, type Directory, directory, type Node } from "../../src/ext4/ext4-tree.ts";
import { Ext4Writer } from "../../src/ext4/ext4-writer.ts";
import { Random } from "../support/random.ts";

const { values } = parseArgs({
  options: {
    count: { type: "string", default: "12" },
    seed: { type: "string" },
    keep: { type: "boolean", default: false },
  },
});
const seed = Number(values.seed ?? Date.now() % 2 ** 31);
const count = Number(values.count);
if (!Number.isSafeInteger(seed) || !Number.isSafeInteger(count))
  throw new Error("--seed, --count: expected a number");
console.log(`check:ext4: ${count} file systems, seed ${seed}`);
const MiB = 2 ** 20;
const NODES = { file: 8, directory: 3, symlink: 3, character: 1, block: 1, fifo: 1, socket: 1 } as const;

interface Case {
  readonly size: number;
  readonly root: Directory;
  /** Contents by node. */
  readonly contents: Map<Node, Uint8Array>;
}

const folder = mkdtempSync(join(tmpdir(), "wherry-ext4-"));
const image = join(folder, "image");

function attributes(random: Random): Attributes {
  const wide = random.oneIn(8);
  const xattrs = new Map<string, Uint8Array>();
  if (random.oneIn(6))
    for (let n = random.int(4); n >= 0; n--)
      xattrs.set(`${random.pick(["user", "trusted", "security"])}.k${n}`, bytesOf(random, random.int(200)));
  return {
    mode: random.int(0o10000),
    uid: random.int(wide ? 2 ** 32 : 1000),
    gid: random.int(wide ? 2 ** 32 : 1000),
    mtime: random.int(2 ** 33),
    xattrs,
  };
}

function bytesOf(random: Random, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = random.u32();
  return bytes;
}

/** Mostly small; some with holes, so that the extent tree gets leaves. */
function contentsOf(random: Random): Uint8Array {
  if (random.oneIn(40)) {
    const bytes = new Uint8Array(random.int(24 * MiB));
    for (let at = 0; at < bytes.length; at += 4096 * (17 + random.int(40)))
      bytes.set(bytesOf(random, 64), at);
    return bytes.subarray(0, bytes.length - random.int(4096));
  }
  return bytesOf(random, random.int(random.oneIn(10) ? 200_000 : 9000));
}

async function fill(
  writer: Ext4Writer,
  random: Random,
  nodes: number,
  wide: boolean,
): Promise<Omit<Case, "size">> {
  const root = directory({ ...attributes(random), mode: 0o755 });
  const directories = [root];
  const linkable: Node[] = [];
  const contents = new Map<Node, Uint8Array>();
  for (let n = 0; n < nodes; n++) {
    const parent = wide ? root : random.pick(directories);
    const name = `${n}-${"n".repeat(random.oneIn(20) ? random.int(240) : random.int(12))}${random.oneIn(9) ? "é" : ""}`;
    if (linkable.length > 0 && random.oneIn(10)) {
      parent.entries.set(name, random.pick(linkable));
      continue;
    }
    const own = attributes(random);
    const kind = random.weighted(Object.entries(NODES).map(([each, weight]) => [weight, each] as const));
    let node: Node;
    if (kind === "directory") directories.push((node = directory(own)));
    else if (kind === "symlink")
      node = { ...own, kind, mode: 0o777, target: "t".repeat(1 + random.int(random.oneIn(3) ? 1000 : 70)) };
    else if (kind === "character" || kind === "block")
      node = {
        ...own,
        kind,
        major: random.int(random.oneIn(2) ? 4096 : 256),
        minor: random.int(random.oneIn(2) ? 2 ** 20 : 256),
      };
    else if (kind === "fifo" || kind === "socket") node = { ...own, kind };
    else {
      const bytes = contentsOf(random);
      // Contents that are replaced before they get a name.
      if (random.oneIn(10)) writer.release(await writer.store(bytes));
      node = { ...own, kind: "file", data: await writer.store(bytes) };
      contents.set(node, bytes);
    }
    if (node.kind !== "directory") linkable.push(node);
    parent.entries.set(name, node);
  }
  return { root, contents };
}

async function make(index: number): Promise<Case> {
  const random = new Random(seed + index);
  // Directories of many blocks, group counts with and without copies, a last group that is too small.
  const size =
    [64 * MiB, 4096 * MiB, 1153 * MiB, 128 * MiB + 4096 * 3][index] ??
    (40 + random.int(3000)) * MiB + random.int(MiB);
  const fd = openSync(image, "w");
  ftruncateSync(fd, size);
  const sink = {
    async write(offset: number, bytes: Uint8Array): Promise<void> {
      if (offset + bytes.length > size) throw new Error(`a write beyond the image at ${offset}`);
      writeSync(fd, bytes, 0, bytes.length, offset);
    },
  };
  const identity = {
    uuid: bytesOf(random, 16),
    hashSeed: bytesOf(random, 16),
    label: "check",
    time: 1_780_000_000,
  };
  const writer = new Ext4Writer(sink, size, identity);
  const made = await fill(writer, random, index === 0 ? 3000 : 20 + random.int(300), index === 0);
  await writer.finish(made.root);
  closeSync(fd);
  return { size, ...made };
}

function fsck(): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync("e2fsck", ["-fn", image], { encoding: "utf8" });
  return { status, output: stdout + stderr };
}

const debugfs = (commands: readonly string[]): string =>
  execFileSync("debugfs", ["-f", "-", image], {
    input: `${commands.join("\n")}\n`,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    stdio: ["pipe", "pipe", "ignore"],
  });

/** What debugfs finds otherwise than the tree says. */
function differences({ root, contents }: Case): string[] {
  const problems: string[] = [];
  const inodes = new Map<string, Node>();
  const check = (path: string, what: string, found: unknown, expected: unknown): void => {
    if (!isDeepStrictEqual(found, expected))
      problems.push(`${path}: ${what}: expected ${String(expected)}, found ${String(found)}`);
  };
  const all: [string, Directory][] = [["/", root]];
  for (let n = 0; n < all.length; n++)
    for (const [name, node] of (all[n] as [string, Directory])[1].entries)
      if (node.kind === "directory") all.push([`${all[n]?.[0]}${name}/`, node]);
  const lists = debugfs(all.map(([path]) => `ls -p "${path}"`))
    .split(/^debugfs: ls .*\n/m)
    .slice(1);
  check("/", "directories", lists.length, all.length);
  const dumps: string[] = [];
  const asked: [string, Node][] = [];
  for (const [n, [path, own]] of all.entries()) {
    const found = new Map(
      (lists[n] ?? "").split("\n").flatMap((line) => {
        const [, inode, mode, uid, gid, name] = line.split("/");
        return name === undefined || name === "." || name === ".."
          ? []
          : [[name, { inode, mode, uid, gid }] as const];
      }),
    );
    check(path, "names", [...found.keys()], [...own.entries.keys()]);
    for (const [name, node] of own.entries) {
      const entry = found.get(name);
      if (entry === undefined) continue;
      check(path + name, "mode", Number.parseInt(entry.mode as string, 8) & 0o7777, node.mode);
      check(path + name, "uid", Number(entry.uid) >>> 0, node.uid);
      check(path + name, "gid", Number(entry.gid) >>> 0, node.gid);
      const known = inodes.get(entry.inode as string);
      if (known !== undefined) check(path + name, "inode", known === node, true);
      else {
        inodes.set(entry.inode as string, node);
        asked.push([`<${entry.inode}>`, node]);
        if (node.kind === "file") dumps.push(`dump <${entry.inode}> ${join(folder, `f${entry.inode}`)}`);
      }
    }
  }
  debugfs(dumps);
  for (const [inode, node] of inodes) {
    if (node.kind !== "file") continue;
    const path = join(folder, `f${inode}`);
    check(inode, "contents", Buffer.compare(readFileSync(path), contents.get(node) as Uint8Array), 0);
    rmSync(path);
  }
  const stats = debugfs(asked.map(([inode]) => `stat ${inode}`))
    .split(/^debugfs: stat .*\n/m)
    .slice(1);
  for (const [n, [inode, node]] of asked.entries()) {
    const stat = stats[n] ?? "";
    if (node.kind === "symlink" && node.target.length < 60)
      check(inode, "target", /Fast link dest: "(.*)"/.exec(stat)?.[1], node.target);
    if (node.kind === "character" || node.kind === "block") {
      const device = /Device major\/minor number: (\d+):(\d+)/.exec(stat)?.slice(1).map(Number);
      check(inode, "device", device, [node.major, node.minor]);
    }
    const time = / mtime: (0x[0-9a-f]+):([0-9a-f]+)/.exec(stat);
    const low = Number(time?.[1]) | 0;
    check(inode, "mtime", low + (Number.parseInt(time?.[2] ?? "0", 16) & 3) * 2 ** 32, node.mtime);
  }
  const attributed = asked.filter(([, { xattrs }]) => (xattrs?.size ?? 0) > 0);
  const gets = attributed.flatMap(([inode, { xattrs }]) =>
    [...(xattrs ?? [])].map(([name, value]) => ({ inode, name, value })),
  );
  debugfs(gets.map(({ inode, name }, n) => `ea_get -f ${join(folder, `x${n}`)} ${inode} ${name}`));
  for (const [n, { inode, name, value }] of gets.entries()) {
    check(inode, name, Buffer.compare(readFileSync(join(folder, `x${n}`)), value), 0);
    rmSync(join(folder, `x${n}`));
  }
  return problems;
}

const failures: string[] = [];
const started = performance.now();
for (let index = 0; index < count; index++) {
  const made = await make(index);
  const { status, output } = fsck();
  const problems = status === 0 ? differences(made) : [output];
  if (problems.length > 0) failures.push(`case ${index}: ${problems.slice(0, 10).join("\n")}`);
}
// The judge sees: one flipped bit in the block bitmap of group 0.
{
  await make(count);
  const fd = openSync(image, "r+");
  const bytes = execFileSync("dumpe2fs", [image], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const at = Number(/Block bitmap at (\d+)/.exec(bytes)?.[1]) * 4096;
  writeSync(fd, new Uint8Array([0x7f]), 0, 1, at);
  closeSync(fd);
  if (fsck().status === 0) failures.push("the planted fault was not found");
}
if (values.keep) {
  mkdirSync("tmp", { recursive: true });
  copyFileSync(image, "tmp/ext4.img");
}
rmSync(folder, { recursive: true });
for (const failure of failures) console.error(failure);
console.log(
  `check:ext4: ${failures.length === 0 ? "ok" : "FAILED"}, ${((performance.now() - started) / 1000).toFixed(1)} s`,
);
process.exitCode = failures.length === 0 ? 0 : 1;
