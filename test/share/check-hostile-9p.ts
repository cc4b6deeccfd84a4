// `npm run check:hostile-9p`: a hostile guest against a share: random and damaged 9P messages to a server
// on a directory of the host, while somebody on the host swaps directories for symlinks and moves them out
// of the tree. Outside there is a tree of canaries: nothing of it may be read, changed, made or removed.
// Each request gets one answer, with its tag and within its room; nothing throws, hangs or grows without
// bound.
//   --count N messages, --seed S; --planted: a server that follows links, which must be found
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DirectoryTree } from "../../src/node/share/directory-tree.ts";
import type { Owner } from "../../src/share/file-tree.ts";
import { MemoryTree } from "../../src/share/memory-tree.ts";
import { QUOTAS, ShareServer } from "../../src/share/share-server.ts";
import { MessageWriter, NO_FID, RLERROR, T } from "../../src/share/wire-9p.ts";
import { options } from "../support/cases.ts";
import { Random } from "../support/random.ts";
import { within } from "../support/wait.ts";

const given = options({ count: 40_000, planted: false });
const random = new Random(given.seed);
const SECRET = "CANARY-4f1c9a27";
const BATCH = 64;
const ANSWER_MS = 60_000;

const top = mkdtempSync(join(tmpdir(), "wherry-hostile-9p-"));
process.on("exit", () => rmSync(top, { recursive: true, force: true }));
const root = join(top, "root");
const outside = join(top, "outside");
mkdirSync(join(outside, "d"), { recursive: true });
for (const path of ["secret", "d/f", "d/secret"]) writeFileSync(join(outside, path), SECRET);
symlinkSync("d", join(outside, "link"));

/** Names, types, modes, times of change, contents. */
function pictureOf(directory: string): string {
  const lines: string[] = [];
  const walk = (path: string): void => {
    const { mode, uid, gid, ino, nlink, ctimeNs } = lstatSync(path, { bigint: true });
    lines.push(`${path} ${mode} ${uid} ${gid} ${ino} ${nlink} ${ctimeNs}`);
    if ((mode & 0o170000n) === 0o040000n) for (const name of readdirSync(path).sort()) walk(join(path, name));
    else if ((mode & 0o170000n) === 0o100000n) lines.push(readFileSync(path, "latin1"));
  };
  walk(directory);
  return lines.join("\n");
}
const before = pictureOf(outside);

const NAMES = [
  "d",
  "f",
  "g",
  "secret",
  "escape",
  "link",
  "swap",
  "..",
  ".",
  "",
  "a/b",
  "../outside",
  "/etc/passwd",
  "x\0y",
  "n".repeat(255),
  "n".repeat(256),
  "\xff",
];
const TARGETS = [
  "../outside",
  outside,
  "../outside/secret",
  "/",
  "..",
  "f",
  "../../../../etc/passwd",
  "/dev/null",
];
const XATTRS = [
  "user.a",
  "user.virtfs.uid",
  "security.capability",
  "trusted.x",
  "",
  "user.",
  "u".repeat(300),
];
const TYPES = Object.values(T);
const FIDS = 40;

const fid = (): number => (random.oneIn(30) ? random.pick([NO_FID, 1 << 20, 0]) : random.int(FIDS));
const u64 = (): bigint =>
  random.pick([0n, 1n, 4096n, BigInt(random.int(100_000)), 1n << 53n, (1n << 63n) - 1n, (1n << 64n) - 1n]);
const u32 = (): number => random.pick([0, 1, 0o644, 0o4777, 512 << 10, random.int(1 << 16), 0xffff_ffff]);
const flags = (): number =>
  random.pick([0, 1, 2, 0o100, 0o300, 0o1000, 0o1001, 0o2001, 0o200000, 0o400000, random.u32()]);

