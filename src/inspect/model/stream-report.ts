// The contents of a migration stream, as data: sections with their fields, RAM by block, commands, and where
// and why reading stopped. Made by the reader (read-stream.ts), shown by `wherry inspect`, compared by
// diff-streams.ts, judged by check-stream.ts. It can describe a stream of any board and architecture.

import { INTEGRITY_IDSTR } from "../../stream/wire.ts";
import type { RamPageKind } from "../../stream/ram-records.ts";
import type { Description } from "./description.ts";

/** A scalar value: integers of any width are bigints, bytes are a copy. */
export type FieldValue = bigint | boolean | string | Uint8Array;

/** A field of a section. A container (struct, array, subsection) has children and no value. */
export interface Field {
  /**
   * Name in the VMDESCRIPTION; an element of an array is `[3]`, a subsection has its whole name
   * (`fw_cfg/dma`).
   */
  readonly name: string;
  /** Stream offset in bytes. */
  readonly offset: number;
  /** Length in the stream in bytes, including all children. */
  readonly size: number;
  /** The VMDESCRIPTION's type (`uint32`, `struct`, `buffer`…), `subsection`, or the decoder's type. */
  readonly type: string;
  readonly value?: FieldValue;
  /** Description of the value: `VIRTIO_NET_F_MAC VIRTIO_F_VERSION_1`, `postmigrate`. */
  readonly meaning?: string;
  readonly children?: readonly Field[];
}

/** The reason why reading stopped, or why QEMU would refuse the stream. */
export interface Problem {
  /** Stable code of the problem, such as `stream.footer` or `stream.cut`. */
  readonly code: string;
  /** Section, block or field, such as `section cpu/0` or `ram block pc.ram`. */
  readonly where: string;
  /** Stream offset in bytes; undefined if the problem has no place in the stream. */
  readonly offset?: number;
  readonly expected: string;
  readonly found: string;
  /** What produces such streams, if known. */
  readonly cause?: string;
  /** The remedy. */
  readonly cure: string;
}

/** A section of the stream. A device's section has its state as fields. */
export interface SectionReport {
  readonly kind: "full" | "start" | "part" | "end";
  readonly id: number;
  readonly idstr: string;
  readonly instanceId: number;
  /** For parts and ends, the version of the START. */
  readonly version: number;
  /** Stream offset of the section's type byte. */
  readonly offset: number;
  /** Stream offset of the data, which excludes head and footer. */
  readonly dataOffset: number;
  readonly size: number;
  /** Name of QEMU's MIG_PRI_*, if known. */
  readonly priority?: string;
  readonly vmsdName?: string;
  readonly fields: readonly Field[];
  /** Bytes of data without a field: not described, or more than described. */
  readonly unaccounted: number;
  /** The data, if `keepBytes` is set; not for sections with parts (`ram` and others). */
  readonly bytes?: Uint8Array;
}

/** A RAM block and statistics of its pages. */
export interface RamBlockReport {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** Page size in bytes of the records for this block. */
  readonly pageSize: number;
  /** Number of records of each kind. In a mapped-ram file, a page in the bitmap counts as a record. */
  readonly records: Readonly<Record<RamPageKind, number>>;
  /** Number of pages sent at least once. */
  readonly pages: number;
  /** Number of records that sent a page again. */
  readonly repeated: number;
  /** Number of records per page, at most 255, for a heat map. It has a limited length. */
  readonly heat: Uint8Array;
  /** Number of whole pages that contain only zeros, if `lookForZeros` is set. */
  readonly zeroContent?: number;
  /** Host page size in bytes of a block of huge pages, in a stream for postcopy. */
  readonly hostPageSize?: number;
  /** Guest-physical address, in a stream with x-ignore-shared. */
  readonly address?: bigint;
  /** Offsets in a mapped-ram file: page n is at `pagesOffset` + n × `pageSize`. */
  readonly mapped?: { readonly bitmapOffset: number; readonly pagesOffset: number };
}

/** A command (MIG_CMD) to the destination. `offset` is the stream offset of its type byte. */
export interface CommandReport {
  readonly offset: number;
  readonly command: number;
  /** Name without MIG_CMD_, such as `OPEN_RETURN_PATH` or `PING`. */
  readonly name: string;
  readonly data: Uint8Array;
  readonly meaning?: string;
}

/** Statistics of a section with parts: dirty bitmaps, disk blocks and others. */
export interface IterativeReport {
  /** Name of the section, such as `dirty-bitmap` or `spapr/htab`. */
  readonly idstr: string;
  readonly instanceId: number;
  /** Counts, named by the format's terms: `bits`, `valid`, `bytes`. */
  readonly counts: Readonly<Record<string, number>>;
  /** Names in the section: bitmaps, drives. */
  readonly names: readonly string[];
}

/** The decoded stream: all its contents by name, and its problems. */
export interface StreamReport {
  /** Version in the file header (3). */
  readonly streamVersion: number;
  /** Length of libvirt's header and XML before the stream, in bytes. */
  readonly libvirtBytes?: number;
  /** Set for a multifd channel in a file: it has RAM pages only, and no sizes of blocks. */
  readonly channel?: { readonly id: number; readonly uuid: Uint8Array; readonly packets: number };
  /** Machine and fields of the CONFIGURATION section; undefined in a stream without one. */
  readonly configuration?: { readonly machine: string; readonly fields: readonly Field[] };
  readonly sections: readonly SectionReport[];
  readonly ram: readonly RamBlockReport[];
  /** Sections with parts other than `ram`. */
  readonly iterative: readonly IterativeReport[];
  readonly commands: readonly CommandReport[];
  /** Parsed VMDESCRIPTION; undefined if the stream ends before it or has none. */
  readonly vmDescription?: Description;
  /** Capabilities and parameters that the stream shows: `mapped-ram`, `multifd`, `xbzrle`, `postcopy-ram`… */
  readonly capabilities: readonly string[];
  /** Page size of the target in bytes. */
  readonly pageSize: number;
  /** Whether the hashes in Wherry's section agree; undefined in a stream without it. */
  readonly integrity?: "agrees" | "differs" | "not checked";
  /** Number of bytes read. */
  readonly size: number;
  /** The reason why reading stopped before the end; undefined if the whole stream was read. */
  readonly problem?: Problem;
  /** Parts that can be read here, but that QEMU would refuse or load wrongly. */
  readonly warnings: readonly Problem[];
}

/** True if a page that is not in the stream is zero: in mapped-ram files, and in Wherry's own streams. */
export function leavesOutZeros({ capabilities, sections }: StreamReport): boolean {
  return capabilities.includes("mapped-ram") || sections.some(({ idstr }) => idstr === INTEGRITY_IDSTR);
}
