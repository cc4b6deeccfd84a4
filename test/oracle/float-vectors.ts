// CI's replacement for TestFloat: for each F and D instruction (and those of later formats) vectors of
// corner-case and random operands, judged by the exact arithmetic of reference-softfloat.ts. A format is one
// entry of FORMATS; all its instructions in the table are judged.
import {
  type FpEnv,
  fpAdd,
  fpClass,
  fpConvert,
  fpDiv,
  fpEq,
  fpFma,
  fpFromInt,
  fpLe,
  fpLt,
  fpMax,
  fpMin,
  fpMul,
  fpSqrt,
  fpSub,
  fpToInt,
} from "../support/reference-softfloat.ts";
import { rows } from "../../src/hypervisor/isa/isa.ts";
import { BINARY16, BINARY32, BINARY64, type FpFormat } from "../../src/hypervisor/float/softfloat-format.ts";
import type { Random } from "../support/random.ts";

interface Format {
  /** The format's letter in names of instructions, and in those of moves. */
  readonly letter: string;
  readonly move: string;
  readonly width: bigint;
  readonly format: FpFormat;
}
const FORMATS: readonly Format[] = [
  { letter: "h", move: "h", width: 16n, format: BINARY16 },
  { letter: "s", move: "w", width: 32n, format: BINARY32 },
  { letter: "d", move: "d", width: 64n, format: BINARY64 },
];

/** Operands and results are register values. */
export interface FloatOperation {
  readonly name: string;
  /** True if the result depends on the rounding mode; otherwise one mode is enough. */
  readonly rounds: boolean;
  readonly operands: (r: Random) => bigint[];
  readonly expected: (env: FpEnv, operands: readonly bigint[]) => bigint;
}

type Bits = readonly [bigint, bigint, bigint];
const ALL = (1n << 64n) - 1n;
const upper = ({ width }: Format): bigint => (ALL << width) & ALL;
const boxed = (f: Format, bits: bigint): bigint => bits | upper(f);
const unboxed = (f: Format, register: bigint): bigint =>
  (register & upper(f)) === upper(f) ? register & ~upper(f) : f.format.canonicalNan;
const signExtended = (bits: bigint, width: bigint): bigint =>
  BigInt.asUintN(64, BigInt.asIntN(Number(width), bits));

/**
 * Exponents of special cases: zero, subnormal, near one, near the widths of integers, the largest, infinity.
 */
function exponent(r: Random, { fracBits, maxExp }: FpFormat): number {
  const top = 2 * maxExp + 1;
  const near = (e: number): number => Math.min(Math.max(maxExp + e + r.int(3) - 1, 0), top);
  return r.weighted<() => number>([
    [2, () => r.int(3)],
    [2, () => top - r.int(3)],
    [3, () => near(0)],
    [2, () => near(r.pick([31, 32, 63, 64, 7, 8, 15, 16]))],
    [2, () => near(r.pick([fracBits, -fracBits, fracBits + 1, -fracBits - 2, 2 * fracBits]))],
    [2, () => maxExp + r.int(11) - 5],
    [1, () => near(r.pick([-Math.floor(maxExp / 2), Math.floor(maxExp / 2)]))],
    [2, () => r.int(top + 1)],
  ])();
}

function fraction(r: Random, { fracBits }: FpFormat): bigint {
  const all = (1n << BigInt(fracBits)) - 1n;
  const some = BigInt(r.int(fracBits));
  return r.weighted<() => bigint>([
    [3, () => 0n],
    [2, () => BigInt(r.int(4))],
    [2, () => all - BigInt(r.int(4))],
    [2, () => 1n << some],
    [1, () => (all << some) & all],
    [1, () => all >> some],
    [1, () => 1n << BigInt(fracBits - 1)],
    [4, () => r.u64() & all],
  ])();
}

function number(r: Random, f: Format): bigint {
  const { fracBits, signBit } = f.format;
  const magnitude = (BigInt(exponent(r, f.format)) << BigInt(fracBits)) | fraction(r, f.format);
  return (r.oneIn(2) ? signBit : 0n) | magnitude;
}

/** As a register value: sometimes improperly NaN-boxed. */
const register = (r: Random, f: Format, bits: bigint): bigint =>
  f.width < 64n && r.oneIn(50) ? bits | (r.u64() & upper(f)) : boxed(f, bits);

