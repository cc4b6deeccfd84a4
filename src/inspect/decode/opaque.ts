// Decoders of what a stream's VMDESCRIPTION leaves opaque: fields that are one run of bytes to it (a virtio device,
// PCI config space, data of sections that have no description). Called by the reader for each such field; what
// no decoder knows stays a plain buffer. Facts of each format: see the file of its decoder.
import type { FieldReader } from "../fields.ts";
import {
  CONFIG_SIZE,
  EXPRESS_CONFIG_SIZE,
  readConfigSpace,
  readIrqState,
  readMsix,
  vectorsOf,
} from "./pci-config.ts";
import { readVirtio } from "./virtio.ts";

/** Where an opaque field is, as far as the stream says. */
export interface OpaqueContext {
  /** Of the section. */
  readonly idstr: string;
  readonly instanceId: number;
  /** Of the section, or of the struct or subsection that has the field. */
  readonly version: number;
  /** Of the section, or of the struct or subsection that has the field; absent in sections without a description. */
  readonly vmsdName?: string;
  /** Name of the field (`virtio`, `config`, `data`). */
  readonly field: string;
  /** The VMDESCRIPTION's type of it (`virtio`, `pci config`, `buffer`). */
  readonly type: string;
  /** Of the CONFIGURATION section (`pc-q35-10.0`): says the guest's byte order and word size. */
  readonly machine?: string;
}

type Decoder = (reader: FieldReader, context: OpaqueContext) => void;

/** By the VMDESCRIPTION's type. */
const BY_TYPE: Readonly<Record<string, Decoder>> = {
  virtio: readVirtio,
  "pci config": (reader) => readConfigSpace(reader, reader.remaining),
  "pci irq state": readIrqState,
  "msix state": (reader) => readMsix(reader, vectorsOf(reader.remaining) ?? 0),
};

const fits: Readonly<Record<string, (size: number) => boolean>> = {
  "pci config": (size) => size === CONFIG_SIZE || size === EXPRESS_CONFIG_SIZE,
  "pci irq state": (size) => size === 16,
  "msix state": (size) => vectorsOf(size) !== undefined,
};

function decoderOf(context: OpaqueContext, reader: FieldReader): Decoder | undefined {
  if (fits[context.type]?.(reader.remaining) === false) return undefined;
  // Before QEMU 2.7 some devices were whole sections without description.
  if (context.field === "data" && context.type === "buffer" && /(^|\/)virtio-/.test(context.idstr))
    return readVirtio;
  return BY_TYPE[context.type];
}

/**
 * Reads one opaque field into named fields. False, with nothing read, if nothing is known of it; bytes that are left
 * over after true are more than the decoder knows of. Throws EndOfBytes or InspectError on bytes that are not what
 * they should be: the fields so far are in the reader.
 */
export function decodeOpaque(context: OpaqueContext, reader: FieldReader): boolean {
  const decode = decoderOf(context, reader);
  if (decode === undefined) return false;
  decode(reader, context);
  return true;
}
