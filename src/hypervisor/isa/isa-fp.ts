// F and D (unprivileged specification, chapters 20 and 21): one row for each instruction. A row uses the
// host's operation if one test of the result proves that it is correct and that no flag changes; everything
// else is in softfloat-fast.ts. Common to all rows: mstatus.FS, the rounding mode, NaN boxing, fflags. Any
// row that may change f registers or fflags sets FS to dirty. fcsr, frm and fflags are in the CSR table. Half
// precision is in isa-half.ts.
import { type F32, type F64, I32, I64 } from "../../wasm/expr.ts";
import { type Fn, type Func, fn } from "../../wasm/function.ts";
import type { FpSource } from "./float-semantics.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import { type CompressedRow, compressed } from "./isa-compressed.ts";
import { type Row, row, type Semantics } from "./instruction-semantics.ts";
import { BINARY32, BINARY64, FFLAGS, type FpFormat, RM } from "../float/softfloat-format.ts";
import {
  both,
  canonicalNan,
  either,
  type FastFloat,
  fastFloats,
  type FastFloats,
  type HostFormat,
  hostDouble,
  hostSingle,
  inRange,
  isFinite,
  isFusedProduct,
  isSum,
} from "../float/softfloat-fast.ts";
import { softFloat } from "../float/softfloat-slow.ts";

export const FFLAGS_OFFSET = hartLayout.offsetOf("fflags");
const SP = 2;

/** The fallback of all engines: `fpSlow` of softfloat-slow.ts. */
export const fpSlow = softFloat(FFLAGS_OFFSET);
const fusedFloats = fastFloats(fpSlow, FFLAGS_OFFSET, true);
const plainFloats = fastFloats(fpSlow, FFLAGS_OFFSET, false);
export const floatsOf = (s: Semantics): FastFloats => (s.float.isFused ? fusedFloats : plainFloats);

const extensionOf = (name: string): string => {
  if (/^f(li|minm|maxm|round|roundnx|leq|ltq|cvtmod)\./.test(name)) return "Zfa";
  return /\.h|fl?h$|fsh$/.test(name) ? "Zfh" : /\.d|fld|fsd/.test(name) ? "D" : "F";
};

/** `dirties`: the row changes f registers or fflags. */
export const fp = (name: string, pattern: string, dirties: boolean, meaning: (s: Semantics) => void): Row => {
  return row(name, extensionOf(name), pattern, (s) => {
    s.float.require();
    if (dirties) s.float.markDirty();
    meaning(s);
  });
};
/** A row with a rounding mode. */
export const rounded = (name: string, pattern: string, meaning: (s: Semantics, rm: I32) => void): Row => {
  return row(name, extensionOf(name), pattern, (s) => {
    s.float.require();
    const rm = s.float.roundingMode(s.field(12, 3));
    s.float.markDirty();
    meaning(s, rm);
  });
};

/** A source register as a number: `value` if `isProper`, otherwise the canonical NaN. */
interface Operand {
  readonly value: F64;
  readonly isProper: I32;
  readonly number: F64;
}

/** The differences between the formats' rows. As in softfloat-fast.ts, F64 stands for F32 too. */
export interface RegisterFormat extends FpFormat {
  /** fmt field of the encoding. */
  readonly fmt: string;
  readonly letter: "h" | "s" | "d";
  /** Whether the host rounds to this format. */
  readonly isHosted: boolean;
  /** The host format that holds the values. */
  readonly host: HostFormat;
  readonly minNormal: bigint;
  functions(s: Semantics): FastFloat;
  source(s: Semantics, source: FpSource): Operand;
  set(s: Semantics, value: F64): void;
  /** x with the sign of x × y. */
  multiplySign(x: F64, y: F64): F64;
}

