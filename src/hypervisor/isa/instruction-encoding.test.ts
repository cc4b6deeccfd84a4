// The instruction table against itself and against words from GNU as: patterns, assembler, decoder tables,
// disassembler, compressed expansions.
import { describe, expect, it } from "vitest";
import { decodeIndex, decoder } from "./instruction-decoder.ts";
import { disassemble } from "./disassembler.ts";
import {
  decodeImmediate,
  encode,
  encodeImmediate,
  operandsOf,
  parsePattern,
} from "./instruction-encoding.ts";
import { allExpansions, assemble, expandCompressed, rowOf, rows } from "./isa.ts";
import { seed } from "../../../test/support/seed.ts";
import { Random } from "../../../test/support/random.ts";

const numbers = new Random(seed);
const random32 = (): number => numbers.u32();

describe("patterns", () => {
  it("yield mask, match and fields", () => {
    const encoding = parsePattern("0100000 rs2 rs1 000 rd 0110011");
    expect(encoding.mask).toBe(0xfe00707f);
    expect(encoding.match).toBe(0x40000033);
    expect([...encoding.fields]).toEqual([
      ["rs2", 20],
      ["rs1", 15],
      ["rd", 7],
    ]);
  });

  it("refuse patterns of other lengths, unknown fields and operands that do not fit", () => {
    expect(() => parsePattern("0000000 rs2 rs1 000 rd 011001")).toThrow("31 bits");
    expect(() => parsePattern("0000000 rs9 rs1 000 rd 0110011")).toThrow("unknown field rs9");
    expect(() => assemble("add", { rd: 32 })).toThrow("rd is 32");
    expect(() => assemble("addi", { imm: 2048 })).toThrow("does not fit");
    expect(() => assemble("beq", { imm: 3 })).toThrow("does not fit");
    expect(() => assemble("nonsense")).toThrow("no instruction is named nonsense");
  });

  it.each([
    ["I", -2048, 2047, 1],
    ["S", -2048, 2047, 1],
    ["B", -4096, 4094, 2],
    ["U", -(2 ** 31), 2 ** 31 - 4096, 4096],
    ["J", -(2 ** 20), 2 ** 20 - 2, 2],
  ] as const)("%s immediates survive from end to end", (format, low, high, step) => {
    const values = [low, low + step, -step, 0, step, high - step, high];
    expect(values.map((v) => decodeImmediate(format, encodeImmediate(format, v)))).toEqual(values);
  });
});

const { operations, operationOfIndex } = decoder();

describe("the table", () => {
  it("has no two rows with the same name, and no word with two rows", () => {
    expect(new Set(rows.map((row) => row.name)).size).toBe(rows.length);
    const overlaps = rows.flatMap((a, i) =>
      rows
        .slice(i + 1)
        .filter((b) => ((a.match ^ b.match) & a.mask & b.mask) === 0)
        .map((b) => `${a.name}/${b.name}`),
    );
    // A hint that has a row of its own comes before the row that it is a form of.
    expect(overlaps).toEqual(["pause/fence"]);
  });

  it("assembles and disassembles random words of every row", () => {
    for (const row of rows) {
      for (let n = 0; n < 20; n++) {
        const word = ((random32() & ~row.mask) | row.match) >>> 0;
        expect(rowOf(word)?.name).toBe(row.name);
        expect(encode(row, operandsOf(row, word))).toBe(word);
        expect(operations[operationOfIndex[decodeIndex(word)] as number]).toContain(row);
      }
    }
  });

  it("decodes random words to the same row as a search through all rows", () => {
    for (let n = 0; n < 20_000; n++) {
      const word = (random32() | 3) >>> 0;
      const candidates = operations[operationOfIndex[decodeIndex(word)] as number];
      expect(candidates?.find((row) => (word & row.mask) >>> 0 === row.match)).toBe(rowOf(word));
    }
  });
});

