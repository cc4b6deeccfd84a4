// Encodes one instruction. The engine's instruction table gives the encodings; this file has operand syntax,
// range checks, pseudo-instructions, and the compressed instructions that a source names (the assembler never
// selects them). Syntax and pseudo-instructions as in the RISC-V assembly manual.
import { encode, type FieldName, type Operands } from "../hypervisor/isa/instruction-encoding.ts";
import { rows } from "../hypervisor/isa/isa.ts";
import type { Row } from "../hypervisor/isa/instruction-semantics.ts";
import { CSR_NUMBERS } from "../riscv/registers.ts";
import { FLOAT_REGISTERS, INTEGER_REGISTERS, ROUNDING_MODES } from "./names.ts";

/** Expressions in operands are evaluated at address `pc`. */
export interface OperandContext {
  readonly pc: bigint;
  value(expression: string): bigint;
}

/** Emits one 16- or 32-bit unit. */
export type Emit = (unit: number, bytes: 2 | 4) => void;

function register(text: string | undefined, map: ReadonlyMap<string, number>): number {
  const n = map.get(text ?? "");
  if (n === undefined) throw new Error(`expected a register, found '${text ?? ""}'`);
  return n;
}
const x = (text: string | undefined): number => register(text, INTEGER_REGISTERS);
const f = (text: string | undefined): number => register(text, FLOAT_REGISTERS);

/** Checks low ≤ value ≤ high and, for targets, alignment to 2. */
function ranged(value: bigint, low: number, high: number, what: string): number {
  if (value < BigInt(low) || value > BigInt(high)) {
    throw new Error(`${what} ${value} is outside ${low}..${high}`);
  }
  return Number(value);
}

function split(text: string | undefined): { offset: string; base: string } {
  const match = /^(.*)\(\s*([\w]+)\s*\)$/.exec(text ?? "");
  if (!match) throw new Error(`expected offset(register), found '${text ?? ""}'`);
  return { offset: (match[1] as string).trim() || "0", base: match[2] as string };
}

function fenceSet(text: string): number {
  let bits = 0;
  for (const c of text) {
    const at = "iorw".indexOf(c);
    if (at < 0) throw new Error(`expected a set of i, o, r, w, found '${text}'`);
    bits |= 8 >> at;
  }
  return bits;
}

type Field = keyof Operands;

const OPCODE_LOADS = [0x03, 0x07, 0x67];
/** The operand order of instructions without special syntax, as in the manual. */
const PLAIN_ORDER: readonly Field[] = [
  "rd",
  "frd",
  "rs1",
  "frs1",
  "rs2",
  "frs2",
  "frs3",
  "imm12",
  "imm20",
  "shamt5",
  "shamt6",
  "uimm5",
  "rm",
];

/** The operand syntax of an instruction: field names in order; (rs1) and imm(rs1) are addresses. */
function syntaxOf(row: Row): readonly (Field | "(rs1)" | "imm(rs1)")[] {
  const present = (...fields: Field[]): Field[] =>
    fields.filter((field) => row.fields.has(field as FieldName));
  const { fields } = row;
  if (row.name === "fence") return ["pred", "succ"];
  if (row.name === "fence.i") return [];
  if (fields.has("csr")) return ["rd", "csr", ...present("rs1", "uimm5")];
  if (fields.has("aq")) return ["rd", ...present("rs2"), "(rs1)"];
  if (row.name.startsWith("cbo.")) return ["(rs1)"];
  if (fields.has("simm5")) return [...present("rs2", "frs2"), "imm(rs1)"];
  if (fields.has("bimm5")) return ["rs1", "rs2", "bimm5"];
  if (fields.has("jimm20")) return ["rd", "jimm20"];
  if (OPCODE_LOADS.includes(row.match & 0x7f)) return [...present("rd", "frd"), "imm(rs1)"];
  return present(...PLAIN_ORDER);
}

const rowsByName = new Map(rows.map((row) => [row.name, row]));
/** Conversions that are always exact: the rounding mode is 0, as GNU as encodes it. */
const EXACT = ["fcvt.d.w", "fcvt.d.wu", "fcvt.d.s", "fcvt.s.h", "fcvt.d.h"];

function roundingMode(text: string | undefined, row: Row): number {
  const mode = text === undefined ? (EXACT.includes(row.name) ? 0 : 7) : ROUNDING_MODES.get(text);
  if (mode === undefined) throw new Error(`expected a rounding mode, found '${text}'`);
  return mode;
}

