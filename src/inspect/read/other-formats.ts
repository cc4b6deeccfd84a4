// Recognises files that are not migration streams: compressed files, disk images, libvirt's saves.
import { decodeUtf8 } from "../../base/text.ts";
import { RESOLVE_MAGIC } from "../../stream/wire.ts";
import type { Problem } from "../model/stream-report.ts";
import { problem } from "../model/problems.ts";

interface Format {
  /** The first bytes, in hexadecimal. */
  readonly bytes: string;
  readonly name: string;
  readonly cure: string;
}

const UNPACK = "unpack it first";
const FORMATS: readonly Format[] = [
  { bytes: "1f8b", name: "gzip", cure: `${UNPACK}: zcat FILE | wherry inspect -` },
  { bytes: "fd377a585a00", name: "xz", cure: `${UNPACK}: xzcat FILE | wherry inspect -` },
  { bytes: "28b52ffd", name: "zstd", cure: `${UNPACK}: zstdcat FILE | wherry inspect -` },
  { bytes: "425a68", name: "bzip2", cure: `${UNPACK}: bzcat FILE | wherry inspect -` },
  { bytes: "894c5a4f", name: "lzop", cure: `${UNPACK}: lzop -dc FILE | wherry inspect -` },
  {
    bytes: "514649fb",
    name: "a qcow2 image",
    cure: "the state of a snapshot is inside it: load the snapshot in QEMU and migrate to a file",
  },
  {
    bytes: "7f454c46",
    name: "an ELF file",
    cure: "a core dump is not a migration stream: migrate to a file",
  },
  {
    bytes: RESOLVE_MAGIC.toString(16),
    name: "a RESOLVE request of Wherry",
    cure: "give the stream itself",
  },
];

/** Undefined for a stream and for an unknown format. */
export function otherFormat(bytes: Uint8Array): Problem | undefined {
  const hexText = Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const format = FORMATS.find((known) => hexText.startsWith(known.bytes));
  if (format !== undefined) {
    const { name, cure } = format;
    return problem("stream.magic", "header", 0, "a migration stream", name, {
      cause: "the file has another format",
      cure,
    });
  }
  const libvirt = libvirtHeader(bytes);
  if (libvirt === undefined) return undefined;
  const { offset } = libvirt;
  const cause = "virsh save writes a header and the domain's XML before the stream";
  const packed =
    libvirt.format === 0 ? "" : ", compressed (save_image_format): decompress the bytes after them";
  const cure = `header and XML are ${offset} bytes${packed} (tail -c +${offset + 1} FILE)`;
  return problem("stream.magic", "header", 0, "a migration stream", "a file of libvirt", { cause, cure });
}

const LIBVIRT_HEADER_BYTES = 92;

/**
 * The header that `virsh save` writes before a stream: 16 characters, then 32-bit numbers in the host's byte
 * order: version, length of XML and cookie, whether the guest was running, compression of the stream (0:
 * none), …
 */
export function libvirtHeader(
  bytes: Uint8Array,
): { readonly format: number; readonly offset: number } | undefined {
  if (bytes.length < LIBVIRT_HEADER_BYTES || decodeUtf8(bytes.subarray(0, 12)) !== "LibvirtQemud")
    return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const little = view.getUint32(16, true) < 256;
  return { format: view.getUint32(28, little), offset: LIBVIRT_HEADER_BYTES + view.getUint32(20, little) };
}
