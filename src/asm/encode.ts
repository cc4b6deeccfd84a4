// Encodings of RV64IMAFDC, Zicsr, Zifencei, Zba and Zbb's commonest, and the privileged instructions,
// as one table of rows: mnemonic, operand format, fixed bits (RISC-V unprivileged ISA, chapter
// "RV32/64G instruction set listings"). Compressed instructions are written by name (c.addi …), never chosen
// by the assembler. Left out: V, Q, H.

/**
 * Operand formats. d s t: integer rd rs1 rs2; D S T R: the same for floating point and rs3; i: signed
 * imm12; o: load address imm12(rs1); q: store address; a: (rs1); b: branch target; J: jump target; u: imm20;
 * h: 6-bit shift; w: 5-bit shift; c: CSR; z: 5-bit immediate; m: optional rounding mode; p: optional fence set.
 */
export interface EncodingRow {
  readonly operands: string;
  readonly match: number;
}

const rows = new Map<string, EncodingRow>();

function row(name: string, operands: string, match: number): void {
  rows.set(name, { operands, match: match >>> 0 });
}

/** Names in funct3 order from `first`; "-" skips one. */
function byFunct3(names: string, operands: string, opcode: number, high = 0): void {
  for (const [funct3, name] of names.split(" ").entries()) {
    if (name !== "-") row(name, operands, opcode | (funct3 << 12) | high);
  }
}

const OP = 0x33;
const OP_32 = 0x3b;
const OP_IMM = 0x13;
const OP_IMM_32 = 0x1b;
const OP_FP = 0x53;
const SYSTEM = 0x73;
const funct7 = (bits: number): number => bits << 25;

row("lui", "du", 0x37);
row("auipc", "du", 0x17);
row("jal", "dJ", 0x6f);
row("jalr", "do", 0x67);
byFunct3("beq bne - - blt bge bltu bgeu", "stb", 0x63);
byFunct3("lb lh lw ld lbu lhu lwu", "do", 0x03);
byFunct3("sb sh sw sd", "tq", 0x23);
byFunct3("addi - slti sltiu xori - ori andi", "dsi", OP_IMM);
row("slli", "dsh", OP_IMM | (1 << 12));
row("srli", "dsh", OP_IMM | (5 << 12));
row("srai", "dsh", OP_IMM | (5 << 12) | funct7(0x20));
row("addiw", "dsi", OP_IMM_32);
row("slliw", "dsw", OP_IMM_32 | (1 << 12));
row("srliw", "dsw", OP_IMM_32 | (5 << 12));
row("sraiw", "dsw", OP_IMM_32 | (5 << 12) | funct7(0x20));
byFunct3("add sll slt sltu xor srl or and", "dst", OP);
byFunct3("sub - - - xnor sra orn andn", "dst", OP, funct7(0x20));
byFunct3("addw sllw - - - srlw", "dst", OP_32);
byFunct3("subw - - - - sraw", "dst", OP_32, funct7(0x20));
byFunct3("mul mulh mulhsu mulhu div divu rem remu", "dst", OP, funct7(1));
byFunct3("mulw - - - divw divuw remw remuw", "dst", OP_32, funct7(1));
byFunct3("- - sh1add - sh2add - sh3add", "dst", OP, funct7(0x10));
byFunct3("- - - - min minu max maxu", "dst", OP, funct7(5));
byFunct3("- rol - - - ror", "dst", OP, funct7(0x30));
row("add.uw", "dst", OP_32 | funct7(4));
row("rori", "dsh", OP_IMM | (5 << 12) | funct7(0x30));
row("rev8", "ds", OP_IMM | (5 << 12) | (0x6b8 << 20));
for (const [n, name] of ["clz", "ctz", "cpop"].entries())
  row(name, "ds", OP_IMM | (1 << 12) | ((0x600 + n) << 20));

row("fence", "p", 0x0f);
row("fence.i", "", 0x100f);
row("fence.tso", "", 0x8330000f);
row("ecall", "", SYSTEM);
row("ebreak", "", 0x00100073);
row("sret", "", 0x10200073);
row("mret", "", 0x30200073);
row("wfi", "", 0x10500073);
row("sfence.vma", "st", SYSTEM | funct7(9));
byFunct3("- csrrw csrrs csrrc", "dcs", SYSTEM);
byFunct3("- - - - - csrrwi csrrsi csrrci", "dcz", SYSTEM);

const AMO =
  "amoadd amoswap lr sc amoxor - - - amoor - - - amoand - - - amomin - - - amomax - - - amominu - - - amomaxu";
for (const [funct5, name] of AMO.split(" ").entries()) {
  if (name === "-") continue;
  for (const [size, funct3] of [
    ["w", 2],
    ["d", 3],
  ] as const) {
    for (const [order, bits] of [
      ["", 0],
      [".rl", 1],
      [".aq", 2],
      [".aqrl", 3],
    ] as const) {
      const match = 0x2f | (funct3 << 12) | (bits << 25) | (funct5 << 27);
      row(`${name}.${size}${order}`, name === "lr" ? "da" : "dta", match);
    }
  }
}

