// binary16 through binary64 (Zfh; IEEE 754-2019). A half is held as the double of the same value. Sums and
// products of halves are exact in double. A quotient or root of halves that is neither a half nor half-way
// between two halves is further from those than the error of a double, so the host's result lies on the right
// side. The sum of a fused multiply-add can lose the bits that break a tie, so it is rounded to odd (Boldo
// and Melquiond, IEEE TC 57(4), 2008). This file does the one rounding that remains. Left out: comparisons
// and conversions to integers, which are those of the double.
import { F64, I32, I64 } from "../../wasm/expr.ts";
import { fn } from "../../wasm/function.ts";
import {
  type FastFloat,
  type FpBinary,
  type FpFromInt,
  type FpTernary,
  type FpUnary,
  sumToOdd,
} from "./softfloat-fast.ts";
import { BINARY16, BINARY64, FFLAGS } from "./softfloat-format.ts";
import { roundShift, shiftSticky, TOWARD, towardOf } from "./softfloat-slow.ts";

const SIGN = BINARY64.signBit;
const FRACTION = BINARY64.fracBits - BINARY16.fracBits;
const BIAS = BigInt(BINARY64.maxExp - BINARY16.maxExp) << BigInt(BINARY16.fracBits);
/** Exponent of the last bit of the smallest halves. */
const LEAST = BINARY16.minExp - BINARY16.fracBits;
const LARGEST = 65504;

/** The double of a half's 16 bits. A NaN keeps its payload. */
export const fromHalf = fn("fromHalf", [I64], F64, (f, bits) => {
  const sign = bits.and(BINARY16.signBit).shl(48);
  const magnitude = f.let(bits.and(BINARY16.signBit - 1n));
  f.if(magnitude.ltU(1 << BINARY16.fracBits), () => {
    f.return(
      magnitude
        .toF64U()
        .mul(F64.of(2 ** LEAST))
        .copysign(sign.reinterpretF64()),
    );
  });
  const isSpecial = magnitude.geU(BINARY16.infinity);
  const biased = isSpecial.select(magnitude.or(BINARY64.infinity >> BigInt(FRACTION)), magnitude.add(BIAS));
  return sign.or(biased.shl(FRACTION)).reinterpretF64();
});

/** The 16 bits of a half that is held as a double. */
export const toHalf = fn("toHalf", [F64], I64, (f, x) => {
  const bits = x.reinterpret();
  const sign = f.let(bits.shrU(48).and(BINARY16.signBit));
  const magnitude = f.let(bits.and(SIGN - 1n));
  f.if(magnitude.geU(BINARY64.infinity), () => {
    f.return(
      sign.or(
        magnitude
          .shrU(FRACTION)
          .and((1 << BINARY16.fracBits) - 1)
          .or(BINARY16.infinity),
      ),
    );
  });
  f.if(x.abs().lt(F64.of(2 ** BINARY16.minExp)), () => {
    f.return(
      sign.or(
        x
          .abs()
          .mul(F64.of(2 ** -LEAST))
          .toI64U(),
      ),
    );
  });
  return sign.or(magnitude.shrU(FRACTION).sub(BIAS));
});

export interface HalfFloat extends FastFloat {
  /** (hart, rm, x) → the double rounded to a half; a NaN becomes the canonical one, without a flag. */
  readonly round: FpUnary;
}

