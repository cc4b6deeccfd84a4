// Exact binary32 and binary64 arithmetic in WebAssembly, for the cases that the host cannot compute: any
// rounding mode, all flags, subnormals, NaNs (IEEE 754-2019; tininess after rounding and canonical NaNs as
// RISC-V's "F" requires). Written to be small: an operand becomes an exponent and a 64-bit significand, sums
// and products are one 128-bit fused multiply-add, and everything ends in one rounding. Quotient and root
// start from the host's result, whose remainder fits 64 bits. The tests compare it with
// test/support/reference-softfloat.ts. Left out: comparisons, which need no rounding.
import { I32, I64 } from "../../wasm/expr.ts";
import { type Fn, type Func, fn, type Local } from "../../wasm/function.ts";
import { BINARY32, BINARY64, FFLAGS, type FpFormat, RM } from "./softfloat-format.ts";

/**
 * Operations of `fpSlow`. `FP_DOUBLE` is or-ed in for binary64 (the source format of conversions from
 * floats).
 */
export const FP_OP = {
  ADD: 0,
  SUB: 1,
  MUL: 2,
  DIV: 3,
  SQRT: 4,
  FMA: 5,
  /** Float to integer: w, wu, l, lu. */
  TO_W: 6,
  TO_WU: 7,
  TO_L: 8,
  TO_LU: 9,
  /** Integer (all 64 bits of `a`) to float. */
  FROM_I64: 10,
  FROM_U64: 11,
  /** binary32 ↔ binary64. */
  CONVERT: 12,
} as const;
export const FP_DOUBLE = 16;

/**
 * fpSlow(hart, op, rm, a, b, c): operands and result are bits, binary32's zero-extended. Flags accrue in the
 * hart.
 */
export type FpSlowFn = Fn<
  readonly [typeof I32, typeof I32, typeof I32, typeof I64, typeof I64, typeof I64],
  typeof I64
>;

// A finite number except 0 is (-1)^sign × significand / 2^63 × 2^exponent, with bit 63 of the significand
// set. Other exponents denote zero, infinity and NaN; they are far enough away that sums of two keep the
// order.
const ZERO = -(1 << 20);
const INFINITE = 1 << 20;
const QUIET = INFINITE + 1;
const SIGNALING = INFINITE + 2;

// `format` is 1 for binary64, 0 for binary32.
const pick64 = (format: I32, of: (f: FpFormat) => bigint): I64 =>
  format.select(I64.of(of(BINARY64)), I64.of(of(BINARY32)));
const pick32 = (format: I32, of: (f: FpFormat) => number): I32 =>
  format.select(I32.of(of(BINARY64)), I32.of(of(BINARY32)));
const fraction = (format: I32, bits: I64): I64 => bits.shl(format.select(I64.of(12), I64.of(41)));
const biased = (format: I32, bits: I64): I32 =>
  format.select(bits.shrU(52).wrap().and(0x7ff), bits.shrU(23).wrap().and(0xff));
const signOf = (format: I32, bits: I64): I32 => bits.shrU(format.select(I64.of(63), I64.of(31))).wrap();

const exponentOf = fn("fpExponent", [I32, I64], I32, (f, format, bits) => {
  const exponent = f.let(biased(format, bits));
  const rest = f.let(fraction(format, bits));
  const bias = pick32(format, (x) => x.maxExp);
  f.if(exponent.eqz(), () => {
    f.return(rest.eqz().choose(I32.of(ZERO), I32.of(0).sub(bias).sub(rest.clz().wrap())));
  });
  f.if(exponent.eq(pick32(format, (x) => 2 * x.maxExp + 1)), () => {
    const nan = rest.ltS(0).select(I32.of(QUIET), I32.of(SIGNALING));
    f.return(rest.eqz().select<I32>(I32.of(INFINITE), nan));
  });
  return exponent.sub(bias);
});

/** For a finite number; 0 for 0. */
const significandOf = fn("fpSignificand", [I32, I64], I64, (f, format, bits) => {
  const rest = f.let(fraction(format, bits));
  return biased(format, bits).choose(rest.shrU(1).or(1n << 63n), rest.shl(rest.clz()));
});

/** x / 2^n, n ≥ 0, with bit 0 set if any bit was lost. */
export const shiftSticky = fn("fpShift", [I64, I32], I64, (f, x, n) => {
  f.if(n.eqz(), () => f.return(x));
  f.if(n.gtU(63), () => f.return(x.ne(0).extendU()));
  const by = n.extendU();
  return x.shrU(by).or(x.shl(I64.of(0).sub(by)).ne(0).extendU());
});

