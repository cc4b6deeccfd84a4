// The host's own arithmetic judges round-to-nearest-even; relations between the modes and directed cases
// judge the rest. The full judge is TestFloat (test/oracle/testfloat.ts), which is not in the repository.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
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
} from "./reference-softfloat.ts";
import {
  BINARY32,
  BINARY64,
  FFLAGS,
  type FpFormat,
  RM,
} from "../../src/hypervisor/float/softfloat-format.ts";
import { seed } from "./seed.ts";

function forAll<T>(values: fc.Arbitrary<T>, body: (value: T) => void): void {
  fc.assert(fc.property(values, body), { seed, numRuns: 2000 });
}

const view = new DataView(new ArrayBuffer(8));
function toHost(f: FpFormat, bits: bigint): number {
  if (f === BINARY64) {
    view.setBigUint64(0, bits);
    return view.getFloat64(0);
  }
  view.setUint32(0, Number(bits));
  return view.getFloat32(0);
}
function fromHost(f: FpFormat, value: number): bigint {
  if (Number.isNaN(value)) return f.canonicalNan;
  if (f === BINARY64) {
    view.setFloat64(0, value);
    return view.getBigUint64(0);
  }
  view.setFloat32(0, value);
  return BigInt(view.getUint32(0));
}

/** Bit patterns with the corners over-represented: all-zero and all-one fields, few set bits. */
function patterns(f: FpFormat): fc.Arbitrary<bigint> {
  const all = f.signBit * 2n - 1n;
  const any = fc.bigInt({ min: 0n, max: all });
  const middle = fc.tuple(any, fc.integer({ min: -40, max: 40 }), any).map(([fraction, e, sign]) => {
    const exponent = BigInt(e - f.minExp + 1) << BigInt(f.fracBits);
    return (sign & f.signBit) | exponent | (fraction & ((1n << BigInt(f.fracBits)) - 1n));
  });
  const corner = fc
    .tuple(
      fc.constantFrom(0n, 1n, f.infinity, f.canonicalNan, 1n << BigInt(f.fracBits), f.signBit - 1n),
      any,
      any,
    )
    .map(([base, sign, noise]) => ((base + (noise & 3n) - 1n) & (f.signBit - 1n)) | (sign & f.signBit));
  return fc.oneof(any, middle, corner);
}

const env = (rm: number): FpEnv => ({ rm, flags: 0 });
type Binary = (env: FpEnv, f: FpFormat, a: bigint, b: bigint) => bigint;
const hostBinary: [string, Binary, (a: number, b: number) => number][] = [
  ["add", fpAdd, (a, b) => a + b],
  ["sub", fpSub, (a, b) => a - b],
  ["mul", fpMul, (a, b) => a * b],
  ["div", fpDiv, (a, b) => a / b],
  ["sqrt", (e, f, a) => fpSqrt(e, f, a), (a) => Math.sqrt(a)],
];
const formats: [string, FpFormat][] = [
  ["binary32", BINARY32],
  ["binary64", BINARY64],
];

