// Results of integer, multiply and bit-manipulation instructions, against BigInt definitions written from the
// specification's text, on random and extreme operands. Every row of those extensions must have one.
import { expect, it } from "vitest";
import { asm, HartHarness } from "../../../test/support/hart-harness.ts";
import type { Operands } from "./instruction-encoding.ts";
import { rows } from "./isa.ts";
import { seed } from "../../../test/support/seed.ts";
import { Random } from "../../../test/support/random.ts";

const numbers = new Random(seed);
const random64 = (): bigint => numbers.u64();

const U = (v: bigint): bigint => BigInt.asUintN(64, v);
const S = (v: bigint): bigint => BigInt.asIntN(64, v);
const S32 = (v: bigint): bigint => BigInt.asIntN(32, v);
const U32 = (v: bigint): bigint => BigInt.asUintN(32, v);
const low5 = (v: bigint): bigint => v & 31n;
const low6 = (v: bigint): bigint => v & 63n;
const flag = (b: boolean): bigint => (b ? 1n : 0n);
const MIN64 = -(1n << 63n);

function bits(v: bigint, width: number): number[] {
  return Array.from({ length: width }, (_, i) => Number((v >> BigInt(i)) & 1n));
}
const leadingZeros = (v: bigint, width: number): bigint => {
  const top = bits(v, width).lastIndexOf(1);
  return BigInt(width - 1 - top);
};
const trailingZeros = (v: bigint, width: number): bigint => {
  const low = bits(v, width).indexOf(1);
  return BigInt(low < 0 ? width : low);
};
const ones = (v: bigint, width: number): bigint => BigInt(bits(v, width).reduce((a, b) => a + b, 0));
const rotr = (v: bigint, by: bigint, width: bigint): bigint =>
  BigInt.asUintN(Number(width), (v >> by) | (v << (width - by)));
function carryless(a: bigint, b: bigint): bigint {
  let sum = 0n;
  for (let i = 0n; i < 64n; i++) if ((b >> i) & 1n) sum ^= a << i;
  return sum;
}
const bytesOf = (v: bigint): bigint[] => Array.from({ length: 8 }, (_, i) => (v >> BigInt(8 * i)) & 255n);
const fromBytes = (b: bigint[]): bigint => b.reduce((sum, byte, i) => sum | (byte << BigInt(8 * i)), 0n);
function divide(a: bigint, b: bigint, min: bigint): bigint {
  if (b === 0n) return -1n;
  return a === min && b === -1n ? a : a / b;
}
const remainder = (a: bigint, b: bigint): bigint => (b === 0n ? a : a % b);

type Reference = (a: bigint, b: bigint) => bigint;

/**
 * Operands and results are unsigned 64-bit; `b` is rs2, the immediate (sign-extended), or the shift amount.
 */
