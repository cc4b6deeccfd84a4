// Kernels in a wrapping that has to come off before they can be loaded: the compressed files that the Linux
// kernel's build makes (Image.gz, Image.zst, …), EFI zboot images (vmlinuz.efi; the header of
// drivers/firmware/efi/libstub/zboot-header.S in the Linux kernel), and U-Boot's legacy uImage with
// compressed contents. Recognises and takes apart; the platform decompresses.

/** A compressed format in which kernels come. */
export type PackedFormat = "gzip" | "zstd" | "xz" | "lz4" | "bzip2" | "lzma" | "lzo";

/** By their first bytes, with the command that unpacks such a file. */
const FORMATS: Readonly<
  Record<PackedFormat, { readonly magic: readonly number[]; readonly command: string }>
> = {
  gzip: { magic: [0x1f, 0x8b], command: "gzip -dc" },
  zstd: { magic: [0x28, 0xb5, 0x2f, 0xfd], command: "zstd -dc" },
  xz: { magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], command: "xz -dc" },
  lz4: { magic: [0x02, 0x21, 0x4c, 0x18], command: "lz4 -dc" }, // the legacy frame, which the kernel uses
  bzip2: { magic: [0x42, 0x5a, 0x68], command: "bzip2 -dc" },
  lzma: { magic: [0x5d, 0x00, 0x00], command: "lzma -dc" },
  lzo: { magic: [0x89, 0x4c, 0x5a, 0x4f], command: "lzop -dc" },
};

/** What a packed kernel contains. */
export interface PackedKernel {
  readonly format: PackedFormat;
  readonly payload: Uint8Array;
  /** What the file is, for messages. */
  readonly what: string;
  /** A shell command that unpacks the file F. */
  readonly command: string;
  /** The kernel to load, from the unpacked payload. */
  readonly wrap: (unpacked: Uint8Array) => Uint8Array;
}

export function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return bytes.length >= magic.length && magic.every((byte, i) => bytes[i] === byte);
}

function formatOf(bytes: Uint8Array): PackedFormat | undefined {
  const names = Object.keys(FORMATS) as PackedFormat[];
  return names.find((name) => startsWith(bytes, FORMATS[name].magic));
}

/** "MZ", two zeros, "zimg". */
const ZBOOT_MAGIC = [0x4d, 0x5a, 0, 0, 0x7a, 0x69, 0x6d, 0x67];
const ZBOOT_HEADER_SIZE = 64;

/** The packed kernel in this file; undefined if the file is not one. */
export function packedKernel(bytes: Uint8Array): PackedKernel | undefined {
  const format = formatOf(bytes);
  if (format !== undefined) {
    const command = `${FORMATS[format].command} F`;
    return { format, payload: bytes, what: `${format}-compressed`, command, wrap: (unpacked) => unpacked };
  }
  return zboot(bytes) ?? packedUImage(bytes);
}

function zboot(bytes: Uint8Array): PackedKernel | undefined {
  if (!startsWith(bytes, ZBOOT_MAGIC) || bytes.length < ZBOOT_HEADER_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offset = view.getUint32(8, true);
  const size = view.getUint32(12, true);
  const payload = bytes.subarray(offset, offset + size);
  const format = formatOf(payload);
  if (format === undefined || payload.length < size) return undefined;
  return {
    format,
    payload,
    what: `an EFI zboot image with ${format}-compressed contents`,
    command: `tail -c +${offset + 1} F | head -c ${size} | ${FORMATS[format].command}`,
    wrap: (unpacked) => unpacked,
  };
}

/** U-Boot's legacy image (include/image.h of U-Boot): a header of 64 bytes, big-endian, then the contents. */
export interface UImage {
  readonly machine: number;
  readonly type: number;
  readonly compression: number;
  readonly load: number;
  readonly entry: number;
  /** Bytes of data that the header promises. */
  readonly size: number;
  readonly data: Uint8Array;
}

export const UIMAGE_MAGIC = [0x27, 0x05, 0x19, 0x56];
export const UIMAGE_HEADER_SIZE = 64;
const UIMAGE_COMPRESSION = 31;
const UIMAGE_SIZE = 12;
/** By ih_comp; 0 is none. */
const UIMAGE_FORMATS: Readonly<Record<number, PackedFormat>> = {
  1: "gzip",
  2: "bzip2",
  3: "lzma",
  4: "lzo",
  5: "lz4",
  6: "zstd",
};

export function uImageOf(bytes: Uint8Array): UImage | undefined {
  if (!startsWith(bytes, UIMAGE_MAGIC) || bytes.length < UIMAGE_HEADER_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    machine: view.getUint8(29),
    type: view.getUint8(30),
    compression: view.getUint8(UIMAGE_COMPRESSION),
    load: view.getUint32(16),
    entry: view.getUint32(20),
    size: view.getUint32(UIMAGE_SIZE),
    data: bytes.subarray(UIMAGE_HEADER_SIZE, UIMAGE_HEADER_SIZE + view.getUint32(UIMAGE_SIZE)),
  };
}

function packedUImage(bytes: Uint8Array): PackedKernel | undefined {
  const image = uImageOf(bytes);
  const format = UIMAGE_FORMATS[image?.compression ?? 0];
  if (image === undefined || format === undefined) return undefined;
  return {
    format,
    payload: image.data,
    what: `a uImage with ${format}-compressed contents`,
    command: `tail -c +${UIMAGE_HEADER_SIZE + 1} F | ${FORMATS[format].command}`,
    wrap(unpacked) {
      const plain = new Uint8Array(UIMAGE_HEADER_SIZE + unpacked.length);
      plain.set(bytes.subarray(0, UIMAGE_HEADER_SIZE));
      plain.set(unpacked, UIMAGE_HEADER_SIZE);
      plain[UIMAGE_COMPRESSION] = 0;
      new DataView(plain.buffer).setUint32(UIMAGE_SIZE, unpacked.length);
      return plain;
    },
  };
}
