// Fetching the Debian guest from a small archive on a loopback server: signed with a key made here, packages
// with a toy kernel and modules. Covers every failure and fraud of a mirror, interruption, and concurrent
// fetches.
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { crc32, gzipSync } from "node:zlib";
import { createCleartextMessage, generateKey, type PrivateKey, sign } from "openpgp";
import { pack } from "tar-stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type DebianGuestOptions, fetchDebianGuest, type GuestProgress } from "./debian-guest.ts";

const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [n, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, n * 4);
  return bytes;
}

/** An .xz file that stores its contents (LZMA2 chunks without compression; check type CRC32). */
function storedXz(contents: Buffer): Buffer {
  const chunks: Buffer[] = [];
  for (let at = 0; at < contents.length; at += 65536) {
    const part = contents.subarray(at, at + 65536);
    chunks.push(Buffer.from([at === 0 ? 1 : 2, (part.length - 1) >> 8, (part.length - 1) & 255]), part);
  }
  const data = Buffer.concat([...chunks, Buffer.from([0])]);
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)];
  const padded = (bytes: Buffer): Buffer =>
    Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const header = Buffer.from([2, 0, 0x21, 1, 22, 0, 0, 0]);
  const block = Buffer.concat([header, u32(crc32(header)), padded(data), u32(crc32(contents))]);
  const unpadded = header.length + 4 + data.length + 4;
  const index = padded(Buffer.from([0, 1, ...varint(unpadded), ...varint(contents.length)]));
  const flags = Buffer.from([0, 1]);
  const footer = Buffer.concat([u32((index.length + 4) / 4 - 1), flags]);
  return Buffer.concat([
    Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, ...flags]),
    u32(crc32(flags)),
    block,
    index,
    u32(crc32(index)),
    u32(crc32(footer)),
    footer,
    Buffer.from("YZ"),
  ]);
}

/** A package with these files: an ar archive of an empty control and a gzipped or stored-xz data.tar. */
async function deb(files: Record<string, Buffer>, xz = false): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name: "./", type: "directory" });
  for (const [name, bytes] of Object.entries(files)) tar.entry({ name: `./${name}` }, bytes);
  tar.finalize();
  const data = Buffer.concat(await Readable.from(tar).toArray());
  const member = (name: string, bytes: Buffer): Buffer[] => [
    Buffer.from(
      `${name.padEnd(16)}${"0".padEnd(12)}${"0".padEnd(6)}${"0".padEnd(6)}${"100644".padEnd(8)}${String(bytes.length).padEnd(10)}\`\n`,
    ),
    bytes,
    Buffer.alloc(bytes.length & 1, "\n"),
  ];
  return Buffer.concat([
    Buffer.from("!<arch>\n"),
    ...member("debian-binary", Buffer.from("2.0\n")),
    ...member("control.tar.gz", gzipSync(Buffer.alloc(1024))),
    ...(xz ? member("data.tar.xz", storedXz(data)) : member("data.tar.gz", gzipSync(data))),
  ]);
}

/** The smallest ELF file with a .modinfo section. */
function kernelModule(depends: string): Buffer {
  const info = Buffer.from(`license=GPL\0depends=${depends}\0alias=test:d1v*\0`);
  const names = Buffer.from("\0.modinfo\0.shstrtab\0");
  const elf = Buffer.alloc(64 + 3 * 64);
  elf.writeBigUInt64LE(64n, 40);
  elf.writeUInt16LE(3, 60);
  elf.writeUInt16LE(2, 62);
  const section = (n: number, name: number, offset: number, size: number): void => {
    elf.writeUInt32LE(name, 64 + n * 64);
    elf.writeBigUInt64LE(BigInt(offset), 64 + n * 64 + 24);
    elf.writeBigUInt64LE(BigInt(size), 64 + n * 64 + 32);
  };
  section(1, 1, elf.length, info.length);
  section(2, 10, elf.length + info.length, names.length);
  return Buffer.concat([elf, info, names]);
}

const VERSION = "6.1-test-riscv64";
const image = Buffer.alloc(300_000, 7);
image.write("RSC\x05", 56, "latin1");