export const single: RegisterFormat = {
  ...BINARY32,
  fmt: "00",
  letter: "s",
  isHosted: true,
  host: hostSingle,
  minNormal: 1n << 23n,
  functions: (s) => floatsOf(s).s,
  source: (s, source) => {
    const { low, isBoxed } = s.float.single(source);
    const value = low as unknown as F64;
    return { value, isProper: isBoxed, number: isBoxed.choose(value, canonicalNan(hostSingle)) };
  },
  set: (s, value) => s.float.setSingle(value as unknown as F32),
  multiplySign: (x, y) => {
    const [p, q] = [x, y].map((v) => (v as unknown as F32).reinterpret()) as [I32, I32];
    return p.xor(q.and(1 << 31)).reinterpretF32() as unknown as F64;
  },
};
export const double: RegisterFormat = {
  ...BINARY64,
  fmt: "01",
  letter: "d",
  isHosted: true,
  host: hostDouble,
  minNormal: 1n << 52n,
  functions: (s) => floatsOf(s).d,
  source: (s, source) => {
    const value = s.float.double(source);
    return { value, isProper: I32.of(1), number: value };
  },
  set: (s, value) => s.float.setDouble(value),
  multiplySign: (x, y) =>
    x
      .reinterpret()
      .xor(y.reinterpret().and(1n << 63n))
      .reinterpretF64(),
};

/**
 * The host's `result` if the mode is RNE, the operands are numbers of the format, `isSafe` (of the result)
 * proves that only NX can be raised, and NX has accrued or `isExact` proves that it is not raised; otherwise
 * `rest`.
 */
function hostOr(
  s: Semantics,
  format: RegisterFormat,
  rm: I32,
  operands: readonly Operand[],
  result: F64,
  isSafe: (host: HostFormat, r: F64) => I32,
  isExact: (r: F64) => I32,
  rest: () => F64,
): void {
  if (!format.isHosted) return format.set(s, rest());
  const { f } = s;
  const r = f.let(result);
  let isAnswer = isSafe(format.host, r);
  for (const { isProper } of operands) isAnswer = both(isProper, isAnswer);
  f.block((done) => {
    f.block((other) => {
      f.brIf(other, both(rm.eqz(), isAnswer).eqz(), false);
      f.if(s.float.inexact().eqz(), () => f.brIf(other, isExact(r).eqz()), undefined, false);
      format.set(s, r);
      f.br(done);
    });
    format.set(s, rest());
  });
}

export const isNan = (value: F64): I32 => value.ne(value);

export function accrue(f: Func, hart: I32, flag: number): void {
  f.store32(hart, hart.load32(FFLAGS_OFFSET).or(flag), FFLAGS_OFFSET);
}
const accrueInvalid = (f: Func, hart: I32): void => accrue(f, hart, FFLAGS.NV);

/** NV if `value` is a signaling NaN. */
export function invalidIfSignaling(f: Func, hart: I32, format: RegisterFormat, value: F64): void {
  f.if(isNan(value).and(format.host.toBits(value).and(format.quietBit).eqz()), () => accrueInvalid(f, hart));
}

type Binary = Fn<readonly [typeof I32, typeof F64, typeof F64], typeof F64>;

/** fmin and fmax if one operand is a NaN: the other operand. */
function numberOf(format: RegisterFormat): Binary {
  const { host } = format;
  return fn(`number.${format.letter}`, [I32, host.type, host.type], host.type, (f, hart, x, y) => {
    for (const operand of [x, y]) invalidIfSignaling(f, hart, format, operand);
    f.if(isNan(x), () => f.return(isNan(y).choose<F64>(canonicalNan(host), y)));
    return x;
  });
}

/** feq if one operand is a NaN. */
function equalNan(format: RegisterFormat) {
  const { host } = format;
  return fn(`feq.${format.letter}`, [I32, host.type, host.type], undefined, (f, hart, x, y) => {
    for (const operand of [x, y]) invalidIfSignaling(f, hart, format, operand);
  });
}

