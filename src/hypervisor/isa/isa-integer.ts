// RV64I, M and Zicond (unprivileged specification, chapters 2, 4, 13 and "Zicond"): one row for each
// instruction. Environment calls and CSRs are in isa-system.ts.
import { I64 } from "../../wasm/expr.ts";
import type { I32 } from "../../wasm/expr.ts";
import { type LoadKind, type Row, row, type Semantics, type StoreSize } from "./instruction-semantics.ts";

const MIN64 = -(2n ** 63n);

type Binary = (a: I64, b: I64) => I64;

/** A register-register instruction whose result is a plain expression. */
const op = (name: string, pattern: string, value: Binary): Row =>
  row(name, "I", pattern, (s) => s.setRd(value(s.rs1, s.rs2)));
const opImm = (name: string, pattern: string, value: Binary): Row =>
  row(name, "I", pattern, (s) => s.setRd(value(s.rs1, s.imm)));
const shift = (name: string, pattern: string, value: Binary): Row =>
  row(name, "I", pattern, (s) => s.setRd(value(s.rs1, s.field(20, 6).extendU())));
const shift32 = (name: string, pattern: string, value: (a: I32, b: I32) => I32): Row =>
  row(name, "I", pattern, (s) => s.setRd(value(s.rs1.wrap(), s.field(20, 5)).extendS()));
const op32 = (name: string, pattern: string, value: (a: I32, b: I32) => I32): Row =>
  row(name, "I", pattern, (s) => s.setRd(value(s.rs1.wrap(), s.rs2.wrap()).extendS()));
const load = (name: string, funct3: string, kind: LoadKind): Row =>
  row(name, "I", `imm12 rs1 ${funct3} rd 0000011`, (s) => s.setRd(s.load(kind, s.rs1.add(s.imm))));
const store = (name: string, funct3: string, size: StoreSize): Row =>
  row(name, "I", `simm7 rs2 rs1 ${funct3} simm5 0100011`, (s) => s.store(size, s.rs1.add(s.imm), s.rs2));
const branch = (name: string, funct3: string, taken: (a: I64, b: I64) => I32): Row =>
  row(name, "I", `bimm7 rs2 rs1 ${funct3} bimm5 1100011`, (s) => s.branch(taken(s.rs1, s.rs2)));
const mul = (name: string, pattern: string, meaning: (s: Semantics) => void): Row =>
  row(name, "M", pattern, meaning);

