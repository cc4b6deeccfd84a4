// Decoders of fields that a stream's VMDESCRIPTION leaves opaque, as one run of bytes (a virtio device, PCI
// config space, data of sections without a description). The reader calls them for each such field; without a
// decoder it remains a plain buffer. Each decoder's file names the sources of its facts.
import type { FieldReader } from "./fields.ts";
import { readLayout, table } from "./field-layout.ts";
import {
  CONFIG_SIZE,
  EXPRESS_CONFIG_SIZE,
  readConfigSpace,
  readIrqState,
  readMsix,
  vectorsOf,
} from "./pci-config.ts";
import { readScsiRequests } from "./scsi-requests.ts";
import { readVirtio } from "./virtio-section.ts";
import { readBackend } from "./virtio-bodies.ts";
import { readGpu, readGpuBlobs } from "./virtio-gpu.ts";
import { wholeSection } from "./whole-sections.ts";

/** Location of an opaque field in the stream. */
export interface OpaqueContext {
  /** Name of the section. */
  readonly idstr: string;
  readonly instanceId: number;
  /** Version of the section, or of the struct or subsection that has the field. */
  readonly version: number;
  /**
   * Description name of the section, or of the struct or subsection that has the field; absent in sections
   * without a description.
   */
  readonly vmsdName?: string;
  /** Name of the field (`virtio`, `config`, `data`). */
  readonly field: string;
  /** Type of the field in the VMDESCRIPTION (`virtio`, `pci config`, `buffer`). */
  readonly type: string;
  /**
   * Machine type from the CONFIGURATION section (`pc-q35-10.0`): determines the guest's byte order and word
   * size.
   */
  readonly machine?: string;
}

type Decoder = (reader: FieldReader, context: OpaqueContext) => void;

/** Decoders by the VMDESCRIPTION's type, with a check of the size. */
const BY_TYPE = table<{ readonly read: Decoder; readonly fits?: (size: number) => boolean }>({
  virtio: { read: readVirtio },
  "pci config": {
    read: (reader) => readConfigSpace(reader, reader.remaining),
    fits: (size) => size === CONFIG_SIZE || size === EXPRESS_CONFIG_SIZE,
  },
  "pci irq state": { read: readIrqState, fits: (size) => size === 16 },
  "msix state": {
    read: (reader) => readMsix(reader, vectorsOf(reader.remaining) ?? 0),
    fits: (size) => vectorsOf(size) !== undefined,
  },
  "scsi-requests": { read: (reader, { idstr }) => readScsiRequests(reader, idstr) },
  "virtio-gpu": { read: readGpu },
  blob: { read: readGpuBlobs },
  "virtio-fs back-end state": { read: readBackend },
  /** A vector register of POWER. */
  avr: { read: (reader) => void readLayout(reader, "high:8 low:8"), fits: (size) => size === 16 },
  /** An entry of POWER's segment look-aside buffer. */
  slbe: { read: (reader) => void readLayout(reader, "esid:8 vsid:8"), fits: (size) => size === 16 },
});

function decoderOf({ field, type, idstr, vmsdName }: OpaqueContext, size: number): Decoder | undefined {
  // An old-style section has one field `data` and no description name. Its type is `data` without a
  // VMDESCRIPTION.
  if (vmsdName === undefined && field === "data" && (type === "data" || type === "buffer"))
    return wholeSection(idstr);
  const known = BY_TYPE.get(type);
  return known?.fits?.(size) === false ? undefined : known?.read;
}

/**
 * Reads one opaque field into named fields. Returns false and reads nothing if it has no decoder; after true,
 * remaining bytes are unknown to the decoder. Throws EndOfBytes or InspectError for invalid bytes: the reader
 * keeps the fields so far.
 */
export function decodeOpaque(context: OpaqueContext, reader: FieldReader): boolean {
  const decode = decoderOf(context, reader.remaining);
  if (decode === undefined) return false;
  decode(reader, context);
  return true;
}
