// A batch of random programs as one image of RAM, and its results: the dump, the trap log and the scratch
// memory of each, compared between QEMU and Wherry. Differences that the architecture permits are excluded
// here, with the reason.
import { MSTATUS_FS, MSTATUS_SD } from "../../src/riscv/status.ts";
import { satpOf } from "../support/satp.ts";
import { readFileSync } from "node:fs";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import {
  CODE,
  CODE_SIZE,
  DUMP_CSRS,
  DUMP_F,
  DUMP_X,
  DUMPED_CSRS,
  HANDLER_ALIAS,
  HEADER,
  LOG,
  LOG_RECORD,
  MAX_TRAPS,
  RAM_BASE,
  SCRATCH,
  SCRATCH_SIZE,
  SLOT_SIZE,
  SLOTS,
  TABLES,
} from "../support/programs/layout.ts";
import { ROOT_PAGE } from "../support/programs/page-tables.ts";
import { assembleProgram, type Program, randomProgram, slotAddress } from "../support/programs/program.ts";
import { programSeed } from "../support/random.ts";

export interface Placed {
  readonly program: Program;
  /** Number of items to run. Default: all. */
  readonly keep?: number;
}

/** QEMU's `virt` board puts its device tree into the last 2 MiB. */
const DEVICE_TREE_SIZE = 0x200000;

/** Size of guest RAM for this number of programs, in bytes: a power of two. */
export function ramSize(programs: number): number {
  return 2 ** Math.ceil(Math.log2(SLOTS + programs * SLOT_SIZE + DEVICE_TREE_SIZE));
}

let assembled: { code: Uint8Array; slots: number } | undefined;
function runner(): { code: Uint8Array; slots: number } {
  if (assembled === undefined) {
    const url = new URL("./runner.s", import.meta.url);
    const result = assemble([{ name: "runner.s", text: readFileSync(url, "utf8") }], { base: RAM_BASE });
    const address = (label: string): number => Number((result.symbols.get(label) ?? 0n) - RAM_BASE);
    assembled = { code: flatBinary(result), slots: address("slots") };
  }
  return assembled;
}

/** The initial RAM; the machine starts at RAM_BASE. */
export function batchImage(programs: readonly Placed[]): Uint8Array<ArrayBuffer> {
  const image = new Uint8Array(ramSize(programs.length));
  const { code, slots } = runner();
  image.set(code);
  new DataView(image.buffer).setBigUint64(slots, BigInt(programs.length), true);
  for (const [slot, placed] of programs.entries()) writeSlot(image, slot, placed);
  return image;
}

function writeSlot(image: Uint8Array<ArrayBuffer>, slot: number, { program, keep }: Placed): void {
  const at = SLOTS + slot * SLOT_SIZE;
  const view = new DataView(image.buffer, at, SLOT_SIZE);
  const { start, end, code } = assembleProgram(program, slot, keep);
  if (program.codeOffset + code.length > CODE_SIZE)
    throw new Error(`program of ${code.length} bytes, ${CODE_SIZE} fit`);
  const set = (offset: number, value: bigint): void =>
    view.setBigUint64(offset, BigInt.asUintN(64, value), true);
  set(HEADER.entry, start);
  set(HEADER.end, end);
  set(HEADER.maxTraps, BigInt(MAX_TRAPS));
  set(HEADER.mstatus, program.mstatus);
  if (program.satpMode !== 0) {
    const root = slotAddress(slot) + BigInt(TABLES + ROOT_PAGE[program.satpMode] * 4096);
    set(HEADER.satp, satpOf(program.satpMode, root));
    set(HEADER.stvecOffset, HANDLER_ALIAS);
  }
  set(HEADER.medeleg, program.medeleg);
  set(HEADER.mideleg, program.mideleg);
  set(HEADER.fcsr, program.fcsr);
  set(HEADER.counteren, program.counteren);
  set(HEADER.menvcfg, program.menvcfg);
  set(
    HEADER.pmpcfg0,
    program.pmp.reduce((cfg, entry, i) => cfg | (BigInt(entry.cfg) << BigInt(8 * i)), 0n),
  );
  for (const [i, entry] of program.pmp.entries()) set(HEADER.pmpaddr + 8 * i, entry.address);
  for (let i = 0; i < 32; i++) {
    set(HEADER.x + 8 * i, program.x[i] ?? 0n);
    set(HEADER.f + 8 * i, program.f[i] ?? 0n);
  }
  image.set(code, at + CODE + program.codeOffset);
  if (program.tables !== undefined) image.set(program.tables.bytes, at + TABLES);
  image.set(program.scratch, at + SCRATCH);
}