const reference: Record<string, Reference> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  sll: (a, b) => a << low6(b),
  slt: (a, b) => flag(S(a) < S(b)),
  sltu: (a, b) => flag(a < b),
  xor: (a, b) => a ^ b,
  srl: (a, b) => a >> low6(b),
  sra: (a, b) => S(a) >> low6(b),
  or: (a, b) => a | b,
  and: (a, b) => a & b,
  addw: (a, b) => S32(a + b),
  subw: (a, b) => S32(a - b),
  sllw: (a, b) => S32(a << low5(b)),
  srlw: (a, b) => S32(U32(a) >> low5(b)),
  sraw: (a, b) => S32(a) >> low5(b),
  addi: (a, b) => a + b,
  slti: (a, b) => flag(S(a) < S(b)),
  sltiu: (a, b) => flag(a < b),
  xori: (a, b) => a ^ b,
  ori: (a, b) => a | b,
  andi: (a, b) => a & b,
  slli: (a, b) => a << b,
  srli: (a, b) => a >> b,
  srai: (a, b) => S(a) >> b,
  addiw: (a, b) => S32(a + b),
  slliw: (a, b) => S32(a << b),
  srliw: (a, b) => S32(U32(a) >> b),
  sraiw: (a, b) => S32(a) >> b,
  mul: (a, b) => a * b,
  mulh: (a, b) => (S(a) * S(b)) >> 64n,
  mulhsu: (a, b) => (S(a) * b) >> 64n,
  mulhu: (a, b) => (a * b) >> 64n,
  div: (a, b) => divide(S(a), S(b), MIN64),
  divu: (a, b) => divide(a, b, MIN64),
  rem: (a, b) => remainder(S(a), S(b)),
  remu: (a, b) => remainder(a, b),
  mulw: (a, b) => S32(a * b),
  divw: (a, b) => S32(divide(S32(a), S32(b), -(1n << 31n))),
  divuw: (a, b) => S32(divide(U32(a), U32(b), MIN64)),
  remw: (a, b) => S32(remainder(S32(a), S32(b))),
  remuw: (a, b) => S32(remainder(U32(a), U32(b))),
  "czero.eqz": (a, b) => (b === 0n ? 0n : a),
  "czero.nez": (a, b) => (b === 0n ? a : 0n),
  "add.uw": (a, b) => U32(a) + b,
  sh1add: (a, b) => (a << 1n) + b,
  sh2add: (a, b) => (a << 2n) + b,
  sh3add: (a, b) => (a << 3n) + b,
  "sh1add.uw": (a, b) => (U32(a) << 1n) + b,
  "sh2add.uw": (a, b) => (U32(a) << 2n) + b,
  "sh3add.uw": (a, b) => (U32(a) << 3n) + b,
  "slli.uw": (a, b) => U32(a) << b,
  andn: (a, b) => a & ~b,
  orn: (a, b) => a | ~b,
  xnor: (a, b) => ~(a ^ b),
  clz: (a) => leadingZeros(a, 64),
  ctz: (a) => trailingZeros(a, 64),
  cpop: (a) => ones(a, 64),
  clzw: (a) => leadingZeros(a, 32),
  ctzw: (a) => trailingZeros(a, 32),
  cpopw: (a) => ones(a, 32),
  "sext.b": (a) => BigInt.asIntN(8, a),
  "sext.h": (a) => BigInt.asIntN(16, a),
  "zext.h": (a) => a & 0xffffn,
  "orc.b": (a) => fromBytes(bytesOf(a).map((b) => (b === 0n ? 0n : 255n))),
  rev8: (a) => fromBytes(bytesOf(a).toReversed()),
  min: (a, b) => (S(a) < S(b) ? a : b),
  minu: (a, b) => (a < b ? a : b),
  max: (a, b) => (S(a) > S(b) ? a : b),
  maxu: (a, b) => (a > b ? a : b),
  rol: (a, b) => rotr(a, (64n - low6(b)) & 63n, 64n),
  ror: (a, b) => rotr(a, low6(b), 64n),
  rori: (a, b) => rotr(a, b, 64n),
  rolw: (a, b) => S32(rotr(U32(a), (32n - low5(b)) & 31n, 32n)),
  rorw: (a, b) => S32(rotr(U32(a), low5(b), 32n)),
  roriw: (a, b) => S32(rotr(U32(a), b, 32n)),
  clmul: (a, b) => carryless(a, b),
  clmulh: (a, b) => carryless(a, b) >> 64n,
  clmulr: (a, b) => carryless(a, b) >> 63n,
  bclr: (a, b) => a & ~(1n << low6(b)),
  bext: (a, b) => (a >> low6(b)) & 1n,
  binv: (a, b) => a ^ (1n << low6(b)),
  bset: (a, b) => a | (1n << low6(b)),
  bclri: (a, b) => a & ~(1n << b),
  bexti: (a, b) => (a >> b) & 1n,
  binvi: (a, b) => a ^ (1n << b),
  bseti: (a, b) => a | (1n << b),
};

