// F and D (unprivileged specification, chapters 20 and 21): one row an instruction. Arithmetic is in softfloat-fast.ts;
// here are moves, sign injection, comparisons, min, max and class, and what all rows share: mstatus.FS, the
// rounding mode, NaN boxing, fflags. Any row that may change f registers or fflags marks FS dirty.
// fcsr, frm and fflags are in the CSR table.
import { type F64, I32, I64 } from "../../wasm/expr.ts";
import { type Fn, type Func, fn, imported } from "../../wasm/function.ts";
import { hartLayout } from "./hart.ts";
import { type CompressedRow, compressed } from "./isa-compressed.ts";
import { type LoadKind, type Row, row, type Semantics } from "./semantics.ts";
import { BINARY32, BINARY64, FFLAGS, RM } from "./softfloat.ts";
import { boxed, type FastFloat, type FpBinary, fastFloats, type FpUnary, unboxed } from "./softfloat-fast.ts";

const MSTATUS = hartLayout.offsetOf("mstatus");
const FFLAGS_OFFSET = hartLayout.offsetOf("fflags");
const FRM = hartLayout.offsetOf("frm");
const MSTATUS_FS = 3 << 13;
const SP = 2;

const floats = fastFloats(imported("host", "fpSlow", [I32, I32, I32, I64, I64, I64], I64), FFLAGS_OFFSET);

/** Illegal while FS is off. */
function requireFp(s: Semantics): void {
  s.f.if(s.hart.load32(MSTATUS).and(MSTATUS_FS).eqz(), () => s.illegal());
}

function markDirty(s: Semantics): void {
  s.f.store32(s.hart, s.hart.load32(MSTATUS).or(MSTATUS_FS), MSTATUS);
}

/** The row's rounding mode, 0 to 4; a reserved one, or a reserved `frm`, is an illegal instruction. */
function roundingMode(s: Semantics): I32 {
  const rm = s.f.let(s.field(12, 3));
  s.f.if(rm.eq(RM.DYN), () => rm.set(s.hart.load32(FRM)));
  s.f.if(rm.gtU(RM.RMM), () => s.illegal());
  return rm;
}

/** `dirties`: the row changes f registers or fflags. */
const fp = (name: string, pattern: string, dirties: boolean, meaning: (s: Semantics) => void): Row => {
  return row(name, /\.d|fld|fsd/.test(name) ? "D" : "F", pattern, (s) => {
    requireFp(s);
    if (dirties) markDirty(s);
    meaning(s);
  });
};
/** A row with a rounding mode. */
const rounded = (name: string, pattern: string, meaning: (s: Semantics, rm: I32) => void): Row => {
  return row(name, /\.d/.test(name) ? "D" : "F", pattern, (s) => {
    requireFp(s);
    const rm = roundingMode(s);
    markDirty(s);
    meaning(s, rm);
  });
};

function accrueInvalid(f: Func, hart: I32): void {
  f.store32(hart, hart.load32(FFLAGS_OFFSET).or(FFLAGS.NV), FFLAGS_OFFSET);
}

/** What the rows of the two formats differ in. Registers come and go as 64 bits. */
interface RegisterFormat {
  readonly suffix: "s" | "d";
  /** fmt field of the encoding. */
  readonly fmt: string;
  readonly arithmetic: FastFloat;
  /** The bits of an operand, zero-extended; and bits as a register. */
  bits(register: I64): I64;
  register(bits: I64): I64;
  /** Exact: a binary32 number is compared as a double. */
  value(bits: I64): F64;
  readonly signBit: bigint;
  readonly quietBit: bigint;
  readonly infinity: bigint;
  readonly canonicalNan: bigint;
  readonly minNormal: bigint;
}

const single: RegisterFormat = {
  ...BINARY32,
  suffix: "s",
  fmt: "00",
  arithmetic: floats.s,
  bits: (register) => unboxed(register).extendU(),
  register: (bits) => boxed(bits.wrap()),
  value: (bits) => bits.wrap().reinterpretF32().promote(),
  minNormal: 1n << 23n,
};
const double: RegisterFormat = {
  ...BINARY64,
  suffix: "d",
  fmt: "01",
  arithmetic: floats.d,
  bits: (register) => register,
  register: (bits) => bits,
  value: (bits) => bits.reinterpretF64(),
  minNormal: 1n << 52n,
};

const isNan = (value: F64): I32 => value.ne(value);

/** (hart, x, y) → 0 or 1, or a register for min and max. */
type Comparison = Fn<readonly [typeof I32, typeof I64, typeof I64], typeof I64>;

