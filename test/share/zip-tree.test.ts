// Zip archives as trees: python's zipfile and Info-ZIP write them, and damaged ones are refused.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { deflateRawSync, inflateRaw } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { openShare } from "../../src/node/share/host-share.ts";
import type { MemoryTree } from "../../src/share/memory-tree.ts";
import { ZipError, zipTree } from "../../src/share/zip-tree.ts";
import { Random } from "../support/random.ts";
import { seed } from "../support/seed.ts";

const directory = mkdtempSync(join(tmpdir(), "wherry-zip-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const inflate = promisify<Uint8Array, object, Buffer>(inflateRaw);
const open = (archive: Uint8Array): Promise<MemoryTree> =>
  zipTree(archive, (packed, size) => inflate(packed, { maxOutputLength: Math.max(1, size) }));

/** Runs python with `z`, a new ZipFile; returns the archive. */
function python(lines: string): Buffer {
  const path = join(directory, "p.zip");
  const script = `import zipfile, stat\nz = zipfile.ZipFile(${JSON.stringify(path)}, "w")\n${lines}\nz.close()\n`;
  execFileSync("python3", ["-c", script]);
  return readFileSync(path);
}

async function text(tree: MemoryTree, path: string): Promise<string> {
  const file = await tree.open(path, 0);
  const bytes = new Uint8Array(100_000);
  const length = await file.read(0, bytes);
  await file.close();
  return new TextDecoder().decode(bytes.subarray(0, length));
}

const MEMBERS = `
z.writestr(zipfile.ZipInfo("stored", (2001, 2, 3, 4, 5, 6)), "as it is")
z.writestr("deep/er/deflated", "x" * 50000, zipfile.ZIP_DEFLATED)
run = zipfile.ZipInfo("run"); run.create_system = 3; run.external_attr = (stat.S_IFREG | 0o4751) << 16
z.writestr(run, "#!")
link = zipfile.ZipInfo("link"); link.create_system = 3; link.external_attr = (stat.S_IFLNK | 0o777) << 16
z.writestr(link, "deep/er")
z.writestr("empty/", "")
z.writestr("../outside", "no"); z.writestr("/absolute", "inside")
with z.open(zipfile.ZipInfo("wide"), "w", force_zip64=True) as f: f.write(b"64 bits")
`;

test("what python's zipfile writes", async () => {
  const tree = await open(python(MEMBERS));
  expect(tree.readonly).toBe(true);
  const names = async (path: string): Promise<string[]> => {
    const listed = await tree.open(path, 0);
    return (await listed.names()).toSorted();
  };
  expect(await names("")).toEqual(["absolute", "deep", "empty", "link", "run", "stored", "wide"]);
  expect(await names("deep/er")).toEqual(["deflated"]);
  expect(await text(tree, "stored")).toBe("as it is");
  expect(await text(tree, "deep/er/deflated")).toBe("x".repeat(50_000));
  expect(await text(tree, "wide")).toBe("64 bits");
  expect(await tree.readSymlink("link")).toBe("deep/er");
  expect((await tree.attributes("run")).mode).toBe(0o104751);
  expect((await tree.attributes("empty")).mode & 0o170000).toBe(0o040000);
  expect((await tree.attributes("stored")).mtimeNs).toBe(BigInt(Date.UTC(2001, 1, 3, 4, 5, 6)) * 1_000_000n);
});

test("a program in front of it, a comment behind it, a member that comes again", async () => {
  const archive = python(`z.comment = b"c" * 500\nz.writestr("a", "1")\nz.writestr("a", "22")`);
  expect(await text(await open(archive), "a")).toBe("22");
  expect(await text(await open(Buffer.concat([Buffer.alloc(1000, "#"), archive])), "a")).toBe("22");
});

// Debian's zip is not everywhere.
const hasZip = ((): boolean => {
  try {
    execFileSync("zip", ["-v"]);
    return true;
  } catch {
    return false;
  }
})();

test.runIf(hasZip)("what Info-ZIP writes: modes, links, owners, times; shared by its path", async () => {
  const top = join(directory, "tree");
  mkdirSync(join(top, "sub"), { recursive: true });
  writeFileSync(join(top, "sub/é"), "text\n".repeat(100));
  chmodSync(join(top, "sub/é"), 0o640);
  symlinkSync("sub/é", join(top, "l"));
  utimesSync(join(top, "sub/é"), 1_500_000_001, 1_500_000_001);
  const path = join(directory, "info.zip");
  execFileSync("zip", ["-q", "-r", "-y", path, "."], { cwd: top });
  const { server } = await openShare({ path, tag: "t" }, String);
  const tree = server.tree as MemoryTree;
  expect(await text(tree, "sub/\u00c3\u00a9")).toBe("text\n".repeat(100));
  expect(await tree.readSymlink("l")).toBe("sub/\u00c3\u00a9");
  expect(await tree.attributes("sub/\u00c3\u00a9")).toMatchObject({
    mode: 0o100640,
    uid: process.getuid?.(),
    mtimeNs: 1_500_000_001_000_000_000n,
  });
  await server.close();
});

test("what is not read is refused by name", async () => {
  const refused = async (archive: Uint8Array): Promise<string> =>
    await open(archive).then(
      () => "opened",
      (error: unknown) => (error instanceof ZipError ? `${error.code}: ${error.message}` : String(error)),
    );
  expect(await refused(python(`z.writestr("a", "b" * 999, zipfile.ZIP_LZMA)`))).toBe(
    "zip.unsupported: the zip archive's a is compressed by method 14, expected deflate: pack it with zip(1)",
  );
  const encrypted = python(`z.writestr("a", "b")`);
  encrypted[encrypted.indexOf("PK\x01\x02") + 8] = 1;
  expect(await refused(encrypted)).toMatch(/^zip.unsupported: .* a is encrypted/);
  const bomb = python(`z.writestr("a", "b" * 3000000, zipfile.ZIP_DEFLATED)`);
  bomb.writeUInt32LE(10, bomb.indexOf("PK\x01\x02") + 24);
  expect(await refused(bomb)).toMatch(/^zip.damaged: .* a cannot be unpacked/);
  const many = python(`z.writestr("a", "b")`);
  many.writeUInt32LE(0xf000_0000, many.indexOf("PK\x01\x02") + 24);
  expect(await refused(many)).toMatch(/^zip.size: /);
  expect(await refused(deflateRawSync(Buffer.alloc(1000)))).toMatch(/^zip.damaged: .* has no end/);
  expect(await refused(new Uint8Array())).toMatch(/^zip.damaged: /);
});

test("names that no file can have, members without a place, directories without a slash", async () => {
  const tree = await open(
    python(`
z.writestr(".", "no name"); z.writestr("a" * 256, "long"); z.writestr("b/" * 2100 + "c", "deep")
dos = zipfile.ZipInfo("dos"); dos.create_system = 0; dos.external_attr = 0x10
z.writestr(dos, "")
unix = zipfile.ZipInfo("unix"); unix.create_system = 3; unix.external_attr = (stat.S_IFDIR | 0o700) << 16
z.writestr(unix, "")`),
  );
  expect((await (await tree.open("", 0)).names()).toSorted()).toEqual(["dos", "unix"]);
  const kinds = ["dos", "unix"].map(async (path) => (await tree.attributes(path)).mode);
  expect(await Promise.all(kinds)).toEqual([0o040755, 0o040700]);
  const damaged = expect.objectContaining({ code: "zip.damaged" });
  await expect(open(python(`z.writestr("a", ""); z.writestr("a/b", "")`))).rejects.toEqual(damaged);
  const link = `l = zipfile.ZipInfo("l"); l.create_system = 3; l.external_attr = (stat.S_IFLNK | 0o777) << 16`;
  await expect(open(python(`${link}\nz.writestr(l, "x" * 4096)`))).rejects.toEqual(damaged);
  const large = join(directory, "large.zip");
  writeFileSync(large, "PK\x03\x04");
  truncateSync(large, 3 * 2 ** 30);
  await expect(openShare({ path: large, tag: "t" }, String)).rejects.toMatchObject({ code: "share.open" });
});

test("damaged archives end in an error with a name, or in a tree", async () => {
  const random = new Random(seed);
  const archive = python(MEMBERS);
  let refused = 0;
  for (let i = 0; i < 400; i++) {
    const damaged = Buffer.from(archive);
    for (let n = 1 + random.int(3); n > 0; n--) damaged[random.int(damaged.length)] = random.int(256);
    const cut = random.oneIn(4) ? damaged.subarray(0, random.int(damaged.length)) : damaged;
    try {
      await open(cut);
    } catch (error) {
      if (!(error instanceof ZipError)) throw error;
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(200);
});
