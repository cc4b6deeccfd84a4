// Zba, Zbb, Zbc, Zbs (unprivileged specification, "B" chapter): one row for each instruction.
import { type I32, I64 } from "../../wasm/expr.ts";
import { fn } from "../../wasm/function.ts";
import { type Row, row } from "./instruction-semantics.ts";

type Binary = (a: I64, b: I64) => I64;
type Unary = (a: I64) => I64;

const op = (name: string, extension: string, pattern: string, value: Binary): Row =>
  row(name, extension, pattern, (s) => s.setRd(value(s.rs1, s.rs2)));
const one = (name: string, pattern: string, value: Unary): Row =>
  row(name, "Zbb", pattern, (s) => s.setRd(value(s.rs1)));
/** The second operand is used more than once. */
const minmax = (name: string, funct3: string, first: (a: I64, b: I64) => I32): Row =>
  row(name, "Zbb", `0000101 rs2 rs1 ${funct3} rd 0110011`, (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    s.setRd(first(a, b).select<I64>(a, b));
  });
const shamt = (name: string, extension: string, pattern: string, value: Binary): Row =>
  row(name, extension, pattern, (s) => s.setRd(value(s.rs1, s.field(20, 6).extendU())));

const zeroExtend = (a: I64): I64 => a.and(0xffffffff);
const bit = (b: I64): I64 => I64.of(1).shl(b);

/** Each byte: all ones if any bit of it is set. */
const orCombine = fn("orc.b", [I64], I64, (_f, a) =>
  a.and(0x7f7f7f7f7f7f7f7fn).add(0x7f7f7f7f7f7f7f7fn).or(a).and(0x8080808080808080n).shrU(7).mul(0xff),
);

const reverseBytes = fn("rev8", [I64], I64, (f, a) => {
  a.set(a.and(0x00ff00ff00ff00ffn).shl(8).or(a.shrU(8).and(0x00ff00ff00ff00ffn)));
  a.set(a.and(0x0000ffff0000ffffn).shl(16).or(a.shrU(16).and(0x0000ffff0000ffffn)));
  f.return(a.rotl(32));
});

/** Low half of the carry-less product. */
const carrylessLow = fn("clmul", [I64, I64], I64, (f, a, b) => {
  const sum = f.let(I64.of(0));
  f.loop((again) => {
    f.if(b.eqz(), () => f.return(sum));
    sum.set(sum.xor(a.and(I64.of(0).sub(b.and(1)))));
    a.set(a.shl(1));
    b.set(b.shrU(1));
    f.br(again);
  });
});

/** High half of the carry-less product. */
const carrylessHigh = fn("clmulh", [I64, I64], I64, (f, a, b) => {
  const sum = f.let(I64.of(0));
  const i = f.let(I64.of(1));
  f.loop((again) => {
    f.if(i.eq(64), () => f.return(sum));
    sum.set(sum.xor(a.shrU(I64.of(64).sub(i)).and(I64.of(0).sub(b.shrU(i).and(1)))));
    i.set(i.add(1));
    f.br(again);
  });
});

