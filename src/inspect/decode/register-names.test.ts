// Names of registers, recognised by neighbouring fields.
import { expect, it } from "vitest";
import type { Field } from "../model/stream-report.ts";
import { registerName } from "./register-names.ts";

const fields = (...names: readonly string[]): Field[] =>
  names.map((name) => ({ name, offset: 0, size: 8, type: "uint64", value: 0n }));

it.each([
  ["env.gpr", 2, "sp", fields("env.gpr", "env.fpr", "env.pc")],
  ["env.gpr", 2, "r2", fields("env.gpr", "env.spr")],
  ["env.fpr", 0, "ft0", fields("env.gpr", "env.fpr", "env.pc")],
  ["x", 5, "t0", fields("pc", "x", "f")],
  ["f", 10, "fa0", fields("pc", "x", "f")],
  ["env.spr", 8, "LR", fields("env.spr")],
  ["env.spr", 1023, "SPR 1023", fields("env.spr")],
  ["env.regs", 4, "rsp", fields("env.regs", "env.eip")],
  ["env.regs", 15, "r15", fields("env.regs", "env.psw.mask")],
  ["env.xregs", 30, "x30", fields("env.regs", "env.xregs")],
  ["env.cregs", 1, "c1", fields("env.cregs")],
] as const)("%s[%i] is %s", (array, index, name, siblings) => {
  expect(registerName(siblings, array)?.(index)).toBe(name);
});

it("Arm's system registers are named by their list", () => {
  const index: Field = { name: "[0]", offset: 0, size: 8, type: "uint64", value: 0x603000000013c080n };
  const list: Field = {
    name: "cpreg_vmstate_indexes",
    offset: 0,
    size: 8,
    type: "uint64[1]",
    children: [index],
  };
  expect(registerName([list], "cpreg_vmstate_values")?.(0)).toBe("SCTLR_EL1");
  expect(registerName([list], "cpreg_vmstate_values")?.(1)).toBeUndefined();
});

it("other arrays have no names", () => {
  expect(registerName(fields("env.gpr"), "env.gpr")).toBeUndefined();
  expect(registerName(fields("x", "y"), "x")).toBeUndefined();
  expect(registerName([], "palette")).toBeUndefined();
});