/** A well-formed body for most of the types, with hostile values. */
function fill(type: number, m: MessageWriter): void {
  switch (type) {
    case T.VERSION:
      m.u32(random.pick([4096, 8192, 512 << 10, 0, 0xffff_ffff])).string(
        random.pick(["9P2000.L", "9P2000.u", ""]),
      );
      break;
    case T.ATTACH:
      m.u32(fid())
        .u32(random.oneIn(9) ? 3 : NO_FID)
        .string("u")
        .string(random.pick(["", "/", "../outside"]))
        .u32(random.int(3));
      break;
    case T.WALK: {
      const count = random.oneIn(50) ? random.int(40) : random.int(4);
      m.u32(fid()).u32(fid()).u16(count);
      for (let i = 0; i < count; i++) m.string(random.pick(NAMES));
      break;
    }
    case T.LOPEN:
      m.u32(fid()).u32(flags());
      break;
    case T.LCREATE:
      m.u32(fid()).string(random.pick(NAMES)).u32(flags()).u32(u32()).u32(0);
      break;
    case T.READ:
    case T.READDIR:
      m.u32(fid()).u64(u64()).u32(u32());
      break;
    case T.WRITE: {
      const bytes = new Uint8Array(random.int(300));
      m.u32(fid())
        .u64(random.oneIn(20) ? u64() : BigInt(random.int(9000)))
        .u32(random.oneIn(40) ? u32() : bytes.length)
        .bytes(bytes);
      break;
    }
    case T.SETATTR:
      m.u32(fid())
        .u32(random.int(0x200))
        .u32(u32())
        .u32(0)
        .u32(0)
        .u64(random.oneIn(9) ? u64() : BigInt(random.int(9000)))
        .u64(u64())
        .u64(u64())
        .u64(u64())
        .u64(u64());
      break;
    case T.SYMLINK:
      m.u32(fid()).string(random.pick(NAMES)).string(random.pick(TARGETS)).u32(0);
      break;
    case T.MKDIR:
      m.u32(fid()).string(random.pick(NAMES)).u32(u32()).u32(0);
      break;
    case T.MKNOD:
      m.u32(fid())
        .string(random.pick(NAMES))
        .u32(random.pick([0o010644, 0o100644, 0o140600]))
        .u32(0)
        .u32(0)
        .u32(0);
      break;
    case T.LINK:
      m.u32(fid()).u32(fid()).string(random.pick(NAMES));
      break;
    case T.RENAME:
      m.u32(fid()).u32(fid()).string(random.pick(NAMES));
      break;
    case T.RENAMEAT:
      m.u32(fid()).string(random.pick(NAMES)).u32(fid()).string(random.pick(NAMES));
      break;
    case T.UNLINKAT:
      m.u32(fid())
        .string(random.pick(NAMES))
        .u32(random.pick([0, 0x200]));
      break;
    case T.XATTRWALK:
      m.u32(fid()).u32(fid()).string(random.pick(XATTRS));
      break;
    case T.XATTRCREATE:
      m.u32(fid())
        .string(random.pick(XATTRS))
        .u64(random.oneIn(4) ? u64() : BigInt(random.int(50)))
        .u32(random.int(4));
      break;
    case T.LOCK:
      m.u32(fid()).u8(random.int(4)).u32(random.int(3)).u64(u64()).u64(u64()).u32(random.int(3)).string("c");
      break;
    case T.GETLOCK:
      m.u32(fid()).u8(random.int(4)).u64(u64()).u64(u64()).u32(random.int(3)).string("c");
      break;
    case T.FLUSH:
      m.u16(random.int(80));
      break;
    default:
      m.u32(fid()).u64(0n);
      break;
  }
}

/** One in ten is damaged: cut, flipped, or of another type. */
function message(tag: number): Uint8Array {
  // Mostly what gets somewhere; version and attach seldom, since one forgets and the other adds fids.
  const type = random.weighted([
    [3, T.WALK],
    [2, T.LOPEN],
    [2, T.SYMLINK],
    [2, T.LCREATE],
    [1, T.CLUNK],
    [8, random.pick(TYPES)],
  ] as const);
  if (type === T.VERSION && !random.oneIn(20)) return message(tag);
  const m = new MessageWriter(type, tag);
  fill(type, m);
  const bytes = m.finish().slice();
  if (!random.oneIn(10)) return bytes;
  if (random.oneIn(2)) return bytes.subarray(0, 7 + random.int(bytes.length - 6));
  const at = 7 + random.int(Math.max(1, bytes.length - 7));
  if (at < bytes.length) bytes[at] = random.int(256);
  if (random.oneIn(4)) bytes[4] = random.int(256);
  return bytes;
}