/** Encodes a 32-bit instruction with the engine's instruction table. */
function encodeRow(name: string, operands: readonly string[], context: OperandContext): number {
  const ordered = /^((?:amo|lr\.|sc\.).*?)\.(aq)?(rl)?$/.exec(name);
  const row = rowsByName.get(name) ?? rowsByName.get(ordered?.[1] ?? "");
  if (!row) throw new Error(`unknown instruction '${name}'`);
  const values: Operands = row.fields.has("aq") ? { aq: ordered?.[2] ? 1 : 0, rl: ordered?.[3] ? 1 : 0 } : {};
  const syntax = syntaxOf(row);
  for (const [n, kind] of syntax.entries()) {
    const text = operands[n];
    switch (kind) {
      case "rd":
      case "rs1":
      case "rs2":
        values[kind] = x(text);
        break;
      case "frd":
      case "frs1":
      case "frs2":
      case "frs3":
        values[kind] = f(text);
        break;
      case "(rs1)":
      case "imm(rs1)": {
        const { offset, base } = split(text);
        values.rs1 = x(base);
        const [low, high] = kind === "(rs1)" ? [0, 0] : [-2048, 2047];
        const value = immediate(offset, low, high, context);
        if (kind === "imm(rs1)") values.imm = value;
        break;
      }
      case "imm12":
        values.imm = immediate(text, -2048, 2047, context);
        break;
      case "imm20":
        values.imm = immediate(text, 0, 0xfffff, context) << 12;
        break;
      case "bimm5":
        values.imm = target(text, 12, context);
        break;
      case "jimm20":
        values.imm = target(text, 20, context);
        break;
      case "shamt6":
        values.shamt6 = immediate(text, 0, 63, context);
        break;
      case "shamt5":
      case "uimm5":
        values[kind] = immediate(text, 0, 31, context);
        break;
      case "csr":
        values.csr = CSR_NUMBERS.get(text ?? "") ?? immediate(text, 0, 0xfff, context);
        break;
      case "rm":
        values.rm = roundingMode(text, row);
        break;
      case "pred":
      case "succ":
        values[kind] = fenceSet(text ?? (operands.length === 0 ? "iorw" : ""));
        break;
    }
  }
  if (operands.length > syntax.length) throw new Error(`too many operands for ${name}`);
  return encode(row, values);
}

function immediate(text: string | undefined, low: number, high: number, context: OperandContext): number {
  if (text === undefined) throw new Error("missing operand");
  return ranged(context.value(text), low, high, "immediate");
}

/** The byte offset of a pc-relative target, in `bits`+1 signed bits. */
function target(text: string | undefined, bits: number, context: OperandContext): number {
  if (text === undefined) throw new Error("missing target");
  const offset = context.value(text) - context.pc;
  if (offset & 1n) throw new Error(`target '${text}' is odd`);
  return ranged(offset, -(2 ** bits), 2 ** bits - 2, "distance to target");
}

/** Pseudo-instructions that are one instruction with other operands: $0 $1 $2 are the operands. */
const ALIASES: Readonly<Record<string, string>> = {
  nop: "addi x0,x0,0",
  mv: "addi $0,$1,0",
  not: "xori $0,$1,-1",
  neg: "sub $0,x0,$1",
  negw: "subw $0,x0,$1",
  "sext.w": "addiw $0,$1,0",
  "zext.b": "andi $0,$1,255",
  seqz: "sltiu $0,$1,1",
  snez: "sltu $0,x0,$1",
  sltz: "slt $0,$1,x0",
  sgtz: "slt $0,x0,$1",
  sgt: "slt $0,$2,$1",
  sgtu: "sltu $0,$2,$1",
  beqz: "beq $0,x0,$1",
  bnez: "bne $0,x0,$1",
  blez: "bge x0,$0,$1",
  bgez: "bge $0,x0,$1",
  bltz: "blt $0,x0,$1",
  bgtz: "blt x0,$0,$1",
  bgt: "blt $1,$0,$2",
  ble: "bge $1,$0,$2",
  bgtu: "bltu $1,$0,$2",
  bleu: "bgeu $1,$0,$2",
  j: "jal x0,$0",
  jr: "jalr x0,0($0)",
  ret: "jalr x0,0(ra)",
  csrr: "csrrs $0,$1,x0",
  csrw: "csrrw x0,$0,$1",
  csrs: "csrrs x0,$0,$1",
  csrc: "csrrc x0,$0,$1",
  csrwi: "csrrwi x0,$0,$1",
  csrsi: "csrrsi x0,$0,$1",
  csrci: "csrrci x0,$0,$1",
  rdtime: "csrrs $0,time,x0",
  rdcycle: "csrrs $0,cycle,x0",
  rdinstret: "csrrs $0,instret,x0",
  "fmv.s": "fsgnj.s $0,$1,$1",
  "fmv.d": "fsgnj.d $0,$1,$1",
  "fneg.d": "fsgnjn.d $0,$1,$1",
  "fabs.d": "fsgnjx.d $0,$1,$1",
  frcsr: "csrrs $0,fcsr,x0",
  fscsr: "csrrw x0,fcsr,$0",
  unimp: "csrrw x0,cycle,x0",
};

