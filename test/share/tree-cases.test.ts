// What POSIX says of file systems (the cases of pjdfstest that apply), through the 9P server, on each tree.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { DirectoryTree } from "../../src/node/share/directory-tree.ts";
import type { FileTree, OwnerModel } from "../../src/share/file-tree.ts";
import { MemoryTree } from "../../src/share/memory-tree.ts";
import { ShareServer } from "../../src/share/share-server.ts";
import { attached, type Client9p, DIRECTORY, O, SET } from "../support/client-9p.ts";
import { Random } from "../support/random.ts";
import { seed } from "../support/seed.ts";

/** WHERRY_RUNS: steps of the random test. */
const RUNS = Number(process.env["WHERRY_RUNS"] ?? 200);
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const isRoot = process.getuid?.() === 0;

const TREES: Record<string, (directory: string) => Promise<FileTree>> = {
  memory: async () => new MemoryTree({ wallNs: () => BigInt(Date.now()) * 1_000_000n }),
};
for (const model of ["map", "none", "passthrough", "mapped-xattr"] satisfies OwnerModel[])
  TREES[`directory, uid=${model}`] = (path) => DirectoryTree.open({ path, readonly: false, model });

describe.each(Object.entries(TREES))("%s", (name, make) => {
  const directory = mkdtempSync(join(tmpdir(), "wherry-share-"));
  let server: ShareServer;
  let client: Client9p;
  let root: number;

  beforeEach(async () => {
    server = new ShareServer({ tag: "t", tree: await make(mkdtempSync(join(directory, "root-"))) });
    ({ client, root } = await attached(server, 7));
  });
  afterEach(async () => {
    await server.close();
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** A fid of a new file, open for reading and writing. */
  async function file(path: string, contents = ""): Promise<number> {
    const slash = path.lastIndexOf("/");
    const fid = await client.walk(root, slash < 0 ? "" : path.slice(0, slash));
    await client.create(fid, path.slice(slash + 1), O.RDWR | O.EXCL);
    if (contents !== "") await client.write(fid, 0, contents);
    return fid;
  }
  async function contents(path: string): Promise<string> {
    const fid = await client.walk(root, path);
    await client.open(fid, O.RDONLY);
    const found = text(await client.read(fid, 0, 4096));
    await client.clunk(fid);
    return found;
  }
  async function list(path = ""): Promise<string[]> {
    const fid = await client.walk(root, path);
    await client.open(fid, DIRECTORY);
    const names = await client.names(fid);
    await client.clunk(fid);
    return names;
  }

  test("create, write, read, append, truncate", async () => {
    const fid = await file("a", "hello");
    expect(text(await client.read(fid, 1, 3))).toBe("ell");
    expect(await client.read(fid, 5, 10)).toHaveLength(0);
    await client.write(fid, 10, "x");
    expect(await client.read(fid, 0, 20)).toEqual(new TextEncoder().encode("hello\0\0\0\0\0x"));
    const appended = await client.walk(root, "a");
    await client.open(appended, O.WRONLY | O.APPEND);
    await client.write(appended, 0, "end");
    expect((await client.getattr(fid)).size).toBe(14n);
    await client.setattr(fid, SET.SIZE, { size: 2 });
    expect(await contents("a")).toBe("he");
    await client.setattr(await client.walk(root, "a"), SET.SIZE, { size: 4 });
    expect(await contents("a")).toBe("he\0\0");
    const truncated = await client.walk(root, "a");
    await client.open(truncated, O.RDWR | O.TRUNC);
    expect(await contents("a")).toBe("");
    await client.fsync(fid);
  });

  test("open of what is there: EXCL, directories, missing files", async () => {
    await file("a", "1");
    await expect(client.create(await client.walk(root), "a", O.RDWR | O.EXCL)).rejects.toThrow("EEXIST");
    const again = await client.walk(root);
    await client.create(again, "a", O.RDWR);
    expect(text(await client.read(again, 0, 9))).toBe("1");
    await client.mkdir(root, "d");
    await expect(client.open(await client.walk(root, "d"), O.RDWR)).rejects.toThrow("EISDIR");
    await expect(client.open(await client.walk(root, "a"), DIRECTORY)).rejects.toThrow(/ENOTDIR/);
    await expect(client.walk(root, "none")).rejects.toThrow("ENOENT");
    await expect(client.walk(root, "a/b")).rejects.toThrow(/ENOTDIR|ENOENT/);
  });

  test("names that no file has", async () => {
    for (const name of ["", "a/b", "a\0b"]) {
      await expect(client.mkdir(root, name), JSON.stringify(name)).rejects.toThrow("ENOENT");
      await expect(client.walkQids(root, client.newFid(), [name])).rejects.toThrow("ENOENT");
    }
    for (const name of [".", ".."]) await expect(client.mkdir(root, name)).rejects.toThrow("EEXIST");
    await expect(client.mkdir(root, "n".repeat(256))).rejects.toThrow("ENAMETOOLONG");
    await client.mkdir(root, "n".repeat(255));
    expect(await list()).toEqual(["n".repeat(255)]);
  });

  test("a name is bytes, not text", async () => {
    const odd = "\xff\xfe ü\n*";
    await client.mkdir(root, odd);
    expect(await list()).toEqual([odd]);
    await client.unlinkat(root, odd, true);
    expect(await list()).toEqual([]);
  });

  test("'..' ends at the root", async () => {
    await client.mkdir(root, "d");
    const [here] = [(await client.getattr(root)).qid.path];
    const fid = client.newFid();
    const qids = await client.walkQids(root, fid, ["d", "..", "..", "..", ".."]);
    expect(qids.at(-1)?.path).toBe(here);
    const d = await client.walk(root, "d");
    await client.open(d, DIRECTORY);
    const up = (await client.readdir(d, 0n)).find((entry) => entry.name === "..");
    expect(up?.qid.path).toBe(here);
    const top = await client.walk(root);
    await client.open(top, DIRECTORY);
    expect((await client.readdir(top, 0n)).find((entry) => entry.name === "..")?.qid.path).toBe(here);
  });

  test("directories: mkdir, rmdir, not empty, link count of files", async () => {
    await client.mkdir(root, "d", 0o750);
    expect((await client.getattr(await client.walk(root, "d"))).mode).toBe(0o040750);
    await expect(client.mkdir(root, "d")).rejects.toThrow("EEXIST");
    await file("d/f");
    await expect(client.unlinkat(root, "d", true)).rejects.toThrow("ENOTEMPTY");
    await expect(client.unlinkat(root, "d")).rejects.toThrow(/EISDIR|EPERM/);
    const d = await client.walk(root, "d");
    await expect(client.unlinkat(d, "f", true)).rejects.toThrow("ENOTDIR");
    await client.unlinkat(d, "f");
    await client.unlinkat(root, "d", true);
    expect(await list()).toEqual([]);
  });

  test("hard links and symlinks", async () => {
    const fid = await file("a", "1");
    await client.link(root, fid, "b");
    expect((await client.getattr(fid)).links).toBe(2n);
    await client.unlinkat(root, "a");
    expect(await contents("b")).toBe("1");
    await client.mkdir(root, "d");
    await client.symlink(root, "l", "../../../etc/passwd");
    const link = await client.walk(root, "l");
    expect(await client.readlink(link)).toBe("../../../etc/passwd");
    expect((await client.getattr(link)).mode & 0o170000).toBe(0o120000);
    await expect(client.open(link, O.RDONLY)).rejects.toThrow("ELOOP");
    await expect(client.readlink(await client.walk(root, "b"))).rejects.toThrow("EINVAL");
    await expect(client.link(root, await client.walk(root, "d"), "e")).rejects.toThrow("EPERM");
    await expect(client.link(root, await client.walk(root, "b"), "d")).rejects.toThrow("EEXIST");
  });

  test("rename: files, directories with what is below, over others", async () => {
    await client.mkdir(root, "d");
    const inside = await file("d/f", "1");
    const other = await client.walk(root, "d");
    await client.renameat(root, "d", root, "e");
    expect(await contents("e/f")).toBe("1");
    // Fids below follow.
    expect((await client.getattr(inside)).size).toBe(1n);
    expect((await client.getattr(await client.walk(other, "f"))).size).toBe(1n);
    await file("g", "22");
    await client.renameat(root, "g", other, "f");
    expect(await contents("e/f")).toBe("22");
    expect(text(await client.read(inside, 0, 9))).toBe("1");
    await client.rename(await client.walk(root, "e/f"), root, "h");
    expect(await list()).toEqual(["e", "h"]);
    await client.mkdir(root, "x");
    await file("x/y");
    await expect(client.renameat(root, "e", root, "x")).rejects.toThrow(/ENOTEMPTY|EEXIST/);
    await expect(client.renameat(root, "x", root, "h")).rejects.toThrow("ENOTDIR");
    await expect(client.renameat(root, "h", root, "x")).rejects.toThrow("EISDIR");
    await expect(client.renameat(root, "x", await client.walk(root, "x"), "z")).rejects.toThrow("EINVAL");
    await expect(client.rename(root, root, "r")).rejects.toThrow("EBUSY");
    await expect(client.renameat(root, "none", root, "r")).rejects.toThrow("ENOENT");
  });

  test("a file that is renamed meanwhile is removed where it is then", async () => {
    await client.mkdir(root, "from");
    await client.mkdir(root, "to");
    const [from, to] = [await client.walk(root, "from"), await client.walk(root, "to")];
    await file("from/f");
    await file("from/g", "another");
    const fid = await client.walk(root, "from/f");
    await Promise.all([client.renameat(from, "f", to, "g"), client.remove(fid)]);
    expect(await contents("from/g")).toBe("another");
    await expect(client.walk(root, "to/g")).rejects.toThrow("ENOENT");
  });

  test("an open file lives on without its name", async () => {
    const fid = await file("a", "still");
    const path = await client.walk(root, "a");
    await client.unlinkat(root, "a");
    expect(text(await client.read(fid, 0, 9))).toBe("still");
    expect((await client.getattr(path)).size).toBe(5n);
    await client.setattr(path, SET.SIZE, { size: 1 });
    expect((await client.getattr(fid)).size).toBe(1n);
    const anew = await file("a", "other");
    expect((await client.getattr(path)).size).toBe(1n);
    await client.clunk(fid);
    await expect(client.getattr(path)).rejects.toThrow("ESTALE");
    expect((await client.getattr(anew)).size).toBe(5n);
  });

  test("modes, owners and times", async () => {
    const fid = await file("a");
    await client.setattr(fid, SET.MODE, { mode: 0o4751 });
    expect((await client.getattr(fid)).mode).toBe(0o104751);
    const path = await client.walk(root, "a");
    const [atimeNs, mtimeNs] = [1_000_000_000_123_456_789n, 1_500_000_000_987_654_321n];
    const both = SET.ATIME | SET.ATIME_SET | SET.MTIME | SET.MTIME_SET;
    for (const each of [fid, path]) {
      await client.setattr(each, both, { atimeNs, mtimeNs });
      expect(await client.getattr(path)).toMatchObject({ atimeNs, mtimeNs });
      await client.setattr(each, SET.MTIME | SET.MTIME_SET, { mtimeNs: 77n });
      expect(await client.getattr(path)).toMatchObject({ atimeNs, mtimeNs: 77n });
    }
    await client.setattr(path, SET.MTIME);
    expect((await client.getattr(path)).mtimeNs).toBeGreaterThan(mtimeNs);
    const given = client.setattr(path, SET.UID | SET.GID, { uid: 12, gid: 13 });
    if (name.endsWith("=map")) {
      await given;
      expect(await client.getattr(path)).toMatchObject({ uid: 7, gid: 7 });
    } else if (isRoot || name === "memory" || name.endsWith("xattr")) {
      await given;
      expect(await client.getattr(path)).toMatchObject({ uid: 12, gid: 13 });
    } else if (name.endsWith("passthrough")) await expect(given).rejects.toThrow("EPERM");
    else await given;
  });

  test.runIf(isRoot || !name.endsWith("passthrough"))("who creates a file owns it", async () => {
    const fid = await client.walk(root);
    await client.create(fid, "a", O.RDWR, 0o640, 8);
    await client.mkdir(root, "d", 0o711, 8);
    await client.symlink(root, "l", "x", 8);
    if (!isRoot && name.endsWith("none")) return;
    for (const path of ["a", "d", "l"]) {
      const gid = name.endsWith("=map") ? 7 : 8;
      expect(await client.getattr(await client.walk(root, path)), path).toMatchObject({ uid: 7, gid });
    }
  });

  test("FIFOs and device nodes are made and not opened", async () => {
    await client.mknod(root, "fifo", 0o010644);
    const fifo = await client.walk(root, "fifo");
    expect((await client.getattr(fifo)).mode).toBe(0o010644);
    await client.mknod(root, "plain", 0o100600);
    expect((await client.getattr(await client.walk(root, "plain"))).mode).toBe(0o100600);
    if (name === "memory" || name.endsWith("xattr") || isRoot) {
      const made = client.mknod(root, "null", 0o020666, 1, 3);
      // A container may not let even root make one.
      const isMade = await made.then(
        () => true,
        () => false,
      );
      if (isMade) expect((await client.getattr(await client.walk(root, "null"))).device).toBe(0x103n);
    }
    if (!name.endsWith("xattr")) await expect(client.open(fifo, O.RDONLY)).rejects.toThrow("ENXIO");
  });

  test("extended attributes", async () => {
    const fid = await file("a");
    const value = Uint8Array.of(1, 2, 0, 255);
    await client.setxattr(fid, "user.one", value);
    await client.setxattr(fid, "user.two", new Uint8Array(3000).fill(9));
    expect(await client.getxattr(fid, "user.one")).toEqual(value);
    expect(await client.getxattr(fid, "user.two")).toHaveLength(3000);
    const names = text(await client.getxattr(fid, "")).split("\0");
    expect(names.filter((each) => each !== "").sort()).toEqual(["user.one", "user.two"]);
    await expect(client.setxattr(fid, "user.one", value, 1)).rejects.toThrow("EEXIST");
    await expect(client.setxattr(fid, "user.none", value, 2)).rejects.toThrow("ENODATA");
    await client.setxattr(fid, "user.one", new Uint8Array());
    await expect(client.getxattr(fid, "user.one")).rejects.toThrow("ENODATA");
    if (name !== "memory")
      await expect(client.getxattr(fid, "security.selinux")).rejects.toThrow("EOPNOTSUPP");
    if (name.endsWith("xattr"))
      await expect(client.getxattr(fid, "user.virtfs.uid")).rejects.toThrow("EACCES");
  });

  test("a directory that changes while it is read: nothing missed, nothing twice", async () => {
    for (let i = 0; i < 300; i++) await client.mkdir(root, `entry-${i}`);
    const fid = await client.walk(root);
    await client.open(fid, DIRECTORY);
    const seen: string[] = [];
    let cookie = 0n;
    for (let turn = 0; ; turn++) {
      const piece = await client.readdir(fid, cookie, 700);
      if (piece.length === 0) break;
      seen.push(...piece.map((entry) => entry.name));
      cookie = piece.at(-1)?.cookie ?? 0n;
      // As rm -r does; and others appear.
      for (const { name: entry } of piece)
        if (!entry.startsWith(".")) await client.unlinkat(root, entry, true);
      if (turn < 5) await client.mkdir(root, `late-${turn}`);
    }
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.filter((entry) => entry.startsWith("entry-"))).toHaveLength(300);
  });

  test("random reads, writes and truncations agree with a buffer (fsx)", async () => {
    const random = new Random(seed);
    const fid = await file("a");
    let expected = new Uint8Array();
    for (let i = 0; i < RUNS; i++) {
      const offset = random.int(60_000);
      const length = random.int(9_000);
      const kind = random.int(4);
      if (kind === 0) {
        await client.setattr(fid, SET.SIZE, { size: offset });
        const next = new Uint8Array(offset);
        next.set(expected.subarray(0, offset));
        expected = next;
      } else if (kind === 1 && length > 0) {
        const data = Uint8Array.from({ length }, () => random.int(256));
        expect(await client.write(fid, offset, data)).toBe(length);
        const next = new Uint8Array(Math.max(expected.length, offset + length));
        next.set(expected);
        next.set(data, offset);
        expected = next;
      } else {
        const found = await client.read(fid, offset, length);
        expect(Buffer.from(found).equals(expected.subarray(offset, offset + length))).toBe(true);
      }
    }
    expect((await client.getattr(fid)).size).toBe(BigInt(expected.length));
  });
});
