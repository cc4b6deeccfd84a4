// The hart: its schema (what is state), and where each field lies in the hart's area of the shared memory
// (the layout that interpreter and translator use). One source, so they cannot drift.
// Names are those of the privileged specification; sstatus, sie and sip are views of mstatus, mie and mip.
// Reservation, TLBs and other caches are not state: they lie in the scratch area and are rebuilt.
import { defineState, type StateOf, u32, u64, u64Array, u8Array } from "../../state/schema.ts";
import { HART_STATE_OFFSET } from "../layout.ts";

/** Privilege levels. */
export const PRIV = { U: 0, S: 1, M: 3 } as const;

export const hartState = defineState(
  "riscv_hart",
  { version: 1, minimumVersion: 1 },
  {
    pc: u64,
    x: u64Array(32).check((x) => (x[0] === 0n ? undefined : "x0 is 0")),
    f: u64Array(32),
    fflags: u32.range(0, 31),
    frm: u32.range(0, 7),
    priv: u32.range(0, 3).check((p) => (p === 2 ? "privilege 0 (U), 1 (S) or 3 (M)" : undefined)),
    mhartid: u64,
    mstatus: u64,
    mie: u64,
    mip: u64,
    medeleg: u64,
    mideleg: u64,
    mtvec: u64,
    mepc: u64,
    mcause: u64,
    mtval: u64,
    mscratch: u64,
    mcounteren: u64,
    mcountinhibit: u64,
    menvcfg: u64,
    mcycle: u64,
    minstret: u64,
    stvec: u64,
    sepc: u64,
    scause: u64,
    stval: u64,
    sscratch: u64,
    scounteren: u64,
    senvcfg: u64,
    satp: u64,
    stimecmp: u64,
    pmpcfg: u8Array(16),
    pmpaddr: u64Array(16),
  },
);
export type HartState = StateOf<typeof hartState>;
export type HartField = keyof HartState;

/** Rebuilt, never saved. */
export const SCRATCH = {
  /** Address of the LR reservation with the width in its low bits (0: none), and the value that LR read. */
  reservation: 0x10000,
  reservedValue: 0x10008,
  /** Exception cause of a translation that failed, or NO_FAULT. */
  fault: 0x10010,
  /** Guest-physical address of the last translation. */
  guestPhys: 0x10018,
  /** EVENT_*: what the last slow path wants of the interpreter. */
  event: 0x10020,
  /** A bit for each TLB mode that has entries. */
  tlbUsed: 0x10024,
  /** CONFIG_* bits. */
  config: 0x10028,
  /** Non-zero once run() has made the TLBs' memory valid. */
  ready: 0x1002c,
  /** Ranges of addresses, lower and upper half, that entries made from superpages may lie in: first, last page. */
  superpages: 0x10030,
} as const;

/** An ecall from S-mode leaves run() with EXIT.ECALL: the firmware is ours. */
export const CONFIG_BUILTIN_FIRMWARE = 1;

/** TLBs: for each mode (U, S, S with SUM, M: 0 to 3) a table for reads, writes and fetches. */
export const TLB_OFFSET = 0x20000;
export const TLB_ENTRIES = 256;
export const TLB_TABLE_SIZE = TLB_ENTRIES * 16;
export const TLB_WRITE = TLB_TABLE_SIZE;
export const TLB_FETCH = TLB_TABLE_SIZE * 2;
export const TLB_MODE_SIZE = TLB_TABLE_SIZE * 4;
export const TLB_MODES = 4;

/** Every scalar has 8 bytes, arrays follow each other at multiples of 8. */
function layoutOf(state: HartState): { offsets: ReadonlyMap<HartField, number>; end: number } {
  const offsets = new Map<HartField, number>();
  let at = HART_STATE_OFFSET;
  for (const [key, value] of Object.entries(state)) {
    offsets.set(key as HartField, at);
    at += typeof value === "object" ? (value.byteLength + 7) & ~7 : 8;
  }
  return { offsets, end: at };
}

const layout = layoutOf(hartState.create());

/** Where a field lies, in bytes from the start of the hart's area. */
export const hartLayout = {
  offsetOf: (field: HartField): number => layout.offsets.get(field) as number,
  /** Offset of the first byte after the state. */
  end: layout.end,
};
