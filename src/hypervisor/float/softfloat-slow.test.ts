// The exact path in WebAssembly against the reference in BigInt: all operations, formats and rounding modes,
// results and flags, on operands that make ties, cancellation, subnormals, overflow and NaNs likely.
// WHERRY_RUNS sets the number of operand triples for each operation and format.
import { describe, expect, it } from "vitest";
import { instantiateSlow } from "../../../test/support/float-module.ts";
import { Random } from "../../../test/support/random.ts";
import {
  type FpEnv,
  fpAdd,
  fpConvert,
  fpDiv,
  fpFma,
  fpFromInt,
  fpMul,
  fpSqrt,
  fpSub,
  fpToInt,
} from "../../../test/support/reference-softfloat.ts";
import { BINARY32, BINARY64, type FpFormat } from "./softfloat-format.ts";
import { FP_DOUBLE, FP_OP } from "./softfloat-slow.ts";
import { seed } from "../../../test/support/seed.ts";

const RUNS = Number(process.env["WHERRY_RUNS"] ?? 20_000);

/** A number's bits. Its exponent is probably close to `near`. */
function operand(random: Random, f: FpFormat, near: bigint): bigint {
  const fracBits = BigInt(f.fracBits);
  const all = random.u64();
  const sign = all & 1n ? f.signBit : 0n;
  const kind = random.int(16);
  if (kind === 0) {
    const corners = [0n, 1n, f.infinity, f.infinity - 1n, f.canonicalNan, f.infinity | 1n, 1n << fracBits];
    return sign | (corners[random.int(corners.length)] as bigint);
  }
  // Fractions: any, few bits set, a run of ones to the end, a short one.
  const mask = (1n << fracBits) - 1n;
  const any = random.u64();
  const fraction = [
    any,
    (1n << (any % fracBits)) | (1n << ((any >> 8n) % fracBits)),
    -(1n << (any % fracBits)),
    any << (fracBits - (any % fracBits)),
  ][random.int(4)] as bigint;
  const exponent =
    kind < 5
      ? random.u64()
      : kind < 13
        ? near + BigInt(random.int(9) - 4)
        : near + BigInt(random.int(4 * f.fracBits) - 2 * f.fracBits);
  const biased = ((exponent << fracBits) & (f.infinity - 1n) & ~mask) % f.infinity;
  return sign | biased | (fraction & mask);
}

type Reference = (env: FpEnv, f: FpFormat, a: bigint, b: bigint, c: bigint) => bigint;
const operations: [keyof typeof FP_OP, Reference][] = [
  ["ADD", fpAdd],
  ["SUB", fpSub],
  ["MUL", fpMul],
  ["DIV", fpDiv],
  ["SQRT", fpSqrt],
  ["FMA", fpFma],
  ["TO_W", (env, f, a) => fpToInt(env, f, a, 32, true)],
  ["TO_WU", (env, f, a) => fpToInt(env, f, a, 32, false)],
  ["TO_L", (env, f, a) => fpToInt(env, f, a, 64, true)],
  ["TO_LU", (env, f, a) => fpToInt(env, f, a, 64, false)],
  ["FROM_I64", (env, f, a) => fpFromInt(env, f, BigInt.asIntN(64, a))],
  ["FROM_U64", (env, f, a) => fpFromInt(env, f, a)],
  ["CONVERT", (env, f, a) => fpConvert(env, f, f === BINARY64 ? BINARY32 : BINARY64, a)],
];

const { call, flags } = instantiateSlow();

describe.each([
  ["binary32", BINARY32],
  ["binary64", BINARY64],
] as [string, FpFormat][])("%s", (_, f) => {
  it.each(operations)("%s", (name, reference) => {
    const random = new Random(seed ^ FP_OP[name]);
    const op = FP_OP[name] | (f === BINARY64 ? FP_DOUBLE : 0);
    const env = { rm: 0, flags: 0 };
    const bias = BigInt(f.maxExp);
    for (let run = 0; run < RUNS; run++) {
      // Exponents for ordinary and subnormal results, and for results outside the range of integers or of the
      // format, at random.
      const centers = [
        bias,
        bias + 31n,
        bias + 63n,
        0n,
        2n * bias,
        bias / 2n,
        BigInt(random.int(2 * f.maxExp)),
      ];
      const near = centers[random.int(centers.length)] as bigint;
      const isInteger = name.startsWith("FROM");
      const a = isInteger
        ? BigInt.asUintN(64, BigInt.asIntN(64, random.u64()) >> BigInt(random.int(64)))
        : operand(random, f, near);
      const b = operand(random, f, random.int(4) === 0 ? bias : near);
      // Close to the product or quotient.
      const c = operand(
        random,
        f,
        ((a & f.infinity) >> BigInt(f.fracBits)) + ((b & f.infinity) >> BigInt(f.fracBits)) - bias,
      );
      for (let rm = 0; rm < 5; rm++) {
        env.rm = rm;
        env.flags = 0;
        flags[0] = 0;
        const expected = reference(env, f, a, b, c);
        const found = BigInt.asUintN(64, call(op, rm, a, b, c));
        if (found === expected && flags[0] === env.flags) continue;
        const operands = [a, b, c].map((x) => x.toString(16)).join();
        expect(`${operands} rm=${rm}: ${found.toString(16)} ${flags[0]}`).toBe(
          `${operands} rm=${rm}: ${expected.toString(16)} ${env.flags}`,
        );
      }
    }
  });
});