/** Somebody on the host plays with the tree. */
function disturb(): void {
  const tries = [
    () => renameSync(join(root, "swap"), join(top, "moved-out")),
    () => renameSync(join(top, "moved-out"), join(root, "swap")),
    () => rmSync(join(root, "swap"), { recursive: true }),
    () => mkdirSync(join(root, "swap")),
    () => symlinkSync(outside, join(root, "swap")),
    () => symlinkSync(outside, join(root, "escape")),
    () => rmSync(join(root, "d"), { recursive: true }),
    () => mkdirSync(join(root, "d")),
  ];
  try {
    random.pick(tries)();
  } catch {
    // It is not there, or there already.
  }
}

/** A tree with the fault that this check must find: a read reaches outside. */
class FollowingTree extends MemoryTree {
  override async create(path: string, flags: number, mode: number, owner: Owner) {
    const file = await super.create(path, flags, mode, owner);
    return {
      ...file,
      read: async (_: number, into: Uint8Array) =>
        into.set(readFileSync(join(outside, "secret"))) ?? SECRET.length,
    };
  }
}

const models = ["map", "none", "mapped-xattr"] as const;
let answered = 0;
let succeeded = 0;
let faults = 0;
const fail = (what: string): void => {
  faults++;
  if (faults <= 10) console.log(`FAILED: ${what}`);
};

console.log(`hostile 9p: ${given.count} messages, seed ${given.seed}`);
const began = performance.now();
for (let round = 0; answered < given.count && faults === 0; round++) {
  rmSync(root, { recursive: true, force: true });
  rmSync(join(top, "moved-out"), { recursive: true, force: true });
  mkdirSync(join(root, "d"), { recursive: true });
  writeFileSync(join(root, "d/f"), "inside");
  symlinkSync(outside, join(root, "escape"));
  const model = models[round % models.length] ?? "map";
  const tree = given.planted
    ? new FollowingTree()
    : await DirectoryTree.open({ path: root, readonly: round % 8 === 7, model });
  const server = new ShareServer({ tag: "t", tree });
  for (let i = 0; i < 40 && answered < given.count; i++) {
    const answers: Promise<void>[] = [];
    for (let n = 0; n < BATCH; n++) {
      const tag = n;
      const bytes =
        i === 0 && n < 6
          ? new MessageWriter(T.ATTACH, tag).u32(n).u32(NO_FID).string("").string("").u32(0).finish().slice()
          : message(tag);
      const room = random.oneIn(20) ? 11 + random.int(40) : 512 << 10;
      let count = 0;
      answers.push(
        new Promise((resolve) => {
          server.request(bytes, room, (reply) => {
            answered++;
            if (++count > 1) fail("a second answer to one request");
            const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
            if (reply.length < 7 || reply.length > room || view.getUint32(0, true) !== reply.length)
              fail(`an answer of ${reply.length} bytes for ${room}`);
            else if (view.getUint16(5, true) !== tag) fail("an answer with another tag");
            else if (reply[4] === RLERROR) {
              if (view.getUint32(7, true) === 0) fail("an error without a number");
            } else {
              succeeded++;
              if (reply[4] !== (bytes[4] ?? 0) + 1) fail(`an answer of type ${reply[4]} to ${bytes[4]}`);
              if (Buffer.from(reply.buffer, reply.byteOffset, reply.length).includes(SECRET))
                fail(`a canary's contents in an answer of type ${reply[4]}`);
            }
            resolve();
          });
        }),
      );
      if (random.oneIn(16)) disturb();
    }
    await within(ANSWER_MS, "all answers", Promise.all(answers));
    if (server.fids.size > QUOTAS.fids || server.locks.all.length > 2 * QUOTAS.locks)
      fail("a quota does not hold");
  }
  await server.close();
  if (pictureOf(outside) !== before) fail("the canaries are not as they were");
}
const descriptors = process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0;
if (descriptors > 200) fail(`${descriptors} descriptors are open at the end`);
const seconds = (performance.now() - began) / 1000;
console.log(
  `${answered} answers, ${succeeded} of them successes, ${faults} faults, ${Math.round(answered / seconds)} a second`,
);
if (succeeded < answered / 50) fail(`only ${succeeded} requests did anything`);
process.exit(faults > 0 === given.planted ? 0 : 1);
