// mstatus, and sstatus, S-mode's view of it (privileged specification, 3.1.6 and 4.1.1): bits, the bits that
// software may change on a hart here, and those with fixed values. Both widths are 64, memory is
// little-endian, there are no vectors.
import { bitNames } from "../base/text.ts";
import { bit, bits, field, fieldOf } from "./bits.ts";
import { PRIVILEGE_NAMES } from "./privilege.ts";

/** Positions of bits, and of the lowest bit of the fields below. */
export const MSTATUS = {
  SIE: 1,
  MIE: 3,
  SPIE: 5,
  UBE: 6,
  MPIE: 7,
  SPP: 8,
  VS: 9,
  MPP: 11,
  FS: 13,
  XS: 15,
  MPRV: 17,
  SUM: 18,
  MXR: 19,
  TVM: 20,
  TW: 21,
  TSR: 22,
  UXL: 32,
  SXL: 34,
  SBE: 36,
  MBE: 37,
  GVA: 38,
  MPV: 39,
  SD: 63,
} as const;

export const MSTATUS_MPP = field(MSTATUS.MPP, 2);
export const MSTATUS_FS = field(MSTATUS.FS, 2);
export const MSTATUS_VS = field(MSTATUS.VS, 2);
export const MSTATUS_SD = bit(MSTATUS.SD);

export const SSTATUS_WRITABLE =
  bits(MSTATUS.SIE, MSTATUS.SPIE, MSTATUS.SPP, MSTATUS.SUM, MSTATUS.MXR) | MSTATUS_FS;
export const MSTATUS_WRITABLE =
  SSTATUS_WRITABLE |
  bits(MSTATUS.MIE, MSTATUS.MPIE, MSTATUS.MPRV, MSTATUS.TVM, MSTATUS.TW, MSTATUS.TSR) |
  MSTATUS_MPP;

/** UXL and SXL: 64 bits. */
const XL_64 = 2n;
export const SSTATUS_FIXED = XL_64 << BigInt(MSTATUS.UXL);
export const MSTATUS_FIXED = SSTATUS_FIXED | (XL_64 << BigInt(MSTATUS.SXL));

/** States of FS and VS. */
export const FS_NAMES = ["off", "initial", "clean", "dirty"] as const;

/** sstatus as software reads it. SD is not a stored bit: it is set while FS is dirty. */
export function sstatusOf(mstatus: bigint): bigint {
  const dirty = (mstatus & MSTATUS_FS) === MSTATUS_FS;
  return (mstatus & SSTATUS_WRITABLE) | SSTATUS_FIXED | (dirty ? MSTATUS_SD : 0n);
}

/** mstatus after a write of sstatus: the writable fields of sstatus change. */
export const withSstatus = (mstatus: bigint, sstatus: bigint): bigint =>
  (mstatus & ~SSTATUS_WRITABLE) | (sstatus & SSTATUS_WRITABLE);

const FIELDS = ["VS", "MPP", "FS", "XS", "UXL", "SXL"] as const;
const FIELD_BITS = FIELDS.reduce((mask, name) => mask | field(MSTATUS[name], 2), 0n);
/** Positions that have a name. */
const BIT_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(MSTATUS)
    .filter(([, n]) => (FIELD_BITS & bit(n)) === 0n)
    .map(([name, n]) => [n, name]),
);

/** mstatus, described. */
export function statusWords(status: bigint): string {
  const state = (name: "VS" | "FS"): string => `${name}=${FS_NAMES[fieldOf(status, MSTATUS[name], 2)]}`;
  const mode = PRIVILEGE_NAMES[fieldOf(status, MSTATUS.MPP, 2)] ?? "reserved";
  return [bitNames(status & ~FIELD_BITS, BIT_NAMES), `MPP=${mode}`, state("VS"), state("FS")]
    .filter((part) => part !== undefined)
    .join(" ");
}