/** Built from the functions for doubles, for harts that have `fflags` at byte `fflagsOffset` from `hart`. */
export function halfFloats(d: FastFloat, fflagsOffset: number): HalfFloat {
  const round: FpUnary = fn("roundToHalf", [I32, I32, F64], F64, (f, hart, rm, x) => {
    const accrue = (flags: number): void => {
      f.store32(hart, hart.load32(fflagsOffset).or(flags), fflagsOffset);
    };
    f.if(x.ne(x), () => f.return(F64.of(Number.NaN)));
    const bits = f.let(x.reinterpret());
    const magnitude = f.let(bits.and(SIGN - 1n));
    f.if(magnitude.eqz().or(magnitude.eq(BINARY64.infinity)), () => f.return(x));
    // All bits of the significand; 2^exponent is the value of the first. Subnormal doubles are tiny in any
    // case.
    const exponent = f.let(magnitude.shrU(52).wrap().sub(BINARY64.maxExp));
    const significand = f.let(magnitude.and((1n << 52n) - 1n).or(1n << 52n));
    const toward = f.let(towardOf(rm, bits.shrU(63).wrap()));
    const shift = f.let(I32.of(FRACTION));
    const isTiny = f.let(exponent.ltS(BINARY16.minExp));
    f.if(isTiny, () => {
      // Not tiny if it rounds up to the smallest normal number even with an unbounded exponent (IEEE 754,
      // 7.5).
      const rounded = roundShift.call(significand, FRACTION, toward);
      isTiny.set(exponent.ne(BINARY16.minExp - 1).or(rounded.ne(2 << BINARY16.fracBits)));
      shift.set(I32.of(FRACTION + BINARY16.minExp).sub(exponent));
      f.if(shift.gtS(63), () => {
        significand.set(shiftSticky.call(significand, shift.sub(63)));
        shift.set(63);
      });
    });
    const int = f.let(roundShift.call(significand, shift.extendU(), toward));
    f.if(int.shl(shift.extendU()).ne(significand), () => {
      accrue(FFLAGS.NX);
      f.if(isTiny, () => accrue(FFLAGS.UF));
    });
    const last = exponent.ltS(BINARY16.minExp).select(I32.of(LEAST), exponent.sub(BINARY16.fracBits));
    const unit = last.add(BINARY64.maxExp).extendU().shl(52).reinterpretF64();
    const result = f.let(int.toF64U().mul(unit));
    f.if(result.gt(F64.of(LARGEST)), () => {
      accrue(FFLAGS.OF | FFLAGS.NX);
      result.set(toward.eq(TOWARD.ZERO).select(F64.of(LARGEST), F64.of(Number.POSITIVE_INFINITY)));
    });
    return result.copysign(x);
  });

  // Results that are not finite, and the sign of a zero sum, are taken from doubles: they need no rounding.
  const isFinite = (r: F64): I32 => r.abs().lt(F64.of(Number.POSITIVE_INFINITY));
  const binary = (
    name: string,
    of: (x: F64, y: F64) => F64,
    isZeroSure: boolean,
    rest: FpBinary,
  ): FpBinary => {
    return fn(`f${name}.h`, [I32, I32, F64, F64], F64, (f, hart, rm, x, y) => {
      const r = f.let(of(x, y));
      const isSure = isZeroSure ? isFinite(r) : isFinite(r).and(r.ne(F64.of(0)));
      f.if(isSure, () => f.return(round.call(hart, rm, r)));
      return round.call(hart, rm, rest.call(hart, rm, x, y));
    });
  };
  const sqrt: FpUnary = fn("fsqrt.h", [I32, I32, F64], F64, (f, hart, rm, x) => {
    const r = f.let(x.sqrt());
    f.if(isFinite(r), () => f.return(round.call(hart, rm, r)));
    return round.call(hart, rm, d.sqrt.call(hart, rm, x));
  });
  const fma: FpTernary = fn("fma.h", [I32, I32, F64, F64, F64], F64, (f, hart, rm, x, y, z) => {
    const { sum, error } = sumToOdd(f, f.let(x.mul(y)), z);
    const r = f.let(sum.reinterpretF64());
    f.if(isFinite(error).and(r.ne(F64.of(0))), () => f.return(round.call(hart, rm, r)));
    return round.call(hart, rm, d.fma.call(hart, rm, x, y, z));
  });
  // From 2^53 on a double need not be exact, but there every half is infinity, or the largest number.
  const fromInt = (name: string, isSigned: boolean): FpFromInt => {
    return fn(`fcvt.h.${name}`, [I32, I32, I64], F64, (_f, hart, rm, v) =>
      round.call(hart, rm, isSigned ? v.toF64S() : v.toF64U()),
    );
  };
  return {
    ...d,
    round,
    add: binary("add", (x, y) => x.add(y), false, d.add),
    sub: binary("sub", (x, y) => x.sub(y), false, d.sub),
    mul: binary("mul", (x, y) => x.mul(y), true, d.mul),
    div: binary("div", (x, y) => x.div(y), true, d.div),
    sqrt,
    fma,
    fromI64: fromInt("l", true),
    fromU64: fromInt("lu", false),
  };
}
