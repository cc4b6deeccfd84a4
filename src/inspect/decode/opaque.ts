// Decoders of what a stream's VMDESCRIPTION leaves opaque: fields that are one run of bytes to it (a virtio
// device, PCI config space, data of sections that have no description). Called by the reader for each such
// field; what no decoder knows stays a plain buffer. Facts of each format: see the file of its decoder.
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

/** Where an opaque field is, as far as the stream says. */
export interface OpaqueContext {
  /** Of the section. */
  readonly idstr: string;
  readonly instanceId: number;
  /** Of the section, or of the struct or subsection that has the field. */
  readonly version: number;
  /**
   * Of the section, or of the struct or subsection that has the field; absent in sections without a
   * description.
   */
  readonly vmsdName?: string;
  /** Name of the field (`virtio`, `config`, `data`). */
  readonly field: string;
  /** The VMDESCRIPTION's type of it (`virtio`, `pci config`, `buffer`). */
  readonly type: string;
  /** Of the CONFIGURATION section (`pc-q35-10.0`): says the guest's byte order and word size. */
  readonly machine?: string;
}

type Decoder = (reader: FieldReader, context: OpaqueContext) => void;

/** By the VMDESCRIPTION's type: how it is read, and whether so many bytes can be one. */
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
  // An old-style section has one field `data` and no description's name; type `data`: there is no
  // VMDESCRIPTION.
  if (vmsdName === undefined && field === "data" && (type === "data" || type === "buffer"))
    return wholeSection(idstr);
  const known = BY_TYPE.get(type);
  return known?.fits?.(size) === false ? undefined : known?.read;
}

/**
 * Reads one opaque field into named fields. False, with nothing read, if nothing is known of it; bytes that
 * are left over after true are more than the decoder knows of. Throws EndOfBytes or InspectError on bytes
 * that are not what they should be: the fields so far are in the reader.
 */
export function decodeOpaque(context: OpaqueContext, reader: FieldReader): boolean {
  const decode = decoderOf(context, reader.remaining);
  if (decode === undefined) return false;
  decode(reader, context);
  return true;
}