let key: PrivateKey;
let stranger: PrivateKey;
let keyring: Buffer;
const files = new Map<string, Buffer>();
/** The requests so far, and the behaviour that a test wants from the server. */
let requests: { path: string; range: string | undefined }[] = [];
let misbehave: (path: string, response: http.ServerResponse, body: Buffer) => boolean = () => false;
let server: http.Server;
let mirror = "";
let directory = "";

async function publish(by: PrivateKey, suite = "trixie"): Promise<void> {
  const modules = `usr/lib/modules/${VERSION}/kernel/drivers`;
  const debs: [string, string, Buffer][] = [
    ["linux-image-riscv64", `linux-image-${VERSION} (= 1)`, Buffer.alloc(10)],
    [
      `linux-image-${VERSION}`,
      "kmod, a | b",
      await deb(
        {
          [`boot/vmlinux-${VERSION}`]: image,
          [`${modules}/virtio_mmio.ko`]: kernelModule(""),
          [`${modules}/virtio_blk.ko.xz`]: storedXz(kernelModule("helper-one")),
          [`${modules}/helper-one.ko`]: kernelModule(""),
          [`${modules}/unrelated.ko`]: kernelModule(""),
        },
        true,
      ),
    ],
    ["busybox-static", "", await deb({ "usr/bin/busybox": Buffer.from("busy") })],
    [
      "opensbi",
      "",
      await deb({
        "usr/lib/riscv32-linux-gnu/opensbi/generic/fw_dynamic.bin": Buffer.from("not this"),
        "usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin": Buffer.from("sbi"),
      }),
    ],
  ];
  await publishSuite("trixie", "stable", suite, debs, by);
}

async function publishBackports(): Promise<void> {
  const version = "7.2-test-riscv64";
  const module = `usr/lib/modules/${version}/kernel/drivers/virtio_blk.ko`;
  const parts = ["base", "binary", "modules"].map((part) => `linux-${part}-${version} (= 1)`);
  await publishSuite("trixie-backports", "stable-backports", "trixie-backports", [
    ["linux-image-riscv64", `linux-base-riscv64 (= 1), linux-image-${version} (= 1)`, Buffer.alloc(10)],
    [`linux-image-${version}`, `dracut | initramfs-tools, ${parts.join(", ")}`, Buffer.alloc(10)],
    [`linux-binary-${version}`, "", await deb({ [`usr/lib/modules/${version}/vmlinuz`]: image })],
    [`linux-modules-${version}`, "kmod", await deb({ [module]: kernelModule("") })],
  ]);
}

async function publishSuite(
  folder: string,
  suite: string,
  codename: string,
  debs: readonly [string, string, Buffer][],
  by = key,
): Promise<void> {
  const stanzas = debs.map(([name, depends, bytes]) => {
    const filename = `pool/main/${name}_1+b1_riscv64.deb`;
    files.set(`/${filename}`, bytes);
    return `Package: ${name}\nVersion: 1\nDepends: ${depends}\nDescription: long\n text\nFilename: ${filename}\nSize: ${bytes.length}\nSHA256: ${sha256(bytes)}\n`;
  });
  const index = storedXz(Buffer.from(`Package: other\nVersion: 1\n\n${stanzas.join("\n")}`));
  files.set(`/dists/${folder}/main/binary-riscv64/Packages.xz`, index);
  const text = `Origin: Debian\nSuite: ${suite}\nCodename: ${codename}\nSHA256:\n ${sha256(index)} ${index.length} main/binary-riscv64/Packages.xz\n`;
  const signed = await sign({ message: await createCleartextMessage({ text }), signingKeys: by });
  files.set(`/dists/${folder}/InRelease`, Buffer.from(signed));
}

beforeAll(async () => {
  const make = async () =>
    (await generateKey({ userIDs: [{ name: "Test Archive" }], format: "object" })).privateKey;
  [key, stranger] = [await make(), await make()];
  keyring = Buffer.from(key.toPublic().write());
  server = http.createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? "");
    requests.push({ path, range: request.headers.range });
    const body = files.get(path);
    if (!body) return void response.writeHead(404, "Not Found").end();
    if (misbehave(path, response, body)) return;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { "content-length": body.length - from });
    response.end(body.subarray(from));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((resolve) => server.close(resolve)));

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-guest-"));
  await writeFile(join(directory, "keyring.gpg"), keyring);
  files.clear();
  requests = [];
  misbehave = () => false;
  await publish(key);
});
afterEach(() => rm(directory, { recursive: true }));

