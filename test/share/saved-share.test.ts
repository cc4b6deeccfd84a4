// A share's fids, locks and extended attributes, saved on one server and loaded on another, over the same
// directory as it is then.
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { DirectoryTree } from "../../src/node/share/directory-tree.ts";
import type { OwnerModel } from "../../src/share/file-tree.ts";
import { FileError } from "../../src/share/linux-errno.ts";
import { tarTree } from "../../src/share/tar-tree.ts";
import { SavedShare, ShareError } from "../../src/share/share-state.ts";
import { ShareServer } from "../../src/share/share-server.ts";
import { T } from "../../src/share/wire-9p.ts";
import { attached, Client9p, DIRECTORY, O, SET } from "../support/client-9p.ts";
import { Random } from "../support/random.ts";
import { seed } from "../support/seed.ts";

const all = mkdtempSync(join(tmpdir(), "wherry-saved-share-"));
afterAll(() => rmSync(all, { recursive: true, force: true }));
/** WHERRY_RUNS: how much random work. */
const RUNS = Number(process.env["WHERRY_RUNS"] ?? 10);
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

test("a file whose mode forbids what it was opened for goes on, and keeps its mode", async () => {
  const path = mkdtempSync(join(all, "root-"));
  const share = await open(path);
  const { client, root } = await attached(share.server as ShareServer);
  await client.create(root, "object", O.WRONLY, 0o444);
  await client.write(root, 0, "first");
  const saved = save(share);
  await share.server.close();
  const there = await open(path);
  const { tree } = there.server as ShareServer;
  // As for a user who is not root.
  const opened = vi.spyOn(tree, "open").mockImplementation(async (name, flags) => {
    const { mode } = await tree.attributes(name);
    if (flags & 3 && !(mode & 0o200)) throw new FileError("EACCES");
    return await DirectoryTree.prototype.open.call(tree, name, flags);
  });
  there.section.decode(new ByteReader(saved), 1)();
  await there.activate();
  expect(opened).toHaveBeenCalledTimes(2);
  const same = new Client9p(there.server as ShareServer);
  await same.write(root, 5, " second");
  expect(readFileSync(join(path, "object"), "utf8")).toBe("first second");
  expect(statSync(join(path, "object")).mode & 0o7777).toBe(0o444);
  await there.server.close();
});

test("many open fids of a file whose mode forbids them go on, and it keeps its mode", async () => {
  const path = mkdtempSync(join(all, "root-"));
  writeFileSync(join(path, "object"), "first");
  const share = await open(path);
  const { client, root } = await attached(share.server as ShareServer);
  for (let i = 0; i < 50; i++) await client.open(await client.walk(root, "object"), O.WRONLY);
  chmodSync(join(path, "object"), 0o444);
  const saved = save(share);
  await share.server.close();
  const words: string[] = [];
  const there = await open(path, { warn: (message) => words.push(message) });
  const { tree } = there.server as ShareServer;
  let opened = 0;
  vi.spyOn(tree, "open").mockImplementation(async (name, flags) => {
    const { mode } = await tree.attributes(name);
    if (flags & 3 && !(mode & 0o200)) throw new FileError("EACCES");
    await new Promise((go) => setTimeout(go, opened++ % 7));
    return await DirectoryTree.prototype.open.call(tree, name, flags);
  });
  there.section.decode(new ByteReader(saved), 1)();
  await there.activate();
  expect([words, statSync(join(path, "object")).mode & 0o7777]).toEqual([[], 0o444]);
  await there.server.close();
});

test("an archive that has changed: the guest's files of it turn stale", async () => {
  const tar = (mtime: number): Buffer => {
    const top = mkdtempSync(join(all, "tar-"));
    writeFileSync(join(top, "f"), "text");
    return execFileSync("tar", ["-C", top, `--mtime=@${mtime}`, "-cf", "-", "f"]);
  };
  const shareOf = async (mtime: number, words: string[] = []): Promise<SavedShare> =>
    new SavedShare(new ShareServer({ tag: "work", tree: await tarTree(tar(mtime)) }), (word) =>
      words.push(word),
    );
  const share = await shareOf(1000);
  const { client, root } = await attached(share.server as ShareServer);
  await client.open(await client.walk(root, "f"), O.RDONLY);
  const saved = save(share);
  for (const [mtime, expected] of [
    [1000, []],
    [2000, [expect.stringContaining("f (another file has its name)")]],
  ] as const) {
    const words: string[] = [];
    const there = await shareOf(mtime, words);
    there.section.decode(new ByteReader(saved), 1)();
    await there.activate();
    expect(words).toEqual(expected);
  }
});

test("random work on open files agrees with buffers over many saves and loads", async () => {
  const random = new Random(seed);
  const path = mkdtempSync(join(all, "root-"));
  let share = await open(path);
  const connected = await attached(share.server as ShareServer);
  const { root } = connected;
  let { client } = connected;
  interface Held {
    readonly fid: number;
    readonly appends: boolean;
    name: string;
    bytes: Uint8Array;
  }
  const held: Held[] = [];
  const put = (file: Held, at: number, data: Uint8Array): void => {
    const next = new Uint8Array(Math.max(file.bytes.length, at + data.length));
    next.set(file.bytes);
    next.set(data, at);
    file.bytes = next;
  };
  let made = 0;
  let loads = 0;
  // Numbers go on where they were.
  let nextFid = 1000;
  for (let i = 0; i < 40 * RUNS; i++) {
    const file = random.pick(held.length === 0 ? [undefined] : held);
    const kind = random.int(9);
    if (file === undefined || (kind === 0 && held.length < 12)) {
      const fid = await client.walk(root);
      const [name, appends] = [`f${made++}`, random.oneIn(3)];
      await client.create(fid, name, O.RDWR | (appends ? O.APPEND : 0));
      held.push({ fid, appends, name, bytes: new Uint8Array() });
    } else if (kind <= 3) {
      const [offset, length] = [random.int(30_000), 1 + random.int(9000)];
      const data = Uint8Array.from({ length }, () => random.int(256));
      expect(await client.write(file.fid, offset, data)).toBe(length);
      put(file, file.appends ? file.bytes.length : offset, data);
    } else if (kind === 4) {
      const size = random.int(30_000);
      await client.setattr(file.fid, SET.SIZE, { size });
      const kept = file.bytes.subarray(0, size);
      file.bytes = new Uint8Array(size);
      file.bytes.set(kept);
    } else if (kind === 5) {
      const name = `r${made++}`;
      await client.renameat(root, file.name, root, name);
      file.name = name;
    } else if (kind === 6 && held.length > 3) {
      await client.clunk(file.fid);
      expect(Buffer.compare(readFileSync(join(path, file.name)), file.bytes)).toBe(0);
      await client.unlinkat(root, file.name);
      held.splice(held.indexOf(file), 1);
    } else if (kind === 7) {
      const saved = save(share);
      await share.server.close();
      ({ share, client } = await load(saved, path));
      client.newFid = () => nextFid++;
      loads++;
    } else {
      const [offset, count] = [random.int(30_000), random.int(9000)];
      const found = await client.read(file.fid, offset, count);
      expect(Buffer.compare(found, file.bytes.subarray(offset, offset + count))).toBe(0);
      expect((await client.getattr(file.fid)).size).toBe(BigInt(file.bytes.length));
    }
  }
  expect(loads).toBeGreaterThan(RUNS);
  await share.server.close();
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
