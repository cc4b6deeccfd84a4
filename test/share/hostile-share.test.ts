// A hostile guest and a changing host: what a share must refuse, and in which order it answers.
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { DirectoryTree } from "../../src/node/share/directory-tree.ts";
import { MemoryTree } from "../../src/share/memory-tree.ts";
import { QUOTAS, ShareServer } from "../../src/share/share-server.ts";
import { MessageWriter, NO_FID, T } from "../../src/share/wire-9p.ts";
import { attached, DIRECTORY, O } from "../support/client-9p.ts";

const top = mkdtempSync(join(tmpdir(), "wherry-hostile-share-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));

async function shared() {
  const path = mkdtempSync(join(top, "root-"));
  const outside = mkdtempSync(join(top, "outside-"));
  writeFileSync(join(outside, "secret"), "secret");
  const tree = await DirectoryTree.open({ path, readonly: false, model: "map" });
  const server = new ShareServer({ tag: "t", tree });
  return { path, outside, server, ...(await attached(server)) };
}

test("a symlink is never followed, whoever made it", async () => {
  const { path, outside, server, client, root } = await shared();
  symlinkSync(outside, join(path, "host"));
  await client.symlink(root, "guest", outside);
  await client.symlink(root, "file", join(outside, "secret"));
  for (const name of ["host", "guest"]) {
    await expect(client.walk(root, `${name}/secret`)).rejects.toThrow("ENOENT");
    const link = await client.walk(root, name);
    await expect(client.walkQids(link, 500, ["secret"])).rejects.toThrow(/ENOTDIR|ELOOP/);
    await expect(client.mkdir(link, "made")).rejects.toThrow(/ENOTDIR|ELOOP/);
    await expect(client.create(await client.walk(link), "made")).rejects.toThrow(/ENOTDIR|ELOOP/);
    await expect(client.open(link, DIRECTORY)).rejects.toThrow(/ELOOP|ENOTDIR/);
    await expect(client.unlinkat(link, "secret")).rejects.toThrow(/ENOTDIR|ELOOP/);
  }
  const file = await client.walk(root, "file");
  await expect(client.setattr(file, 8, { size: 0 })).rejects.toThrow("ELOOP");
  await expect(client.setattr(file, 1, { mode: 0o777 })).rejects.toThrow("ELOOP");
  await expect(client.create(await client.walk(root), "file", O.RDWR | O.TRUNC)).rejects.toThrow("ELOOP");
  expect(readdirSync(outside)).toEqual(["secret"]);
  await server.close();
});

test("a directory that the host swaps for a symlink, or moves out of the tree, is not reached any more", async () => {
  const { path, outside, server, client, root } = await shared();
  mkdirSync(join(path, "d/e"), { recursive: true });
  writeFileSync(join(path, "d/e/f"), "1");
  const e = await client.walk(root, "d/e");
  await client.getattr(await client.walk(e, "f"));
  renameSync(join(path, "d"), join(outside, "d"));
  await expect(client.walk(e, "f")).rejects.toThrow("ENOENT");
  await expect(client.mkdir(e, "made")).rejects.toThrow("ENOENT");
  symlinkSync(join(outside, "d"), join(path, "d"));
  await expect(client.walk(e, "f")).rejects.toThrow(/ENOTDIR|ELOOP/);
  await expect(client.mkdir(e, "made")).rejects.toThrow(/ENOTDIR|ELOOP/);
  expect(readdirSync(join(outside, "d/e"))).toEqual(["f"]);
  await server.close();
});

test("Rflush comes after the answer to what it flushes; others do not wait", async () => {
  let release = (): void => {};
  const gate = new Promise<void>((resolve) => (release = resolve));
  class SlowTree extends MemoryTree {
    override async readSymlink(path: string): Promise<string> {
      await gate;
      return super.readSymlink(path);
    }
  }
  const server = new ShareServer({ tag: "t", tree: new SlowTree() });
  const { client, root } = await attached(server);
  await client.symlink(root, "l", "target");
  const link = await client.walk(root, "l");
  const answers: string[] = [];
  const note = (name: string) => () => void answers.push(name);
  const slow = client.call(T.READLINK, (m) => m.u32(link), 77).then(note("readlink"));
  const flush = client.flush(77).then(note("flush"));
  const itself = client.call(T.FLUSH, (m) => m.u16(99), 99).then(note("a flush of itself"));
  await client.getattr(root).then(note("getattr"));
  await itself;
  expect(answers.sort()).toEqual(["a flush of itself", "getattr"]);
  release();
  await Promise.all([slow, flush]);
  expect(answers.slice(2)).toEqual(["readlink", "flush"]);
});

test("Tversion waits for what is under way, and forgets all fids", async () => {
  const server = new ShareServer({ tag: "t", tree: new MemoryTree() });
  const { client, root } = await attached(server);
  expect(await client.version(4096)).toBe("9P2000.L");
  expect(client.msize).toBe(4096);
  await expect(client.getattr(root)).rejects.toThrow("EBADF");
  expect(await client.version(1 << 30, "9P2000.u")).toBe("unknown");
  expect(client.msize).toBe(512 << 10);
  await expect(client.version(1000)).rejects.toThrow("EINVAL");
  await expect(client.call(T.AUTH, (m) => m.u32(1))).rejects.toThrow("EOPNOTSUPP");
});

test("quotas: fids, bytes of extended attributes, locks", async () => {
  const server = new ShareServer({ tag: "t", tree: new MemoryTree() });
  const { client, root } = await attached(server);
  for (let i = server.fids.size; i < QUOTAS.fids; i++)
    server.add({
      number: 1e6 + i,
      uid: 0,
      entry: server.root.keep(),
      qid: { type: 0, version: 1, path: 1n },
    });
  await expect(client.walk(root)).rejects.toThrow("ENFILE");
  server.reset();
  const again = await client.attach();
  const create = async (size: bigint): Promise<unknown> => {
    const fid = await client.walk(again);
    return client.call(T.XATTRCREATE, (m) => m.u32(fid).string("user.x").u64(size).u32(0));
  };
  await expect(create(65537n)).rejects.toThrow("ENOSPC");
  for (let i = 0; i < 256; i++) await create(65536n);
  await expect(create(1n)).rejects.toThrow("ENOMEM");
  const file = await client.walk(again);
  await client.create(file, "f");
  for (let i = 0; i < QUOTAS.locks; i += 64)
    server.locks.set({ file: 1n, fid: file, type: 1, start: 0n, end: 1n, process: i, client: "c" });
  expect(await client.lock(file, 1, 0, 1, 5)).toBe(0);
  expect(await client.lock(file, 1, 0, 1, 6)).toBe(1);
  expect(await client.getlock(file, 0, 0, 0, 6)).toBe(1);
  expect(await client.lock(file, 2, 0, 0, 5)).toBe(0);
  expect(await client.lock(file, 0, 5, 10, 6)).toBe(0);
  expect(await client.lock(file, 0, 7, 1, 7)).toBe(0);
  expect(await client.lock(file, 1, 14, 0, 7)).toBe(1);
  expect(await client.lock(file, 2, 8, 100, 6)).toBe(0);
  expect(await client.lock(file, 1, 14, 0, 7)).toBe(0);
});

test("the mount itself, of no user, is root's", async () => {
  const { server, client } = await shared();
  await client.call(T.ATTACH, (m) => m.u32(900).u32(NO_FID).string("").string("").u32(0xffff_ffff));
  expect(await client.getattr(900)).toMatchObject({ uid: 0, gid: 0 });
  await server.close();
});

test("an answer that does not fit is an error", async () => {
  const server = new ShareServer({ tag: "t", tree: new MemoryTree() });
  const { client, root } = await attached(server);
  const message = new MessageWriter(T.GETATTR, 1).u32(root).u64(0x7ffn).finish().slice();
  const reply = await client.raw(message, 20);
  expect([reply.length, reply[4], reply[7]]).toEqual([11, 7, 22]);
});
