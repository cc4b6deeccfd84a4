// The contents of a migration stream, as data: sections with their fields, RAM by block, commands, and where
// and why reading stopped. Made by the reader (read-stream.ts), shown by `wherry inspect`, compared by
// diff-streams.ts, judged by check-stream.ts. It can describe a stream of any board and architecture.

import type { RamPageKind } from "../../stream/ram-records.ts";
import type { Description } from "./description.ts";

/** A scalar as it is in the stream: integers as bigint whatever their width, bytes as a copy. */
export type FieldValue = bigint | boolean | string | Uint8Array;

/** A field of a section. A container (struct, array, subsection) has children and no value. */
export interface Field {
  /** As in the VMDESCRIPTION; an element of an array is `[3]`, a subsection its whole name (`fw_cfg/dma`). */
  readonly name: string;
  /** In the stream, in bytes from its start. */
  readonly offset: number;
  /** Bytes in the stream, those of all children included. */
  readonly size: number;
  /** The VMDESCRIPTION's type (`uint32`, `struct`, `buffer`…); `subsection`; or the decoder's word for it. */
  readonly type: string;
  readonly value?: FieldValue;
  /** The value in words: `VIRTIO_NET_F_MAC VIRTIO_F_VERSION_1`, `postmigrate`. */
  readonly meaning?: string;
  readonly children?: readonly Field[];
}

/** Why a stream cannot be read on (or what QEMU would refuse in it), for people. */
export interface Problem {
  /** Stable, such as `stream.footer`, `stream.cut`. */
  readonly code: string;
  /** Section, block or field: `section cpu/0`, `ram block pc.ram`. */
  readonly where: string;
  /** In the stream; undefined if it is not about a place in it. */
  readonly offset?: number;
  readonly expected: string;
  readonly found: string;
  /** What makes streams like this, if known. */
  readonly cause?: string;
  /** What to do. */
  readonly cure: string;
}

/** A section of the stream. A device's has its state as fields. */
export interface SectionReport {
  readonly kind: "full" | "start" | "part" | "end";
  readonly id: number;
  readonly idstr: string;
  readonly instanceId: number;
  /** Of the START for parts and ends. */
  readonly version: number;
  /** Of the section's type byte. */
  readonly offset: number;
  /** Of its data, without head and footer. */
  readonly dataOffset: number;
  readonly size: number;
  /** QEMU's MIG_PRI_* by name, where known. */
  readonly priority?: string;
  readonly vmsdName?: string;
  readonly fields: readonly Field[];
  /** Bytes of data that no field covers: not described, or more than described. */
  readonly unaccounted: number;
  /**
   * Of the data, if `keepBytes` asks for it; not of sections that are streamed (`ram` and others with parts).
   */
  readonly bytes?: Uint8Array;
}

/** A RAM block and what the stream says of its pages. */
export interface RamBlockReport {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Page size in bytes of the records for this block. */
  readonly pageSize: number;
  /** Records of each kind. In a mapped-ram file a page that the bitmap names counts as a record. */
  readonly records: Readonly<Record<RamPageKind, number>>;
  /** Pages that came at least once, and how many came again. */
  readonly pages: number;
  readonly repeated: number;
  /** Per page, how often it came, at most 255; for a heat map. Pages beyond its end are not counted in it. */
  readonly heat: Uint8Array;
  /** Whole pages that are all zeros, if `lookForZeros` asked for it. */
  readonly zeroContent?: number;
  /** Host page size in bytes of a block of huge pages, in a stream for postcopy. */
  readonly hostPageSize?: number;
  /** Guest-physical address, in a stream with x-ignore-shared. */
  readonly address?: bigint;
  /** Where the pages lie in a mapped-ram file: page n at `pagesOffset` + n × `pageSize`. */
  readonly mapped?: { readonly bitmapOffset: number; readonly pagesOffset: number };
}

/** A command (MIG_CMD) to the destination; `offset` is its type byte's, in bytes. */
export interface CommandReport {
  readonly offset: number;
  readonly command: number;
  /** `OPEN_RETURN_PATH`, `PING`… */
  readonly name: string;
  readonly data: Uint8Array;
  readonly meaning?: string;
}

/** A dirty bitmap, disk block or other thing that a section with parts carries, counted. */
export interface IterativeReport {
  /** `dirty-bitmap`, `spapr/htab`… */
  readonly idstr: string;
  readonly instanceId: number;
  /** What was counted, in words of the format: `bits`, `valid`, `bytes`. */
  readonly counts: Readonly<Record<string, number>>;
  /** Names that came in it: bitmaps, drives. */
  readonly names: readonly string[];
}

/** A stream taken apart: all that it says, by name, and what is wrong with it. */
export interface StreamReport {
  /** Of the file header (3). */
  readonly streamVersion: number;
  /** Bytes before the stream that libvirt put there: its header and the domain's XML. */
  readonly libvirtBytes?: number;
  /** Of a multifd channel that was kept in a file: it has RAM pages only, and says no sizes of blocks. */
  readonly channel?: { readonly id: number; readonly uuid: Uint8Array; readonly packets: number };
  /** From the CONFIGURATION section; undefined in a stream without one. */
  readonly configuration?: { readonly machine: string; readonly fields: readonly Field[] };
  readonly sections: readonly SectionReport[];
  readonly ram: readonly RamBlockReport[];
  /** Sections with parts other than `ram`. */
  readonly iterative: readonly IterativeReport[];
  readonly commands: readonly CommandReport[];
  /** Parsed VMDESCRIPTION; undefined if the stream ends before it or has none. */
  readonly vmDescription?: Description;
  /**
   * Capabilities and parameters that the stream itself shows: `mapped-ram`, `multifd`, `xbzrle`,
   * `postcopy-ram`…
   */
  readonly capabilities: readonly string[];
  /** Of the target's pages, in bytes. */
  readonly pageSize: number;
  /** Whether the hashes in Wherry's own section agree; undefined in a stream without it. */
  readonly integrity?: "agrees" | "differs" | "not checked";
  /** Bytes read. */
  readonly size: number;
  /** Why reading stopped before the end; undefined if the whole stream was read. */
  readonly problem?: Problem;
  /** What can be read but QEMU would refuse, or would load wrongly. */
  readonly warnings: readonly Problem[];
}