/** NV if one of the operands, as bits, is a signaling NaN; `signals`: any NaN is invalid. */
function invalidIfNan(
  f: Func,
  hart: I32,
  format: RegisterFormat,
  operands: readonly I64[],
  signals: boolean,
): void {
  for (const x of operands) {
    const nan = isNan(format.value(x));
    const isQuiet = x.and(format.quietBit).ne(0);
    f.if(signals ? nan : nan.and(isQuiet.eqz()), () => accrueInvalid(f, hart));
  }
}

function comparison(
  format: RegisterFormat,
  name: string,
  signals: boolean,
  test: (x: F64, y: F64) => I32,
): Comparison {
  return fn(`${name}.${format.suffix}`, [I32, I64, I64], I64, (f, hart, a, b) => {
    const x = f.let(format.bits(a));
    const y = f.let(format.bits(b));
    const p = f.let(format.value(x));
    const q = f.let(format.value(y));
    f.if(isNan(p).or(isNan(q)), () => {
      invalidIfNan(f, hart, format, [x, y], signals);
      f.return(I64.of(0));
    });
    return test(p, q).extendU();
  });
}

/** WebAssembly's min and max are IEEE's minimum and maximum: right but for NaNs. */
function minMax(format: RegisterFormat, name: "fmin" | "fmax"): Comparison {
  return fn(`${name}.${format.suffix}`, [I32, I64, I64], I64, (f, hart, a, b) => {
    const x = f.let(format.bits(a));
    const y = f.let(format.bits(b));
    const p = f.let(format.value(x));
    const q = f.let(format.value(y));
    f.if(isNan(p).or(isNan(q)), () => {
      invalidIfNan(f, hart, format, [x, y], false);
      const other = isNan(p).select<I64>(y, x);
      const bothNan = isNan(p).and(isNan(q));
      f.return(format.register(bothNan.select<I64>(I64.of(format.canonicalNan), other)));
    });
    const p0 = name === "fmin" ? p.min(q) : p.max(q);
    const bits = format.suffix === "s" ? p0.demote().reinterpret().extendU() : p0.reinterpret();
    return format.register(bits);
  });
}

