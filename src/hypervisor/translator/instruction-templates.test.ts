// Which instructions share a template: those whose meanings emit the same code. That the code is right is for
// the tests of the translator, which use templates for all first translations.
import { expect, test } from "vitest";
import { asm } from "../../../test/support/hart-harness.ts";
import { InstructionTemplates } from "./instruction-templates.ts";
import { findRegion, type Instruction } from "./region.ts";

const templates = new InstructionTemplates({ exact: false, hasTotalStoreOrder: true });

function decoded(name: string, operands: Parameters<typeof asm>[1]): Instruction {
  const view = new DataView(new SharedArrayBuffer(4096));
  view.setUint32(0, asm(name, operands), true);
  return findRegion(view, 0, 0).blocks[0]?.instructions[0] as Instruction;
}
const of = (name: string, operands: Parameters<typeof asm>[1]) => templates.of(decoded(name, operands));

test("other registers and immediates share a template", () => {
  const add = of("addi", { rd: 5, rs1: 6, imm: 1 });
  expect(add).toMatchObject({ mayStop: false });
  expect(of("addi", { rd: 31, rs1: 1, imm: -2048 })).toBe(add);
  expect(of("ld", { rd: 3, rs1: 4, imm: 8 })).toBe(of("ld", { rd: 9, rs1: 9, imm: 16 }));
  expect(of("ld", { rd: 3, rs1: 4, imm: 8 })).toMatchObject({ mayStop: true });
});

// Before all other CSRs: their row has templates nevertheless.
test("fflags has none", () => {
  expect(of("csrrs", { rd: 5, rs1: 0, csr: 0x001 })).toBeUndefined();
});

test("x0, an immediate of 0, other fields and other CSRs do not", () => {
  const distinct = [
    of("addi", { rd: 5, rs1: 6, imm: 1 }),
    of("addi", { rd: 0, rs1: 6, imm: 1 }),
    of("addi", { rd: 5, rs1: 0, imm: 1 }),
    of("addi", { rd: 5, rs1: 6, imm: 0 }),
    of("slli", { rd: 5, rs1: 6, shamt6: 3 }),
    of("slli", { rd: 5, rs1: 6, shamt6: 4 }),
    of("csrrs", { rd: 5, rs1: 0, csr: 0x140 }),
    of("csrrs", { rd: 5, rs1: 0, csr: 0x141 }),
    of("csrrs", { rd: 6, rs1: 0, csr: 0x141 }),
    of("amoadd.w", { rd: 5, rs1: 6, rs2: 7 }),
  ];
  expect(distinct).not.toContain(undefined);
  expect(new Set(distinct).size).toBe(distinct.length);
  expect(of("slli", { rd: 7, rs1: 8, shamt6: 3 })).toBe(of("slli", { rd: 5, rs1: 6, shamt6: 3 }));
});

test("float, branches, jumps and stepped instructions have none, nor has exact mode", () => {
  const none = [
    of("fadd.d", { rd: 1, rs1: 2, rs2: 3 }),
    of("fld", { rs1: 2, imm: 8 }),
    of("beq", { rs1: 1, rs2: 2, imm: 8 }),
    of("jalr", { rs1: 1, imm: 0 }),
    of("ecall", {}),
  ];
  expect(new Set(none)).toEqual(new Set([undefined]));
  const exact = new InstructionTemplates({ exact: true, hasTotalStoreOrder: true });
  expect(exact.of(decoded("addi", { rd: 5, rs1: 6, imm: 1 }))).toBeUndefined();
});