const extremes = [
  0n,
  1n,
  2n,
  63n,
  64n,
  (1n << 31n) - 1n,
  1n << 31n,
  (1n << 32n) - 1n,
  1n << 32n,
  U(MIN64),
  U(-1n),
  U(-2n),
];
const operand = (): bigint =>
  random64() % 3n === 0n ? (extremes[Number(random64() % BigInt(extremes.length))] as bigint) : random64();

const NOT_PURE = new Set(
  "lui auipc jal jalr beq bne blt bge bltu bgeu lb lh lw ld lbu lhu lwu sb sh sw sd ecall ebreak fence".split(
    " ",
  ),
);
const pure = rows.filter((row) => /^(I|M|Zicond|Zb.*)$/.test(row.extension) && !NOT_PURE.has(row.name));

it("has a reference for every row that only computes", () => {
  expect(pure.map((row) => row.name).sort()).toEqual(Object.keys(reference).sort());
});

it.each(pure.map((row) => [row.name, row] as const))("%s", (name, row) => {
  const harness = new HartHarness();
  for (let n = 0; n < 200; n++) {
    const a = operand();
    const b = operand();
    const operands: Operands = { rd: 7, rs1: 5 };
    let second = b;
    if (row.fields.has("rs2")) operands.rs2 = 6;
    else if (row.immediate === "I") second = U(BigInt((operands.imm = Number(BigInt.asIntN(12, b)))));
    else if (row.fields.has("shamt6")) second = BigInt((operands.shamt6 = Number(b & 63n)));
    else if (row.fields.has("shamt5")) second = BigInt((operands.shamt5 = Number(b & 31n)));
    harness.setX(5, a);
    harness.setX(6, b);
    harness.execute([asm(name, operands)]);
    const expected = U((reference[name] as Reference)(a, second));
    if (harness.x(7) !== expected) {
      expect.fail(
        `${name} ${a.toString(16)}, ${second.toString(16)} = ${harness.x(7).toString(16)}, expected ${expected.toString(16)}`,
      );
    }
    // The sources do not change, unless one of them is the destination.
    expect(harness.x(5)).toBe(a);
    harness.execute([asm(name, { ...operands, rd: 5 })]);
    expect(harness.x(5)).toBe(expected);
  }
  harness.execute([asm(name, { rd: 0, rs1: 5 })]);
  expect(harness.x(0)).toBe(0n);
});

it("lui, auipc, jal, jalr and branches", () => {
  const harness = new HartHarness();
  const at = 0x80000100n;
  harness.execute([asm("lui", { rd: 5, imm: -4096 }), asm("auipc", { rd: 6, imm: 0x12345000 })], at);
  expect(harness.x(5)).toBe(U(-4096n));
  expect(harness.x(6)).toBe(at + 4n + 0x12345000n);
  harness.execute([asm("jal", { rd: 1, imm: -256 })], at);
  expect([harness.hart.get("pc"), harness.x(1)]).toEqual([at - 256n, at + 4n]);
  // Source and destination of jalr may be the same register; bit 0 of the target is cleared.
  harness.setX(5, 0x80003007n);
  harness.execute([asm("jalr", { rd: 5, rs1: 5, imm: -4 })], at);
  expect([harness.hart.get("pc"), harness.x(5)]).toEqual([0x80003002n, at + 4n]);

  const taken: Record<string, (a: bigint, b: bigint) => boolean> = {
    beq: (a, b) => a === b,
    bne: (a, b) => a !== b,
    blt: (a, b) => S(a) < S(b),
    bge: (a, b) => S(a) >= S(b),
    bltu: (a, b) => a < b,
    bgeu: (a, b) => a >= b,
  };
  for (const [name, isTaken] of Object.entries(taken)) {
    for (let n = 0; n < 60; n++) {
      const a = operand();
      const b = n % 4 === 0 ? a : operand();
      harness.setX(5, a);
      harness.setX(6, b);
      harness.execute([asm(name, { rs1: 5, rs2: 6, imm: -64 })], at);
      expect(harness.hart.get("pc"), `${name} ${a} ${b}`).toBe(isTaken(a, b) ? at - 64n : at + 4n);
    }
  }
});