/**
 * The sequence of lui, addi(w), slli, addi … that loads `value` into `rd`: the high part first, then shifts
 * and additions of 12 bits. GNU as makes the same choice, so that its output can be compared byte for byte.
 */
function loadConstant(rd: number, value: bigint, emit: Emit, nested = false): void {
  const low = BigInt.asIntN(12, value);
  if (BigInt.asIntN(32, value) === value) {
    const high = Number(((value - low) >> 12n) & 0xfffffn);
    if (high !== 0) emit((0x37 | (rd << 7) | (high << 12)) >>> 0, 4);
    if (low !== 0n || high === 0) {
      const add = (high === 0 && !nested ? 0x13 : 0x1b) | (high === 0 ? 0 : rd << 15);
      emit((add | (rd << 7) | (Number(low) << 20)) >>> 0, 4);
    }
    return;
  }
  let high = BigInt.asIntN(64, value - low) >> 12n;
  let shift = 12;
  while ((high & 1n) === 0n) {
    high >>= 1n;
    shift++;
  }
  loadConstant(rd, high, emit, true);
  emit((0x1013 | (rd << 7) | (rd << 15) | (shift << 20)) >>> 0, 4);
  if (low !== 0n) emit((0x13 | (rd << 7) | (rd << 15) | (Number(low) << 20)) >>> 0, 4);
}

/** auipc rd' and an I-type instruction with the low part: la, call, tail. */
function pcRelative(
  auipcRd: number,
  low: number,
  expression: string,
  context: OperandContext,
  emit: Emit,
): void {
  const offset = context.value(expression) - context.pc;
  const hi = (offset + 0x800n) >> 12n;
  ranged(hi, -0x80000, 0x7ffff, "distance to target in pages");
  emit((0x17 | (auipcRd << 7) | (Number(hi & 0xfffffn) << 12)) >>> 0, 4);
  emit((low | (auipcRd << 15) | (Number(BigInt.asIntN(12, offset)) << 20)) >>> 0, 4);
}

const short = (text: string | undefined): number => {
  const n = x(text) - 8;
  if (n < 0 || n > 7) throw new Error(`expected one of x8..x15, found '${text}'`);
  return n;
};