/** How a magnitude is rounded, regardless of the sign. */
export const TOWARD = { EVEN: RM.RNE, ZERO: 1, AWAY: 2, TIES_AWAY: RM.RMM } as const;

export const towardOf = (rm: I32, sign: I32): I32 =>
  rm
    .shrU(1)
    .eq(1)
    .select<I32>(rm.and(1).xor(sign).select(I32.of(TOWARD.AWAY), I32.of(TOWARD.ZERO)), rm);

/** x / 2^shift, 0 ≤ shift ≤ 63, rounded to an integer. */
export const roundShift = fn("fpRoundShift", [I64, I64, I32], I64, (f, x, shift, toward) => {
  const int = f.let(x.shrU(shift));
  const rest = f.let(x.sub(int.shl(shift)));
  f.if(rest.eqz().or(toward.eq(TOWARD.ZERO)), () => f.return(int));
  const half = f.let(I64.of(1).shl(shift.sub(1)));
  const upAtTie = int.wrap().or(toward.shrU(2)).and(1);
  const up = rest.gtU(half).or(rest.eq(half).and(upAtTie)).or(toward.eq(TOWARD.AWAY));
  return int.add(up.extendU());
});

/** The upper 64 bits of x × y. */
function highProduct(f: Func, x: I64, y: I64): I64 {
  const lowOf = (v: I64): I64 => f.let(v.and(0xffff_ffff));
  const highOf = (v: I64): I64 => f.let(v.shrU(32));
  const [xLow, xHigh, yLow, yHigh] = [lowOf(x), highOf(x), lowOf(y), highOf(y)];
  const middle = f.let(xHigh.mul(yLow).add(xLow.mul(yLow).shrU(32)));
  const carry = xLow.mul(yHigh).add(middle.and(0xffff_ffff)).shrU(32);
  return xHigh.mul(yHigh).add(middle.shrU(32)).add(carry);
}

function swap<T extends I32 | I64>(f: Func, a: Local<T>, b: Local<T>): void {
  const old = f.let(a as T);
  a.set(b as T);
  b.set(old as T);
}

/**
 * A significand of 53 bits, corrected for a remainder of this sign, less than half a unit of the last place.
 */
const corrected = (int: I64, remainder: Local<I64>): I64 =>
  int.shl(11).add(remainder.gtS(0).extendU()).add(remainder.shrS(63));

