// Kernel files as QEMU's users have them: raw code, ELF, uImage, compressed ones and EFI zboot images start;
// anything else is refused with what it is and what to do.
import { gzipSync, zstdCompressSync } from "node:zlib";
import { expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { createMachine } from "../../src/node/index.ts";
import { unpack } from "../../src/browser/browser-unpack.ts";
import { unpackKernel } from "../../src/embed/unpack-kernel.ts";
import { type LoadedImage, loadKernel } from "../../src/machines/boot/boot-image.ts";
import type { Platform } from "../../src/embed/platform.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";

const BASE = 0x80200000;
const MIB = 2 ** 20;

/** Prints its address in RAM's megabytes as one character, then powers off. `head` are its first words. */
function program(head = "", base = BASE): Uint8Array<ArrayBuffer> {
  const text = `
    ${head}
    start:
      auipc a0, 0
      srli a0, a0, 20
      andi a0, a0, 0xff
      addi a0, a0, 65
      li a7, 1
      ecall
      li a7, 0x53525354
      li a6, 0
      li a0, 0
      li a1, 0
      ecall
      j start
  `;
  return flatBinary(assemble([{ name: "program", text }], { base: BigInt(base) }));
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(parts));
}

const raw = program();
const linux = program(`
  j start
  .word 0
  .dword 0x200000
  .dword 0x10000
  .zero 32
  .word 0x05435352
  .word 0
`);

function elf(code: Uint8Array, at: number, type = 2): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(120);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, type, true);
  view.setUint16(18, 243, true);
  view.setBigUint64(24, BigInt(at), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true);
  view.setBigUint64(72, 120n, true);
  view.setBigUint64(88, BigInt(at), true);
  view.setBigUint64(96, BigInt(code.length), true);
  view.setBigUint64(104, BigInt(code.length), true);
  return join(bytes, code);
}

function uImage(code: Uint8Array, at: number, { compression = 0, machine = 26, type = 2, entry = at } = {}) {
  const header = new Uint8Array(64);
  const view = new DataView(header.buffer);
  view.setUint32(0, 0x27051956);
  view.setUint32(12, code.length);
  view.setUint32(16, at);
  view.setUint32(20, entry);
  header.set([5, machine, type, compression], 28);
  return join(header, code);
}

function zboot(payload: Uint8Array, size = payload.length): Uint8Array<ArrayBuffer> {
  const header = Buffer.alloc(256);
  header.write("MZ\0\0zimg", "latin1");
  header.writeUInt32LE(256, 8);
  header.writeUInt32LE(size, 12);
  header.write("name", 24);
  header.writeUInt32LE(0x818223cd, 56);
  return join(header, payload, new Uint8Array(100));
}

async function run(kernel: Uint8Array): Promise<string> {
  let out = "";
  const machine = await createMachine({
    harts: 1,
    memoryBytes: 32 * MIB,
    kernel,
    onConsole: (bytes) => (out += Buffer.from(bytes).toString("latin1")),
  });
  try {
    await machine.start();
    expect(await machine.ended).toEqual({ kind: "shutdown", message: "guest-shutdown" });
    return out;
  } finally {
    await machine.close();
  }
}

test.each([
  ["raw code", raw, "C"],
  ["a uImage", uImage(gzipSync(program("", 0x80500000)), 0x80500000, { compression: 1 }), "F"],
  ["a zboot image", zboot(zstdCompressSync(linux)), "C"],
])("a machine starts with %s", async (_, kernel, where) => {
  expect(await run(kernel)).toBe(where);
});

async function load(
  kernel: Uint8Array,
  platform: Pick<Platform, "unpack"> = nodePlatform,
): Promise<LoadedImage> {
  return loadKernel(await unpackKernel(kernel, 32 * MIB, platform), BASE);
}
const contents = (image: LoadedImage) =>
  image.segments.map(({ bytes }) => Buffer.from(bytes).toString("hex"));

test.each([
  ["raw code", raw, BASE],
  ["a Linux Image", linux, BASE],
  ["an ELF file", elf(raw, 0x80400000), 0x80400000],
  // As OpenSBI's.
  ["a position-independent ELF file", elf(raw, 0, 3), BASE],
  ["a uImage", uImage(raw, 0x80500000), 0x80500000],
  ["a uImage with gzip", uImage(gzipSync(raw), 0x80500000, { compression: 1 }), 0x80500000],
  ["raw code in gzip", gzipSync(raw), BASE],
  ["an ELF file in gzip", gzipSync(elf(raw, 0x80400000)), 0x80400000],
  ["an Image in zstd", zstdCompressSync(linux), BASE],
  ["a zboot image with gzip", zboot(gzipSync(linux)), BASE],
  ["a zboot image with zstd", zboot(zstdCompressSync(linux)), BASE],
  ["a zboot image in gzip", gzipSync(zboot(gzipSync(linux))), BASE],
])("%s goes to its place", async (name, kernel, at) => {
  const image = await load(kernel);
  const [code, size] = /Linux|an Image|zboot/.test(name) ? [linux, 0x10000] : [raw, raw.length];
  expect(contents(image)).toEqual([Buffer.from(code).toString("hex")]);
  expect([image.entry, image.segments[0]?.guestPhys, image.end]).toEqual([at, at, at + size]);
});

