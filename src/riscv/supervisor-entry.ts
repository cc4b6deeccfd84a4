// A hart as the built-in firmware hands it to a supervisor: machine mode as it set it up, and the counters
// that a kernel which does not set scounteren relies on (Linux's vDSO reads the time in U-mode). All else is
// as after a reset.
import { bits, LOW_32 } from "./bits.ts";
import { CAUSE, DELEGABLE, SUPERVISOR_INTERRUPTS } from "./causes.ts";
import { COUNTER, ENVCFG_CBCFE, ENVCFG_CBIE, ENVCFG_CBZE, MENVCFG_STCE } from "./envcfg.ts";
import { PMP, PMP_MODE, PMPADDR_WRITABLE } from "./paging.ts";
import { PRIV } from "./privilege.ts";

export const SUPERVISOR_ENTRY = {
  priv: PRIV.S,
  /** But environment calls from S: the firmware answers them. */
  medeleg: DELEGABLE & ~bits(CAUSE.ECALL_S),
  mideleg: SUPERVISOR_INTERRUPTS,
  mcounteren: LOW_32,
  scounteren: bits(COUNTER.CY, COUNTER.TM, COUNTER.IR),
  menvcfg: MENVCFG_STCE | ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE,
  /** One entry of PMP, NAPOT over all addresses. */
  pmpcfg: PMP.R | PMP.W | PMP.X | (PMP_MODE.NAPOT << PMP.MODE),
  pmpaddr: PMPADDR_WRITABLE,
} as const;
