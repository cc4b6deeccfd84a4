// menvcfg and senvcfg (privileged specification, 3.1.18 and 4.1.10; Sstc; Svadu), and the counter-enable
// registers.
import { bit, bits, field } from "./bits.ts";

/** Positions. */
export const ENVCFG = { FIOM: 0, CBIE: 4, CBCFE: 6, CBZE: 7, ADUE: 61, PBMTE: 62, STCE: 63 } as const;

/** Cache-block operations: cbo.inval (a field of two bits), cbo.clean and cbo.flush, cbo.zero. */
export const ENVCFG_CBIE = field(ENVCFG.CBIE, 2);
export const ENVCFG_CBCFE = bit(ENVCFG.CBCFE);
export const ENVCFG_CBZE = bit(ENVCFG.CBZE);
/** stimecmp is S-mode's, and STIP is driven by the comparator. */
export const MENVCFG_STCE = bit(ENVCFG.STCE);
/** Page-table walks set A and D; without it they fault where a bit would change (Svade). */
export const MENVCFG_ADUE = bit(ENVCFG.ADUE);
export const MENVCFG_PBMTE = bit(ENVCFG.PBMTE);

export const SENVCFG_WRITABLE = bit(ENVCFG.FIOM) | ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE;
/** Without ADUE, which has a register of its own: `svade`. */
export const MENVCFG_WRITABLE = SENVCFG_WRITABLE | MENVCFG_STCE;

/** Bits of mcounteren, scounteren and mcountinhibit */
export const COUNTER = { CY: 0, TM: 1, IR: 2 } as const;
/** Writable bits of mcountinhibit: cycle and instret; time is not a counter of the hart. */
export const INHIBITABLE = bits(COUNTER.CY, COUNTER.IR);