export const bitmanipRows: readonly Row[] = [
  op("add.uw", "Zba", "0000100 rs2 rs1 000 rd 0111011", (a, b) => zeroExtend(a).add(b)),
  op("sh1add", "Zba", "0010000 rs2 rs1 010 rd 0110011", (a, b) => a.shl(1).add(b)),
  op("sh2add", "Zba", "0010000 rs2 rs1 100 rd 0110011", (a, b) => a.shl(2).add(b)),
  op("sh3add", "Zba", "0010000 rs2 rs1 110 rd 0110011", (a, b) => a.shl(3).add(b)),
  op("sh1add.uw", "Zba", "0010000 rs2 rs1 010 rd 0111011", (a, b) => zeroExtend(a).shl(1).add(b)),
  op("sh2add.uw", "Zba", "0010000 rs2 rs1 100 rd 0111011", (a, b) => zeroExtend(a).shl(2).add(b)),
  op("sh3add.uw", "Zba", "0010000 rs2 rs1 110 rd 0111011", (a, b) => zeroExtend(a).shl(3).add(b)),
  shamt("slli.uw", "Zba", "000010 shamt6 rs1 001 rd 0011011", (a, b) => zeroExtend(a).shl(b)),

  op("andn", "Zbb", "0100000 rs2 rs1 111 rd 0110011", (a, b) => a.and(b.not())),
  op("orn", "Zbb", "0100000 rs2 rs1 110 rd 0110011", (a, b) => a.or(b.not())),
  op("xnor", "Zbb", "0100000 rs2 rs1 100 rd 0110011", (a, b) => a.xor(b).not()),
  one("clz", "0110000 00000 rs1 001 rd 0010011", (a) => a.clz()),
  one("ctz", "0110000 00001 rs1 001 rd 0010011", (a) => a.ctz()),
  one("cpop", "0110000 00010 rs1 001 rd 0010011", (a) => a.popcnt()),
  one("sext.b", "0110000 00100 rs1 001 rd 0010011", (a) => a.extend8S()),
  one("sext.h", "0110000 00101 rs1 001 rd 0010011", (a) => a.extend16S()),
  one("zext.h", "0000100 00000 rs1 100 rd 0111011", (a) => a.and(0xffff)),
  one("clzw", "0110000 00000 rs1 001 rd 0011011", (a) => a.wrap().clz().extendU()),
  one("ctzw", "0110000 00001 rs1 001 rd 0011011", (a) => a.wrap().ctz().extendU()),
  one("cpopw", "0110000 00010 rs1 001 rd 0011011", (a) => a.wrap().popcnt().extendU()),
  one("orc.b", "001010000111 rs1 101 rd 0010011", (a) => orCombine.call(a)),
  one("rev8", "011010111000 rs1 101 rd 0010011", (a) => reverseBytes.call(a)),
  minmax("min", "100", (a, b) => a.ltS(b)),
  minmax("minu", "101", (a, b) => a.ltU(b)),
  minmax("max", "110", (a, b) => a.gtS(b)),
  minmax("maxu", "111", (a, b) => a.gtU(b)),
  op("rol", "Zbb", "0110000 rs2 rs1 001 rd 0110011", (a, b) => a.rotl(b)),
  op("ror", "Zbb", "0110000 rs2 rs1 101 rd 0110011", (a, b) => a.rotr(b)),
  shamt("rori", "Zbb", "011000 shamt6 rs1 101 rd 0010011", (a, b) => a.rotr(b)),
  op("rolw", "Zbb", "0110000 rs2 rs1 001 rd 0111011", (a, b) => a.wrap().rotl(b.wrap()).extendS()),
  op("rorw", "Zbb", "0110000 rs2 rs1 101 rd 0111011", (a, b) => a.wrap().rotr(b.wrap()).extendS()),
  row("roriw", "Zbb", "0110000 shamt5 rs1 101 rd 0011011", (s) =>
    s.setRd(s.rs1.wrap().rotr(s.field(20, 5)).extendS()),
  ),

  op("clmul", "Zbc", "0000101 rs2 rs1 001 rd 0110011", (a, b) => carrylessLow.call(a, b)),
  op("clmulh", "Zbc", "0000101 rs2 rs1 011 rd 0110011", (a, b) => carrylessHigh.call(a, b)),
  op("clmulr", "Zbc", "0000101 rs2 rs1 010 rd 0110011", (a, b) =>
    carrylessHigh.call(a, b).shl(1).or(carrylessLow.call(a, b).shrU(63)),
  ),

  op("bclr", "Zbs", "0100100 rs2 rs1 001 rd 0110011", (a, b) => a.and(bit(b).not())),
  op("bext", "Zbs", "0100100 rs2 rs1 101 rd 0110011", (a, b) => a.shrU(b).and(1)),
  op("binv", "Zbs", "0110100 rs2 rs1 001 rd 0110011", (a, b) => a.xor(bit(b))),
  op("bset", "Zbs", "0010100 rs2 rs1 001 rd 0110011", (a, b) => a.or(bit(b))),
  shamt("bclri", "Zbs", "010010 shamt6 rs1 001 rd 0010011", (a, b) => a.and(bit(b).not())),
  shamt("bexti", "Zbs", "010010 shamt6 rs1 101 rd 0010011", (a, b) => a.shrU(b).and(1)),
  shamt("binvi", "Zbs", "011010 shamt6 rs1 001 rd 0010011", (a, b) => a.xor(bit(b))),
  shamt("bseti", "Zbs", "001010 shamt6 rs1 001 rd 0010011", (a, b) => a.or(bit(b))),
];