/** (bits) → the mask of fclass: one bit of 0 (-∞) … 7 (+∞), 8 signaling, 9 quiet NaN. */
function classOf(format: RegisterFormat): Fn<readonly [typeof I64], typeof I64> {
  return fn(`fclass.${format.letter}`, [I64], I64, (f, bits) => {
    const magnitude = f.let(bits.and(format.signBit - 1n));
    f.if(magnitude.gtU(format.infinity), () => {
      f.return(
        magnitude
          .and(format.quietBit)
          .eqz()
          .select(I64.of(1 << 8), I64.of(1 << 9)),
      );
    });
    // 0 infinite, 1 normal, 2 subnormal, 3 zero.
    const kind = f.let(
      magnitude.ltU(format.infinity).add(magnitude.ltU(format.minNormal)).add(magnitude.eqz()),
    );
    const isNegative = bits.and(format.signBit).ne(0);
    return I64.of(1).shl(isNegative.select<I32>(kind, I32.of(7).sub(kind)).extendU());
  });
}

/**
 * Range of the results of a conversion to an integer, and the conversion of a number known to be in range.
 */
interface IntegerTarget {
  readonly name: "w" | "wu" | "l" | "lu";
  readonly function: "toW" | "toWu" | "toL" | "toLu";
  readonly isSigned: boolean;
  readonly limit: number;
  convert(x: F64): I64;
}
const integerTargets: readonly IntegerTarget[] = [
  { name: "w", function: "toW", isSigned: true, limit: 2 ** 31, convert: (x) => x.toI32S().extendS() },
  { name: "wu", function: "toWu", isSigned: false, limit: 2 ** 32, convert: (x) => x.toI32U().extendS() },
  { name: "l", function: "toL", isSigned: true, limit: 2 ** 63, convert: (x) => x.toI64S() },
  { name: "lu", function: "toLu", isSigned: false, limit: 2 ** 64, convert: (x) => x.toI64U() },
];

/** Rounding to an integer, by mode; the host has no instruction for ties away from zero. */
const ROUND: readonly ((x: F64) => F64)[] = [
  (x) => x.nearest(),
  (x) => x.trunc(),
  (x) => x.floor(),
  (x) => x.ceil(),
];