/** `count` programs from number `first` of the run `seed`. */
export function randomBatch(seed: number, first: number, count: number): Placed[] {
  const ramEnd = RAM_BASE + BigInt(ramSize(count));
  return Array.from({ length: count }, (_, slot) => {
    return { program: randomProgram(programSeed(seed, first + slot), slot, ramEnd) };
  });
}

/** FS: QEMU does not update it when only fflags change. Only Off or not Off is compared; SD follows FS. */
function comparableStatus(value: bigint): bigint {
  const isOn = (value & MSTATUS_FS) !== 0n;
  return (value & ~(MSTATUS_FS | MSTATUS_SD)) | (isOn ? MSTATUS_FS : 0n);
}

/** A program's final state, as lines `name = value`. */
export function describeSlot(image: Uint8Array<ArrayBufferLike>, slot: number): string[] {
  const at = SLOTS + slot * SLOT_SIZE;
  const view = new DataView(image.buffer, image.byteOffset + at, SLOT_SIZE);
  const u64 = (offset: number): bigint => view.getBigUint64(offset, true);
  const lines: string[] = [];
  const add = (name: string, value: bigint): void => void lines.push(`${name} = ${value.toString(16)}`);
  const traps = Number(u64(LOG));
  for (let i = 0; i < Math.min(traps, MAX_TRAPS); i++) {
    const record = LOG + 64 + i * LOG_RECORD;
    const [cause, epc, tval, status, mode] = [0, 8, 16, 24, 32].map((offset) => u64(record + offset));
    const hex = (value: bigint | undefined): string => (value ?? 0n).toString(16);
    const shown = hex(comparableStatus(status ?? 0n));
    lines.push(
      `trap ${i} to ${mode === 1n ? "S" : "M"} = cause ${hex(cause)} epc ${hex(epc)} tval ${hex(tval)} status ${shown}`,
    );
  }
  for (let i = 1; i < 32; i++) add(`x${i}`, u64(DUMP_X + 8 * i));
  for (let i = 0; i < 32; i++) add(`f${i}`, u64(DUMP_F + 8 * i));
  for (const [i, name] of DUMPED_CSRS.entries()) {
    const value = u64(DUMP_CSRS + 8 * i);
    add(name, /^[ms]status$/.test(name) ? comparableStatus(value) : value);
  }
  for (let i = TABLES; i < SCRATCH + SCRATCH_SIZE; i += 8) add(`+${i.toString(16)}`, u64(i));
  return lines;
}

/** Lines "name: QEMU …, Wherry …" where the two differ. */
export function differences(
  qemu: Uint8Array<ArrayBufferLike>,
  wherry: Uint8Array<ArrayBufferLike>,
  slot: number,
): string[] {
  const at = SLOTS + slot * SLOT_SIZE;
  if (Buffer.compare(qemu.subarray(at, at + SLOT_SIZE), wherry.subarray(at, at + SLOT_SIZE)) === 0) return [];
  const theirs = describeSlot(qemu, slot).map((line) => line.split(" = ") as [string, string]);
  const ours = new Map(describeSlot(wherry, slot).map((line) => line.split(" = ") as [string, string]));
  const lines: string[] = [];
  for (const [name, value] of theirs) {
    const found = ours.get(name);
    ours.delete(name);
    if (found !== value) lines.push(`${name}: QEMU ${value}, Wherry ${found ?? "nothing"}`);
  }
  for (const [name, value] of ours) lines.push(`${name}: QEMU nothing, Wherry ${value}`);
  return lines;
}