const get = (options: DebianGuestOptions = {}) =>
  fetchDebianGuest({
    mirror,
    cache: join(directory, "cache"),
    keyring: join(directory, "keyring.gpg"),
    ...options,
  });

describe("a good mirror", () => {
  it("returns kernel, initramfs and firmware; the second time without the mirror", async () => {
    const progress: GuestProgress[] = [];
    const guest = await get({ onProgress: (each) => progress.push(each) });
    expect(guest).toMatchObject({ version: VERSION, suite: "trixie" });
    expect((await readFile(guest.kernel)).equals(image)).toBe(true);
    expect((await readFile(guest.opensbi)).toString()).toBe("sbi");
    const initrd = (await readFile(guest.initrd)).toString("latin1");
    for (const name of ["init", "usr/bin/witness", `lib/modules/${VERSION}/virtio_blk.ko`]) {
      expect(initrd).toContain(`${name}\0`);
    }
    expect(initrd).toContain("virtio_blk.ko: helper_one.ko\n");
    expect(initrd).toContain("alias test:d1v* virtio_blk\n");
    expect(initrd).not.toContain("unrelated");
    expect([...new Set(progress.map((each) => each.step))]).toEqual(["index", "download", "unpack"]);
    expect(progress.every((each) => each.done <= each.total)).toBe(true);
    const left = await readdir(join(directory, "cache/debian-trixie"));
    expect(left.filter((name) => name.endsWith(".deb") || name.endsWith(".part"))).toEqual([]);

    requests = [];
    expect(await get()).toEqual(guest);
    expect(requests).toEqual([]);
    expect(await get({ refresh: true })).toEqual(guest);
    expect(requests.map((each) => each.path)).toEqual(["/dists/trixie/InRelease"]);
  });

  it("comes from the machine's apt sources, the first that answers", async () => {
    await mkdir(join(directory, "apt"));
    files.set("/debian/dists/trixie/InRelease", files.get("/dists/trixie/InRelease") as Buffer);
    for (const [path, body] of [...files]) files.set(`/debian${path}`, body);
    const list = `deb http://127.0.0.1:9/debian trixie main\ndeb [signed-by=${join(directory, "keyring.gpg")}] ${mirror}/debian trixie main\n`;
    await writeFile(join(directory, "apt/sources.list"), list);
    const guest = await get({ mirror: undefined, keyring: undefined, aptDirectory: join(directory, "apt") });
    expect(guest.version).toBe(VERSION);
  });

  it("has an index by its hash, where the name has another day's", async () => {
    const path = "/dists/trixie/main/binary-riscv64/Packages.xz";
    const index = files.get(path) as Buffer;
    files.set(`${path.replace("Packages.xz", "by-hash/SHA256/")}${sha256(index)}`, index);
    files.set(path, Buffer.from("of yesterday"));
    expect((await get()).version).toBe(VERSION);
  });

  it("has a kernel in parts in backports, and the rest in the suite itself", async () => {
    await publishBackports();
    const guest = await get({ suite: "trixie-backports" });
    expect(guest).toMatchObject({ version: "7.2-test-riscv64", suite: "trixie-backports" });
    expect((await readFile(guest.kernel)).equals(image)).toBe(true);
    expect((await readFile(guest.opensbi)).toString()).toBe("sbi");
    const initrd = (await readFile(guest.initrd)).toString("latin1");
    expect(initrd).toContain("lib/modules/7.2-test-riscv64/virtio_blk.ko\0");
    expect((await get()).version).toBe(VERSION);
  });

  it("serves concurrent fetches", async () => {
    const [first, ...others] = await Promise.all(Array.from({ length: 5 }, () => get()));
    for (const other of others) expect(other).toEqual(first);
  });

  it("continues a partial file of a process that has ended", async () => {
    const name = `linux-image-${VERSION}_1+b1_riscv64.deb`;
    const cache = join(directory, "cache/debian-trixie");
    await mkdir(cache, { recursive: true });
    const whole = files.get(`/pool/main/${name}`) as Buffer;
    // No process has this id: it is above Linux's limit.
    await writeFile(join(cache, `${name}.9999999.00000000-0000.part`), whole.subarray(0, 1000));
    await get();
    expect(requests.find((each) => each.path.endsWith(name))?.range).toBe("bytes=1000-");
  });

  it("starts over when the partial file is wrong", async () => {
    const name = "opensbi_1+b1_riscv64.deb";
    const cache = join(directory, "cache/debian-trixie");
    await mkdir(cache, { recursive: true });
    await writeFile(join(cache, `${name}.9999999.00000000-0000.part`), "wrong");
    expect((await readFile((await get()).opensbi)).toString()).toBe("sbi");
  });

  it("may redirect", async () => {
    misbehave = (path, response) => {
      if (!path.startsWith("/dists")) return false;
      files.set(`/moved${path}`, files.get(path) as Buffer);
      response.writeHead(302, { location: `/moved${path}` }).end();
      return true;
    };
    expect((await get()).version).toBe(VERSION);
  });
});

