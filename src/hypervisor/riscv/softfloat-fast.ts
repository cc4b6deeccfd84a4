// F and D arithmetic in WebAssembly. The host rounds to nearest even and has no flags, so a function here
// answers only when the rounding mode is RNE (conversions to integers: any but RMM), the result is finite
// and clear of underflow, and NX cannot change: it is set already (it is sticky) or the result is proven exact. All
// else, and so every flag, comes from `fpSlow` (softfloat.ts). Error-free transformations: TwoSum, Dekker's
// product, and round to odd for the fused multiply-add (Boldo and Melquiond, IEEE TC 57(4), 2008).
import { F32, F64, I32, I64 } from "../../wasm/expr.ts";
import { type Fn, type Func, fn } from "../../wasm/function.ts";
import { FFLAGS, FP_DOUBLE, FP_OP, RM } from "./softfloat.ts";

/** fpSlow(hart, op, rm, a, b, c): the import. Accrues flags into the hart's state. */
export type FpSlowFn = Fn<
  readonly [typeof I32, typeof I32, typeof I32, typeof I64, typeof I64, typeof I64],
  typeof I64
>;

/** (hart, rm, a, …) → register value. Operands are whole registers; binary32 ones are unboxed here. */
export type FpUnary = Fn<readonly [typeof I32, typeof I32, typeof I64], typeof I64>;
export type FpBinary = Fn<readonly [typeof I32, typeof I32, typeof I64, typeof I64], typeof I64>;
export type FpTernary = Fn<readonly [typeof I32, typeof I32, typeof I64, typeof I64, typeof I64], typeof I64>;

interface HostFormat<T extends F32 | F64> {
  readonly suffix: string;
  readonly opFlag: number;
  /** Twice the smallest normal number: results from here on cannot underflow. */
  readonly safeMin: T;
  readonly infinity: T;
  readonly zero: T;
  /** Register to value; an improperly boxed binary32 is a NaN. */
  fromRegister(x: I64): T;
  toRegister(value: T): I64;
  /** A register as `fpSlow` takes it, and its result as a register. */
  toSlow(x: I64): I64;
  fromSlow(bits: I64): I64;
  /** 1 only if r = x × y exactly. */
  isProduct(r: T, x: T, y: T): I32;
}

const CANONICAL_NAN_32 = 0x7fc00000;

/** The low half of a NaN-boxed register, else the canonical NaN. */
export const unboxed = (x: I64): I32 => x.shrS(32).eq(-1).select(x.wrap(), I32.of(CANONICAL_NAN_32));
export const boxed = (bits: I32): I64 => bits.extendU().or(-1n << 32n);

const single: HostFormat<F32> = {
  suffix: "s",
  opFlag: 0,
  safeMin: F32.of(2 ** -125),
  infinity: F32.of(Number.POSITIVE_INFINITY),
  zero: F32.of(0),
  fromRegister: (x) => unboxed(x).reinterpretF32(),
  toRegister: (value) => boxed(value.reinterpret()),
  toSlow: (x) => unboxed(x).extendU(),
  fromSlow: (bits) => boxed(bits.wrap()),
  // A product of two floats is exact in double.
  isProduct: (r, x, y) => x.promote().mul(y.promote()).eq(r.promote()),
};

/** Trailing zero bits of a double's 53-bit significand. */
const trailingZeros = (value: F64): I64 =>
  value
    .reinterpret()
    .or(1n << 52n)
    .ctz();

const double: HostFormat<F64> = {
  suffix: "d",
  opFlag: FP_DOUBLE,
  safeMin: F64.of(2 ** -1021),
  infinity: F64.of(Number.POSITIVE_INFINITY),
  zero: F64.of(0),
  fromRegister: (x) => x.reinterpretF64(),
  toRegister: (value) => value.reinterpret(),
  toSlow: (x) => x,
  fromSlow: (bits) => bits,
  // Significands that together have at most 53 bits: the host's product is exact.
  isProduct: (r, x, y) => trailingZeros(x).add(trailingZeros(y)).geU(53).and(x.mul(y).eq(r)),
};

export interface FastFloat {
  readonly add: FpBinary;
  readonly sub: FpBinary;
  readonly mul: FpBinary;
  readonly div: FpBinary;
  readonly sqrt: FpUnary;
  /** a × b + c */
  readonly fma: FpTernary;
  readonly toW: FpUnary;
  readonly toWu: FpUnary;
  readonly toL: FpUnary;
  readonly toLu: FpUnary;
  /** From all 64 bits of an integer register; the w forms extend first. */
  readonly fromI64: FpUnary;
  readonly fromU64: FpUnary;
}