/** Some operands are close to one another, or their product is close to the third: they cancel. */
function numbers(r: Random, f: Format, count: number): bigint[] {
  const list = Array.from({ length: count }, () => number(r, f));
  const { signBit } = f.format;
  const last = count - 1;
  const nearby = (bits: bigint): bigint => bits ^ BigInt(r.int(4)) ^ (r.oneIn(2) ? signBit : 0n);
  if (count === 2 && r.oneIn(3)) list[1] = nearby(list[0] as bigint);
  if (count === 3 && r.oneIn(3)) {
    list[last] = nearby(fpMul({ rm: 0, flags: 0 }, f.format, list[0] as bigint, list[1] as bigint));
  }
  return list.map((bits) => register(r, f, bits));
}

function integer(r: Random): bigint {
  const bit = 1n << BigInt(r.int(64));
  return BigInt.asUintN(
    64,
    r.weighted<() => bigint>([
      [2, () => BigInt(r.int(5) - 2)],
      [3, () => bit + BigInt(r.int(5) - 2)],
      [2, () => -bit + BigInt(r.int(5) - 2)],
      [1, () => bit | (1n << BigInt(r.int(64)))],
      [1, () => ALL << BigInt(r.int(64))],
      [2, () => r.u64() >> BigInt(r.int(64))],
      [1, () => r.u64()],
    ])(),
  );
}

function arithmetic(f: Format): FloatOperation[] {
  const { letter, format } = f;
  const { signBit } = format;
  const float = (
    name: string,
    count: number,
    rounds: boolean,
    compute: (env: FpEnv, x: Bits) => bigint,
    toRegister = (bits: bigint): bigint => boxed(f, bits),
  ): FloatOperation => ({
    name: `${name}.${letter}`,
    rounds,
    operands: (r) => numbers(r, f, count),
    expected: (env, registers) => {
      const [a = 0n, b = 0n, c = 0n] = registers.map((x) => unboxed(f, x));
      return toRegister(compute(env, [a, b, c]));
    },
  });
  const fused = (name: string, product: bigint, addend: bigint): FloatOperation =>
    float(name, 3, true, (env, [a, b, c]) => fpFma(env, format, a ^ product, b, c ^ addend));
  const asIs = (x: bigint): bigint => x;
  const compare = (name: string, test: typeof fpEq): FloatOperation =>
    float(name, 2, false, (env, [a, b]) => BigInt(test(env, format, a, b)), asIs);
  const sign = (name: string, of: (a: bigint, b: bigint) => bigint): FloatOperation =>
    float(name, 2, false, (_, [a, b]) => (a & ~signBit) | (of(a, b) & signBit));
  return [
    float("fadd", 2, true, (env, [a, b]) => fpAdd(env, format, a, b)),
    float("fsub", 2, true, (env, [a, b]) => fpSub(env, format, a, b)),
    float("fmul", 2, true, (env, [a, b]) => fpMul(env, format, a, b)),
    float("fdiv", 2, true, (env, [a, b]) => fpDiv(env, format, a, b)),
    float("fsqrt", 1, true, (env, [a]) => fpSqrt(env, format, a)),
    fused("fmadd", 0n, 0n),
    fused("fmsub", 0n, signBit),
    fused("fnmsub", signBit, 0n),
    fused("fnmadd", signBit, signBit),
    float("fmin", 2, false, (env, [a, b]) => fpMin(env, format, a, b)),
    float("fmax", 2, false, (env, [a, b]) => fpMax(env, format, a, b)),
    compare("feq", fpEq),
    compare("flt", fpLt),
    compare("fle", fpLe),
    sign("fsgnj", (_, b) => b),
    sign("fsgnjn", (_, b) => ~b),
    sign("fsgnjx", (a, b) => a ^ b),
    float("fclass", 1, false, (_, [a]) => BigInt(fpClass(format, a)), asIs),
    float("fminm", 2, false, (env, [a, b]) => strict(format, fpMin(env, format, a, b), a, b)),
    float("fmaxm", 2, false, (env, [a, b]) => strict(format, fpMax(env, format, a, b), a, b)),
    compare("fleq", quiet(fpLe)),
    compare("fltq", quiet(fpLt)),
    float("fround", 1, true, (env, [a]) => whole(env, format, a, false)),
    float("froundnx", 1, true, (env, [a]) => whole(env, format, a, true)),
  ];
}

const isNan = (format: FpFormat, bits: bigint): boolean => fpClass(format, bits) >= 0x100;

/** Zfa: the result is a NaN if an operand is. */
const strict = (format: FpFormat, result: bigint, a: bigint, b: bigint): bigint =>
  isNan(format, a) || isNan(format, b) ? format.canonicalNan : result;