export const integerRows: readonly Row[] = [
  row("lui", "I", "imm20 rd 0110111", (s) => s.setRd(s.imm)),
  row("auipc", "I", "imm20 rd 0010111", (s) => s.setRd(s.pc.add(s.imm))),
  row("jal", "I", "jimm20 rd 1101111", (s) => {
    s.setRd(s.nextPc);
    s.jumpImmediate();
  }),
  row("jalr", "I", "imm12 rs1 000 rd 1100111", (s) => {
    const target = s.f.let(s.rs1.add(s.imm).and(-2));
    s.setRd(s.nextPc);
    s.jump(target);
  }),
  branch("beq", "000", (a, b) => a.eq(b)),
  branch("bne", "001", (a, b) => a.ne(b)),
  branch("blt", "100", (a, b) => a.ltS(b)),
  branch("bge", "101", (a, b) => a.geS(b)),
  branch("bltu", "110", (a, b) => a.ltU(b)),
  branch("bgeu", "111", (a, b) => a.geU(b)),
  load("lb", "000", "8S"),
  load("lh", "001", "16S"),
  load("lw", "010", "32S"),
  load("ld", "011", "64"),
  load("lbu", "100", "8U"),
  load("lhu", "101", "16U"),
  load("lwu", "110", "32U"),
  store("sb", "000", 1),
  store("sh", "001", 2),
  store("sw", "010", 4),
  store("sd", "011", 8),

  opImm("addi", "imm12 rs1 000 rd 0010011", (a, b) => a.add(b)),
  opImm("slti", "imm12 rs1 010 rd 0010011", (a, b) => a.ltS(b).extendU()),
  opImm("sltiu", "imm12 rs1 011 rd 0010011", (a, b) => a.ltU(b).extendU()),
  opImm("xori", "imm12 rs1 100 rd 0010011", (a, b) => a.xor(b)),
  opImm("ori", "imm12 rs1 110 rd 0010011", (a, b) => a.or(b)),
  opImm("andi", "imm12 rs1 111 rd 0010011", (a, b) => a.and(b)),
  shift("slli", "000000 shamt6 rs1 001 rd 0010011", (a, b) => a.shl(b)),
  shift("srli", "000000 shamt6 rs1 101 rd 0010011", (a, b) => a.shrU(b)),
  shift("srai", "010000 shamt6 rs1 101 rd 0010011", (a, b) => a.shrS(b)),
  opImm("addiw", "imm12 rs1 000 rd 0011011", (a, b) => a.add(b).extend32S()),
  shift32("slliw", "0000000 shamt5 rs1 001 rd 0011011", (a, b) => a.shl(b)),
  shift32("srliw", "0000000 shamt5 rs1 101 rd 0011011", (a, b) => a.shrU(b)),
  shift32("sraiw", "0100000 shamt5 rs1 101 rd 0011011", (a, b) => a.shrS(b)),

  op("add", "0000000 rs2 rs1 000 rd 0110011", (a, b) => a.add(b)),
  op("sub", "0100000 rs2 rs1 000 rd 0110011", (a, b) => a.sub(b)),
  op("sll", "0000000 rs2 rs1 001 rd 0110011", (a, b) => a.shl(b)),
  op("slt", "0000000 rs2 rs1 010 rd 0110011", (a, b) => a.ltS(b).extendU()),
  op("sltu", "0000000 rs2 rs1 011 rd 0110011", (a, b) => a.ltU(b).extendU()),
  op("xor", "0000000 rs2 rs1 100 rd 0110011", (a, b) => a.xor(b)),
  op("srl", "0000000 rs2 rs1 101 rd 0110011", (a, b) => a.shrU(b)),
  op("sra", "0100000 rs2 rs1 101 rd 0110011", (a, b) => a.shrS(b)),
  op("or", "0000000 rs2 rs1 110 rd 0110011", (a, b) => a.or(b)),
  op("and", "0000000 rs2 rs1 111 rd 0110011", (a, b) => a.and(b)),
  op32("addw", "0000000 rs2 rs1 000 rd 0111011", (a, b) => a.add(b)),
  op32("subw", "0100000 rs2 rs1 000 rd 0111011", (a, b) => a.sub(b)),
  op32("sllw", "0000000 rs2 rs1 001 rd 0111011", (a, b) => a.shl(b)),
  op32("srlw", "0000000 rs2 rs1 101 rd 0111011", (a, b) => a.shrU(b)),
  op32("sraw", "0100000 rs2 rs1 101 rd 0111011", (a, b) => a.shrS(b)),

  // M. Division by zero yields all ones and the dividend; overflow yields the dividend and 0 (13.2).
  mul("mul", "0000001 rs2 rs1 000 rd 0110011", (s) => s.setRd(s.rs1.mul(s.rs2))),
  mul("mulh", "0000001 rs2 rs1 001 rd 0110011", (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    s.setRd(highProduct(s, a, b).sub(a.shrS(63).and(b)).sub(b.shrS(63).and(a)));
  }),
  mul("mulhsu", "0000001 rs2 rs1 010 rd 0110011", (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    s.setRd(highProduct(s, a, b).sub(a.shrS(63).and(b)));
  }),
  mul("mulhu", "0000001 rs2 rs1 011 rd 0110011", (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    s.setRd(highProduct(s, a, b));
  }),
  mul("div", "0000001 rs2 rs1 100 rd 0110011", (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    const overflow = b.eq(-1).and(a.eq(MIN64));
    s.setRd(b.eqz().choose(I64.of(-1), overflow.choose<I64>(a, a.divS(b))));
  }),
  mul("divu", "0000001 rs2 rs1 101 rd 0110011", (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    s.setRd(b.eqz().choose(I64.of(-1), a.divU(b)));
  }),
  // WebAssembly's rem_s yields 0 on overflow, as RISC-V does.
  mul("rem", "0000001 rs2 rs1 110 rd 0110011", (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    s.setRd(b.eqz().choose<I64>(a, a.remS(b)));
  }),
  mul("remu", "0000001 rs2 rs1 111 rd 0110011", (s) => {
    const a = s.f.let(s.rs1);
    const b = s.f.let(s.rs2);
    s.setRd(b.eqz().choose<I64>(a, a.remU(b)));
  }),
  mul("mulw", "0000001 rs2 rs1 000 rd 0111011", (s) => s.setRd(s.rs1.wrap().mul(s.rs2.wrap()).extendS())),
  // In 64 bits the quotient of two sign-extended words cannot overflow.
  mul("divw", "0000001 rs2 rs1 100 rd 0111011", (s) => {
    const b = s.f.let(s.rs2.extend32S());
    s.setRd(b.eqz().choose(I64.of(-1), s.rs1.extend32S().divS(b).extend32S()));
  }),
  mul("divuw", "0000001 rs2 rs1 101 rd 0111011", (s) => {
    const b = s.f.let(s.rs2.wrap());
    s.setRd(b.eqz().choose(I64.of(-1), s.rs1.wrap().divU(b).extendS()));
  }),
  mul("remw", "0000001 rs2 rs1 110 rd 0111011", (s) => {
    const a = s.f.let(s.rs1.extend32S());
    const b = s.f.let(s.rs2.extend32S());
    s.setRd(b.eqz().choose<I64>(a, a.remS(b)));
  }),
  mul("remuw", "0000001 rs2 rs1 111 rd 0111011", (s) => {
    const a = s.f.let(s.rs1.wrap());
    const b = s.f.let(s.rs2.wrap());
    s.setRd(b.eqz().choose<I32>(a, a.remU(b)).extendS());
  }),

  row("czero.eqz", "Zicond", "0000111 rs2 rs1 101 rd 0110011", (s) => {
    s.setRd(s.rs2.eqz().select<I64>(I64.of(0), s.rs1));
  }),
  row("czero.nez", "Zicond", "0000111 rs2 rs1 111 rd 0110011", (s) => {
    s.setRd(s.rs2.eqz().select<I64>(s.rs1, I64.of(0)));
  }),
];

/** High half of the unsigned 128-bit product, from four 32-bit products. */
function highProduct(s: Semantics, a: I64, b: I64): I64 {
  const { f } = s;
  const a0 = f.let(a.and(0xffffffff));
  const a1 = f.let(a.shrU(32));
  const b0 = f.let(b.and(0xffffffff));
  const b1 = f.let(b.shrU(32));
  const middle = f.let(a1.mul(b0).add(a0.mul(b0).shrU(32)));
  const low = f.let(a0.mul(b1).add(middle.and(0xffffffff)));
  return a1.mul(b1).add(middle.shrU(32)).add(low.shrU(32));
}