describe("disassembler", () => {
  it.each([
    [0x00c58533, "add a0, a1, a2"],
    [0xfff50513, "addi a0, a0, -1"],
    [0x00c5b503, "ld a0, 12(a1)"],
    [0xfea5ae23, "sw a0, -4(a1)"],
    [0x12345537, "lui a0, 0x12345"],
    [0x03f55513, "srli a0, a0, 63"],
    [0x30529073, "csrrw zero, mtvec, t0"],
    [0x30045073, "csrrwi zero, mstatus, 8"],
    [0x0ff0000f, "fence iorw, iorw"],
    [0x12050073, "sfence.vma a0, zero"],
    [0x06a5a52f, "amoadd.w.aqrl a0, a0, (a1)"],
    [0x1005a52f, "lr.w a0, (a1)"],
    [0x60055513, "rori a0, a0, 0"],
    [0x00000073, "ecall"],
    [0x04c5f553, "fadd.h fa0, fa1, fa2"],
    [0x6cc5b54f, "fnmadd.h fa0, fa1, fa2, fa3, rup"],
    [0x4405f553, "fcvt.h.s fa0, fa1"],
    [0x40258553, "fcvt.s.h fa0, fa1, rne"],
    [0x44159553, "fcvt.h.d fa0, fa1, rtz"],
    [0x42258553, "fcvt.d.h fa0, fa1, rne"],
    [0xc4359553, "fcvt.lu.h a0, fa1, rtz"],
    [0xd415f553, "fcvt.h.wu fa0, a1"],
    [0xe4058553, "fmv.x.h a0, fa1"],
    [0xf4058553, "fmv.h.x fa0, a1"],
    [0xe4059553, "fclass.h a0, fa1"],
    [0xffe59507, "flh fa0, -2(a1)"],
    [0x00a59127, "fsh fa0, 2(a1)"],
    [0x00d00073, "wrs.nto"],
    [0x01d00073, "wrs.sto"],
    [0x0ec5d533, "czero.eqz a0, a1, a2"],
    [0x0ec5f533, "czero.nez a0, a1, a2"],
    [0x0000007f, ".word 0x7f"],
    [0x4501, "addi a0, zero, 0"],
    [0x8082, "jalr zero, ra, 0"],
    [0x0000, ".half 0x0"],
  ])("%i", (word, text) => {
    expect(disassemble(word)).toBe(text);
  });

  it("makes branch targets absolute", () => {
    expect(disassemble(assemble("beq", { rs1: 10, rs2: 11, imm: -8 }), 0x80000010n)).toBe(
      "beq a0, a1, 0x80000008",
    );
    expect(disassemble(assemble("jal", { imm: 16 }))).toBe("jal zero, . + 16");
  });
});

describe("compressed instructions", () => {
  // From GNU as, one for each row; the immediates have single and highest bits set.
  it.each([
    [0x1ffc, "addi a5, sp, 1020"],
    [0x4188, "lw a0, 0(a1)"],
    [0x5dfc, "lw a5, 124(a1)"],
    [0x7d9c, "ld a5, 56(a1)"],
    [0xdd88, "sw a0, 56(a1)"],
    [0xfdc8, "sd a0, 184(a1)"],
    [0x0001, "addi zero, zero, 0"],
    [0x1501, "addi a0, a0, -32"],
    [0x357d, "addiw a0, a0, -1"],
    [0x557d, "addi a0, zero, -1"],
    [0x7139, "addi sp, sp, -64"],
    [0x6505, "lui a0, 0x1"],
    [0x757d, "lui a0, 0xfffff"],
    [0x9101, "srli a0, a0, 32"],
    [0x8505, "srai a0, a0, 1"],
    [0x997d, "andi a0, a0, -1"],
    [0x8d0d, "sub a0, a0, a1"],
    [0x8d2d, "xor a0, a0, a1"],
    [0x8d4d, "or a0, a0, a1"],
    [0x8d6d, "and a0, a0, a1"],
    [0x9d0d, "subw a0, a0, a1"],
    [0x9d2d, "addw a0, a0, a1"],
    [0xa001, "jal zero, . + 0"],
    [0xbffd, "jal zero, . + -2"],
    [0xc119, "beq a0, zero, . + 6"],
    [0xfd65, "bne a0, zero, . + -8"],
    [0x1502, "slli a0, a0, 32"],
    [0x50fe, "lw ra, 252(sp)"],
    [0x70fe, "ld ra, 504(sp)"],
    [0x852e, "add a0, zero, a1"],
    [0x9002, "ebreak"],
    [0x9502, "jalr ra, a0, 0"],
    [0x952e, "add a0, a0, a1"],
    [0xdf86, "sw ra, 252(sp)"],
    [0xff86, "sd ra, 504(sp)"],
  ])("%i", (half, text) => {
    expect(disassemble(half)).toBe(text);
  });

  it("recognises the reserved words", () => {
    // c.addi4spn 0, c.addi16sp 0, c.lui 0, c.lwsp x0, c.ldsp x0, c.addiw x0, c.jr x0, and the holes.
    for (const half of [0x0000, 0x6101, 0x6501, 0x4002, 0x6002, 0x2001, 0x8002, 0x8000, 0x9c41, 0x9c61]) {
      expect(expandCompressed(half), half.toString(16)).toBeUndefined();
    }
  });
});

it("the table of all expansions has the expansion of each compressed word", () => {
  const all = allExpansions();
  const other = Array.from(all.keys()).filter((half) => all[half] !== (expandCompressed(half)?.word ?? 0));
  expect(other).toEqual([]);
});
