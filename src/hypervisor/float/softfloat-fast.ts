// F and D arithmetic in WebAssembly, fast path. The host rounds to nearest even and reports no flags. A
// function here returns the host's result only if the rounding mode is RNE (conversions to integers: any
// mode), the result is finite and clear of underflow, and NX cannot change: NX is set already (it is sticky),
// or the result is proven exact. Everything else, and so every flag, comes from `fpSlow` (softfloat-slow.ts).
// Error-free transformations: TwoSum; the residual of the fused multiply-add where the host has one, else
// Dekker's product and round to odd (Boldo and Melquiond, IEEE TC 57(4), 2008).
import { F32, F64, I32, I64 } from "../../wasm/expr.ts";
import { type Fn, type Func, fn } from "../../wasm/function.ts";
import { BINARY32, FFLAGS, RM } from "./softfloat-format.ts";
import { FP_DOUBLE, FP_OP, type FpSlowFn } from "./softfloat-slow.ts";

type Hart = typeof I32;
type Rm = typeof I32;
/** (hart, rm, x, …) → result; `rm` is a resolved mode, 0 to 4. F64 stands for F32 in binary32's functions. */
export type FpUnary = Fn<readonly [Hart, Rm, typeof F64], typeof F64>;
export type FpBinary = Fn<readonly [Hart, Rm, typeof F64, typeof F64], typeof F64>;
export type FpTernary = Fn<readonly [Hart, Rm, typeof F64, typeof F64, typeof F64], typeof F64>;
/** The result in the form of an x register. */
export type FpToInt = Fn<readonly [Hart, Rm, typeof F64], typeof I64>;
/** From all 64 bits of an x register; the w forms extend first. */
export type FpFromInt = Fn<readonly [Hart, Rm, typeof I64], typeof F64>;

/** A format in the host's arithmetic. F64 stands for F32 as well: both have the methods used here. */
export interface HostFormat {
  readonly suffix: "s" | "d";
  readonly opFlag: number;
  readonly type: typeof F64;
  readonly fracBits: number;
  of(value: number): F64;
  toBits(value: F64): I64;
  fromBits(bits: I64): F64;
  /** Biased. */
  exponent(value: F64): I32;
  /** The exponent of infinities and NaNs. */
  readonly special: number;
  /** From this exponent on, the error of a product or quotient is itself a number of the format. */
  readonly residual: number;
  fromI64(v: I64, isSigned: boolean): F64;
}

const asSingle = (x: F64): F32 => x as unknown as F32;
const asF64 = (x: F32): F64 => x as unknown as F64;

export const hostSingle: HostFormat = {
  suffix: "s",
  opFlag: 0,
  type: F32 as unknown as typeof F64,
  fracBits: 23,
  of: (value) => asF64(F32.of(value)),
  toBits: (value) => asSingle(value).reinterpret().extendU(),
  fromBits: (bits) => asF64(bits.wrap().reinterpretF32()),
  exponent: (value) => asSingle(value).reinterpret().shrU(23).and(0xff),
  special: 0xff,
  residual: 127 - 98,
  fromI64: (v, isSigned) => asF64(isSigned ? v.toF32S() : v.toF32U()),
};

export const hostDouble: HostFormat = {
  suffix: "d",
  opFlag: FP_DOUBLE,
  type: F64,
  fracBits: 52,
  of: (value) => F64.of(value),
  toBits: (value) => value.reinterpret(),
  fromBits: (bits) => bits.reinterpretF64(),
  exponent: (value) => value.reinterpret().shrU(52).wrap().and(0x7ff),
  special: 0x7ff,
  residual: 1023 - 960,
  fromI64: (v, isSigned) => (isSigned ? v.toF64S() : v.toF64U()),
};

export const isFinite = (h: HostFormat, r: F64): I32 => r.abs().lt(h.of(Number.POSITIVE_INFINITY));
/** Finite, and at least twice the smallest normal number: it has not underflowed. */
export const inRange = (h: HostFormat, r: F64): I32 =>
  h
    .exponent(r)
    .sub(2)
    .ltU(h.special - 2);
export const canonicalNan = (h: HostFormat): F64 =>
  h.suffix === "s" ? asF64(I32.of(Number(BINARY32.canonicalNan)).reinterpretF32()) : F64.of(Number.NaN);

/** Logical and: `b` is evaluated only if `a` is true, and constants are decided here. */
export const both = (a: I32, b: I32): I32 => (b.constant === 1 ? a : a.choose(b, I32.of(0)));
export const either = (a: I32, b: I32): I32 => (b.constant === 0 ? a : a.choose(I32.of(1), b));