const XZ = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0];
const start = (bytes: readonly number[] | string, size = 0x300) => {
  const file = Buffer.alloc(size);
  file.set(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
  return new Uint8Array(file);
};
function at(offset: number, text: string): Uint8Array<ArrayBuffer> {
  const file = start("MZ");
  file.set(Buffer.from(text, "latin1"), offset);
  return file;
}

test.each([
  ["nothing", new Uint8Array(0), "an empty file; expected a RISC-V Linux Image"],
  ["zeros", new Uint8Array(4096), "not code (it starts with bytes 00 00 00 00, which are no instruction)"],
  ["erased flash", new Uint8Array(64).fill(0xff), "not code (it starts with bytes ff ff ff ff"],
  ["text", new Uint8Array(Buffer.from("#!/bin/sh\n")), "a text file"],
  ["an initial ramdisk", start("070701000000"), "a cpio archive (an initial ramdisk)"],
  ["a packed initial ramdisk", gzipSync(start("070701000000")), "a cpio archive (an initial ramdisk)"],
  ["a disk", start("QFI\xfb\0\0\0\x03"), "a qcow2 disk image"],
  ["ARM64's Image", at(56, "ARM\x64"), "a Linux Image for ARM64"],
  ["x86's bzImage", at(0x202, "HdrS"), "a Linux kernel for x86"],
  ["an EFI program", start("MZ\x90\0"), "an EFI program, which needs UEFI firmware"],
  ["a FIT image", start([0xd0, 0x0d, 0xfe, 0xed]), "a device tree or a FIT image"],
  [
    "a kernel of ARM in a uImage",
    uImage(raw, BASE, { machine: 2 }),
    "expected architecture 26 (RISC-V), found 2",
  ],
  ["a script in a uImage", uImage(raw, BASE, { type: 6 }), "expected type 2 (a kernel), found 6"],
  ["half a uImage", uImage(raw, BASE).subarray(0, -1), "bytes after the header, found"],
  [
    "a uImage that starts elsewhere",
    uImage(raw, BASE, { entry: 0x1234 }),
    "where the image is loaded, found 0x1234",
  ],
  ["a uImage's magic number", start([0x27, 0x05, 0x19, 0x56], 14), "a uImage that is cut off: 14 bytes"],
  ["the start of an ELF file", start("\x7fELF\x02", 40), "an ELF file that is cut off: 40 bytes"],
  [
    "xz",
    start(XZ),
    "xz-compressed, which this platform does not unpack: give it unpacked (xz -dc F > Image)",
  ],
  [
    "a zboot image with xz",
    zboot(start(XZ, 5000)),
    "an EFI zboot image with xz-compressed contents, which this platform does not unpack: give it unpacked (tail -c +257 F | head -c 5000 | xz -dc > Image)",
  ],
  [
    "half a gzip file",
    gzipSync(raw).subarray(0, 30),
    "gzip-compressed and cannot be unpacked: unexpected end of file",
  ],
  ["a zboot image cut short", zboot(gzipSync(linux), 10_000), "an EFI program"],
  [
    "a kernel larger than the machine",
    gzipSync(join(linux, new Uint8Array(33 * MIB))),
    "gzip-compressed and cannot be unpacked: it unpacks to more than 33554432 bytes",
  ],
])("%s is refused", async (_, kernel, message) => {
  await expect(load(kernel)).rejects.toThrow(message);
  await expect(load(kernel)).rejects.toMatchObject({ code: expect.stringMatching(/^boot\./) });
});

test("a platform without decompression refuses compressed kernels, and takes the others", async () => {
  await expect(unpackKernel(gzipSync(raw), 2 * MIB, {})).rejects.toThrow("(gzip -dc F > Image)");
  expect(await unpackKernel(raw, 2 * MIB, {})).toBe(raw);
  const old = { unpack: async (format: string) => (format === "gzip" ? raw : undefined) };
  await expect(unpackKernel(zstdCompressSync(raw), 2 * MIB, old)).rejects.toThrow("zstd -dc F");
  let many: Uint8Array = raw;
  for (let i = 0; i < 5; i++) many = gzipSync(many);
  await expect(unpackKernel(many, 2 * MIB, nodePlatform)).rejects.toThrow("more than 4 times");
});

test("a browser unpacks gzip, and refuses what it does not have", async () => {
  const inBrowser = (kernel: Uint8Array) => load(kernel, { unpack });
  expect(contents(await inBrowser(zboot(gzipSync(linux))))).toEqual([Buffer.from(linux).toString("hex")]);
  await expect(inBrowser(start(XZ))).rejects.toThrow("does not unpack: give it unpacked (xz -dc F");
  await expect(inBrowser(gzipSync(join(linux, new Uint8Array(33 * MIB))))).rejects.toThrow(
    "more than 33554432",
  );
  await expect(inBrowser(gzipSync(raw).subarray(0, 30))).rejects.toThrow("cannot be unpacked");
});
