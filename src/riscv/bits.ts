// Bits and fields of 64-bit registers as masks.
import { ALL_ONES } from "../base/uint64.ts";

export const bit = (n: number): bigint => 1n << BigInt(n);
export const bits = (...positions: readonly number[]): bigint =>
  positions.reduce((mask, n) => mask | bit(n), 0n);
/** `width` bits from bit `at` up. */
export const field = (at: number, width: number): bigint => (bit(width) - 1n) << BigInt(at);
/** The value of such a field. */
export const fieldOf = (value: bigint, at: number, width: number): number =>
  Number((value >> BigInt(at)) & (bit(width) - 1n));

/** A time comparator that is not set. */
export const NEVER = ALL_ONES;
export const LOW_32 = 0xffff_ffffn;
/** Bits of a code address: instructions start at multiples of 2 bytes. */
export const CODE_ADDRESS = ALL_ONES - 1n;
