// Bits of 64-bit registers as masks, and the one value that every register of an address, a mask or a deadline has for
// "none": all ones.

export const bit = (n: number): bigint => 1n << BigInt(n);
export const bits = (...positions: readonly number[]): bigint =>
  positions.reduce((mask, n) => mask | bit(n), 0n);
/** `width` bits from bit `at` up. */
export const field = (at: number, width: number): bigint => (bit(width) - 1n) << BigInt(at);
/** The value of such a field. */
export const fieldOf = (value: bigint, at: number, width: number): number =>
  Number((value >> BigInt(at)) & (bit(width) - 1n));

export const ALL_ONES = 0xffff_ffff_ffff_ffffn;
/** A comparator of time that is not set. */
export const NEVER = ALL_ONES;
export const LOW_32 = 0xffff_ffffn;