/** Zfa: only a signaling NaN is invalid, as for feq. */
const quiet =
  (test: typeof fpEq): typeof fpEq =>
  (env, format, a, b) => {
    fpEq(env, format, a, b);
    return test({ ...env, flags: 0 }, format, a, b);
  };

/** Zfa: rounds to an integral value. */
function whole(env: FpEnv, format: FpFormat, bits: bigint, reports: boolean): bigint {
  const { fracBits, signBit } = format;
  if (isNan(format, bits)) return fpAdd(env, format, bits, bits);
  const exact = (BigInt(format.maxExp + fracBits) << BigInt(fracBits)) | 0n;
  if ((bits & ~signBit) >= exact) return bits;
  const own = { ...env, flags: 0 };
  const integer = fpToInt(own, format, bits, 64, true);
  if (reports) env.flags |= own.flags;
  return (fpFromInt({ rm: 0, flags: 0 }, format, BigInt.asIntN(64, integer)) & ~signBit) | (bits & signBit);
}

const INTEGERS = [
  { letter: "w", width: 32, isSigned: true },
  { letter: "wu", width: 32, isSigned: false },
  { letter: "l", width: 64, isSigned: true },
  { letter: "lu", width: 64, isSigned: false },
] as const;

function conversions(f: Format): FloatOperation[] {
  const one = (r: Random): bigint[] => numbers(r, f, 1);
  const list: FloatOperation[] = [];
  for (const { letter, width, isSigned } of INTEGERS) {
    list.push({
      name: `fcvt.${letter}.${f.letter}`,
      rounds: true,
      operands: one,
      expected: (env, [x = 0n]) => fpToInt(env, f.format, unboxed(f, x), width, isSigned),
    });
    list.push({
      name: `fcvt.${f.letter}.${letter}`,
      rounds: true,
      operands: (r) => [integer(r)],
      expected: (env, [x = 0n]) =>
        boxed(f, fpFromInt(env, f.format, isSigned ? BigInt.asIntN(width, x) : BigInt.asUintN(width, x))),
    });
  }
  for (const to of FORMATS.filter((format) => format !== f)) {
    list.push({
      name: `fcvt.${to.letter}.${f.letter}`,
      rounds: true,
      operands: one,
      expected: (env, [x = 0n]) => boxed(to, fpConvert(env, f.format, to.format, unboxed(f, x))),
    });
  }
  list.push({
    name: `fcvtmod.w.${f.letter}`,
    rounds: false,
    operands: one,
    expected: (env, [x = 0n]) => wordModulo(env, f.format, unboxed(f, x)),
  });
  list.push({
    name: `fmv.x.${f.move}`,
    rounds: false,
    operands: one,
    expected: (_, [x = 0n]) => signExtended(x, f.width),
  });
  list.push({
    name: `fmv.${f.move}.x`,
    rounds: false,
    operands: (r) => [r.u64()],
    expected: (_, [x = 0n]) => boxed(f, x & ~upper(f)),
  });
  return list;
}

/** Zfa: towards zero, modulo 2^32; the flags are those of a conversion that does not wrap. */
function wordModulo(env: FpEnv, format: FpFormat, bits: bigint): bigint {
  const { fracBits, maxExp, signBit } = format;
  env.rm = 1;
  fpToInt(env, format, bits, 32, true);
  const biased = Number((bits & ~signBit) >> BigInt(fracBits));
  if (biased === 0 || biased === 2 * maxExp + 1) return 0n;
  const significand = (bits & ((1n << BigInt(fracBits)) - 1n)) | (1n << BigInt(fracBits));
  const shift = biased - maxExp - fracBits;
  const magnitude = shift < 0 ? significand >> BigInt(-shift) : significand << BigInt(shift);
  return signExtended((bits & signBit) === 0n ? magnitude : -magnitude, 32n);
}

const known = new Set(rows.map((row) => row.name));
/** Loads and stores, and constants, which have no operands (isa-fa.test.ts). */
const NOT_JUDGED = /^f(l|s)[a-z]$|^fli\./;

/** All operations in the instruction table. Throws if the table has one without a reference. */
export function floatOperations(): readonly FloatOperation[] {
  const all = FORMATS.flatMap((f) => [...arithmetic(f), ...conversions(f)]).filter(({ name }) =>
    known.has(name),
  );
  const judged = new Set(all.map(({ name }) => name));
  const missing = rows.filter(
    ({ name, fields }) =>
      (fields.has("frd") || fields.has("frs1")) && !judged.has(name) && !NOT_JUDGED.test(name),
  );
  if (missing.length > 0) throw new Error(`no reference for ${missing.map(({ name }) => name).join(", ")}`);
  return all;
}
