// Kernel and firmware images: the RISC-V Image header (Documentation/arch/riscv/boot-image-header of the
// Linux kernel), ELF64 executables for RISC-V (System V ABI), and raw binaries. Returns segments for
// guest-physical memory. Left out: compressed images, which the caller unpacks.
import { hex } from "../base/hex.ts";
import { WherryError } from "../base/errors.ts";

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

const ELF_MAGIC = 0x464c457f;
const ELFCLASS64 = 2;
const ELFDATA2LSB = 1;
const EM_RISCV = 243;
const PT_LOAD = 1;
const ELF_HEADER_SIZE = 64;
const PROGRAM_HEADER_SIZE = 56;

const IMAGE_HEADER_SIZE = 64;
/** "RSC\x05" at byte 56. */
const IMAGE_MAGIC_2 = 0x05435352;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= ELF_HEADER_SIZE && viewOf(bytes).getUint32(0, true) === ELF_MAGIC;
}

/**
 * A Linux Image goes to `guestPhys`, an ELF file to its own addresses. Throws BootError for another format.
 */
export function loadKernel(bytes: Uint8Array, guestPhys: number): LoadedImage {
  if (isElf(bytes)) return loadElf(bytes, "kernel");
  const header = bytes.length >= IMAGE_HEADER_SIZE ? viewOf(bytes) : undefined;
  if (header?.getUint32(56, true) !== IMAGE_MAGIC_2) {
    throw new BootError(
      "boot.kernel",
      `the kernel is ${describe(bytes)}; expected a RISC-V Linux Image or an ELF file for RISC-V`,
    );
  }
  // image_size includes the memory that the kernel clears after the file's end.
  const memorySize = Math.max(bytes.length, Number(header.getBigUint64(16, true)));
  return { segments: [{ guestPhys, bytes, memorySize }], entry: guestPhys, end: guestPhys + memorySize };
}

/** A file that is not ELF is raw code for `guestPhys`. */
export function loadFirmware(bytes: Uint8Array, guestPhys: number): LoadedImage {
  if (isElf(bytes)) return loadElf(bytes, "firmware");
  if (bytes.length === 0) throw new BootError("boot.firmware", "the firmware is an empty file");
  const end = guestPhys + bytes.length;
  return { segments: [{ guestPhys, bytes, memorySize: bytes.length }], entry: guestPhys, end };
}

function describe(bytes: Uint8Array): string {
  if (bytes.length === 0) return "an empty file";
  const starts = (...magic: number[]): boolean => magic.every((byte, i) => bytes[i] === byte);
  if (starts(0x1f, 0x8b)) return "gzip-compressed (unpack it first)";
  if (starts(0xfd, 0x37, 0x7a, 0x58)) return "xz-compressed (unpack it first)";
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return "zstd-compressed (unpack it first)";
  if (starts(0x4d, 0x5a)) return "an EFI program for another machine, or a compressed one (unpack it first)";
  const first = Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0"));
  return `something else (it starts with bytes ${first.join(" ")})`;
}

function loadElf(bytes: Uint8Array, what: string): LoadedImage {
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
  const end = Math.max(...segments.map((s) => s.guestPhys + s.memorySize));
  return { segments, entry: elfEntry(view, segments), end };
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