/** (register) → the mask of fclass: one bit of 0 (-∞) … 7 (+∞), 8 signaling, 9 quiet NaN. */
function classOf(format: RegisterFormat): Fn<readonly [typeof I64], typeof I64> {
  return fn(`fclass.${format.suffix}`, [I64], I64, (f, register) => {
    const bits = f.let(format.bits(register));
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

function formatRows(format: RegisterFormat): Row[] {
  const { suffix, fmt, arithmetic, signBit } = format;
  const binary = (name: string, funct5: string, compute: FpBinary): Row => {
    const pattern = `${funct5}${fmt} frs2 frs1 rm frd 1010011`;
    return rounded(`${name}.${suffix}`, pattern, (s, rm) =>
      s.setFrd(compute.call(s.hart, rm, s.frs1, s.frs2)),
    );
  };
  // Flipping bit 31 or 63 of the register negates, and leaves an improper box improper.
  const negated = (x: I64, negate: boolean): I64 => (negate ? x.xor(BigInt.asIntN(64, signBit)) : x);
  const fused = (name: string, opcode: string, negateProduct: boolean, negateAddend: boolean): Row => {
    return rounded(`${name}.${suffix}`, `frs3 ${fmt} frs2 frs1 rm frd ${opcode}`, (s, rm) => {
      const a = negated(s.frs1, negateProduct);
      const c = negated(s.frs3, negateAddend);
      s.setFrd(arithmetic.fma.call(s.hart, rm, a, s.frs2, c));
    });
  };
  const sign = (name: string, funct3: string, combine: (x: I64, y: I64) => I64): Row => {
    return fp(`${name}.${suffix}`, `00100${fmt} frs2 frs1 ${funct3} frd 1010011`, true, (s) => {
      const magnitude = format.bits(s.frs1).and(signBit - 1n);
      const bits = magnitude.or(
        combine(format.bits(s.frs1), format.bits(s.frs2)).and(BigInt.asIntN(64, signBit)),
      );
      s.setFrd(format.register(bits));
    });
  };
  const select = (name: "fmin" | "fmax", funct3: string): Row => {
    const compute = minMax(format, name);
    return fp(`${name}.${suffix}`, `00101${fmt} frs2 frs1 ${funct3} frd 1010011`, true, (s) => {
      s.setFrd(compute.call(s.hart, s.frs1, s.frs2));
    });
  };
  const compare = (name: string, funct3: string, signals: boolean, test: (x: F64, y: F64) => I32): Row => {
    const compute = comparison(format, name, signals, test);
    return fp(`${name}.${suffix}`, `10100${fmt} frs2 frs1 ${funct3} rd 1010011`, true, (s) => {
      s.setRd(compute.call(s.hart, s.frs1, s.frs2));
    });
  };
  const toInt = (name: string, code: string, compute: FpUnary): Row => {
    return rounded(`fcvt.${name}.${suffix}`, `11000${fmt} ${code} frs1 rm rd 1010011`, (s, rm) => {
      s.setRd(compute.call(s.hart, rm, s.frs1));
    });
  };
  const fromInt = (name: string, code: string, compute: FpUnary, extend: (x: I64) => I64): Row => {
    return rounded(`fcvt.${suffix}.${name}`, `11010${fmt} ${code} rs1 rm frd 1010011`, (s, rm) => {
      s.setFrd(compute.call(s.hart, rm, extend(s.rs1)));
    });
  };
  const fclass = classOf(format);
  return [
    binary("fadd", "00000", arithmetic.add),
    binary("fsub", "00001", arithmetic.sub),
    binary("fmul", "00010", arithmetic.mul),
    binary("fdiv", "00011", arithmetic.div),
    rounded(`fsqrt.${suffix}`, `01011${fmt} 00000 frs1 rm frd 1010011`, (s, rm) => {
      s.setFrd(arithmetic.sqrt.call(s.hart, rm, s.frs1));
    }),
    fused("fmadd", "1000011", false, false),
    fused("fmsub", "1000111", false, true),
    fused("fnmsub", "1001011", true, false),
    fused("fnmadd", "1001111", true, true),
    sign("fsgnj", "000", (_, y) => y),
    sign("fsgnjn", "001", (_, y) => y.not()),
    sign("fsgnjx", "010", (x, y) => x.xor(y)),
    select("fmin", "000"),
    select("fmax", "001"),
    compare("fle", "000", true, (x, y) => x.le(y)),
    compare("flt", "001", true, (x, y) => x.lt(y)),
    compare("feq", "010", false, (x, y) => x.eq(y)),
    fp(`fclass.${suffix}`, `11100${fmt} 00000 frs1 001 rd 1010011`, false, (s) =>
      s.setRd(fclass.call(s.frs1)),
    ),
    toInt("w", "00000", arithmetic.toW),
    toInt("wu", "00001", arithmetic.toWu),
    toInt("l", "00010", arithmetic.toL),
    toInt("lu", "00011", arithmetic.toLu),
    fromInt("w", "00000", arithmetic.fromI64, (x) => x.extend32S()),
    fromInt("wu", "00001", arithmetic.fromU64, (x) => x.and(0xffff_ffff)),
    fromInt("l", "00010", arithmetic.fromI64, (x) => x),
    fromInt("lu", "00011", arithmetic.fromU64, (x) => x),
  ];
}

/** FS gets dirty only if the load did not trap. */
const load = (name: string, width: string, kind: LoadKind, toRegister: (x: I64) => I64): Row => {
  return fp(name, `imm12 rs1 ${width} frd 0000111`, false, (s) => {
    const value = s.f.let(s.load(kind, s.rs1.add(s.imm)));
    markDirty(s);
    s.setFrd(toRegister(value));
  });
};

export const fpRows: readonly Row[] = [
  load("flw", "010", "32U", (x) => boxed(x.wrap())),
  load("fld", "011", "64", (x) => x),
  fp("fsw", "simm7 frs2 rs1 010 simm5 0100111", false, (s) => s.store(4, s.rs1.add(s.imm), s.frs2)),
  fp("fsd", "simm7 frs2 rs1 011 simm5 0100111", false, (s) => s.store(8, s.rs1.add(s.imm), s.frs2)),
  ...formatRows(single),
  ...formatRows(double),
  // Moves take the low bits as they are, boxed or not.
  fp("fmv.x.w", "1110000 00000 frs1 000 rd 1010011", false, (s) => s.setRd(s.frs1.extend32S())),
  fp("fmv.w.x", "1111000 00000 rs1 000 frd 1010011", true, (s) => s.setFrd(boxed(s.rs1.wrap()))),
  fp("fmv.x.d", "1110001 00000 frs1 000 rd 1010011", false, (s) => s.setRd(s.frs1)),
  fp("fmv.d.x", "1111001 00000 rs1 000 frd 1010011", true, (s) => s.setFrd(s.rs1)),
  rounded("fcvt.s.d", "0100000 00001 frs1 rm frd 1010011", (s, rm) => {
    s.setFrd(floats.doubleToSingle.call(s.hart, rm, s.frs1));
  }),
  rounded("fcvt.d.s", "0100001 00000 frs1 rm frd 1010011", (s, rm) => {
    s.setFrd(floats.singleToDouble.call(s.hart, rm, s.frs1));
  }),
];

/** Loads and stores of doubles; RV64C has none of floats. */
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