export interface FastFloat {
  readonly add: FpBinary;
  readonly sub: FpBinary;
  readonly mul: FpBinary;
  readonly div: FpBinary;
  readonly sqrt: FpUnary;
  /** x × y + z */
  readonly fma: FpTernary;
  readonly toW: FpToInt;
  readonly toWu: FpToInt;
  readonly toL: FpToInt;
  readonly toLu: FpToInt;
  readonly fromI64: FpFromInt;
  readonly fromU64: FpFromInt;
}

export interface FastFloats {
  readonly s: FastFloat;
  readonly d: FastFloat;
  readonly singleToDouble: Fn<readonly [Hart, Rm, typeof F32], typeof F64>;
  readonly doubleToSingle: Fn<readonly [Hart, Rm, typeof F64], typeof F32>;
}

const ZERO = F64.of(0);

/** The rounding error of r = x + y (Knuth's TwoSum); NaN if it overflows. */
function sumError(f: Func, r: F64, x: F64, y: F64): F64 {
  const part = f.let(r.sub(x));
  return x.sub(r.sub(part)).add(y.sub(part));
}

/**
 * 1 only if r, the host's sum of x and y, is exact: subtracting the larger operand from it is exact (Dekker's
 * Fast2Sum), so one of the two tests is exact, and the other does no harm.
 */
export const isSum = (r: F64, x: F64, y: F64): I32 => r.sub(x).eq(y).and(r.sub(y).eq(x));

/** 1 only if r = x × y exactly; with a fused multiply-add. */
export const isFusedProduct = (h: HostFormat, r: F64, x: F64, y: F64): I32 =>
  both(h.exponent(r).geU(h.residual), x.relaxedMadd(y, r.neg()).eq(h.of(0)));

