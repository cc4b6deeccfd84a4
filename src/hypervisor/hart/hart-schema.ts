// The hart: its schema (what is state), and where each field lies in the hart's area of the shared memory
// (the layout that interpreter and translator use). One source, so they cannot drift.
// Names are those of the privileged specification; sstatus, sie and sip are views of mstatus, mie and mip.
// Reservation, TLBs and other caches are not state: they lie in the scratch area and are rebuilt.
import { defineState, type StateOf, u32, u64, u64Array, u8Array } from "../../state/schema.ts";
import { HART_STATE_OFFSET } from "../shared/memory-map.ts";

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
