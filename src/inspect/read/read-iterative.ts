// Sections with parts other than RAM, each in a format that the VMDESCRIPTION does not describe: dirty
// bitmaps, old block migration, ppc64's hash table, s390x's storage attributes, VFIO devices (QEMU's
// migration/block-dirty-bitmap.c, block.c, hw/ppc/spapr.c, hw/s390x/s390-stattrib.c, hw/vfio/migration.c).
// Their data is counted, not kept.
import { hex } from "../../base/hex.ts";
import type { IterativeReport } from "../model/stream-report.ts";
import { stop } from "../model/problems.ts";
import type { Scan } from "./scan.ts";

type Counts = Record<string, number>;

/** State of reading one section. */
export interface Progress extends IterativeReport {
  readonly counts: Counts;
  readonly names: string[];
}

type PartReader = (scan: Scan, progress: Progress) => Promise<void>;

/** Reader of one START, PART or END up to its footer; undefined for an unknown section. */
export function partReaderOf(idstr: string): PartReader | undefined {
  return READERS.get(idstr) ?? (/(^|\/)vfio$/.test(idstr) ? vfio : undefined);
}

function add(progress: Progress, name: string, count = 1): void {
  progress.counts[name] = (progress.counts[name] ?? 0) + count;
}
const MAX_NAMES = 1000;
function addName(progress: Progress, name: string): void {
  if (progress.names.length < MAX_NAMES && !progress.names.includes(name)) progress.names.push(name);
}

function unknown(scan: Scan, at: number, value: number | bigint): never {
  stop("stream.section-type", scan.where, at, "a record's flags", hex(value));
}

/** A length to skip. A length beyond any stream is damage. */
function length(scan: Scan, at: number, value: bigint): number {
  if (value < 1n << 48n) return Number(value);
  return unknown(scan, at, value);
}

async function dirtyBitmap(scan: Scan, progress: Progress): Promise<void> {
  for (;;) {
    const at = scan.offset;
    const flags = await scan.nextU8();
    if ((flags & 0x80) !== 0) unknown(scan, at, flags);
    if ((flags & 0x08) !== 0) addName(progress, await scan.nextString());
    if ((flags & 0x04) !== 0) addName(progress, await scan.nextString());
    if ((flags & 0x10) !== 0) {
      add(progress, "bitmaps");
      await scan.pass(4 + 1);
    } else if ((flags & 0x40) !== 0) {
      await scan.pass(8);
      add(progress, (flags & 0x02) === 0 ? "sectors" : "clean sectors", await scan.nextU32());
      if ((flags & 0x02) === 0) await scan.pass(length(scan, at, await scan.nextU64()));
    } else if ((flags & 0x20) !== 0) add(progress, "complete");
    else if (flags !== 0x01) unknown(scan, at, flags);
    if ((flags & 0x01) !== 0) return;
  }
}

const DISK_BLOCK = 2 ** 20;
async function block(scan: Scan, progress: Progress): Promise<void> {
  for (;;) {
    const at = scan.offset;
    const head = await scan.nextU64();
    const flags = Number(head & 0x1ffn);
    if ((flags & 0x01) !== 0) {
      addName(progress, await scan.nextString());
      const zero = (flags & 0x08) !== 0;
      add(progress, zero ? "zero blocks" : "blocks");
      if (!zero) await scan.pass(DISK_BLOCK);
    } else if ((flags & 0x06) === 0) unknown(scan, at, head);
    if ((flags & 0x02) !== 0) return;
  }
}

async function htab(scan: Scan, progress: Progress): Promise<void> {
  const head = await scan.nextU32();
  if (head === 0xffff_ffff) return;
  if (head !== 0) {
    progress.counts["shift"] = head;
    return;
  }
  for (;;) {
    await scan.need(8);
    const index = scan.u32();
    const valid = scan.u16();
    const invalid = scan.u16();
    if (index === 0 && valid === 0 && invalid === 0) return;
    add(progress, "valid", valid);
    add(progress, "invalid", invalid);
    await scan.pass(valid * 16);
  }
}

async function storageAttributes(scan: Scan, progress: Progress): Promise<void> {
  for (;;) {
    const at = scan.offset;
    const head = await scan.nextU64();
    const flags = Number(head & 0xfffn);
    if (flags === 0x01) return;
    if (flags === 0x02) {
      const count = length(scan, at, await scan.nextU64());
      add(progress, "pages", count);
      await scan.pass(count);
    } else if (flags === 0x04) add(progress, "errors");
    else if (flags !== 0x08) unknown(scan, at, head);
  }
}

const VFIO = 0xffff_ffff_ef10_0000n;
async function vfio(scan: Scan, progress: Progress): Promise<void> {
  for (;;) {
    const at = scan.offset;
    const flag = (await scan.nextU64()) - VFIO;
    if (flag === 1n) return;
    if (flag === 4n) {
      const size = length(scan, at, await scan.nextU64());
      add(progress, "bytes", size);
      await scan.pass(size);
    } else if (flag === 5n) {
      add(progress, "initial data sent");
      return;
    } else if (flag !== 3n) unknown(scan, at, flag + VFIO);
  }
}

const READERS: ReadonlyMap<string, PartReader> = new Map([
  ["dirty-bitmap", dirtyBitmap],
  ["block", block],
  ["spapr/htab", htab],
  ["s390-storage_attributes", storageAttributes],
]);