describe.each(formats)("%s", (_, f) => {
  const two = fc.tuple(patterns(f), patterns(f));

  it.each(hostBinary)("%s agrees with the host to nearest even", (_name, op, host) => {
    forAll(two, ([a, b]) => {
      expect(op(env(RM.RNE), f, a, b)).toBe(fromHost(f, host(toHost(f, a), toHost(f, b))));
    });
  });

  it.each(hostBinary)(
    "%s: the modes bracket the exact result, and NX tells whether they differ",
    (_name, op) => {
      forAll(two, ([a, b]) => {
        const run = (rm: number) => {
          const e = env(rm);
          return { value: toHost(f, op(e, f, a, b)), flags: e.flags };
        };
        const down = run(RM.RDN);
        const up = run(RM.RUP);
        if (Number.isNaN(down.value)) return;
        expect(down.value <= up.value).toBe(true);
        expect((down.flags & FFLAGS.NX) !== 0).toBe(down.value !== up.value);
        expect([down.value, up.value]).toContain(run(RM.RNE).value);
        expect([down.value, up.value]).toContain(run(RM.RMM).value);
        expect(run(RM.RTZ).value === (up.value > 0 ? down.value : up.value)).toBe(true);
      });
    },
  );

  it("fma with a neutral operand is mul or add", () => {
    const one = fromHost(f, 1);
    forAll(two, ([a, b]) => {
      for (const rm of [0, 1, 2, 3, 4]) {
        const fused = env(rm);
        const plain = env(rm);
        expect(fpFma(fused, f, a, one, b)).toBe(fpAdd(plain, f, a, b));
        expect(fused.flags).toBe(plain.flags);
      }
      const product = fpMul(env(RM.RNE), f, a, b);
      const signedZero = product & f.signBit;
      expect(fpFma(env(RM.RNE), f, a, b, signedZero)).toBe(product);
    });
  });

  it("comparisons, min and max agree with the host", () => {
    forAll(two, ([a, b]) => {
      const x = toHost(f, a);
      const y = toHost(f, b);
      expect(fpEq(env(0), f, a, b)).toBe(x === y);
      expect(fpLt(env(0), f, a, b)).toBe(x < y);
      expect(fpLe(env(0), f, a, b)).toBe(x <= y);
      const pick = (host: (...v: number[]) => number): bigint => {
        return fromHost(f, Number.isNaN(x) ? y : Number.isNaN(y) ? x : host(x, y));
      };
      expect(fpMin(env(0), f, a, b)).toBe(pick(Math.min));
      expect(fpMax(env(0), f, a, b)).toBe(pick(Math.max));
    });
  });

  it("NaNs: quiet ones pass through eq and min, signaling ones and ordered comparisons are invalid", () => {
    const quiet = f.canonicalNan | 1n;
    const signaling = f.infinity | 1n;
    const one = fromHost(f, 1);
    const flagsOf = (run: (e: FpEnv) => unknown): number => {
      const e = env(RM.RNE);
      run(e);
      return e.flags;
    };
    expect(flagsOf((e) => fpEq(e, f, quiet, one))).toBe(0);
    expect(flagsOf((e) => fpLt(e, f, quiet, one))).toBe(FFLAGS.NV);
    expect(flagsOf((e) => fpLe(e, f, one, quiet))).toBe(FFLAGS.NV);
    expect(flagsOf((e) => fpEq(e, f, signaling, one))).toBe(FFLAGS.NV);
    expect(flagsOf((e) => fpMin(e, f, signaling, one))).toBe(FFLAGS.NV);
    expect(flagsOf((e) => fpAdd(e, f, quiet, one))).toBe(0);
    expect(flagsOf((e) => fpFma(e, f, f.infinity, 0n, quiet))).toBe(FFLAGS.NV);
    expect(fpAdd(env(0), f, quiet, one)).toBe(f.canonicalNan);
    expect(fpMin(env(0), f, 0n, f.signBit)).toBe(f.signBit);
    expect(fpMax(env(0), f, 0n, f.signBit)).toBe(0n);
  });

  it("overflow goes to infinity or to the largest number, by mode and sign", () => {
    const largest = f.infinity - 1n;
    const overflow = (rm: number, sign: bigint) => {
      const e = env(rm);
      const result = fpAdd(e, f, largest | sign, largest | sign);
      expect(e.flags).toBe(FFLAGS.OF | FFLAGS.NX);
      return result & ~sign;
    };
    const atMode = (sign: bigint) => [0, 1, 2, 3, 4].map((rm) => overflow(rm, sign) === f.infinity);
    expect(atMode(0n)).toEqual([true, false, false, true, true]);
    expect(atMode(f.signBit)).toEqual([true, false, true, false, true]);
  });

  it("underflow is detected after rounding", () => {
    const smallest = 1n << BigInt(f.fracBits);
    const belowOne = fromHost(f, 1) - 1n;
    // The smallest normal × (1 - ulp/2) rounds up to it, yet is tiny with an unbounded exponent.
    const tiny = env(RM.RNE);
    expect(fpMul(tiny, f, smallest, belowOne)).toBe(smallest);
    expect(tiny.flags).toBe(FFLAGS.NX | FFLAGS.UF);
    // The smallest normal × (1 - ulp/4) rounds up to it with an unbounded exponent too.
    const notTiny = env(RM.RNE);
    expect(fpFma(notTiny, f, 1n, fromHost(f, -0.25), smallest)).toBe(smallest);
    expect(notTiny.flags).toBe(FFLAGS.NX);
    const exact = env(RM.RNE);
    expect(fpSub(exact, f, smallest + 1n, smallest)).toBe(1n);
    expect(exact.flags).toBe(0);
  });

  it("divides by zero, takes roots of negatives", () => {
    const one = fromHost(f, 1);
    const e = env(RM.RNE);
    expect(fpDiv(e, f, one | f.signBit, 0n)).toBe(f.infinity | f.signBit);
    expect(e.flags).toBe(FFLAGS.DZ);
    const root = env(RM.RNE);
    expect(fpSqrt(root, f, one | f.signBit)).toBe(f.canonicalNan);
    expect(root.flags).toBe(FFLAGS.NV);
    expect(fpSqrt(env(RM.RNE), f, f.signBit)).toBe(f.signBit);
  });

  it("classifies", () => {
    const one = fromHost(f, 1);
    const classes = [f.infinity, one, 1n, 0n];
    expect(classes.map((c) => fpClass(f, c | f.signBit))).toEqual([1 << 0, 1 << 1, 1 << 2, 1 << 3]);
    expect(classes.map((c) => fpClass(f, c))).toEqual([1 << 7, 1 << 6, 1 << 5, 1 << 4]);
    expect(fpClass(f, f.infinity | 1n)).toBe(1 << 8);
    expect(fpClass(f, f.canonicalNan)).toBe(1 << 9);
  });

  it("converts integers and back", () => {
    forAll(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
      const bits = fpFromInt(env(RM.RNE), f, value);
      if (f === BINARY64) expect(bits).toBe(fromHost(f, Number(value)));
      const back = env(RM.RNE);
      const result = BigInt.asIntN(64, fpToInt(back, f, bits, 64, true));
      const exact = BigInt(toHost(f, bits));
      expect(result).toBe(exact > 2n ** 63n - 1n ? 2n ** 63n - 1n : exact);
      expect(back.flags).toBe(exact > 2n ** 63n - 1n ? FFLAGS.NV : 0);
    });
  });

  it("float to integer: modes, saturation, sign extension", () => {
    const convert = (value: number, rm: number, width: 32 | 64, isSigned: boolean) => {
      const e = env(rm);
      return [BigInt.asIntN(64, fpToInt(e, f, fromHost(f, value), width, isSigned)), e.flags];
    };
    expect([0, 1, 2, 3, 4].map((rm) => convert(2.5, rm, 32, true)[0])).toEqual([2n, 2n, 2n, 3n, 3n]);
    expect([0, 1, 2, 3, 4].map((rm) => convert(-2.5, rm, 32, true)[0])).toEqual([-2n, -2n, -3n, -2n, -3n]);
    expect(convert(-0.5, RM.RTZ, 32, false)).toEqual([0n, FFLAGS.NX]);
    expect(convert(-1, RM.RTZ, 32, false)).toEqual([0n, FFLAGS.NV]);
    expect(convert(2 ** 32, RM.RNE, 32, false)).toEqual([-1n, FFLAGS.NV]);
    expect(convert(2 ** 31, RM.RNE, 32, false)).toEqual([-(2n ** 31n), 0]);
    expect(convert(Number.NaN, RM.RNE, 32, true)).toEqual([2n ** 31n - 1n, FFLAGS.NV]);
    expect(convert(Number.NEGATIVE_INFINITY, RM.RNE, 64, true)).toEqual([-(2n ** 63n), FFLAGS.NV]);
    expect(convert(Number.NEGATIVE_INFINITY, RM.RNE, 64, false)).toEqual([0n, FFLAGS.NV]);
  });
});

describe("between formats", () => {
  it("narrowing agrees with the host, widening is exact", () => {
    forAll(patterns(BINARY64), (a) => {
      const narrow = fpConvert(env(RM.RNE), BINARY64, BINARY32, a);
      expect(narrow).toBe(fromHost(BINARY32, toHost(BINARY64, a)));
      const wide = env(RM.RNE);
      expect(fpConvert(wide, BINARY32, BINARY64, narrow)).toBe(fromHost(BINARY64, toHost(BINARY32, narrow)));
      expect(wide.flags).toBe(0);
    });
  });
});