export interface FastFloats {
  readonly s: FastFloat;
  readonly d: FastFloat;
  readonly singleToDouble: FpUnary;
  readonly doubleToSingle: FpUnary;
}

/** The rounding error of r = x + y (Knuth's TwoSum); NaN should it overflow. */
function sumError(f: Func, r: F64, x: F64, y: F64): F64 {
  const part = f.let(r.sub(x));
  return x.sub(r.sub(part)).add(y.sub(part));
}

/** x + y rounded to odd: the last bit is set if the sum was inexact. */
function sumToOdd(f: Func, x: F64, y: F64): { sum: I64; error: F64 } {
  const sum = f.let(x.add(y));
  const error = f.let(sumError(f, sum, x, y));
  const bits = f.let(sum.reinterpret());
  f.if(error.ne(F64.of(0)).and(bits.wrap().and(1).eqz()), () => {
    // The exact sum lies beyond `sum`, away from zero, where error and sum have the same sign.
    const outward = error.reinterpret().xor(bits).geS(0);
    bits.set(bits.add(outward.select(I64.of(1), I64.of(-1))));
  });
  return { sum: bits, error };
}

/** High and low part of x × y, exactly, within the range that the caller has checked (Dekker, Veltkamp). */
function exactProduct(f: Func, x: F64, y: F64): { high: F64; low: F64 } {
  const split = (v: F64): { head: F64; tail: F64 } => {
    const big = f.let(v.mul(F64.of(2 ** 27 + 1)));
    const head = f.let(big.sub(big.sub(v)));
    return { head, tail: f.let(v.sub(head)) };
  };
  const high = f.let(x.mul(y));
  const a = split(x);
  const b = split(y);
  const cross = a.head.mul(b.head).sub(high).add(a.head.mul(b.tail)).add(a.tail.mul(b.head));
  return { high, low: f.let(cross.add(a.tail.mul(b.tail))) };
}

/**
 * Builds the functions for harts that keep `fflags` (u32) at byte `fflagsOffset` of what `hart` points to.
 * A function's `rm` is a resolved mode, 0 to 4.
 */
