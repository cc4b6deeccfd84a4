// Zfh (unprivileged specification, "Zfh"): binary16 as a third format of the rows of isa-fp.ts. In a register
// it has 16 bits below ones; a row computes on the double of the same value (softfloat-half.ts).
import { type F32, type F64, I64 } from "../../wasm/expr.ts";
import {
  double,
  FFLAGS_OFFSET,
  floatsOf,
  formatRows,
  fp,
  invalidIfSignaling,
  type RegisterFormat,
  rounded,
  single,
} from "./isa-fp.ts";
import type { Row, Semantics } from "./instruction-semantics.ts";
import { canonicalNan, type FastFloat } from "../float/softfloat-fast.ts";
import { BINARY16, BINARY64 } from "../float/softfloat-format.ts";
import { fromHalf, type HalfFloat, halfFloats, toHalf } from "../float/softfloat-half.ts";

const BOX = -1n << 16n;

const halves = new Map<FastFloat, HalfFloat>();
function halvesOf(s: Semantics): HalfFloat {
  const { d } = floatsOf(s);
  const known = halves.get(d) ?? halfFloats(d, FFLAGS_OFFSET);
  halves.set(d, known);
  return known;
}

export const half: RegisterFormat = {
  ...double,
  fmt: "10",
  letter: "h",
  isHosted: false,
  minNormal: BigInt(BINARY64.maxExp + BINARY16.minExp) << BigInt(BINARY64.fracBits),
  functions: halvesOf,
  source: (s, source) => {
    const bits = s.f.let(s.float.double(source).reinterpret());
    const boxed = bits.geU(BOX).select<I64>(bits, I64.of(BINARY16.canonicalNan));
    const value = s.f.let(fromHalf.call(boxed));
    return { ...double.source(s, source), value, number: value };
  },
  set: (s, value) => s.float.setDouble(toHalf.call(value).or(BOX).reinterpretF64()),
};

/** Exact; only NaNs need special handling. */
const widening = (name: string, pattern: string, to: RegisterFormat, widen: (x: F64) => F64): Row => {
  return rounded(name, pattern, (s) => {
    const x = half.source(s, 1).number;
    s.f.if(
      x.eq(x),
      () => to.set(s, widen(x)),
      () => {
        invalidIfSignaling(s.f, s.hart, half, x);
        to.set(s, canonicalNan(to.host));
      },
      true,
    );
  });
};

export const halfRows: readonly Row[] = [
  fp("flh", "imm12 rs1 001 frd 0000111", false, (s) => {
    const bits = s.load("16U", s.rs1.add(s.imm));
    s.float.markDirty();
    s.float.setDouble(bits.or(BOX).reinterpretF64());
  }),
  fp("fsh", "simm7 frs2 rs1 001 simm5 0100111", false, (s) => {
    s.store(2, s.rs1.add(s.imm), s.float.double(2).reinterpret());
  }),
  ...formatRows(half),
  fp("fmv.x.h", "1110010 00000 frs1 000 rd 1010011", false, (s) => {
    s.setRd(s.float.double(1).reinterpret().extend16S());
  }),
  fp("fmv.h.x", "1111010 00000 rs1 000 frd 1010011", true, (s) => {
    s.float.setDouble(s.rs1.or(BOX).reinterpretF64());
  }),
  rounded("fcvt.h.s", "0100010 00000 frs1 rm frd 1010011", (s, rm) => {
    const { singleToDouble } = floatsOf(s);
    const x = single.source(s, 1).number as unknown as F32;
    half.set(s, halvesOf(s).round.call(s.hart, rm, singleToDouble.call(s.hart, rm, x)));
  }),
  rounded("fcvt.h.d", "0100010 00001 frs1 rm frd 1010011", (s, rm) => {
    const x = s.f.let(double.source(s, 1).number);
    invalidIfSignaling(s.f, s.hart, double, x);
    half.set(s, halvesOf(s).round.call(s.hart, rm, x));
  }),
  widening("fcvt.s.h", "0100000 00010 frs1 rm frd 1010011", single, (x) => x.demote() as unknown as F64),
  widening("fcvt.d.h", "0100001 00010 frs1 rm frd 1010011", double, (x) => x),
];
