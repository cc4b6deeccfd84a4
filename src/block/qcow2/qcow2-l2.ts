// Entries of L1 and L2 tables (QEMU's docs/interop/qcow2.txt, "Cluster mapping").
import { MAX_FILE_BYTES } from "./qcow2-header.ts";
import type { Table } from "./table-cache.ts";

const COPIED_HI = 0x8000_0000;
const COMPRESSED_HI = 0x4000_0000;
const OFFSET_HI = 0x00ff_ffff;
const OFFSET_LO = 0xffff_fe00;
const ZERO_LO = 1;

export interface ClusterEntry {
  readonly kind: "data" | "zero" | "absent" | "compressed";
  /** Its cluster in the file, which a zero one may have, too; 0: none. If compressed, its first byte. */
  readonly host: number;
  /** The refcount is 1: it can be written in place. */
  readonly isCopied: boolean;
  /** Bytes of a compressed cluster, up to the last sector's end. */
  readonly compressedBytes: number;
}

const ABSENT: ClusterEntry = { kind: "absent", host: 0, isCopied: false, compressedBytes: 0 };

export interface EntryFormat {
  readonly clusterBits: number;
  readonly hasZeroFlag: boolean;
  /** Entries of 16 bytes with a bitmap of subclusters. */
  readonly isExtended: boolean;
}

export const entryOffset = (hi: number, lo: number): number =>
  (hi & OFFSET_HI) * 2 ** 32 + ((lo & OFFSET_LO) >>> 0);

export const isCopiedFlag = (hi: number): boolean => (hi & COPIED_HI) !== 0;

/** `index` counts clusters; with extended entries, 32nds of clusters. */
export function readEntry({ view }: Table, index: number, format: EntryFormat): ClusterEntry {
  const sub = format.isExtended ? index % 32 : 0;
  const at = format.isExtended ? ((index - sub) / 32) * 16 : index * 8;
  const hi = view.getUint32(at);
  const lo = view.getUint32(at + 4);
  if (hi === 0 && lo === 0 && !format.isExtended) return ABSENT;
  if ((hi & COMPRESSED_HI) !== 0) {
    // The lower bits are the offset, the upper ones the number of further sectors.
    const offsetBits = 62 - (format.clusterBits - 8);
    const hiBits = offsetBits - 32;
    const host = (hi & (2 ** hiBits - 1)) * 2 ** 32 + lo;
    const sectors = ((hi & 0x3fff_ffff) >>> hiBits) + 1;
    return { kind: "compressed", host, isCopied: false, compressedBytes: sectors * 512 - (host % 512) };
  }
  const host = entryOffset(hi, lo);
  const isCopied = isCopiedFlag(hi);
  if (format.isExtended) {
    const isZero = ((view.getUint32(at + 8) >>> sub) & 1) !== 0;
    const isStored = ((view.getUint32(at + 12) >>> sub) & 1) !== 0;
    const kind = isZero ? "zero" : isStored ? "data" : "absent";
    return { kind, host: host + sub * 2 ** (format.clusterBits - 5), isCopied, compressedBytes: 0 };
  }
  if (format.hasZeroFlag && (lo & ZERO_LO) !== 0) return { kind: "zero", host, isCopied, compressedBytes: 0 };
  return host === 0 ? ABSENT : { kind: "data", host, isCopied, compressedBytes: 0 };
}

/** How many entries from `first` on, before `last`, are like it: in a row, if they are stored. */
export function alikeEntries(table: Table, first: number, last: number, format: EntryFormat): number {
  const run = readEntry(table, first, format);
  if (run.kind === "compressed") return 1;
  let next = first + 1;
  if (format.isExtended || run.kind !== "data") {
    const bytes = 2 ** (format.clusterBits - 5);
    for (; next < last; next++) {
      const { kind, host, isCopied } = readEntry(table, next, format);
      if (kind !== run.kind) break;
      if (kind === "data" && (host !== run.host + (next - first) * bytes || isCopied !== run.isCopied)) break;
    }
    return next - first;
  }
  // Words as they must be: what most requests of a guest come to.
  const { view } = table;
  const flags = view.getUint32(first * 8) & ~OFFSET_HI;
  for (; next < last; next++) {
    const host = run.host + (next - first) * 2 ** format.clusterBits;
    const hi = (flags | Math.floor(host / 2 ** 32)) >>> 0;
    if (view.getUint32(next * 8) !== hi || view.getUint32(next * 8 + 4) !== (host % 2 ** 32) >>> 0) break;
  }
  return next - first;
}

/** A cluster of its own, or with host 0 none; `isZero`: it reads as zeros whatever it contains. */
export function writeEntry({ view }: Table, index: number, host: number, isZero: boolean): void {
  const hi = Math.floor(host / 2 ** 32);
  view.setUint32(index * 8, host === 0 ? 0 : (hi | COPIED_HI) >>> 0);
  view.setUint32(index * 8 + 4, (((host % 2 ** 32) >>> 0) | (isZero ? ZERO_LO : 0)) >>> 0);
}

export function writeCompressedEntry(
  { view }: Table,
  index: number,
  {
    host,
    bytes,
    clusterBits,
  }: { readonly host: number; readonly bytes: number; readonly clusterBits: number },
): void {
  const sectors = Math.floor((host + bytes - 1) / 512) - Math.floor(host / 512);
  const hiBits = 62 - (clusterBits - 8) - 32;
  const hi = COMPRESSED_HI + sectors * 2 ** hiBits + Math.floor(host / 2 ** 32);
  view.setUint32(index * 8, hi >>> 0);
  view.setUint32(index * 8 + 4, (host % 2 ** 32) >>> 0);
}

/** Sets or clears the flag that the refcount is 1. */
export function writeCopied(view: DataView, index: number, isCopied: boolean): void {
  const hi = view.getUint32(index * 8);
  view.setUint32(index * 8, (isCopied ? hi | COPIED_HI : hi & ~COPIED_HI) >>> 0);
}

/** Clusters in a row that are alike. */
export interface ClusterEntries extends ClusterEntry {
  readonly length: number;
}

/** False for what no image has: a cluster's start elsewhere than at a multiple, or beyond all files. */
export function isPossible({ kind, host, length }: ClusterEntries, unitBytes: number): boolean {
  if (kind === "compressed") return true;
  const isStart = kind !== "data" || host % unitBytes === 0;
  return isStart && (host === 0 || host + unitBytes + length <= MAX_FILE_BYTES);
}
