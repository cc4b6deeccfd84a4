// The state of a hart when the built-in firmware enters a supervisor: machine mode as the firmware sets it
// up, and the counters that a kernel needs if it does not set scounteren (Linux's vDSO reads the time in
// U-mode). Everything else is as after a reset.
import { bits, LOW_32 } from "./bits.ts";
import { CAUSE, DELEGABLE, SUPERVISOR_INTERRUPTS } from "./causes.ts";
import { COUNTER, ENVCFG_CBCFE, ENVCFG_CBIE, ENVCFG_CBZE, MENVCFG_STCE } from "./envcfg.ts";
import { PMP, PMP_MODE, PMPADDR_WRITABLE } from "./paging.ts";
import { PRIV } from "./privilege.ts";

export const SUPERVISOR_ENTRY = {
  priv: PRIV.S,
  /** Except environment calls from S-mode, which the firmware handles. */
  medeleg: DELEGABLE & ~bits(CAUSE.ECALL_S),
  mideleg: SUPERVISOR_INTERRUPTS,
  mcounteren: LOW_32,
  scounteren: bits(COUNTER.CY, COUNTER.TM, COUNTER.IR),
  menvcfg: MENVCFG_STCE | ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE,
  /** A and D bits are not updated: the device tree has Svade and Svadu, and SBI's FWFT resets to 0. */
  svade: 1,
  /** One entry of PMP, NAPOT over all addresses. */
  pmpcfg: PMP.R | PMP.W | PMP.X | (PMP_MODE.NAPOT << PMP.MODE),
  pmpaddr: PMPADDR_WRITABLE,
} as const;
