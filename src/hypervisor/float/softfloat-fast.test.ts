// The float functions in WebAssembly against reference-softfloat.ts: results and flags on random operands,
// with NX clear and set; and that the intended fast paths are fast. The complete test:
// test/oracle/testfloat.ts --engine.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { instantiateFloats } from "../../../test/support/float-module.ts";
import { hasFusedMultiplyAdd } from "../../wasm/fused.ts";
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
import { BINARY16, BINARY32, BINARY64, FFLAGS, type FpFormat } from "./softfloat-format.ts";
import { seed } from "../../../test/support/seed.ts";

/** The rows of the interpreter, and those of the translator. */
const calls = [
  { isFused: false, isStatic: false },
  { isFused: hasFusedMultiplyAdd(), isStatic: true },
].map(instantiateFloats);

/**
 * Bit patterns: any, close exponents (cancellation, ties), few significant bits (exact results), corner
 * cases.
 */
function patterns(f: FpFormat): fc.Arbitrary<bigint> {
  const any = fc.bigInt({ min: 0n, max: f.signBit * 2n - 1n });
  const one = BigInt(f.maxExp) << BigInt(f.fracBits);
  const spread = Math.min(30, f.maxExp - 1);
  const near = (bits: number) => {
    return fc.tuple(any, fc.integer({ min: -spread, max: spread })).map(([x, e]) => {
      const fraction = (x >> BigInt(f.fracBits - bits)) & ((1n << BigInt(bits)) - 1n);
      const biased = one + (BigInt(e) << BigInt(f.fracBits));
      return (x & f.signBit) | (biased + (fraction << BigInt(f.fracBits - bits)));
    });
  };
  const corners = [
    0n,
    1n,
    f.infinity,
    f.infinity - 1n,
    f.infinity | 1n,
    f.canonicalNan,
    1n << BigInt(f.fracBits),
  ];
  const corner = fc
    .tuple(fc.constantFrom(...corners), fc.boolean())
    .map(([bits, negative]) => (negative ? bits | f.signBit : bits));
  return fc.oneof(any, near(f.fracBits), near(5), corner);
}

const box = (f: FpFormat, bits: bigint): bigint =>
  f === BINARY64 ? bits : BigInt.asUintN(64, bits | -(f.signBit << 1n));

type Reference = (env: FpEnv, f: FpFormat, x: readonly bigint[]) => bigint;
const at = (x: readonly bigint[], i: number): bigint => x[i] ?? 0n;
const arithmetic: [string, Reference][] = [
  ["fadd", (env, f, x) => fpAdd(env, f, at(x, 0), at(x, 1))],
  ["fsub", (env, f, x) => fpSub(env, f, at(x, 0), at(x, 1))],
  ["fmul", (env, f, x) => fpMul(env, f, at(x, 0), at(x, 1))],
  ["fdiv", (env, f, x) => fpDiv(env, f, at(x, 0), at(x, 1))],
  ["fsqrt", (env, f, x) => fpSqrt(env, f, at(x, 0))],
  ["fmadd", (env, f, x) => fpFma(env, f, at(x, 0), at(x, 1), at(x, 2))],
];
const arity: Record<string, number> = { fsqrt: 1, fmadd: 3 };
const integers: [string, 32 | 64, boolean][] = [
  ["w", 32, true],
  ["wu", 32, false],
  ["l", 64, true],
  ["lu", 64, false],
];

function same(name: string, operands: readonly bigint[], reference: (env: FpEnv) => bigint): void {
  for (const rm of [0, 1, 2, 3, 4]) {
    for (const before of [0, FFLAGS.NX]) {
      const env = { rm, flags: before };
      const result = reference(env);
      for (const call of calls) {
        const found = call(name, rm, operands, before);
        const show = `${name} rm=${rm} fflags=${before} ${operands.map((x) => x.toString(16)).join()}`;
        expect(`${show} = ${found.result.toString(16)} ${found.flags}`).toBe(
          `${show} = ${result.toString(16)} ${env.flags}`,
        );
      }
    }
  }
}

