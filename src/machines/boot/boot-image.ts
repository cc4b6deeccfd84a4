// Kernel and firmware images: the RISC-V Image header (Documentation/arch/riscv/boot-image-header of the
// Linux kernel), ELF64 executables for RISC-V (System V ABI), U-Boot's legacy uImage, and raw binaries.
// Returns segments for guest-physical memory. Left out: compressed images (packed-kernel.ts).
import { hex } from "../../base/hex.ts";
import { WherryError } from "../../base/errors.ts";
import {
  packedKernel,
  startsWith,
  type UImage,
  UIMAGE_HEADER_SIZE,
  UIMAGE_MAGIC,
  uImageOf,
} from "./packed-kernel.ts";

export class BootError extends WherryError {}

/** Bytes to copy to a guest-physical address; the rest up to `memorySize` bytes is zero. */
export interface Segment {
  readonly guestPhys: number;
  readonly bytes: Uint8Array;
  readonly memorySize: number;
}

export interface LoadedImage {
  readonly segments: readonly Segment[];
  readonly entry: number;
  /** The first address after the image and the memory it clears. */
  readonly end: number;
}

const ELF_START = [0x7f, 0x45, 0x4c, 0x46];
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const EM_RISCV = 243;
const PT_LOAD = 1;
const ET_DYN = 3;
const ELF_HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;

const IMAGE_HEADER_SIZE = 64;
/** "RSC\x05" at byte 56. */
const IMAGE_MAGIC_2 = 0x05435352;
/** "ARM\x64" at the same place. */
const ARM64_IMAGE_MAGIC = 0x644d5241;
/** "HdrS" at 0x202. */
const X86_SETUP_MAGIC = 0x53726448;
/** IH_ARCH_RISCV and IH_TYPE_KERNEL of U-Boot's include/image.h. */
const UIMAGE_RISCV = 26;
const UIMAGE_KERNEL = 2;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= ELF_HEADER_SIZE && startsWith(bytes, ELF_START);
}

/**
 * As QEMU: an ELF file goes to its own addresses, a uImage to its header's, and a Linux Image or raw code to
 * `guestPhys`. Throws BootError for a file that is recognisably something else.
 */
export function loadKernel(bytes: Uint8Array, guestPhys: number): LoadedImage {
  if (isElf(bytes)) return loadElf(bytes, "kernel", guestPhys);
  const uImage = uImageOf(bytes);
  if (uImage !== undefined) return loadUImage(uImage);
  const header = bytes.length >= IMAGE_HEADER_SIZE ? viewOf(bytes) : undefined;
  const isLinux = header?.getUint32(56, true) === IMAGE_MAGIC_2;
  const found = isLinux ? undefined : notCode(bytes);
  if (found !== undefined) {
    throw new BootError(
      "boot.kernel",
      `the kernel is ${found}; expected a RISC-V Linux Image, an ELF file for RISC-V, a uImage, or raw RISC-V code`,
    );
  }
  // image_size includes the memory that the kernel clears after the file's end.
  const memorySize = Math.max(bytes.length, isLinux ? Number(header.getBigUint64(16, true)) : 0);
  return { segments: [{ guestPhys, bytes, memorySize }], entry: guestPhys, end: guestPhys + memorySize };
}

/** A file that is not ELF is raw code for `guestPhys`. Throws BootError for recognisably something else. */
export function loadFirmware(bytes: Uint8Array, guestPhys: number): LoadedImage {
  if (isElf(bytes)) return loadElf(bytes, "firmware", guestPhys);
  const found = notCode(bytes);
  if (found !== undefined) {
    throw new BootError(
      "boot.firmware",
      `the firmware is ${found}; expected an ELF file for RISC-V, or raw RISC-V code`,
    );
  }
  const end = guestPhys + bytes.length;
  return { segments: [{ guestPhys, bytes, memorySize: bytes.length }], entry: guestPhys, end };
}

/** Files that people give for a kernel in error, by their first bytes. */
const OTHER_FILES: readonly (readonly [magic: readonly number[], what: string])[] = [
  [[0x30, 0x37, 0x30, 0x37, 0x30], "a cpio archive (an initial ramdisk)"],
  [[0x51, 0x46, 0x49, 0xfb], "a qcow2 disk image"],
  [[0xd0, 0x0d, 0xfe, 0xed], "a device tree or a FIT image (take the kernel out of it with dumpimage)"],
];

