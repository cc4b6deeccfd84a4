// IEEE 754-2019 binary32 and binary64 as RISC-V's F and D extensions use them (unprivileged ISA, chapters
// "F" and "D"): exact BigInt arithmetic, one rounding, five modes, sticky flags, tininess after
// rounding, canonical NaNs. It is the reference of the tests; the engine has softfloat-fast.ts and
// softfloat-slow.ts. Left out: NaN boxing and sign injection, which are bit moves and live in the instruction
// rows.
import { FFLAGS, type FpFormat, RM } from "../../src/hypervisor/float/softfloat-format.ts";

/** In: the rounding mode. Out: flags, only ever set. */
export interface FpEnv {
  rm: number;
  flags: number;
}

type Kind = "nan" | "infinite" | "finite";

/** A finite number is (-1)^negative × sig × 2^exp; zero has sig 0. */
interface Exact {
  readonly negative: boolean;
  readonly sig: bigint;
  readonly exp: number;
}

interface Unpacked extends Exact {
  readonly kind: Kind;
  readonly signaling: boolean;
}

function unpack(f: FpFormat, bits: bigint): Unpacked {
  const negative = (bits & f.signBit) !== 0n;
  const magnitude = bits & (f.signBit - 1n);
  const fraction = magnitude & ((1n << BigInt(f.fracBits)) - 1n);
  const biased = Number(magnitude >> BigInt(f.fracBits));
  const kind = magnitude > f.infinity ? "nan" : magnitude === f.infinity ? "infinite" : "finite";
  const signaling = kind === "nan" && (bits & f.quietBit) === 0n;
  const sig = biased === 0 ? fraction : fraction | (1n << BigInt(f.fracBits));
  return { kind, signaling, negative, sig, exp: Math.max(biased, 1) - 1 + f.minExp - f.fracBits };
}

function bitLength(x: bigint): number {
  let n = 0;
  while (x > 0xffff_ffffn) {
    x >>= 32n;
    n += 32;
  }
  return n + 32 - Math.clz32(Number(x));
}

const infinity = (f: FpFormat, negative: boolean): bigint => (negative ? f.signBit : 0n) | f.infinity;
const zero = (f: FpFormat, negative: boolean): bigint => (negative ? f.signBit : 0n);

function invalid(env: FpEnv, f: FpFormat): bigint {
  env.flags |= FFLAGS.NV;
  return f.canonicalNan;
}

/** The result of an operation that has a NaN among its operands. */
function nan(env: FpEnv, f: FpFormat, ...operands: Unpacked[]): bigint {
  return operands.some((x) => x.signaling) ? invalid(env, f) : f.canonicalNan;
}

/** sig / 2^shift rounded to an integer by mode `rm`. */
function roundShift(
  rm: number,
  negative: boolean,
  sig: bigint,
  shift: number,
): { int: bigint; inexact: boolean } {
  if (shift <= 0) return { int: sig << BigInt(-shift), inexact: false };
  const int = sig >> BigInt(shift);
  const rest = sig - (int << BigInt(shift));
  if (rest === 0n) return { int, inexact: false };
  const half = 1n << BigInt(shift - 1);
  const up =
    rm === RM.RNE
      ? rest > half || (rest === half && (int & 1n) === 1n)
      : rm === RM.RMM
        ? rest >= half
        : rm === RM.RDN
          ? negative
          : rm === RM.RUP && !negative;
  return { int: up ? int + 1n : int, inexact: true };
}

/**
 * Rounds and packs. An `x` that stands for an inexact value has at least two bits more than the format
 * holds, the last of them set ("sticky").
 */
function round(env: FpEnv, f: FpFormat, { negative, sig, exp }: Exact): bigint {
  if (sig === 0n) return zero(f, negative);
  const topExp = exp + bitLength(sig) - 1;
  const quantum = Math.max(topExp, f.minExp) - f.fracBits;
  const { int, inexact } = roundShift(env.rm, negative, sig, quantum - exp);
  const hidden = 1n << BigInt(f.fracBits);
  if (inexact) {
    env.flags |= FFLAGS.NX;
    // Tiny: below the smallest normal number even when rounded with an unbounded exponent (IEEE 754, 7.5).
    const tiny =
      topExp < f.minExp &&
      (topExp < f.minExp - 1 ||
        roundShift(env.rm, negative, sig, topExp - f.fracBits - exp).int !== hidden << 1n);
    if (tiny) env.flags |= FFLAGS.UF;
  }
  // A carry out of the fraction runs into the exponent field, which is what it should do.
  const magnitude = (BigInt(quantum + f.fracBits - f.minExp) << BigInt(f.fracBits)) + int;
  if (magnitude < f.infinity) return zero(f, negative) | magnitude;
  env.flags |= FFLAGS.OF | FFLAGS.NX;
  const toLargest = env.rm === RM.RTZ || env.rm === (negative ? RM.RUP : RM.RDN);
  return infinity(f, negative) - (toLargest ? 1n : 0n);
}