export function fastFloats(fpSlow: FpSlowFn, fflagsOffset: number): FastFloats {
  const nxIsSet = (hart: I32): I32 => hart.load32(fflagsOffset).and(FFLAGS.NX);
  /** Return `result` if it is `safe` and raises no flag that is not set yet. */
  const answer = (f: Func, hart: I32, result: I64, safe: I32, exact: I32): void => {
    f.if(safe.choose(nxIsSet(hart).choose(I32.of(1), exact), I32.of(0)), () => f.return(result));
  };

  // Written for F64, works for F32 as well: the two classes have the methods used here in common.
  function arithmetic(h: HostFormat<F64>) {
    const slow = (op: number, hart: I32, rm: I32, a: I64, b: I64 = I64.of(0), c: I64 = I64.of(0)): I64 => {
      return h.fromSlow(fpSlow.call(hart, op | h.opFlag, rm, h.toSlow(a), h.toSlow(b), h.toSlow(c)));
    };
    const isFinite = (r: F64): I32 => r.abs().lt(h.infinity);
    const inRange = (r: F64): I32 => r.abs().ge(h.safeMin).and(isFinite(r));
    type Operands = { f: Func; hart: I32; x: F64; y: F64 };

    const binary = (name: string, op: number, fast: (operands: Operands) => void): FpBinary => {
      return fn(`${name}.${h.suffix}`, [I32, I32, I64, I64], I64, (f, hart, rm, a, b) => {
        f.if(rm.eqz(), () => {
          fast({ f, hart, x: f.let(h.fromRegister(a)), y: f.let(h.fromRegister(b)) });
        });
        return slow(op, hart, rm, a, b);
      });
    };
    // A sum that is subnormal or zero is exact.
    const add = binary("fadd", FP_OP.ADD, ({ f, hart, x, y }) => {
      const r = f.let(x.add(y));
      f.if(isFinite(r), () => {
        f.if(nxIsSet(hart), () => f.return(h.toRegister(r)));
        f.if(sumError(f, r, x, y).eq(h.zero), () => f.return(h.toRegister(r)));
      });
    });
    const sub = binary("fsub", FP_OP.SUB, ({ f, hart, x, y }) => {
      const r = f.let(x.sub(y));
      f.if(isFinite(r), () => {
        f.if(nxIsSet(hart), () => f.return(h.toRegister(r)));
        const part = f.let(x.sub(r));
        const error = x.sub(r.add(part)).add(part.sub(y));
        f.if(error.eq(h.zero), () => f.return(h.toRegister(r)));
      });
    });
    const mul = binary("fmul", FP_OP.MUL, ({ f, hart, x, y }) => {
      const r = f.let(x.mul(y));
      const isZero = f.let(r.eq(h.zero).and(x.eq(h.zero).or(y.eq(h.zero))));
      answer(f, hart, h.toRegister(r), inRange(r).or(isZero), isZero.or(h.isProduct(r, x, y)));
    });
    const div = binary("fdiv", FP_OP.DIV, ({ f, hart, x, y }) => {
      const r = f.let(x.div(y));
      const isZero = f.let(r.eq(h.zero).and(x.eq(h.zero)));
      answer(f, hart, h.toRegister(r), inRange(r).or(isZero), isZero.or(h.isProduct(x, r, y)));
    });
    const sqrt: FpUnary = fn(`fsqrt.${h.suffix}`, [I32, I32, I64], I64, (f, hart, rm, a) => {
      f.if(rm.eqz(), () => {
        const x = f.let(h.fromRegister(a));
        const r = f.let(x.sqrt());
        const isZero = f.let(x.eq(h.zero));
        answer(f, hart, h.toRegister(r), inRange(r).or(isZero), isZero.or(h.isProduct(x, r, r)));
      });
      return slow(FP_OP.SQRT, hart, rm, a);
    });
    return { slow, inRange, add, sub, mul, div, sqrt };
  }

  const s = arithmetic(single as unknown as HostFormat<F64>);
  const d = arithmetic(double);

  const singleInRange = (r: F32): I32 => r.abs().ge(single.safeMin).and(r.abs().lt(single.infinity));

  // binary32: the product is exact in double, and a double sum rounded to odd may be rounded once more.
  const fmaS: FpTernary = fn("fma.s", [I32, I32, I64, I64, I64], I64, (f, hart, rm, a, b, c) => {
    f.if(rm.eqz(), () => {
      const product = f.let(single.fromRegister(a).promote().mul(single.fromRegister(b).promote()));
      const { sum, error } = sumToOdd(f, product, f.let(single.fromRegister(c).promote()));
      const r = f.let(sum.reinterpretF64().demote());
      const exact = error.eq(F64.of(0)).and(r.promote().eq(sum.reinterpretF64()));
      const isZero = sum.shl(1).eqz();
      answer(f, hart, single.toRegister(r), singleInRange(r).or(isZero), exact);
    });
    return s.slow(FP_OP.FMA, hart, rm, a, b, c);
  });

  // The range where no part of the computation overflows or underflows, by biased exponents.
  const exponent = (x: I64): I32 => x.shrU(52).wrap().and(0x7ff);
  const within = (x: I64, range: number): I32 =>
    exponent(x)
      .sub(1023 - range)
      .leU(2 * range);
  const fmaD: FpTernary = fn("fma.d", [I32, I32, I64, I64, I64], I64, (f, hart, rm, a, b, c) => {
    const x = a.reinterpretF64();
    const y = b.reinterpretF64();
    const z = c.reinterpretF64();
    f.if(rm.eqz(), () => {
      const safe = within(a, 400)
        .and(within(b, 400))
        .and(within(c, 800).or(z.eq(F64.of(0))));
      f.if(safe, () => {
        const product = exactProduct(f, x, y);
        const low = f.let(z.add(product.low));
        const lowError = f.let(sumError(f, low, z, product.low));
        const high = f.let(product.high.add(low));
        const highError = f.let(sumError(f, high, product.high, low));
        const { sum, error } = sumToOdd(f, lowError, highError);
        const rest = f.let(sum.reinterpretF64());
        const r = f.let(high.add(rest));
        const exact = error.eq(F64.of(0)).and(sumError(f, r, high, rest).eq(F64.of(0)));
        answer(f, hart, double.toRegister(r), d.inRange(r), exact);
      });
      // 0 × y + z is exact and signed as the host signs it.
      f.if(x.eq(F64.of(0)).or(y.eq(F64.of(0))), () => {
        const r = f.let(x.mul(y).add(z));
        f.if(r.abs().lt(double.infinity), () => f.return(double.toRegister(r)));
      });
    });
    return d.slow(FP_OP.FMA, hart, rm, a, b, c);
  });

  function conversions(h: HostFormat<F32> | HostFormat<F64>) {
    const isSingle = h.suffix === "s";
    const toInt = (
      name: string,
      op: number,
      low: number,
      high: number,
      convert: (t: F64) => I64,
    ): FpUnary => {
      return fn(`fcvt.${name}.${h.suffix}`, [I32, I32, I64], I64, (f, hart, rm, a) => {
        const x = f.let(isSingle ? single.fromRegister(a).promote() : a.reinterpretF64());
        const rounded = f.let(x.trunc());
        f.if(rm.ne(RM.RTZ), () => {
          rounded.set(x.nearest());
          f.if(rm.ne(RM.RNE), () => rounded.set(rm.eq(RM.RDN).select(x.floor(), x.ceil())));
        });
        const safe = rm
          .ne(RM.RMM)
          .and(rounded.ge(F64.of(low)))
          .and(rounded.le(F64.of(high)));
        answer(f, hart, convert(rounded), safe, rounded.eq(x));
        // Not `slow`: the result is an integer, which is not boxed.
        return fpSlow.call(hart, op | h.opFlag, rm, h.toSlow(a), 0, 0);
      });
    };
    /** `bits` is the number of significant bits from which the magnitude may be inexact. */
    const fromInt = (name: string, op: number, isSigned: boolean): FpUnary => {
      const bits = isSingle ? 24 : 53;
      return fn(`fcvt.${h.suffix}.${name}`, [I32, I32, I64], I64, (f, hart, rm, v) => {
        const magnitude = f.let(isSigned ? v.ltS(0).select(I64.of(0).sub(v), v) : v);
        const significant = I64.of(64).sub(magnitude.clz()).sub(magnitude.ctz());
        const exact = significant.leS(bits);
        const inSingle = isSigned ? v.toF32S() : v.toF32U();
        const inDouble = isSigned ? v.toF64S() : v.toF64U();
        const result = isSingle ? single.toRegister(inSingle) : double.toRegister(inDouble);
        f.if(exact.or(nxIsSet(hart).and(rm.eqz())), () => f.return(result));
        return h.fromSlow(fpSlow.call(hart, op | h.opFlag, rm, v, 0, 0));
      });
    };
    // The largest double below 2^63 and 2^64 bounds the 64-bit targets.
    return {
      toW: toInt("w", FP_OP.TO_W, -(2 ** 31), 2 ** 31 - 1, (t) => t.toI64S()),
      toWu: toInt("wu", FP_OP.TO_WU, 0, 2 ** 32 - 1, (t) => t.toI64S().extend32S()),
      toL: toInt("l", FP_OP.TO_L, -(2 ** 63), 2 ** 63 - 1024, (t) => t.toI64S()),
      toLu: toInt("lu", FP_OP.TO_LU, 0, 2 ** 64 - 2048, (t) => t.toI64U()),
      fromI64: fromInt("l", FP_OP.FROM_I64, true),
      fromU64: fromInt("lu", FP_OP.FROM_U64, false),
    };
  }

  // Widening is exact; only a NaN needs care.
  const singleToDouble: FpUnary = fn("fcvt.d.s", [I32, I32, I64], I64, (f, hart, rm, a) => {
    const x = f.let(single.fromRegister(a));
    f.if(x.eq(x), () => f.return(double.toRegister(x.promote())));
    return fpSlow.call(hart, FP_OP.CONVERT, rm, single.toSlow(a), 0, 0);
  });
  const doubleToSingle: FpUnary = fn("fcvt.s.d", [I32, I32, I64], I64, (f, hart, rm, a) => {
    const x = a.reinterpretF64();
    f.if(rm.eqz(), () => {
      const r = f.let(x.demote());
      const isZero = x.eq(F64.of(0));
      answer(f, hart, single.toRegister(r), singleInRange(r).or(isZero), r.promote().eq(x));
    });
    return single.fromSlow(fpSlow.call(hart, FP_OP.CONVERT | FP_DOUBLE, rm, a, 0, 0));
  });

  const functions = (
    h: HostFormat<F32> | HostFormat<F64>,
    a: typeof s | typeof d,
    fma: FpTernary,
  ): FastFloat => {
    const { add, sub, mul, div, sqrt } = a;
    return { add, sub, mul, div, sqrt, fma, ...conversions(h) };
  };
  return { s: functions(single, s, fmaS), d: functions(double, d, fmaD), singleToDouble, doubleToSingle };
}