/** What the file is if it cannot be RISC-V code; undefined if it can. */
function notCode(bytes: Uint8Array): string | undefined {
  if (bytes.length === 0) return "an empty file";
  const cut = [
    [ELF_START, "an ELF file", ELF_HEADER_SIZE],
    [UIMAGE_MAGIC, "a uImage", UIMAGE_HEADER_SIZE],
  ] as const;
  for (const [magic, what, size] of cut) {
    if (startsWith(bytes, magic) && bytes.length < size)
      return `${what} that is cut off: ${bytes.length} bytes, its header alone has ${size}`;
  }
  const packed = packedKernel(bytes);
  if (packed !== undefined) return `${packed.what} (unpack it first: ${packed.command})`;
  const other = OTHER_FILES.find(([magic]) => startsWith(bytes, magic));
  if (other !== undefined) return other[1];
  const view = viewOf(bytes);
  if (bytes.length >= IMAGE_HEADER_SIZE && view.getUint32(56, true) === ARM64_IMAGE_MAGIC)
    return "a Linux Image for ARM64";
  if (bytes.length >= 0x206 && view.getUint32(0x202, true) === X86_SETUP_MAGIC)
    return "a Linux kernel for x86";
  if (startsWith(bytes, [0x4d, 0x5a])) return "an EFI program, which needs UEFI firmware";
  if (bytes.subarray(0, 256).every((byte) => (byte >= 0x20 && byte < 0x7f) || (byte >= 9 && byte <= 13)))
    return "a text file";
  // The unprivileged specification, §1.5: 16 zero bits, and ones alone, are never an instruction.
  const first = view.getUint8(0) | ((bytes[1] ?? 0) << 8);
  if (first === 0 || first === 0xffff) {
    const hexadecimal = Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0"));
    return `not code (it starts with bytes ${hexadecimal.join(" ")}, which are no instruction)`;
  }
  return undefined;
}

function loadUImage({ machine, type, compression, load, entry, size, data }: UImage): LoadedImage {
  const fail = (expected: string, found: string): never => {
    throw new BootError("boot.uimage", `the kernel is a uImage; expected ${expected}, found ${found}`);
  };
  if (machine !== UIMAGE_RISCV) fail(`architecture ${UIMAGE_RISCV} (RISC-V)`, `${machine}`);
  if (type !== UIMAGE_KERNEL) fail(`type ${UIMAGE_KERNEL} (a kernel)`, `${type}`);
  if (compression !== 0) fail("no compression", `compression ${compression}`);
  if (data.length < size) fail(`${size} bytes after the header`, `${data.length}: the file is cut off`);
  const end = load + data.length;
  if (entry < load || entry >= end)
    fail(`an entry from ${hex(load)} to ${hex(end - 1)}, where the image is loaded`, hex(entry));
  return { segments: [{ guestPhys: load, bytes: data, memorySize: data.length }], entry, end };
}

/** `base`: where position-independent code goes, which is linked at 0 and relocates itself. */
function loadElf(bytes: Uint8Array, what: string, base: number): LoadedImage {
  const view = viewOf(bytes);
  const fail = (expected: string, found: string): never => {
    throw new BootError("boot.elf", `the ${what} is an ELF file; expected ${expected}, found ${found}`);
  };
  if (bytes[4] !== ELFCLASS64 || bytes[5] !== ELFDATA2LSB) {
    fail("64-bit little-endian", `class ${bytes[4]}, data encoding ${bytes[5]}`);
  }
  const machine = view.getUint16(18, true);
  if (machine !== EM_RISCV) fail(`machine ${EM_RISCV} (RISC-V)`, `machine ${machine}`);
  const tableAt = Number(view.getBigUint64(32, true));
  const count = view.getUint16(56, true);
  const segments: Segment[] = [];
  for (let i = 0; i < count; i++) {
    const at = tableAt + i * PROGRAM_HEADER_SIZE;
    if (at + PROGRAM_HEADER_SIZE > bytes.length) fail(`${count} program headers`, "the end of the file");
    if (view.getUint32(at, true) !== PT_LOAD) continue;
    const offset = Number(view.getBigUint64(at + 8, true));
    const guestPhys = Number(view.getBigUint64(at + 24, true));
    const fileSize = Number(view.getBigUint64(at + 32, true));
    const memorySize = Number(view.getBigUint64(at + 40, true));
    if (offset + fileSize > bytes.length || memorySize < fileSize) {
      fail(`${fileSize} bytes of a segment at offset ${hex(offset)}`, `a file of ${bytes.length} bytes`);
    }
    if (memorySize > 0)
      segments.push({ guestPhys, bytes: bytes.subarray(offset, offset + fileSize), memorySize });
  }
  if (segments.length === 0) fail("a loadable segment", "none");
  const entry = elfEntry(view, segments);
  const isIndependent =
    view.getUint16(16, true) === ET_DYN && segments.some(({ guestPhys }) => guestPhys === 0);
  const shift = isIndependent ? base : 0;
  const placed = segments.map((segment) => ({ ...segment, guestPhys: segment.guestPhys + shift }));
  const end = Math.max(...placed.map((s) => s.guestPhys + s.memorySize));
  return { segments: placed, entry: entry + shift, end };
}

/**
 * e_entry as a physical address: in Linux's vmlinux it is virtual, and the entry is the start of the first
 * segment.
 */
function elfEntry(view: DataView, segments: readonly Segment[]): number {
  const entry = Number(view.getBigUint64(24, true));
  const inside = segments.some((s) => entry >= s.guestPhys && entry < s.guestPhys + s.memorySize);
  return inside ? entry : Math.min(...segments.map((s) => s.guestPhys));
}