export function formatRows(format: RegisterFormat): Row[] {
  const { fmt, host, letter: suffix } = format;
  const binary = (
    name: "add" | "sub" | "mul" | "div",
    funct5: string,
    operation: (x: F64, y: F64) => F64,
    isSafe: (host: HostFormat, r: F64) => I32,
    isExact: (s: Semantics, r: F64, x: F64, y: F64) => I32,
  ): Row => {
    return rounded(`f${name}.${suffix}`, `${funct5}${fmt} frs2 frs1 rm frd 1010011`, (s, rm) => {
      const x = format.source(s, 1);
      const y = format.source(s, 2);
      hostOr(
        s,
        format,
        rm,
        [x, y],
        operation(x.value, y.value),
        isSafe,
        (r) => isExact(s, r, x.value, y.value),
        () => format.functions(s)[name].call(s.hart, rm, x.number, y.number),
      );
    });
  };
  const fused = (name: string, opcode: string, negateProduct: boolean, negateAddend: boolean): Row => {
    return rounded(`${name}.${suffix}`, `frs3 ${fmt} frs2 frs1 rm frd ${opcode}`, (s, rm) => {
      const operands = ([1, 2, 3] as const).map((source) => format.source(s, source));
      const [x, y, z] = operands as [Operand, Operand, Operand];
      const negated = (value: F64, negate: boolean): F64 => (negate ? value.neg() : value);
      const rest = (): F64 => {
        const [p, r] = [negated(x.number, negateProduct), negated(z.number, negateAddend)];
        return format.functions(s).fma.call(s.hart, rm, p, y.number, r);
      };
      if (s.float.isFused && format.isHosted) {
        const product = negated(x.value, negateProduct);
        const result = product.relaxedMadd(y.value, negated(z.value, negateAddend));
        const isExact = (r: F64): I32 => {
          const p = s.f.let(product.mul(y.value));
          const isExactSum = isSum(r, p, negated(z.value, negateAddend));
          return isFusedProduct(host, p, product, y.value).and(isExactSum);
        };
        hostOr(s, format, rm, operands, result, inRange, isExact, rest);
      } else {
        format.set(s, rest());
      }
    });
  };
  /** `same`: the result if both sources are the same register, as in fmv, fneg and fabs. */
  const sign = (
    name: string,
    funct3: string,
    same: (x: F64) => F64,
    combine: (x: F64, y: F64) => F64,
  ): Row => {
    return fp(`${name}.${suffix}`, `00100${fmt} frs2 frs1 ${funct3} frd 1010011`, true, (s) => {
      const x = format.source(s, 1).number;
      const isSame = s.field(15, 5).eq(s.field(20, 5)).constant === 1;
      format.set(s, isSame ? same(x) : combine(x, format.source(s, 2).number));
    });
  };
  const otherwise = numberOf(format);
  const select = (name: "fmin" | "fmax", funct3: string, choose: (x: F64, y: F64) => F64): Row => {
    return fp(`${name}.${suffix}`, `00101${fmt} frs2 frs1 ${funct3} frd 1010011`, true, (s) => {
      const x = s.f.let(format.source(s, 1).number);
      const y = s.f.let(format.source(s, 2).number);
      // WebAssembly's min and max are IEEE's minimum and maximum: correct except for NaNs.
      s.f.if(
        x.lt(y).or(x.ge(y)),
        () => format.set(s, choose(x, y)),
        () => format.set(s, otherwise.call(s.hart, x, y)),
        true,
      );
    });
  };
  /** `complement`: the operands are unordered unless this or the comparison is true. */
  const compare = (
    name: string,
    funct3: string,
    test: (x: F64, y: F64) => I32,
    complement: (x: F64, y: F64) => I32,
    unordered: (s: Semantics, x: F64, y: F64) => void,
  ): Row => {
    return fp(`${name}.${suffix}`, `10100${fmt} frs2 frs1 ${funct3} rd 1010011`, true, (s) => {
      const x = s.f.let(format.source(s, 1).number);
      const y = s.f.let(format.source(s, 2).number);
      const result = s.f.let(test(x, y));
      s.f.if(result.or(complement(x, y)).eqz(), () => unordered(s, x, y), undefined, false);
      s.setRd(result.extendU());
    });
  };
  const signals = (s: Semantics): void => accrueInvalid(s.f, s.hart);
  const equal = equalNan(format);
  const toInt = (target: IntegerTarget, code: string): Row => {
    const { limit, isSigned } = target;
    return rounded(`fcvt.${target.name}.${suffix}`, `11000${fmt} ${code} frs1 rm rd 1010011`, (s, rm) => {
      const source = format.source(s, 1);
      const rest = (): void => {
        s.setRd(format.functions(s)[target.function].call(s.hart, rm, source.number));
      };
      // A mode that is not known is probably that of a C cast; the dynamic one is probably nearest-even.
      const mode = rm.constant ?? (s.field(12, 3).constant === undefined ? RM.RTZ : RM.RNE);
      const round = ROUND[mode];
      if (round === undefined) return rest();
      const value = s.f.let(source.value);
      const x = s.f.let(round(value));
      const isExact = either(s.float.inexact(), x.eq(value));
      const isInside = isSigned ? x.abs().lt(host.of(limit)) : x.ge(host.of(0)).and(x.lt(host.of(limit)));
      s.f.if(
        both(both(rm.eq(mode), source.isProper), both(isInside, isExact)),
        () => s.setRd(target.convert(x)),
        rest,
        true,
      );
    });
  };
  const fromInt = (name: string, code: string, isSigned: boolean, operand: (s: Semantics) => I64): Row => {
    return rounded(`fcvt.${suffix}.${name}`, `11010${fmt} ${code} rs1 rm frd 1010011`, (s, rm) => {
      // Every 32-bit integer is exact as a double.
      if (suffix === "d" && name.startsWith("w")) return format.set(s, host.fromI64(operand(s), true));
      const value = s.f.let(operand(s));
      const { fromI64, fromU64 } = format.functions(s);
      const rest = (): void => format.set(s, (isSigned ? fromI64 : fromU64).call(s.hart, rm, value));
      if (!format.isHosted) return rest();
      const limit = 1n << BigInt(host.fracBits + 1);
      const isExact = isSigned ? value.add(limit).leU(2n * limit) : value.leU(limit);
      s.f.if(
        either(isExact, both(rm.eqz(), s.float.inexact())),
        () => format.set(s, host.fromI64(value, isSigned)),
        rest,
        true,
      );
    });
  };
  const fclass = classOf(format);
  const isProduct = (s: Semantics, r: F64, x: F64, y: F64): I32 =>
    s.float.isFused ? isFusedProduct(host, r, x, y) : I32.of(0);
  return [
    binary(
      "add",
      "00000",
      (x, y) => x.add(y),
      isFinite,
      (_, r, x, y) => isSum(r, x, y),
    ),
    binary(
      "sub",
      "00001",
      (x, y) => x.sub(y),
      isFinite,
      (_, r, x, y) => isSum(r, x, y.neg()),
    ),
    binary(
      "mul",
      "00010",
      (x, y) => x.mul(y),
      inRange,
      (s, r, x, y) => isProduct(s, r, x, y),
    ),
    binary(
      "div",
      "00011",
      (x, y) => x.div(y),
      inRange,
      (s, r, x, y) => isProduct(s, x, r, y),
    ),
    rounded(`fsqrt.${suffix}`, `01011${fmt} 00000 frs1 rm frd 1010011`, (s, rm) => {
      const x = format.source(s, 1);
      const root = (): F64 => format.functions(s).sqrt.call(s.hart, rm, x.number);
      hostOr(s, format, rm, [x], x.value.sqrt(), isFinite, () => I32.of(0), root);
    }),
    fused("fmadd", "1000011", false, false),
    fused("fmsub", "1000111", false, true),
    fused("fnmsub", "1001011", true, false),
    fused("fnmadd", "1001111", true, true),
    sign(
      "fsgnj",
      "000",
      (x) => x,
      (x, y) => x.copysign(y),
    ),
    sign(
      "fsgnjn",
      "001",
      (x) => x.neg(),
      (x, y) => x.copysign(y.neg()),
    ),
    sign("fsgnjx", "010", (x) => x.abs(), format.multiplySign),
    select("fmin", "000", (x, y) => x.min(y)),
    select("fmax", "001", (x, y) => x.max(y)),
    compare(
      "fle",
      "000",
      (x, y) => x.le(y),
      (x, y) => x.gt(y),
      signals,
    ),
    compare(
      "flt",
      "001",
      (x, y) => x.lt(y),
      (x, y) => x.ge(y),
      signals,
    ),
    compare(
      "feq",
      "010",
      (x, y) => x.eq(y),
      (x, y) => x.lt(y).or(x.gt(y)),
      (s, x, y) => s.f.call(equal, s.hart, x, y),
    ),
    fp(`fclass.${suffix}`, `11100${fmt} 00000 frs1 001 rd 1010011`, false, (s) =>
      s.setRd(fclass.call(host.toBits(format.source(s, 1).number))),
    ),
    ...integerTargets.map((target, i) => toInt(target, `000${i >> 1}${i & 1}`)),
    fromInt("w", "00000", true, (s) => s.rs1.extend32S()),
    fromInt("wu", "00001", true, (s) => s.rs1.and(0xffff_ffff)),
    fromInt("l", "00010", true, (s) => s.rs1),
    fromInt("lu", "00011", false, (s) => s.rs1),
  ];
}