/** Encodes a compressed instruction by name (RVC, unprivileged ISA chapter 16). Undefined for other names. */
function encodeCompressed(name: string, o: readonly string[], context: OperandContext): number | undefined {
  const imm6 = (text: string | undefined, low = -32, high = 31): number => {
    const v = immediate(text, low, high, context);
    return (((v >> 5) & 1) << 12) | ((v & 31) << 2);
  };
  const scaled = (size: 4 | 8): number => {
    const { offset, base } = split(o[1]);
    const v = immediate(offset, 0, size * 31, context);
    if (v % size) throw new Error(`offset ${v} is no multiple of ${size}`);
    const top = size === 8 ? ((v >> 6) & 3) << 5 : (((v >> 2) & 1) << 6) | (((v >> 6) & 1) << 5);
    return (((v >> 3) & 7) << 10) | top | (short(base) << 7) | (short(o[0]) << 2);
  };
  switch (name) {
    case "c.nop":
      return 0x0001;
    case "c.addi":
      return 0x0001 | (x(o[0]) << 7) | imm6(o[1]);
    case "c.addiw":
      return 0x2001 | (x(o[0]) << 7) | imm6(o[1]);
    case "c.li":
      return 0x4001 | (x(o[0]) << 7) | imm6(o[1]);
    case "c.slli":
      return 0x0002 | (x(o[0]) << 7) | imm6(o[1], 1, 63);
    case "c.srli":
      return 0x8001 | (short(o[0]) << 7) | imm6(o[1], 1, 63);
    case "c.srai":
      return 0x8401 | (short(o[0]) << 7) | imm6(o[1], 1, 63);
    case "c.andi":
      return 0x8801 | (short(o[0]) << 7) | imm6(o[1]);
    case "c.sub":
      return 0x8c01 | (short(o[0]) << 7) | (short(o[1]) << 2);
    case "c.xor":
      return 0x8c21 | (short(o[0]) << 7) | (short(o[1]) << 2);
    case "c.or":
      return 0x8c41 | (short(o[0]) << 7) | (short(o[1]) << 2);
    case "c.and":
      return 0x8c61 | (short(o[0]) << 7) | (short(o[1]) << 2);
    case "c.subw":
      return 0x9c01 | (short(o[0]) << 7) | (short(o[1]) << 2);
    case "c.addw":
      return 0x9c21 | (short(o[0]) << 7) | (short(o[1]) << 2);
    case "c.mv":
      return 0x8002 | (x(o[0]) << 7) | (x(o[1]) << 2);
    case "c.add":
      return 0x9002 | (x(o[0]) << 7) | (x(o[1]) << 2);
    case "c.jr":
      return 0x8002 | (x(o[0]) << 7);
    case "c.jalr":
      return 0x9002 | (x(o[0]) << 7);
    case "c.ebreak":
      return 0x9002;
    case "c.lw":
      return 0x4000 | scaled(4);
    case "c.ld":
      return 0x6000 | scaled(8);
    case "c.sw":
      return 0xc000 | scaled(4);
    case "c.sd":
      return 0xe000 | scaled(8);
    case "c.j": {
      const v = target(o[0], 11, context);
      const part = (from: number, width: number, to: number): number =>
        ((v >> from) & ((1 << width) - 1)) << to;
      return (
        0xa001 |
        part(11, 1, 12) |
        part(4, 1, 11) |
        part(8, 2, 9) |
        part(10, 1, 8) |
        part(6, 1, 7) |
        part(7, 1, 6) |
        part(1, 3, 3) |
        part(5, 1, 2)
      );
    }
    case "c.beqz":
    case "c.bnez": {
      const v = target(o[1], 8, context);
      const part = (from: number, width: number, to: number): number =>
        ((v >> from) & ((1 << width) - 1)) << to;
      return (
        (name === "c.beqz" ? 0xc001 : 0xe001) |
        (short(o[0]) << 7) |
        part(8, 1, 12) |
        part(3, 2, 10) |
        part(6, 2, 5) |
        part(1, 2, 3) |
        part(5, 1, 2)
      );
    }
  }
  return undefined;
}

/** Assembles an instruction or pseudo-instruction. Throws Error (without a place) on a mistake. */
export function assembleInstruction(
  name: string,
  operands: readonly string[],
  context: OperandContext,
  emit: Emit,
): void {
  const alias = ALIASES[name];
  if (alias !== undefined) {
    const [real, rest] = alias.split(" ", 2) as [string, string];
    if (
      rest.includes(`$${operands.length}`) ||
      (operands[0] !== undefined && !rest.includes(`$${operands.length - 1}`))
    ) {
      throw new Error(`wrong number of operands for ${name}`);
    }
    const mapped = rest.replace(/\$(\d)/g, (_, n: string) => operands[Number(n)] ?? "").split(",");
    return emit(encodeRow(real, mapped, context), 4);
  }
  switch (name) {
    case "li":
      return loadConstant(x(operands[0]), context.value(operands[1] ?? ""), emit);
    case "la":
    case "lla":
      return pcRelative(x(operands[0]), 0x13 | (x(operands[0]) << 7), operands[1] ?? "", context, emit);
    case "call":
      return pcRelative(1, 0x67 | (1 << 7), operands[0] ?? "", context, emit);
    case "tail":
      return pcRelative(6, 0x67, operands[0] ?? "", context, emit);
    case "jal":
      if (operands.length === 1) return emit(encodeRow("jal", ["ra", ...operands], context), 4);
      break;
    case "jalr":
      if (operands.length === 1) return emit(encodeRow("jalr", ["ra", `0(${operands[0]})`], context), 4);
      break;
    case "sfence.vma":
      return emit(encodeRow(name, [operands[0] ?? "x0", operands[1] ?? "x0"], context), 4);
  }
  const compressed = name.startsWith("c.") ? encodeCompressed(name, operands, context) : undefined;
  if (compressed !== undefined) return emit(compressed, 2);
  emit(encodeRow(name, operands, context), 4);
}