const signed = (x: Exact): bigint => (x.negative ? -x.sig : x.sig);

function addExact(env: FpEnv, f: FpFormat, x: Exact, y: Exact): bigint {
  const exp = Math.min(x.exp, y.exp);
  const sum = (signed(x) << BigInt(x.exp - exp)) + (signed(y) << BigInt(y.exp - exp));
  if (sum === 0n) return zero(f, x.negative === y.negative ? x.negative : env.rm === RM.RDN);
  return round(env, f, { negative: sum < 0n, sig: sum < 0n ? -sum : sum, exp });
}

export function fpAdd(env: FpEnv, f: FpFormat, a: bigint, b: bigint): bigint {
  const x = unpack(f, a);
  const y = unpack(f, b);
  if (x.kind === "nan" || y.kind === "nan") return nan(env, f, x, y);
  if (x.kind === "infinite") return y.kind === "infinite" && x.negative !== y.negative ? invalid(env, f) : a;
  if (y.kind === "infinite") return b;
  return addExact(env, f, x, y);
}

export function fpSub(env: FpEnv, f: FpFormat, a: bigint, b: bigint): bigint {
  return fpAdd(env, f, a, b ^ f.signBit);
}

export function fpMul(env: FpEnv, f: FpFormat, a: bigint, b: bigint): bigint {
  const x = unpack(f, a);
  const y = unpack(f, b);
  if (x.kind === "nan" || y.kind === "nan") return nan(env, f, x, y);
  const negative = x.negative !== y.negative;
  if (x.kind === "infinite") return y.sig === 0n ? invalid(env, f) : infinity(f, negative);
  if (y.kind === "infinite") return x.sig === 0n ? invalid(env, f) : infinity(f, negative);
  return round(env, f, { negative, sig: x.sig * y.sig, exp: x.exp + y.exp });
}

/** a × b + c with one rounding. ∞ × 0 is invalid even when c is a quiet NaN (ISA, section "F", fused ops). */
export function fpFma(env: FpEnv, f: FpFormat, a: bigint, b: bigint, c: bigint): bigint {
  const x = unpack(f, a);
  const y = unpack(f, b);
  const z = unpack(f, c);
  if (x.kind === "nan" || y.kind === "nan") return nan(env, f, x, y, z);
  const negative = x.negative !== y.negative;
  if (x.kind === "infinite" || y.kind === "infinite") {
    if (x.sig === 0n || y.sig === 0n) return invalid(env, f);
    if (z.kind === "nan") return nan(env, f, z);
    return z.kind === "infinite" && z.negative !== negative ? invalid(env, f) : infinity(f, negative);
  }
  if (z.kind === "nan") return nan(env, f, z);
  if (z.kind === "infinite") return c;
  return addExact(env, f, { negative, sig: x.sig * y.sig, exp: x.exp + y.exp }, z);
}

export function fpDiv(env: FpEnv, f: FpFormat, a: bigint, b: bigint): bigint {
  const x = unpack(f, a);
  const y = unpack(f, b);
  if (x.kind === "nan" || y.kind === "nan") return nan(env, f, x, y);
  const negative = x.negative !== y.negative;
  if (x.kind === "infinite") return y.kind === "infinite" ? invalid(env, f) : infinity(f, negative);
  if (y.kind === "infinite") return zero(f, negative);
  if (y.sig === 0n) {
    if (x.sig === 0n) return invalid(env, f);
    env.flags |= FFLAGS.DZ;
    return infinity(f, negative);
  }
  // A quotient of at least fracBits + 3 bits, then a sticky bit.
  const shift = f.fracBits + 3 + Math.max(0, bitLength(y.sig) - bitLength(x.sig));
  const dividend = x.sig << BigInt(shift);
  const quotient = dividend / y.sig;
  const sticky = quotient * y.sig === dividend ? 0n : 1n;
  return round(env, f, { negative, sig: (quotient << 1n) | sticky, exp: x.exp - y.exp - shift - 1 });
}

/** The largest r with r² ≤ n (Newton's iteration from above). */
function integerSqrt(n: bigint): bigint {
  let r = 1n << BigInt((bitLength(n) + 1) >> 1);
  for (;;) {
    const next = (r + n / r) >> 1n;
    if (next >= r) return r;
    r = next;
  }
}

export function fpSqrt(env: FpEnv, f: FpFormat, a: bigint): bigint {
  const x = unpack(f, a);
  if (x.kind === "nan") return nan(env, f, x);
  if (x.kind === "finite" && x.sig === 0n) return a;
  if (x.negative) return invalid(env, f);
  if (x.kind === "infinite") return a;
  let shift = 2 * (f.fracBits + 3);
  if (((x.exp - shift) & 1) !== 0) shift++;
  const square = x.sig << BigInt(shift);
  const root = integerSqrt(square);
  const sticky = root * root === square ? 0n : 1n;
  return round(env, f, { negative: false, sig: (root << 1n) | sticky, exp: (x.exp - shift) / 2 - 1 });
}

