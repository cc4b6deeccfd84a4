// A share's fids, locks and extended attributes, saved on one server and loaded on another, over the same
// directory as it is then.
import { mkdirSync, mkdtempSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { DirectoryTree } from "../../src/node/share/directory-tree.ts";
import type { OwnerModel } from "../../src/share/file-tree.ts";
import { SavedShare, ShareError } from "../../src/share/share-state.ts";
import { ShareServer } from "../../src/share/share-server.ts";
import { T } from "../../src/share/wire-9p.ts";
import { attached, Client9p, DIRECTORY, O } from "../support/client-9p.ts";

const all = mkdtempSync(join(tmpdir(), "wherry-saved-share-"));
afterAll(() => rmSync(all, { recursive: true, force: true }));
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

interface Options {
  readonly readonly?: boolean;
  readonly model?: OwnerModel;
  readonly warn?: (message: string) => void;
}

async function open(
  path: string,
  { readonly = false, model = "map", warn }: Options = {},
): Promise<SavedShare> {
  return new SavedShare(
    new ShareServer({ tag: "work", tree: await DirectoryTree.open({ path, readonly, model }) }),
    warn,
  );
}

function save({ section }: SavedShare): Uint8Array {
  const writer = new ByteWriter();
  section.encode(writer);
  return writer.finish();
}

/** Its fids have the same numbers. */
async function load(
  saved: Uint8Array,
  path: string,
  options?: Options,
): Promise<{ share: SavedShare; client: Client9p }> {
  const share = await open(path, options);
  share.section.decode(new ByteReader(saved), 1)();
  await share.activate();
  return { share, client: new Client9p(share.server as ShareServer) };
}

async function prepared() {
  const path = mkdtempSync(join(all, "root-"));
  mkdirSync(join(path, "d"));
  writeFileSync(join(path, "d/f"), "contents");
  writeFileSync(join(path, "other"), "o");
  for (let i = 0; i < 100; i++) writeFileSync(join(path, `d/${i}`), "");
  const share = await open(path);
  const { client, root } = await attached(share.server as ShareServer, 5);
  const f = await client.walk(root, "d/f");
  await client.open(f, O.RDWR);
  const d = await client.walk(root, "d");
  await client.open(d, DIRECTORY);
  const other = await client.walk(root, "other");
  return { path, share, client, root, f, d, other };
}

test("open files, half-read directories, locks and half-written attributes go on", async () => {
  const { path, share, client, root, f, d, other } = await prepared();
  const first = await client.readdir(d, 0n, 800);
  expect(await client.lock(f, 1, 10, 5)).toBe(0);
  const xattr = await client.walk(other);
  await client.call(T.XATTRCREATE, (m) => m.u32(xattr).string("user.half").u64(4n).u32(0));
  await client.write(xattr, 0, "ab");
  const saved = save(share);
  expect(share.mounted).toBe("work");
  await share.server.close();

  const { share: there, client: same } = await load(saved, path);
  expect(save(there)).toEqual(saved);
  expect(text(await same.read(f, 0, 99))).toBe("contents");
  await same.write(f, 0, "C");
  expect(await same.lock(f, 1, 12, 1, 2)).toBe(1);
  const names = first.map(({ name }) => name);
  for (let cookie = first.at(-1)?.cookie ?? 0n; ; ) {
    const piece = await same.readdir(d, cookie, 800);
    if (piece.length === 0) break;
    names.push(...piece.map(({ name }) => name));
    cookie = piece.at(-1)?.cookie ?? 0n;
  }
  expect(names).toHaveLength(103);
  expect(new Set(names).size).toBe(103);
  await same.write(xattr, 2, "cd");
  await same.clunk(xattr);
  same.newFid = () => 1000;
  expect(text(await same.getxattr(other, "user.half"))).toBe("abcd");
  expect((await same.getattr(root)).uid).toBe(5);
  await there.server.close();
});

test("what is gone or another turns stale, with its name; the rest goes on", async () => {
  const { path, share, client, root, f, d, other } = await prepared();
  const removed = await client.walk(root);
  await client.create(removed, "temporary");
  await client.unlinkat(root, "temporary");
  const saved = save(share);
  await share.server.close();
  unlinkSync(join(path, "d/f"));
  writeFileSync(join(path, "new"), "");
  renameSync(join(path, "new"), join(path, "other"));
  const words: string[] = [];
  const { share: there, client: same } = await load(saved, path, { warn: (message) => words.push(message) });
  expect(words).toHaveLength(1);
  expect(words[0]).toMatch(/^share work: 3 files .*ESTALE/);
  for (const each of [
    "d/f (ENOENT)",
    "other (another file has its name)",
    "temporary (the guest had removed it)",
  ])
    expect(words[0]).toContain(each);
  for (const fid of [f, other, removed]) {
    await expect(same.getattr(fid)).rejects.toThrow("ESTALE");
    await expect(same.read(fid, 0, 1)).rejects.toThrow(/ESTALE|EBADF/);
    await expect(same.walkQids(fid, 900, ["x"])).rejects.toThrow("ESTALE");
  }
  same.newFid = () => 1000;
  // New walks find what is there now, and stale fids can be given back.
  expect((await same.getattr(await same.walk(root, "other"))).size).toBe(0n);
  await same.clunk(1000);
  expect(await same.names(d)).toHaveLength(100);
  // They stay stale when it is saved again.
  const again = await load(save(there), path);
  await expect(again.client.getattr(f)).rejects.toThrow("ESTALE");
  await same.clunk(f);
  await there.server.close();
  await again.share.server.close();
});

test("another kind of share is refused with what to give", async () => {
  const { path, share } = await prepared();
  const saved = save(share);
  await share.server.close();
  const refusal = async (options: Options): Promise<unknown> => {
    const there = await open(path, options);
    try {
      return there.section.decode(new ByteReader(saved), 1);
    } catch (error) {
      return error;
    } finally {
      await there.server.close();
    }
  };
  const refused = await refusal({ readonly: true });
  expect(refused).toBeInstanceOf(ShareError);
  expect(refused).toMatchObject({
    code: "share.other",
    message: expect.stringContaining("without readonly=on"),
  });
  expect(await refusal({ model: "none" })).toMatchObject({
    message: expect.stringContaining("give uid=map"),
  });
});

test("a share that is not mounted goes to any other", async () => {
  const path = mkdtempSync(join(all, "root-"));
  const share = await open(path);
  expect(share.mounted).toBeUndefined();
  const saved = save(share);
  await share.server.close();
  const { share: there } = await load(saved, path, { readonly: true, model: "none" });
  expect(there.server.fids.size).toBe(0);
  await there.server.close();
});
