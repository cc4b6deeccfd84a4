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
  /** CONFIG_* bits. */
  config: 0x10028,
  /** Non-zero once run() has made the TLBs' memory valid. */
  ready: 0x1002c,
  /** LEAF_* of the last translation. */
  leaf: 0x10030,
  /** Address of the context of U-mode in the current address space. */
  userContext: 0x10034,
  /** u32: counts address-space switches. */
  spaceClock: 0x10038,
  /** Addresses of the contexts in use (tlb.ts): of loads and stores, of fetches and jumps. */
  dataContext: 0x10050,
  fetchContext: 0x10054,
  /**
   * The window: guest-physical addresses, of one slot, where PMP lets every privilege do all and the slot may be
   * written. First address, bytes (0: none), the slot's entry, host address − guest-physical address.
   */
  windowStart: 0x10100,
  windowSize: 0x10108,
  windowSlot: 0x10110,
  windowDelta: 0x10114,
  /** What pmpOpenRange found: first address, and the one after the last. */
  openStart: 0x10118,
  openEnd: 0x10120,
  /** Host address of what the reservation is on. */
  reservedHost: 0x1003c,
  /** Always 0, and this hart's alone: what a full fence locks. */
  barrier: 0x10048,
  /** u64: walks that filled a TLB entry. */
  refills: 0x10058,
  /** u64: instructions executed, those that trapped too; no CSR holds or sets it. Exact whenever a CSR or MMIO is accessed. */
  executed: 0x10060,
  /** u64: those of them that translated code executed. */
  translated: 0x10068,
  /** LEAVE_*: why translated code came back (dispatch.ts). */
  leave: 0x10070,
  /** CODE_EPOCH of the code cache when the jump caches were last emptied for it. */
  codeEpoch: 0x10078,
  /** The same for CODE_PROTECTION and translations for writing. */
  codeProtection: 0x1007c,
  /** Instructions to the next sample of where translated code spends its time. */
  untilSample: 0x10080,
} as const;

/** How often an address is still to be reached before it is hot: a byte each, by bits of the host address. */
export const HEAT_OFFSET = 0xe0000;
export const HEAT_ENTRIES = 0x10000;
/** How often a sample fell into translated code of a page: a byte each, by bits of the virtual page number. */
export const SAMPLES_OFFSET = HEAT_OFFSET + HEAT_ENTRIES;
export const SAMPLES_ENTRIES = 0x1000;

/** An ecall from S-mode leaves run() with EXIT.ECALL: the firmware is ours. */
export const CONFIG_BUILTIN_FIRMWARE = 1;
/** A write of stimecmp leaves run(), whose budget depends on it. */
export const CONFIG_EXACT_TIMER = 2;

/**
 * Contexts: what memory accesses and jumps look up, one pointer. From it, at constant offsets, direct-mapped tables for
 * reads, writes and fetches (entries of 16 bytes {page i64, host address − guest-virtual address i32, LEAF_* u32}, see
 * tlbEntry), and the jump cache (entries of 16 bytes {virtual pc i64, value i32} at index pc >> 1). An empty entry's
 * first word is all ones. A jump may be entered only while the fetch table has its page; tlb.ts drops it when it drops that.
 */
export const TLB_ENTRIES = 4096;
export const TLB_TABLE_SIZE = TLB_ENTRIES * 16;
export const JUMP_ENTRIES = 4096;
export const CTX_READ = 0;
export const CTX_WRITE = TLB_TABLE_SIZE;
export const CTX_FETCH = TLB_TABLE_SIZE * 2;
export const CTX_JUMPS = TLB_TABLE_SIZE * 3;
/** CTX_HAS_* bits. */
export const CTX_USED = CTX_JUMPS + JUMP_ENTRIES * 16;
/** Of a U-mode context: SCRATCH.spaceClock when it was last switched to, and the satp it is for, or SPACE_FREE. */
export const CTX_STAMP = CTX_USED + 0x04;
export const CTX_SATP = CTX_USED + 0x08;
/** How many entries were made from pages that are not global, whether to fetch from one, where the first entries are. */
export const CTX_LOCAL_COUNT = CTX_USED + 0x10;
export const CTX_LOCAL_FETCHED = CTX_USED + 0x14;
export const CTX_LOCAL_ENTRIES = CTX_USED + 0x800;
export const MAX_LOCAL_ENTRIES = 512;
/** Pages that entries made from superpages may have: first and last, lower and upper half, data and then fetches. */
export const CTX_SUPERPAGES = CTX_USED + 0x40;
/** A bit for each page, modulo the map's size, that the fetch table has had an entry for: it may have jumps. */
export const CTX_JUMP_PAGES = CTX_USED + 0x400;
export const JUMP_PAGES_SIZE = 512;
export const CONTEXT_SIZE = CTX_USED + 0x1000;
/** What a context may have: entries of each table (fetches: jumps too), of global pages, of superpages beyond 2 MiB. */
export const CTX_HAS_READ = 1;
export const CTX_HAS_WRITE = 2;
export const CTX_HAS_FETCH = 4;
export const CTX_HAS_GLOBAL = 8;
export const CTX_HAS_HUGE = 16;
/** Of a U-mode context that is not in use: what is to be dropped before it is used again. */
export const CTX_STALE_WRITES = 32;
export const CTX_STALE_JUMPS = 64;
/** U-mode has a context for each of the last address spaces; S-mode has one without and one with SUM. */
export const USER_CONTEXTS = 8;
export const CONTEXT = {
  USER: 0,
  SUPERVISOR: USER_CONTEXTS,
  SUM: USER_CONTEXTS + 1,
  MACHINE: USER_CONTEXTS + 2,
} as const;
export const CONTEXT_COUNT = USER_CONTEXTS + 3;
export const CONTEXTS_OFFSET = 0x100000;
/** What no satp can be. */
export const SPACE_FREE = -1n;

/** What is kept of a leaf page-table entry: its size (log2 of bytes) in the low bits, whether it is global. */
export const LEAF_SHIFT = 0xff;
export const LEAF_GLOBAL = 0x100;

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