/** -1, 0, 1 as a <, =, > b; undefined when unordered. */
function order(x: Unpacked, y: Unpacked): number | undefined {
  if (x.kind === "nan" || y.kind === "nan") return undefined;
  const rank = (u: Unpacked, v: Unpacked): bigint => {
    if (u.kind === "infinite") return u.negative ? -1n : 1n;
    return v.kind === "infinite" ? 0n : signed(u) << BigInt(Math.max(0, u.exp - v.exp));
  };
  const difference = rank(x, y) - rank(y, x);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** Quiet: only a signaling NaN is invalid. */
export function fpEq(env: FpEnv, f: FpFormat, a: bigint, b: bigint): boolean {
  const x = unpack(f, a);
  const y = unpack(f, b);
  if (x.signaling || y.signaling) env.flags |= FFLAGS.NV;
  return order(x, y) === 0;
}

/** Signaling: any NaN is invalid. */
export function fpLt(env: FpEnv, f: FpFormat, a: bigint, b: bigint): boolean {
  const ordering = order(unpack(f, a), unpack(f, b));
  if (ordering === undefined) env.flags |= FFLAGS.NV;
  return ordering === -1;
}

/** Signaling: any NaN is invalid. */
export function fpLe(env: FpEnv, f: FpFormat, a: bigint, b: bigint): boolean {
  const ordering = order(unpack(f, a), unpack(f, b));
  if (ordering === undefined) env.flags |= FFLAGS.NV;
  return ordering === -1 || ordering === 0;
}

/** minimumNumber / maximumNumber of IEEE 754-2019: a number wins over a NaN, and -0 < +0. */
function minMax(env: FpEnv, f: FpFormat, a: bigint, b: bigint, wanted: -1 | 1): bigint {
  const x = unpack(f, a);
  const y = unpack(f, b);
  if (x.signaling || y.signaling) env.flags |= FFLAGS.NV;
  if (x.kind === "nan") return y.kind === "nan" ? f.canonicalNan : b;
  if (y.kind === "nan") return a;
  const ordering = order(x, y) || (x.negative === y.negative ? 0 : x.negative ? -1 : 1);
  return ordering === wanted ? a : b;
}

export function fpMin(env: FpEnv, f: FpFormat, a: bigint, b: bigint): bigint {
  return minMax(env, f, a, b, -1);
}

export function fpMax(env: FpEnv, f: FpFormat, a: bigint, b: bigint): bigint {
  return minMax(env, f, a, b, 1);
}

/** The 10-bit mask of `fclass`. */
export function fpClass(f: FpFormat, a: bigint): number {
  const x = unpack(f, a);
  if (x.kind === "nan") return x.signaling ? 1 << 8 : 1 << 9;
  const magnitude = x.kind === "infinite" ? 0 : x.sig === 0n ? 3 : x.sig < 1n << BigInt(f.fracBits) ? 2 : 1;
  return 1 << (x.negative ? magnitude : 7 - magnitude);
}

/**
 * To a signed or unsigned integer of `width` bits, as the register value (32-bit results, unsigned ones
 * too, sign-extended to 64 bits; returned unsigned). Out of range: NV and the nearest integer; NaN as +∞.
 */
export function fpToInt(env: FpEnv, f: FpFormat, a: bigint, width: 32 | 64, isSigned: boolean): bigint {
  const x = unpack(f, a);
  const top = 1n << BigInt(isSigned ? width - 1 : width);
  const lowest = isSigned ? -top : 0n;
  const highest = top - 1n;
  let value = x.negative && x.kind !== "nan" ? lowest : highest;
  let flag: number = FFLAGS.NV;
  if (x.kind === "finite") {
    const { int, inexact } = roundShift(env.rm, x.negative, x.sig, -x.exp);
    const exact = x.negative ? -int : int;
    if (exact >= lowest && exact <= highest) {
      value = exact;
      flag = inexact ? FFLAGS.NX : 0;
    }
  }
  env.flags |= flag;
  return BigInt.asUintN(64, width === 32 ? BigInt.asIntN(32, value) : value);
}

export function fpFromInt(env: FpEnv, f: FpFormat, value: bigint): bigint {
  return round(env, f, { negative: value < 0n, sig: value < 0n ? -value : value, exp: 0 });
}

export function fpConvert(env: FpEnv, from: FpFormat, to: FpFormat, a: bigint): bigint {
  const x = unpack(from, a);
  if (x.kind === "nan") return nan(env, to, x);
  return x.kind === "infinite" ? infinity(to, x.negative) : round(env, to, x);
}