describe("a refusal says why", () => {
  it("no mirror known", async () => {
    await expect(get({ mirror: undefined, aptDirectory: join(directory, "none") })).rejects.toMatchObject({
      code: "guest.mirror",
      message: expect.stringMatching(/apt sources name no mirror.*--mirror/),
    });
  });

  it("no mirror reached", async () => {
    await expect(get({ mirror: "http://127.0.0.1:9" })).rejects.toMatchObject({
      code: "guest.mirror",
      message: expect.stringMatching(/cannot reach the mirror .*ECONNREFUSED.*--mirror/),
    });
  });

  it("a mirror without the suite", async () => {
    await expect(get({ suite: "nosuch" })).rejects.toThrow(/answers 404 Not Found for .*nosuch\/InRelease/);
    await expect(get({ suite: "../x" })).rejects.toMatchObject({ code: "guest.suite" });
  });

  it("no keyring", async () => {
    await expect(get({ keyring: join(directory, "none.gpg") })).rejects.toMatchObject({
      code: "guest.keyring",
      message: expect.stringContaining("debian-archive-keyring"),
    });
  });

  it("a signature by another key", async () => {
    await publish(stranger);
    await expect(get()).rejects.toMatchObject({ code: "guest.signature" });
  });

  it("an index that was changed after it was signed", async () => {
    const text = (files.get("/dists/trixie/InRelease") as Buffer).toString();
    files.set("/dists/trixie/InRelease", Buffer.from(text.replace(/[0-9a-f]{64}/, "0".repeat(64))));
    await expect(get()).rejects.toMatchObject({ code: "guest.signature" });
  });

  it("an index without a signature", async () => {
    files.set("/dists/trixie/InRelease", Buffer.from("Suite: trixie\n"));
    await expect(get()).rejects.toMatchObject({ code: "guest.signature" });
  });

  it("a good signature on another suite's index", async () => {
    await publish(key, "sid");
    await expect(get()).rejects.toMatchObject({ code: "guest.suite" });
  });

  it("a damaged package, which is removed", async () => {
    const path = "/pool/main/busybox-static_1+b1_riscv64.deb";
    const bytes = Buffer.from(files.get(path) as Buffer);
    bytes[100] = (bytes[100] as number) ^ 1;
    files.set(path, bytes);
    await expect(get()).rejects.toMatchObject({
      code: "guest.checksum",
      message: expect.stringMatching(/busybox-static.*expected SHA-256 .*found/),
    });
    expect(
      (await readdir(join(directory, "cache/debian-trixie"))).filter((n) => n.includes("busybox")),
    ).toEqual([]);
    await publish(key);
    expect((await get()).version).toBe(VERSION);
  });

  it("a broken connection; the next attempt continues there", async () => {
    const name = "busybox-static_1+b1_riscv64.deb";
    misbehave = (path, response, body) => {
      if (!path.endsWith(name)) return false;
      response.writeHead(200, { "content-length": body.length });
      response.write(body.subarray(0, 50), () => response.destroy());
      return true;
    };
    await expect(get()).rejects.toMatchObject({
      code: "guest.mirror",
      message: expect.stringContaining("broke off"),
    });
    misbehave = () => false;
    expect((await get()).version).toBe(VERSION);
  });

  it("a package that is longer than its index entry", async () => {
    misbehave = (path, response, body) => {
      if (!path.includes("busybox")) return false;
      response.end(Buffer.concat([body, Buffer.alloc(100_000)]));
      return true;
    };
    await expect(get()).rejects.toMatchObject({ code: "guest.checksum" });
  });
});