/**
 * An access to fflags by its own CSR number, as libm makes around conversions: "rw", "rs" or "rc" of
 * `operand`. `writes` is 0 if it only reads.
 */
export function accessFflags(s: Semantics, kind: "rw" | "rs" | "rc", operand: I64, writes: I32): void {
  const { f, hart } = s;
  s.float.require();
  const old = f.let(hart.load32(FFLAGS_OFFSET));
  f.if(kind === "rw" ? I32.of(1) : writes, () => {
    const bits = operand.wrap().and(31);
    const flags = kind === "rw" ? bits : kind === "rs" ? old.or(bits) : old.and(bits.xor(-1));
    s.float.markDirty();
    f.store32(hart, flags, FFLAGS_OFFSET);
  });
  s.setRd(old.extendU());
}

/** FS becomes dirty only if the load did not trap. */
const load = (name: string, width: string, transfer: (s: Semantics, address: I64) => void): Row => {
  return fp(name, `imm12 rs1 ${width} frd 0000111`, false, (s) => transfer(s, s.rs1.add(s.imm)));
};

export const fpRows: readonly Row[] = [
  load("flw", "010", (s, address) => {
    const value = s.float.loadSingle(address);
    s.float.markDirty();
    s.float.setSingle(value);
  }),
  load("fld", "011", (s, address) => {
    const value = s.float.loadDouble(address);
    s.float.markDirty();
    s.float.setDouble(value);
  }),
  fp("fsw", "simm7 frs2 rs1 010 simm5 0100111", false, (s) => {
    s.float.storeSingle(s.rs1.add(s.imm), s.float.single(2).low);
  }),
  fp("fsd", "simm7 frs2 rs1 011 simm5 0100111", false, (s) => {
    s.float.storeDouble(s.rs1.add(s.imm), s.float.double(2));
  }),
  ...formatRows(single),
  ...formatRows(double),
  // Moves use the low bits unchanged, boxed or not.
  fp("fmv.x.w", "1110000 00000 frs1 000 rd 1010011", false, (s) => {
    s.setRd(s.float.single(1).low.reinterpret().extendS());
  }),
  fp("fmv.w.x", "1111000 00000 rs1 000 frd 1010011", true, (s) => {
    s.float.setSingle(s.rs1.wrap().reinterpretF32());
  }),
  fp("fmv.x.d", "1110001 00000 frs1 000 rd 1010011", false, (s) => s.setRd(s.float.double(1).reinterpret())),
  fp("fmv.d.x", "1111001 00000 rs1 000 frd 1010011", true, (s) => {
    s.float.setDouble(s.rs1.reinterpretF64());
  }),
  rounded("fcvt.s.d", "0100000 00001 frs1 rm frd 1010011", (s, rm) => {
    const x = double.source(s, 1);
    const result = x.value.demote() as unknown as F64;
    const isExact = (r: F64): I32 => (r as unknown as F32).promote().eq(x.value);
    hostOr(s, single, rm, [x], result, inRange, isExact, () => {
      return floatsOf(s).doubleToSingle.call(s.hart, rm, x.value) as unknown as F64;
    });
  }),
  // Widening is exact; only NaNs need special handling.
  rounded("fcvt.d.s", "0100001 00000 frs1 rm frd 1010011", (s, rm) => {
    const x = s.f.let(single.source(s, 1).number as unknown as F32);
    s.f.if(
      x.eq(x),
      () => s.float.setDouble(x.promote()),
      () => s.float.setDouble(floatsOf(s).singleToDouble.call(s.hart, rm, x)),
      true,
    );
  }),
];

/** Loads and stores of doubles; RV64C has none for singles. */
export const fpCompressedRows: readonly CompressedRow[] = [
  compressed("c.fld", "001 imm[5:3] rs1' imm[7:6] rd' 00", ({ rd, rs1, imm }) => [
    "fld",
    { frd: rd, rs1, imm },
  ]),
  compressed("c.fsd", "101 imm[5:3] rs1' imm[7:6] rs2' 00", ({ rs1, rs2, imm }) => [
    "fsd",
    { rs1, frs2: rs2, imm },
  ]),
  compressed("c.fldsp", "001 imm[5] rd imm[4:3|8:6] 10", ({ rd, imm }) => ["fld", { frd: rd, rs1: SP, imm }]),
  compressed("c.fsdsp", "101 imm[5:3|8:6] rs2 10", ({ rs2, imm }) => ["fsd", { rs1: SP, frs2: rs2, imm }]),
];
