// Trees that are read from a page's files and from tar archives, as a guest sees them.
import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { byteStringOf } from "../../src/share/byte-string.ts";
import { MemoryTree } from "../../src/share/memory-tree.ts";
import { ShareServer } from "../../src/share/share-server.ts";
import { SavedShare } from "../../src/share/share-state.ts";
import { filesTree, TarError, tarTree } from "../../src/share/tar-tree.ts";
import { attached, Client9p, DIRECTORY, O } from "../support/client-9p.ts";
import { Random } from "../support/random.ts";
import { seed } from "../support/seed.ts";

const directory = mkdtempSync(join(tmpdir(), "wherry-trees-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const FILES = { "a.txt": "text ü", "d/é/b": Uint8Array.of(1, 0, 255), "/d/c": "" };

async function read(client: Client9p, root: number, path: string): Promise<Uint8Array> {
  const fid = await client.walk(root, path);
  await client.open(fid, O.RDONLY);
  const bytes = await client.read(fid, 0, 100_000);
  await client.clunk(fid);
  return bytes;
}

test("a page's files can be read and changed, and go on in another page with the same files", async () => {
  const share = new SavedShare(new ShareServer({ tag: "t", tree: await filesTree(FILES, {}) }));
  const { client, root } = await attached(share.server);
  expect(text(await read(client, root, "a.txt"))).toBe("text ü");
  expect(await read(client, root, `d/${byteStringOf("é")}/b`)).toEqual(FILES["d/é/b"]);
  const listed = await client.walk(root, "d");
  await client.open(listed, DIRECTORY);
  expect(await client.names(listed)).toEqual(["c", byteStringOf("é")].toSorted());
  const kept = await client.walk(root, "a.txt");
  await client.open(kept, O.RDWR);
  const own = await client.walk(root);
  await client.create(own, "of the guest", O.RDWR);
  await client.write(own, 0, "gone with the page");

  const writer = new ByteWriter();
  share.section.encode(writer);
  const words: string[] = [];
  const tree = await filesTree(FILES, {});
  const there = new SavedShare(new ShareServer({ tag: "t", tree }), (word) => words.push(word));
  const stale: unknown[] = [];
  there.onStale = (tag, files) => stale.push(tag, files);
  there.section.decode(new ByteReader(writer.finish()), 1)();
  await there.activate();
  const same = new Client9p(there.server);
  expect(text(await same.read(kept, 0, 99))).toBe("text ü");
  await same.write(kept, 0, "TEXT");
  expect(text(await same.read(kept, 0, 99))).toBe("TEXT ü");
  await expect(same.read(own, 0, 9)).rejects.toThrow("ESTALE");
  expect(words.join()).toMatch(/^share t: a file .*of the guest \(ENOENT\)$/);
  expect(stale).toEqual(["t", ["of the guest (ENOENT)"]]);
});

test("a file's path that leaves the tree is refused", async () => {
  await expect(filesTree({ "../a": "" }, {})).rejects.toMatchObject({ code: "tar.path" });
});

test("what tar writes: modes, links, times, long names; nothing can be changed", async () => {
  const top = join(directory, "top");
  const long = "n".repeat(180);
  mkdirSync(join(top, "d", long), { recursive: true });
  writeFileSync(join(top, "d/f"), "contents");
  chmodSync(join(top, "d/f"), 0o4750);
  utimesSync(join(top, "d/f"), 1_500_000_000, 1_500_000_000.25);
  linkSync(join(top, "d/f"), join(top, "z-hard"));
  symlinkSync("d/f", join(top, "soft"));
  writeFileSync(join(top, "d", long, "deep"), "x");
  for (const format of ["gnu", "pax"]) {
    const archive = execFileSync("tar", ["-C", top, `--format=${format}`, "-cf", "-", "."]);
    const server = new ShareServer({ tag: "t", tree: await tarTree(archive) });
    const { client, root } = await attached(server);
    expect(text(await read(client, root, "z-hard")), format).toBe("contents");
    expect(text(await read(client, root, `d/${long}/deep`)), format).toBe("x");
    expect(await client.readlink(await client.walk(root, "soft"))).toBe("d/f");
    const found = await client.getattr(await client.walk(root, "d/f"));
    expect(found).toMatchObject({ mode: 0o104750, uid: process.getuid?.() });
    expect(found.mtimeNs / 1_000_000_000n).toBe(1_500_000_000n);
    await expect(client.mkdir(root, "new")).rejects.toThrow("EROFS");
    await expect(client.open(await client.walk(root, "d/f"), O.RDWR)).rejects.toThrow("EROFS");
    await server.close();
  }
});

test("damaged tar archives end in an error, or in a tree", async () => {
  const random = new Random(seed);
  const archive = execFileSync("tar", ["-C", join(directory, "top"), "-cf", "-", "."]);
  let refused = 0;
  for (let i = 0; i < 300; i++) {
    const damaged = Buffer.from(archive);
    for (let n = 1 + random.int(4); n > 0; n--) damaged[random.int(4096)] = random.int(256);
    try {
      await tarTree(damaged);
    } catch (error) {
      if (!(error instanceof TarError)) throw error;
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(100);
});

test("directories that an archive does not name are made once, and neither too deep nor too many", async () => {
  const deep = Array.from({ length: 200 }, () => "d").join("/");
  const made = vi.spyOn(MemoryTree.prototype, "makeDirectory");
  await filesTree(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`${deep}/${i}/file`, ""])), {});
  expect(made).toHaveBeenCalledTimes(200 + 100);
  made.mockRestore();
  await expect(filesTree({ [`${deep}/${deep}/file`]: "" }, {})).rejects.toMatchObject({
    code: "share.archive",
  });
});