describe.each([
  ["h", BINARY16],
  ["s", BINARY32],
  ["d", BINARY64],
] as [string, FpFormat][])("format %s", (suffix, f) => {
  it.each(arithmetic)("%s", (name, reference) => {
    const operands = fc.array(patterns(f), { minLength: arity[name] ?? 2, maxLength: arity[name] ?? 2 });
    fc.assert(
      fc.property(operands, (x) => {
        const boxed = x.map((bits) => box(f, bits));
        same(`${name}.${suffix}`, boxed, (env) => box(f, reference(env, f, x)));
      }),
      { seed, numRuns: 1000 },
    );
  });

  it.each(integers)("to and from %s", (int, width, isSigned) => {
    fc.assert(
      fc.property(patterns(f), (x) => {
        same(`fcvt.${int}.${suffix}`, [box(f, x)], (env) => fpToInt(env, f, x, width, isSigned));
      }),
      { seed, numRuns: 1000 },
    );
    if (width === 32) return;
    const value = fc
      .tuple(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.integer({ min: 0, max: 63 }))
      .map(([x, shift]) => (isSigned ? BigInt.asIntN(64, x) : x) >> BigInt(shift));
    fc.assert(
      fc.property(value, (x) => same(`fcvt.${suffix}.${int}`, [x], (env) => box(f, fpFromInt(env, f, x)))),
      { seed, numRuns: 1000 },
    );
  });

  it.skipIf(f === BINARY16).each(calls)("stays in WebAssembly for ordinary numbers", (call) => {
    const bits = (value: number): bigint => {
      const view = new DataView(new ArrayBuffer(8));
      if (f === BINARY64) view.setFloat64(0, value);
      else view.setFloat32(4, value);
      return box(f, view.getBigUint64(0));
    };
    const isSlow = (name: string, flags: number, ...x: number[]) => {
      return call(`${name}.${suffix}`, 0, x.map(bits), flags).slow;
    };
    for (const flags of [0, FFLAGS.NX]) {
      expect(isSlow("fadd", flags, 1.5, -3)).toBe(false);
      expect(isSlow("fsub", flags, 7, 7)).toBe(false);
      expect(isSlow("fmul", flags, 1.25, 0)).toBe(false);
      expect(isSlow("fmul", flags, 1.25, 3)).toBe(false);
      expect(isSlow("fdiv", flags, 9, 3)).toBe(false);
      expect(isSlow("fsqrt", flags, 6.25)).toBe(false);
      expect(isSlow("fmadd", flags, 3, 5, -2)).toBe(false);
      expect(isSlow("fmadd", flags, 0, 5, -2)).toBe(false);
      expect(isSlow("fcvt.w", flags, 12)).toBe(false);
    }
    expect(isSlow("fdiv", 0, 1, 3)).toBe(true);
    for (const name of ["fadd", "fmul", "fdiv", "fmadd"]) {
      expect(isSlow(name, FFLAGS.NX, Math.PI, Math.E, 1e-3)).toBe(false);
    }
  });
});

describe("between formats", () => {
  it("fcvt.s.d and fcvt.d.s", () => {
    fc.assert(
      fc.property(patterns(BINARY64), (x) => {
        same("fcvt.s.d", [x], (env) => box(BINARY32, fpConvert(env, BINARY64, BINARY32, x)));
      }),
      { seed, numRuns: 1000 },
    );
    fc.assert(
      fc.property(patterns(BINARY32), (x) => {
        same("fcvt.d.s", [box(BINARY32, x)], (env) => fpConvert(env, BINARY32, BINARY64, x));
      }),
      { seed, numRuns: 1000 },
    );
  });

  it("fcvt.h.s, fcvt.h.d, fcvt.s.h and fcvt.d.h", () => {
    for (const [letter, f] of [
      ["s", BINARY32],
      ["d", BINARY64],
    ] as const) {
      // Numbers close to half-precision values, and others.
      const scaled = patterns(f).map((x) => {
        const exponent = BigInt(f.maxExp - 30) + (((x & (f.signBit - 1n)) >> BigInt(f.fracBits)) & 63n);
        return (x & ~f.infinity) | (exponent << BigInt(f.fracBits));
      });
      fc.assert(
        fc.property(fc.oneof(patterns(f), scaled), (x) => {
          same(`fcvt.h.${letter}`, [box(f, x)], (env) => box(BINARY16, fpConvert(env, f, BINARY16, x)));
        }),
        { seed, numRuns: 1000 },
      );
      for (let x = 0n; x < 0x1_0000n; x += 61n) {
        same(`fcvt.${letter}.h`, [box(BINARY16, x)], (env) => box(f, fpConvert(env, BINARY16, f, x)));
      }
    }
  });

  it("fsgnj.h changes no other bit of a half, even of a NaN", () => {
    for (const call of calls) {
      for (let x = 0n; x < 0x1_0000n; x++) {
        expect(call("fsgnj.h", 0, [box(BINARY16, x), box(BINARY16, x)], 0).result).toBe(box(BINARY16, x));
      }
    }
  });

  it("treats an improperly boxed half as the canonical NaN", () => {
    for (const wrong of [0x3c00n, 0xffff_ffff_0000_3c00n, 0xffff_0000_ffff_3c00n, 0xfffe_ffff_ffff_3c00n]) {
      for (const call of calls) {
        const sum = call("fadd.h", 0, [wrong, box(BINARY16, 0x3c00n)], 0);
        expect(sum).toMatchObject({ result: box(BINARY16, BINARY16.canonicalNan), flags: 0 });
        expect(call("fmv.x.h", 0, [wrong], 0).result).toBe(0x3c00n);
      }
    }
  });

  it("treats an improperly boxed binary32 as the canonical NaN", () => {
    const one = 0x3f80_0000n;
    for (const call of calls) {
      expect(call("fadd.s", 0, [one, box(BINARY32, one)], 0)).toMatchObject({
        result: box(BINARY32, 0x7fc0_0000n),
        flags: 0,
      });
      expect(call("fcvt.d.s", 0, [one], 0)).toMatchObject({ result: BINARY64.canonicalNan, flags: 0 });
    }
  });
});