/** The functions for harts that have `fflags` (u32) at byte `fflagsOffset` from `hart`. */
export function softFloat(fflagsOffset: number): FpSlowFn {
  const accrue = (f: Func, hart: I32, flags: number): void => {
    f.store32(hart, hart.load32(fflagsOffset).or(flags), fflagsOffset);
  };
  const nan = (format: I32): I64 => pick64(format, (x) => x.canonicalNan);
  const signed = (format: I32, sign: I32, magnitude: I64): I64 =>
    sign
      .extendU()
      .shl(format.select(I64.of(63), I64.of(31)))
      .or(magnitude);
  const infinity = (format: I32, sign: I32): I64 =>
    signed(
      format,
      sign,
      pick64(format, (x) => x.infinity),
    );
  const returnInvalid = (f: Func, hart: I32, format: I32): void => {
    accrue(f, hart, FFLAGS.NV);
    f.return(nan(format));
  };
  const returnNan = (f: Func, hart: I32, format: I32, isSignaling: I32): void => {
    f.if(isSignaling, () => accrue(f, hart, FFLAGS.NV));
    f.return(nan(format));
  };

  /**
   * (hart, format, rm, sign, exponent, significand) → bits. Bit 0 of the significand is sticky: it stands for
   * all bits below.
   */
  const roundPack = fn(
    "fpRound",
    [I32, I32, I32, I32, I32, I64],
    I64,
    (f, hart, format, rm, sign, exponent, x) => {
      const least = f.let(pick32(format, (b) => b.minExp));
      const fracBits = pick64(format, (b) => BigInt(b.fracBits));
      const shift = f.let(I64.of(63).sub(fracBits));
      const toward = f.let(towardOf(rm, sign));
      const isTiny = f.let(exponent.ltS(least));
      f.if(isTiny, () => {
        // Not tiny if it rounds up to the smallest normal number even with an unbounded exponent (IEEE 754,
        // 7.5).
        const rounded = roundShift.call(x, shift, toward);
        isTiny.set(exponent.ne(least.sub(1)).or(rounded.ne(I64.of(2).shl(fracBits))));
        x.set(shiftSticky.call(x, least.sub(exponent)));
        exponent.set(least);
      });
      const int = f.let(roundShift.call(x, shift, toward));
      f.if(int.shl(shift).ne(x), () => {
        accrue(f, hart, FFLAGS.NX);
        f.if(isTiny, () => accrue(f, hart, FFLAGS.UF));
      });
      // The leading bit of a normal number, and a carry out of the fraction, are added into the exponent
      // field.
      const magnitude = f.let(exponent.sub(least).extendU().shl(fracBits).add(int));
      f.if(magnitude.geU(pick64(format, (b) => b.infinity)), () => {
        accrue(f, hart, FFLAGS.OF | FFLAGS.NX);
        const largest = toward.eq(TOWARD.ZERO).extendU();
        magnitude.set(pick64(format, (b) => b.infinity).sub(largest));
      });
      return signed(format, sign, magnitude);
    },
  );

  /** a × b + c. ∞ × 0 is invalid even when c is a quiet NaN (ISA, section "F", fused operations). */
  const multiplyAdd = fn(
    "fpMultiplyAdd",
    [I32, I32, I32, I64, I64, I64],
    I64,
    (f, hart, format, rm, a, b, c) => {
      const ea = f.let(exponentOf.call(format, a));
      const eb = f.let(exponentOf.call(format, b));
      const ec = f.let(exponentOf.call(format, c));
      const sign = f.let(signOf(format, a).xor(signOf(format, b)));
      const cSign = f.let(signOf(format, c));
      f.if(ea.geS(INFINITE).or(eb.geS(INFINITE)).or(ec.geS(INFINITE)), () => {
        // ∞ × 0: the sum of the exponents is 0, which occurs for no other sum with an infinity.
        const isVoid = f.let(
          ea
            .add(eb)
            .eqz()
            .and(ea.eq(INFINITE).or(eb.eq(INFINITE))),
        );
        f.if(ea.gtS(INFINITE).or(eb.gtS(INFINITE)).or(ec.gtS(INFINITE)).or(isVoid), () => {
          const isSignaling = ea.eq(SIGNALING).or(eb.eq(SIGNALING)).or(ec.eq(SIGNALING));
          returnNan(f, hart, format, isSignaling.or(isVoid));
        });
        f.if(ea.eq(INFINITE).or(eb.eq(INFINITE)), () => {
          f.if(ec.eq(INFINITE).and(sign.ne(cSign)), () => returnInvalid(f, hart, format));
          f.return(infinity(format, sign));
        });
        f.return(c);
      });
      f.if(ea.eq(ZERO).or(eb.eq(ZERO)), () => {
        // A sum of zeros with different signs is -0 only when rounding down.
        const zero = sign.eq(cSign).select<I32>(sign, rm.eq(RM.RDN));
        f.return(ec.eq(ZERO).choose<I64>(signed(format, zero, I64.of(0)), c));
      });
      // The product as 128 bits, high and low; bit 126 is its leading one.
      const x = f.let(significandOf.call(format, a));
      const y = f.let(significandOf.call(format, b));
      const low = f.let(x.mul(y));
      const high = f.let(highProduct(f, x, y));
      const exponent = f.let(ea.add(eb));
      f.if(high.ltS(0), () => {
        // A product of significands of 53 bits leaves the lowest bits 0.
        low.set(low.shrU(1).or(high.shl(63)));
        high.set(high.shrU(1));
        exponent.set(exponent.add(1));
      });
      f.if(ec.ne(ZERO), () => {
        const addHigh = f.let(significandOf.call(format, c).shrU(1));
        const addLow = f.let(I64.of(0));
        f.if(exponent.ltS(ec).or(exponent.eq(ec).and(high.ltU(addHigh))), () => {
          swap(f, exponent, ec);
          swap(f, sign, cSign);
          swap(f, high, addHigh);
          swap(f, low, addLow);
        });
        const distance = f.let(exponent.sub(ec));
        f.if(
          distance.geU(64),
          () => {
            addLow.set(shiftSticky.call(addHigh.or(addLow.ne(0).extendU()), distance.sub(64)));
            addHigh.set(0);
          },
          () => {
            f.if(distance, () => {
              const by = distance.extendU();
              const up = I64.of(0).sub(by);
              const lost = addLow.shl(up).ne(0).extendU();
              addLow.set(addLow.shrU(by).or(addHigh.shl(up)).or(lost));
              addHigh.set(addHigh.shrU(by));
            });
          },
        );
        f.if(
          sign.eq(cSign),
          () => {
            low.set(low.add(addLow));
            high.set(high.add(addHigh).add(low.ltU(addLow).extendU()));
          },
          () => {
            high.set(high.sub(addHigh).sub(low.ltU(addLow).extendU()));
            low.set(low.sub(addLow));
            f.if(high.or(low).eqz(), () => f.return(signed(format, rm.eq(RM.RDN), I64.of(0))));
          },
        );
      });
      const n = f.let(high.eqz().choose(low.clz().add(64), high.clz()));
      f.if(n.geU(64), () => {
        high.set(low);
        low.set(0);
      });
      // Shifts are modulo 64; a shift by 0 must take nothing from `low`.
      const by = f.let(n.and(63));
      high.set(high.shl(by).or(low.shrU(1).shrU(I64.of(63).sub(by))));
      const sticky = low.shl(by).ne(0).extendU();
      return roundPack.call(hart, format, rm, sign, exponent.add(1).sub(n.wrap()), high.or(sticky));
    },
  );

  const divide = fn("fpDivide", [I32, I32, I32, I64, I64], I64, (f, hart, format, rm, a, b) => {
    const ea = f.let(exponentOf.call(format, a));
    const eb = f.let(exponentOf.call(format, b));
    const sign = f.let(signOf(format, a).xor(signOf(format, b)));
    f.if(ea.gtS(INFINITE).or(eb.gtS(INFINITE)), () => {
      returnNan(f, hart, format, ea.eq(SIGNALING).or(eb.eq(SIGNALING)));
    });
    f.if(ea.eq(eb).and(ea.eq(INFINITE).or(ea.eq(ZERO))), () => returnInvalid(f, hart, format));
    f.if(ea.eq(INFINITE).or(eb.eq(ZERO)), () => {
      f.if(ea.ne(INFINITE), () => accrue(f, hart, FFLAGS.DZ));
      f.return(infinity(format, sign));
    });
    f.if(ea.eq(ZERO).or(eb.eq(INFINITE)), () => f.return(signed(format, sign, I64.of(0))));
    const x = f.let(significandOf.call(format, a).shrU(11));
    const y = f.let(significandOf.call(format, b).shrU(11));
    const quotient = f.let(x.toF64U().div(y.toF64U()).reinterpret());
    // The quotient of the significands is in (1/2, 2). As an integer of 53 bits its error is half a unit at
    // most.
    const below = f.let(biased(I32.of(1), quotient).eq(BINARY64.maxExp - 1));
    const int = f.let(significandOf.call(1, quotient).shrU(11));
    const remainder = f.let(x.shl(I64.of(52).add(below.extendU())).sub(int.mul(y)));
    return roundPack.call(hart, format, rm, sign, ea.sub(eb).sub(below), corrected(int, remainder));
  });

  const squareRoot = fn("fpSquareRoot", [I32, I32, I32, I64], I64, (f, hart, format, rm, a) => {
    const exponent = f.let(exponentOf.call(format, a));
    f.if(exponent.gtS(INFINITE), () => returnNan(f, hart, format, exponent.eq(SIGNALING)));
    f.if(exponent.eq(ZERO), () => f.return(a));
    f.if(signOf(format, a), () => returnInvalid(f, hart, format));
    f.if(exponent.eq(INFINITE), () => f.return(a));
    // x in [2^52, 2^54), so that its root has half its exponent.
    const odd = f.let(exponent.and(1).extendU());
    const x = f.let(significandOf.call(format, a).shrU(11).shl(odd));
    // As an integer of 53 bits, the root of x × 2^52 has an error of half a unit at most.
    const int = f.let(significandOf.call(1, x.toF64U().sqrt().reinterpret()).shrU(11));
    const remainder = f.let(x.shl(52).sub(int.mul(int)));
    return roundPack.call(hart, format, rm, 0, exponent.shrS(1), corrected(int, remainder));
  });

  /** (hart, format, rm, a, op) → the integer in the form of a register. */
  const toInteger = fn("fpToInteger", [I32, I32, I32, I64, I32], I64, (f, hart, format, rm, a, op) => {
    const exponent = f.let(exponentOf.call(format, a));
    const sign = f.let(exponent.gtS(INFINITE).choose(I32.of(0), signOf(format, a)));
    const isUnsigned = f.let(op.and(1));
    // The largest magnitude of this sign: 2^31, 2^32, 2^63 or 2^64, minus one unless negative.
    const bits = op.geS(FP_OP.TO_L).select(I64.of(64), I64.of(32)).sub(isUnsigned.eqz().extendU());
    const top = f.let(I64.of(-1).shrU(I64.of(0).sub(bits)));
    f.if(sign, () => top.set(isUnsigned.select(I64.of(0), top.add(1))));
    const int = f.let(top);
    const isValid = f.let(exponent.leS(63));
    f.if(isValid, () => {
      const x = f.let(significandOf.call(format, a));
      const shift = f.let(I32.of(63).sub(exponent));
      f.if(shift.gtS(63), () => {
        x.set(shiftSticky.call(x, shift.sub(63)));
        shift.set(63);
      });
      const rounded = f.let(roundShift.call(x, shift.extendU(), towardOf(rm, sign)));
      isValid.set(rounded.leU(top));
      f.if(isValid, () => {
        int.set(rounded);
        f.if(rounded.shl(shift.extendU()).ne(x), () => accrue(f, hart, FFLAGS.NX));
      });
    });
    f.if(isValid.eqz(), () => accrue(f, hart, FFLAGS.NV));
    f.if(sign, () => int.set(I64.of(0).sub(int)));
    return op.geS(FP_OP.TO_L).choose(int, int.extend32S());
  });

  const fromInteger = fn("fpFromInteger", [I32, I32, I32, I64, I32], I64, (f, hart, format, rm, a, op) => {
    f.if(a.eqz(), () => f.return(a));
    const sign = f.let(op.eq(FP_OP.FROM_I64).and(a.ltS(0)));
    f.if(sign, () => a.set(I64.of(0).sub(a)));
    const n = f.let(a.clz());
    return roundPack.call(hart, format, rm, sign, I64.of(63).sub(n).wrap(), a.shl(n));
  });

  const convert = fn("fpConvert", [I32, I32, I32, I64], I64, (f, hart, from, rm, a) => {
    const exponent = f.let(exponentOf.call(from, a));
    const to = f.let(from.eqz());
    const sign = f.let(signOf(from, a));
    f.if(exponent.gtS(INFINITE), () => returnNan(f, hart, to, exponent.eq(SIGNALING)));
    f.if(exponent.eq(INFINITE), () => f.return(infinity(to, sign)));
    f.if(exponent.eq(ZERO), () => f.return(signed(to, sign, I64.of(0))));
    return roundPack.call(hart, to, rm, sign, exponent, significandOf.call(from, a));
  });

  return fn("fpSlow", [I32, I32, I32, I64, I64, I64], I64, (f, hart, op, rm, a, b, c) => {
    const format = f.let(op.shrU(4));
    op.set(op.and(FP_DOUBLE - 1));
    const signBit = pick64(format, (x) => x.signBit);
    const one = pick64(format, (x) => BigInt(x.maxExp) << BigInt(x.fracBits));
    const toInt = (): void => f.return(toInteger.call(hart, format, rm, a, op));
    const fromInt = (): void => f.return(fromInteger.call(hart, format, rm, a, op));
    const fused = (x: I64, y: I64, z: I64): void => f.return(multiplyAdd.call(hart, format, rm, x, y, z));
    const cases: (() => void)[] = [];
    cases[FP_OP.ADD] = () => fused(a, one, b);
    cases[FP_OP.SUB] = () => fused(a, one, b.xor(signBit));
    // Adding a zero with the product's sign changes nothing.
    cases[FP_OP.MUL] = () => fused(a, b, a.xor(b).and(signBit));
    cases[FP_OP.DIV] = () => f.return(divide.call(hart, format, rm, a, b));
    cases[FP_OP.SQRT] = () => f.return(squareRoot.call(hart, format, rm, a));
    cases[FP_OP.FMA] = () => fused(a, b, c);
    for (const int of [FP_OP.TO_W, FP_OP.TO_WU, FP_OP.TO_L, FP_OP.TO_LU]) cases[int] = toInt;
    for (const int of [FP_OP.FROM_I64, FP_OP.FROM_U64]) cases[int] = fromInt;
    cases[FP_OP.CONVERT] = () => f.return(convert.call(hart, format, rm, a));
    f.switch(op, cases, () => f.unreachable());
  });
}