row("flw", "Do", 0x2007);
row("fld", "Do", 0x3007);
row("fsw", "Tq", 0x2027);
row("fsd", "Tq", 0x3027);
for (const [fmt, s] of ["s", "d"].entries()) {
  for (const [n, name] of ["fmadd", "fmsub", "fnmsub", "fnmadd"].entries()) {
    row(`${name}.${s}`, "DSTRm", 0x43 | (n << 2) | (fmt << 25));
  }
  for (const [n, name] of ["fadd", "fsub", "fmul", "fdiv"].entries()) {
    row(`${name}.${s}`, "DSTm", OP_FP | funct7(n * 4 + fmt));
  }
  row(`fsqrt.${s}`, "DSm", OP_FP | funct7(0x2c + fmt));
  for (const [n, name] of ["fsgnj", "fsgnjn", "fsgnjx"].entries()) {
    row(`${name}.${s}`, "DST", OP_FP | funct7(0x10 + fmt) | (n << 12));
  }
  row(`fmin.${s}`, "DST", OP_FP | funct7(0x14 + fmt));
  row(`fmax.${s}`, "DST", OP_FP | funct7(0x14 + fmt) | (1 << 12));
  for (const [n, name] of ["fle", "flt", "feq"].entries()) {
    row(`${name}.${s}`, "dST", OP_FP | funct7(0x50 + fmt) | (n << 12));
  }
  row(`fclass.${s}`, "dS", OP_FP | funct7(0x70 + fmt) | (1 << 12));
  for (const [n, int] of ["w", "wu", "l", "lu"].entries()) {
    row(`fcvt.${int}.${s}`, "dSm", OP_FP | funct7(0x60 + fmt) | (n << 20));
    const exact = s === "d" && n < 2;
    row(`fcvt.${s}.${int}`, exact ? "Ds" : "Dsm", OP_FP | funct7(0x68 + fmt) | (n << 20));
  }
  const x = s === "s" ? "w" : "d";
  row(`fmv.x.${x}`, "dS", OP_FP | funct7(0x70 + fmt));
  row(`fmv.${x}.x`, "Ds", OP_FP | funct7(0x78 + fmt));
}
row("fcvt.s.d", "DSm", OP_FP | funct7(0x20) | (1 << 20));
row("fcvt.d.s", "DS", OP_FP | funct7(0x21));

/** Undefined for a mnemonic that is no 32-bit instruction. */
export function encodingOf(mnemonic: string): EncodingRow | undefined {
  return rows.get(mnemonic);
}

const INTEGER_NAMES =
  "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";
const FLOAT_NAMES =
  "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11";

function registerMap(prefix: string, names: string): ReadonlyMap<string, number> {
  const map = new Map<string, number>();
  for (const [n, name] of names.split(" ").entries()) map.set(name, n).set(`${prefix}${n}`, n);
  return map;
}

export const INTEGER_REGISTERS: ReadonlyMap<string, number> = new Map(registerMap("x", INTEGER_NAMES)).set(
  "fp",
  8,
);
export const FLOAT_REGISTERS: ReadonlyMap<string, number> = registerMap("f", FLOAT_NAMES);

export const ROUNDING_MODES: ReadonlyMap<string, number> = new Map([
  ["rne", 0],
  ["rtz", 1],
  ["rdn", 2],
  ["rup", 3],
  ["rmm", 4],
  ["dyn", 7],
]);

/** CSR numbers by name (privileged ISA, table of CSRs; Sstc's stimecmp). Any number may be used as well. */
export const CSRS: ReadonlyMap<string, number> = new Map([
  ["fflags", 0x001],
  ["frm", 0x002],
  ["fcsr", 0x003],
  ["cycle", 0xc00],
  ["time", 0xc01],
  ["instret", 0xc02],
  ["sstatus", 0x100],
  ["sie", 0x104],
  ["stvec", 0x105],
  ["scounteren", 0x106],
  ["senvcfg", 0x10a],
  ["sscratch", 0x140],
  ["sepc", 0x141],
  ["scause", 0x142],
  ["stval", 0x143],
  ["sip", 0x144],
  ["stimecmp", 0x14d],
  ["satp", 0x180],
  ["mstatus", 0x300],
  ["misa", 0x301],
  ["medeleg", 0x302],
  ["mideleg", 0x303],
  ["mie", 0x304],
  ["mtvec", 0x305],
  ["mcounteren", 0x306],
  ["menvcfg", 0x30a],
  ["mscratch", 0x340],
  ["mepc", 0x341],
  ["mcause", 0x342],
  ["mtval", 0x343],
  ["mip", 0x344],
  ["pmpcfg0", 0x3a0],
  ["pmpaddr0", 0x3b0],
  ["mvendorid", 0xf11],
  ["marchid", 0xf12],
  ["mimpid", 0xf13],
  ["mhartid", 0xf14],
]);
