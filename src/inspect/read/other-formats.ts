// Recognises files that are not migration streams: compressed files, disk images, dumps, saves of others.
import { decodeUtf8, encodeUtf8 } from "../../base/text.ts";
import { RESOLVE_MAGIC } from "../../stream/wire.ts";
import type { Problem } from "../model/stream-report.ts";
import { problem } from "../model/problems.ts";

interface Format {
  /** Bytes in hexadecimal, or characters after an apostrophe. */
  readonly bytes: string;
  /** Where they are; default: at the start. */
  readonly at?: number;
  readonly name: string;
  readonly cure: string;
}

const UNPACK = "unpack it first";
const SAVE = "that is not a migration stream: save the machine with migrate to a file";
const SNAPSHOT = "load it in QEMU (-loadvm) and migrate to a file";
const FORMATS: readonly Format[] = [
  { bytes: "1f8b", name: "gzip", cure: `${UNPACK}: zcat FILE | wherry inspect -` },
  { bytes: "fd377a585a00", name: "xz", cure: `${UNPACK}: xzcat FILE | wherry inspect -` },
  { bytes: "28b52ffd", name: "zstd", cure: `${UNPACK}: zstdcat FILE | wherry inspect -` },
  { bytes: "425a68", name: "bzip2", cure: `${UNPACK}: bzcat FILE | wherry inspect -` },
  { bytes: "894c5a4f", name: "lzop", cure: `${UNPACK}: lzop -dc FILE | wherry inspect -` },
  { bytes: "04224d18", name: "lz4", cure: `${UNPACK}: lz4cat FILE | wherry inspect -` },
  { bytes: "504b0304", name: "a zip archive", cure: `${UNPACK}: unzip -p FILE NAME | wherry inspect -` },
  { bytes: "377abcaf271c", name: "a 7z archive", cure: `${UNPACK}: 7z x -so FILE NAME | wherry inspect -` },
  {
    bytes: "'ustar",
    at: 257,
    name: "a tar archive",
    cure: `${UNPACK}: tar -xOf FILE NAME | wherry inspect -`,
  },
  {
    bytes: "'VMA\0",
    name: "a backup of Proxmox VE (VMA)",
    cure: "the state is a member of it, if it has one: vma extract FILE DIRECTORY",
  },
  {
    bytes: "514649fb",
    name: "a qcow2 image",
    cure: `the state of a snapshot is inside it (qemu-img snapshot -l FILE): ${SNAPSHOT}`,
  },
  { bytes: "'KDMV", name: "a VMDK disk image", cure: SAVE },
  { bytes: "'<<< ", name: "a VDI disk image", cure: SAVE },
  { bytes: "'vhdxfile", name: "a VHDX disk image", cure: SAVE },
  { bytes: "'conectix", name: "a VHD disk image", cure: SAVE },
  { bytes: "4c554b53babe", name: "a LUKS volume", cure: SAVE },
  {
    bytes: "7f454c46",
    name: "an ELF file",
    cure: "a core dump is not a migration stream: migrate to a file",
  },
  {
    bytes: "'KDUMP   ",
    name: "a kdump file (dump-guest-memory)",
    cure: "crash reads it, but it has no devices: migrate to a file",
  },
  {
    bytes: "'makedumpfile",
    name: "a kdump file in makedumpfile's flattened form",
    cure: "crash reads it (makedumpfile -R), but it has no devices: migrate to a file",
  },
  {
    bytes: "'Xen saved domain",
    name: "a saved domain of Xen (xl save)",
    cure: "QEMU's part in it has devices only: restore it with xl restore",
  },
  {
    bytes: "'XenSavedDomain",
    name: "a saved domain of XenServer",
    cure: "QEMU's part in it has devices only: restore it with xe vm-resume",
  },
  {
    bytes: "ffffffffffffffff58454e46",
    name: "a saved domain of Xen (libxc)",
    cure: "QEMU's part in it has devices only: restore it with Xen's toolstack",
  },
  {
    bytes: "'HTTP/",
    name: "an HTTP answer with its head",
    cure: "save the body alone (curl -o FILE without -i)",
  },
  {
    bytes: "1603",
    name: "a TLS connection",
    cure: "it was recorded from the network, encrypted: migrate to a file, or without TLS",
  },
  {
    bytes: "'<",
    name: "XML",
    cure: "a description of a domain or snapshot is not its state: give the file that virsh save wrote",
  },
  {
    bytes: "'{",
    name: "JSON",
    cure: "a -dump-vmstate is given to wherry check: --target FILE, or --from and --to",
  },
  {
    bytes: RESOLVE_MAGIC.toString(16),
    name: "a RESOLVE request of Wherry",
    cure: "give the stream itself",
  },
];

const hexOf = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function matches(bytes: Uint8Array, { bytes: wanted, at = 0 }: Format): boolean {
  const text = wanted.startsWith("'") ? hexOf(encodeUtf8(wanted.slice(1))) : wanted;
  return hexOf(bytes.subarray(at, at + text.length / 2)) === text;
}

/** Undefined for a stream and for an unknown format. */
export function otherFormat(bytes: Uint8Array): Problem | undefined {
  const format = FORMATS.find((known) => matches(bytes, known));
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
  const cut = `tail -c +${offset + 1} FILE`;
  const program = PROGRAMS[libvirt.format];
  const packed =
    libvirt.format === 0
      ? ` (${cut})`
      : program === undefined
        ? `, then a form that is not known (save_image_format ${libvirt.format})`
        : `, compressed: ${cut} | ${program} | wherry inspect -`;
  const cure = `header and XML are ${offset} bytes${packed}`;
  return problem("stream.magic", "header", 0, "a migration stream", "a file of libvirt", { cause, cure });
}

/** By the number of libvirt's save_image_format. */
const PROGRAMS: Readonly<Record<number, string>> = {
  1: "gzip -dc",
  2: "bzip2 -dc",
  3: "xz -dc",
  4: "lzop -dc",
  5: "zstd -dc",
};

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
