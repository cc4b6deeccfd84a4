// binary16 by way of binary64 (Zfh; IEEE 754-2019). A half is held as the double of the same value. Sums and products of
// halves are exact in double. A quotient or root of halves that is no half, nor half-way between two, is further from those
// than a double's last bits can tell, so rounding it to double first does no harm. A fused multiply-add can lose what
// breaks a tie: it is rounded to odd (Boldo and Melquiond, IEEE TC 57(4), 2008). What is left is one rounding, here.
// Left out: comparisons and conversions to integers, which are those of the double.
import { F64, I32, I64 } from "../../wasm/expr.ts";
import { fn } from "../../wasm/function.ts";
import type { FastFloat, FpBinary, FpFromInt, FpUnary } from "./softfloat-fast.ts";
import { BINARY16, BINARY64, FFLAGS, RM } from "./softfloat-format.ts";
import { roundShift, shiftSticky, TOWARD, towardOf } from "./softfloat-slow.ts";

const SIGN = BINARY64.signBit;
const FRACTION = BINARY64.fracBits - BINARY16.fracBits;
const BIAS = BigInt(BINARY64.maxExp - BINARY16.maxExp) << BigInt(BINARY16.fracBits);
/** Exponent of a half's last bit where it is smallest. */
const LEAST = BINARY16.minExp - BINARY16.fracBits;
const LARGEST = 65504;

/** The double of a half's 16 bits. A NaN stays what it is, payload and all. */
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
  /** (hart, rm, x) → the half that a double is rounded to; a NaN is the canonical one, and no flag tells of it. */
  readonly round: FpUnary;
}

/** From what doubles have, for harts that keep `fflags` at byte `fflagsOffset` of what `hart` points to. */
export function halfFloats(d: FastFloat, fflagsOffset: number): HalfFloat {
  const round: FpUnary = fn("fround.h", [I32, I32, F64], F64, (f, hart, rm, x) => {
    const accrue = (flags: number): void => {
      f.store32(hart, hart.load32(fflagsOffset).or(flags), fflagsOffset);
    };
    f.if(x.ne(x), () => f.return(F64.of(Number.NaN)));
    const bits = f.let(x.reinterpret());
    const magnitude = f.let(bits.and(SIGN - 1n));
    f.if(magnitude.eqz().or(magnitude.eq(BINARY64.infinity)), () => f.return(x));
    // Whole bits of the significand, 2^exponent the value of its first. Subnormal doubles are tiny whatever they are.
    const exponent = f.let(magnitude.shrU(52).wrap().sub(BINARY64.maxExp));
    const significand = f.let(magnitude.and((1n << 52n) - 1n).or(1n << 52n));
    const toward = f.let(towardOf(rm, bits.shrU(63).wrap()));
    const shift = f.let(I32.of(FRACTION));
    const isTiny = f.let(exponent.ltS(BINARY16.minExp));
    f.if(isTiny, () => {
      // Not if it rounds up to the smallest normal number even with an unbounded exponent (IEEE 754, 7.5).
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

  const unary = (name: string, of: FpUnary): FpUnary =>
    fn(`f${name}.h`, [I32, I32, F64], F64, (_f, hart, rm, x) => round.call(hart, rm, of.call(hart, rm, x)));
  const binary = (name: string, of: FpBinary): FpBinary => {
    return fn(`f${name}.h`, [I32, I32, F64, F64], F64, (_f, hart, rm, x, y) =>
      round.call(hart, rm, of.call(hart, rm, x, y)),
    );
  };
  // From 2^53 on a double need not be exact, but all that is a half's infinity, or its largest number.
  const fromInt = (name: string, isSigned: boolean): FpFromInt => {
    return fn(`fcvt.h.${name}`, [I32, I32, I64], F64, (_f, hart, rm, v) =>
      round.call(hart, rm, isSigned ? v.toF64S() : v.toF64U()),
    );
  };
  const fma = fn("fma.h", [I32, I32, F64, F64, F64], F64, (f, hart, rm, x, y, z) => {
    // Rounding twice in one direction is rounding once.
    f.if(rm.ne(RM.RNE).and(rm.ne(RM.RMM)), () =>
      f.return(round.call(hart, rm, d.fma.call(hart, rm, x, y, z))),
    );
    const flags = f.let(hart.load32(fflagsOffset));
    f.store32(hart, flags.and(~FFLAGS.NX), fflagsOffset);
    const sum = f.let(d.fma.call(hart, RM.RTZ, x, y, z).reinterpret());
    const isInexact = f.let(hart.load32(fflagsOffset).and(FFLAGS.NX));
    f.store32(hart, hart.load32(fflagsOffset).or(flags), fflagsOffset);
    return round.call(hart, rm, sum.or(isInexact.extendU()).reinterpretF64());
  });
  return {
    ...d,
    round,
    add: binary("add", d.add),
    sub: binary("sub", d.sub),
    mul: binary("mul", d.mul),
    div: binary("div", d.div),
    sqrt: unary("sqrt", d.sqrt),
    fma,
    fromI64: fromInt("l", true),
    fromU64: fromInt("lu", false),
  };
}