/** x + y rounded to odd: the last bit is set if the sum was inexact. */
export function sumToOdd(f: Func, x: F64, y: F64): { sum: I64; error: F64 } {
  const sum = f.let(x.add(y));
  const error = f.let(sumError(f, sum, x, y));
  const bits = f.let(sum.reinterpret());
  f.if(error.ne(ZERO).and(bits.wrap().and(1).eqz()), () => {
    // The exact sum is farther from zero than `sum` if error and sum have the same sign.
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

/** Trailing zero bits of a double's 53-bit significand. */
const trailingZeros = (value: F64): I64 =>
  value
    .reinterpret()
    .or(1n << 52n)
    .ctz();

/**
 * Builds the functions for harts that have `fflags` (u32) at byte `fflagsOffset` from `hart`; with the
 * relaxed multiply-add if it `isFused`.
 */
export function fastFloats(fpSlow: FpSlowFn, fflagsOffset: number, isFused: boolean): FastFloats {
  const nxIsSet = (hart: I32): I32 => hart.load32(fflagsOffset).and(FFLAGS.NX);

  function arithmetic(
    h: HostFormat,
  ): Omit<FastFloat, "fma"> & { slow: typeof slow; mayReturn: typeof mayReturn } {
    const zero = h.of(0);
    const slow = (op: number, hart: I32, rm: I32, ...operands: F64[]): F64 => {
      const [a = I64.of(0), b = I64.of(0), c = I64.of(0)] = operands.map((x) => h.toBits(x));
      return h.fromBits(fpSlow.call(hart, op | h.opFlag, rm, a, b, c));
    };
    /** Return `r` if it is `safe` and raises no flag that is not already set. */
    const mayReturn = (f: Func, hart: I32, r: F64, safe: I32, exact: I32): void => {
      f.if(both(safe, either(nxIsSet(hart), exact)), () => f.return(r));
    };
    /** 1 only if r = x × y exactly. */
    const isProduct = (r: F64, x: F64, y: F64): I32 => {
      if (isFused) return isFusedProduct(h, r, x, y);
      // A product of two floats is exact in double.
      if (h.suffix === "s") {
        const [p, q, product] = [x, y, r].map((v) => asSingle(v).promote()) as [F64, F64, F64];
        return p.mul(q).eq(product);
      }
      // Significands with at most 53 bits together: the host's product is exact.
      return trailingZeros(x).add(trailingZeros(y)).geU(53).and(x.mul(y).eq(r));
    };

    const binary = (
      name: string,
      op: number,
      fast: (f: Func, hart: I32, x: F64, y: F64) => void,
    ): FpBinary => {
      return fn(`${name}.${h.suffix}`, [I32, I32, h.type, h.type], h.type, (f, hart, rm, x, y) => {
        f.if(rm.eqz(), () => fast(f, hart, x, y));
        return slow(op, hart, rm, x, y);
      });
    };
    // A sum that is subnormal or zero is exact.
    const add = binary("fadd", FP_OP.ADD, (f, hart, x, y) => {
      const r = f.let(x.add(y));
      f.if(isFinite(h, r), () => {
        f.if(nxIsSet(hart), () => f.return(r));
        f.if(isSum(r, x, y), () => f.return(r));
      });
    });
    const sub = binary("fsub", FP_OP.SUB, (f, hart, x, y) => {
      const r = f.let(x.sub(y));
      f.if(isFinite(h, r), () => {
        f.if(nxIsSet(hart), () => f.return(r));
        f.if(isSum(r, x, y.neg()), () => f.return(r));
      });
    });
    const mul = binary("fmul", FP_OP.MUL, (f, hart, x, y) => {
      const r = f.let(x.mul(y));
      const isZero = f.let(r.eq(zero).and(x.eq(zero).or(y.eq(zero))));
      mayReturn(f, hart, r, either(inRange(h, r), isZero), either(isZero, isProduct(r, x, y)));
    });
    const div = binary("fdiv", FP_OP.DIV, (f, hart, x, y) => {
      const r = f.let(x.div(y));
      const isZero = f.let(r.eq(zero).and(x.eq(zero)));
      mayReturn(f, hart, r, either(inRange(h, r), isZero), either(isZero, isProduct(x, r, y)));
    });
    const sqrt: FpUnary = fn(`fsqrt.${h.suffix}`, [I32, I32, h.type], h.type, (f, hart, rm, x) => {
      f.if(rm.eqz(), () => {
        const r = f.let(x.sqrt());
        const isZero = f.let(x.eq(zero));
        mayReturn(f, hart, r, isFinite(h, r), either(isZero, isProduct(x, r, r)));
      });
      return slow(FP_OP.SQRT, hart, rm, x);
    });

    const toInt = (
      name: string,
      op: number,
      low: number,
      high: number,
      convert: (t: F64) => I64,
    ): FpToInt => {
      return fn(`fcvt.${name}.${h.suffix}`, [I32, I32, h.type], I64, (f, hart, rm, operand) => {
        const x = h.suffix === "s" ? f.let(asSingle(operand).promote()) : operand;
        const rounded = f.let(x.trunc());
        f.if(rm.eq(RM.RNE), () => rounded.set(x.nearest()));
        f.if(rm.eq(RM.RDN), () => rounded.set(x.floor()));
        f.if(rm.eq(RM.RUP), () => rounded.set(x.ceil()));
        f.if(rm.eq(RM.RMM).and(x.sub(rounded).abs().ge(F64.of(0.5))), () => {
          rounded.set(rounded.add(F64.of(1).copysign(x)));
        });
        const safe = rounded.ge(F64.of(low)).and(rounded.le(F64.of(high)));
        const exact = rounded.eq(x);
        f.if(both(safe, either(nxIsSet(hart), exact)), () => f.return(convert(rounded)));
        return fpSlow.call(hart, op | h.opFlag, rm, h.toBits(operand), 0, 0);
      });
    };
    const fromInt = (name: string, op: number, isSigned: boolean): FpFromInt => {
      return fn(`fcvt.${h.suffix}.${name}`, [I32, I32, I64], h.type, (f, hart, rm, v) => {
        const magnitude = f.let(isSigned ? v.ltS(0).select(I64.of(0).sub(v), v) : v);
        const significant = I64.of(64).sub(magnitude.clz()).sub(magnitude.ctz());
        const exact = significant.leS(h.fracBits + 1);
        f.if(either(exact, both(nxIsSet(hart), rm.eqz())), () => f.return(h.fromI64(v, isSigned)));
        return h.fromBits(fpSlow.call(hart, op | h.opFlag, rm, v, 0, 0));
      });
    };
    return {
      slow,
      mayReturn,
      add,
      sub,
      mul,
      div,
      sqrt,
      // The largest double below 2^63 and 2^64 bounds the 64-bit targets.
      toW: toInt("w", FP_OP.TO_W, -(2 ** 31), 2 ** 31 - 1, (t) => t.toI64S()),
      toWu: toInt("wu", FP_OP.TO_WU, 0, 2 ** 32 - 1, (t) => t.toI64S().extend32S()),
      toL: toInt("l", FP_OP.TO_L, -(2 ** 63), 2 ** 63 - 1024, (t) => t.toI64S()),
      toLu: toInt("lu", FP_OP.TO_LU, 0, 2 ** 64 - 2048, (t) => t.toI64U()),
      fromI64: fromInt("l", FP_OP.FROM_I64, true),
      fromU64: fromInt("lu", FP_OP.FROM_U64, false),
    };
  }

  const s = arithmetic(hostSingle);
  const d = arithmetic(hostDouble);

  /** With the host's multiply-add. Proven exact: an exact product and an exact sum. */
  const hostFma = (h: HostFormat, a: typeof s): FpTernary => {
    return fn(`fma.${h.suffix}`, [I32, I32, h.type, h.type, h.type], h.type, (f, hart, rm, x, y, z) => {
      f.if(rm.eqz(), () => {
        const r = f.let(x.relaxedMadd(y, z));
        f.if(isFinite(h, r), () => {
          f.if(both(nxIsSet(hart), inRange(h, r)), () => f.return(r));
          const product = f.let(x.mul(y));
          const isZero = x.eq(h.of(0)).or(y.eq(h.of(0)));
          f.if(either(isZero, isFusedProduct(h, product, x, y)), () => {
            f.if(isSum(r, product, z), () => f.return(r));
          });
        });
      });
      return a.slow(FP_OP.FMA, hart, rm, x, y, z);
    });
  };

  // binary32: the product is exact in double, and a double sum rounded to odd may be rounded a second time.
  const fmaS = fn("fma.s", [I32, I32, F32, F32, F32], F32, (f, hart, rm, x, y, z) => {
    f.if(rm.eqz(), () => {
      const product = f.let(x.promote().mul(y.promote()));
      const { sum, error } = sumToOdd(f, product, f.let(z.promote()));
      const r = f.let(sum.reinterpretF64().demote());
      const exact = error.eq(ZERO).and(r.promote().eq(sum.reinterpretF64()));
      const isZero = sum.shl(1).eqz();
      s.mayReturn(f, hart, asF64(r), either(inRange(hostSingle, asF64(r)), isZero), exact);
    });
    return asSingle(s.slow(FP_OP.FMA, hart, rm, asF64(x), asF64(y), asF64(z)));
  });

  // The range where no part of the computation overflows or underflows, by biased exponents.
  const exponent = (x: F64): I32 => x.reinterpret().shrU(52).wrap().and(0x7ff);
  const within = (x: F64, range: number): I32 =>
    exponent(x)
      .sub(1023 - range)
      .leU(2 * range);
  const fmaD: FpTernary = fn("fma.d", [I32, I32, F64, F64, F64], F64, (f, hart, rm, x, y, z) => {
    f.if(rm.eqz(), () => {
      const safe = within(x, 400)
        .and(within(y, 400))
        .and(within(z, 800).or(z.eq(ZERO)));
      f.if(safe, () => {
        const product = exactProduct(f, x, y);
        const low = f.let(z.add(product.low));
        const lowError = f.let(sumError(f, low, z, product.low));
        const high = f.let(product.high.add(low));
        const highError = f.let(sumError(f, high, product.high, low));
        const { sum, error } = sumToOdd(f, lowError, highError);
        const rest = f.let(sum.reinterpretF64());
        const r = f.let(high.add(rest));
        const exact = error.eq(ZERO).and(sumError(f, r, high, rest).eq(ZERO));
        d.mayReturn(f, hart, r, inRange(hostDouble, r), exact);
      });
      // 0 × y + z is exact, and the host's sign is correct.
      f.if(x.eq(ZERO).or(y.eq(ZERO)), () => {
        const r = f.let(x.mul(y).add(z));
        f.if(isFinite(hostDouble, r), () => f.return(r));
      });
    });
    return d.slow(FP_OP.FMA, hart, rm, x, y, z);
  });

  // Widening is exact; only NaNs need special handling.
  const singleToDouble = fn("fcvt.d.s", [I32, I32, F32], F64, (f, hart, rm, x) => {
    f.if(x.eq(x), () => f.return(x.promote()));
    return fpSlow.call(hart, FP_OP.CONVERT, rm, hostSingle.toBits(asF64(x)), 0, 0).reinterpretF64();
  });
  const doubleToSingle = fn("fcvt.s.d", [I32, I32, F64], F32, (f, hart, rm, x) => {
    f.if(rm.eqz(), () => {
      const r = f.let(x.demote());
      const safe = either(inRange(hostSingle, asF64(r)), x.eq(ZERO));
      s.mayReturn(f, hart, asF64(r), safe, r.promote().eq(x));
    });
    return fpSlow
      .call(hart, FP_OP.CONVERT | FP_DOUBLE, rm, x.reinterpret(), 0, 0)
      .wrap()
      .reinterpretF32();
  });

  return {
    s: { ...s, fma: isFused ? hostFma(hostSingle, s) : (fmaS as unknown as FpTernary) },
    d: { ...d, fma: isFused ? hostFma(hostDouble, d) : fmaD },
    singleToDouble,
    doubleToSingle,
  };
}
