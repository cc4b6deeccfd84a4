// Virtual memory and physical memory protection, in the form of registers and page tables (privileged
// specification, 3.7 and 4.1.11 to 4.5): satp, page-table entries, pmpcfg and pmpaddr.
import { bit, field, fieldOf } from "./bits.ts";

/** Lowest bits of satp's fields; the root's page number is below. */
export const SATP = { ASID: 44, MODE: 60 } as const;
export const ASID_BITS = SATP.MODE - SATP.ASID;
/** A page number in satp, and in an entry, where it starts at PTE_PPN. */
export const PPN_MASK = bit(SATP.ASID) - 1n;

export const SATP_MODE = { BARE: 0, SV39: 8, SV48: 9, SV57: 10 } as const;
const MODE_NAMES: Readonly<Record<number, string>> = {
  [SATP_MODE.BARE]: "bare",
  [SATP_MODE.SV39]: "Sv39",
  [SATP_MODE.SV48]: "Sv48",
  [SATP_MODE.SV57]: "Sv57",
};

export const satpModeOf = (satp: bigint): number => fieldOf(satp, SATP.MODE, 4);
export const isSatpMode = (mode: number): boolean => MODE_NAMES[mode] !== undefined;
/** Levels of page tables; 0 if addresses are physical or the mode is reserved. */
export const levelsOf = (mode: number): number =>
  mode !== SATP_MODE.BARE && isSatpMode(mode) ? mode - SATP_MODE.SV39 + 3 : 0;

/** satp of a 64-bit hart, described; undefined for a reserved mode. */
export function satpWords(satp: bigint): string | undefined {
  const mode = satpModeOf(satp);
  const name = MODE_NAMES[mode];
  if (name === undefined || mode === SATP_MODE.BARE) return name;
  return `${name}, ASID ${fieldOf(satp, SATP.ASID, ASID_BITS)}, root 0x${((satp & PPN_MASK) << 12n).toString(16)}`;
}

/** Bits of a page-table entry. */
export const PTE = { V: 1, R: 2, W: 4, X: 8, U: 16, G: 32, A: 64, D: 128 } as const;
/**
 * The lowest bit of an entry's page number, and the bits above it, which are reserved without Svnapot and
 * Svpbmt.
 */
export const PTE_PPN = 10;
export const PTE_HIGH = 54;

export const PMP_ENTRIES = 16;
/** Access bits of a pmpcfg entry, the position of its mode (values: PMP_MODE), its lock. */
export const PMP = { R: 1, W: 2, X: 4, MODE: 3, LOCKED: 0x80 } as const;
export const PMP_MODE = { OFF: 0, TOR: 1, NA4: 2, NAPOT: 3 } as const;
/** An entry of pmpcfg. */
export const PMPCFG_WRITABLE = Number(field(0, 5)) | PMP.LOCKED;
/** pmpaddr has bits 55 to 2 of an address. */
export const PMPADDR_WRITABLE = field(0, 54);
