import { expect, test } from "vitest";
import { reachableFunctions } from "../../wasm/module.ts";
import { functionText } from "../../wasm/wasm-text.ts";
import { assemble } from "../isa/isa.ts";
import { makeRun } from "../interpreter/interpreter.ts";
import { pageOf, traceRegion } from "./trace-region.ts";

const PAGE = 0x4000;

function pageWith(words: readonly number[]): DataView<SharedArrayBuffer> {
  const view = new DataView(new SharedArrayBuffer(0x8000));
  words.forEach((word, i) => view.setUint32(PAGE + 0x100 + 4 * i, word, true));
  return view;
}

test("each instruction is shown beside its WebAssembly, with the guest's names and addresses", () => {
  const view = pageWith([
    assemble("addi", { rd: 10, rs1: 10, imm: 1 }),
    assemble("ld", { rd: 11, rs1: 2, imm: 16 }),
    assemble("bne", { rs1: 10, rs2: 11, imm: -8 }),
    assemble("jalr", { rd: 0, rs1: 1, imm: 0 }),
  ]);
  const { page, offset } = pageOf(PAGE + 0x100);
  const text = traceRegion(view, page, offset, 0xffffffff80001000n);
  const lines = text.split("\n");
  expect(lines[0]).toBe("; region at 0xffffffff80001100: 4 instructions in 2 blocks, 1 entries");
  expect(text).toMatch(/^; 0xffffffff80001100, entry 0$/m);
  expect(text).toMatch(/^100 {2}addi a0, a0, 1 +\(local\.set \$countdown /m);
  expect(text).toContain("(local.set $a0 (i64.add $a0 1))\n");
  expect(text).toMatch(/^104 {2}ld a1, 16\(sp\) /m);
  expect(text).toMatch(/^108 {2}bne a0, a1, 0xffffffff80001100 +\(if \(i64\.ne \$a0 \$a1\)/m);
  expect(text).toMatch(/^10c {2}jalr zero, ra, 0 /m);
  expect(text).toMatch(/^; the ways out$/m);
  expect(text).toContain("(return_call_indirect ");
});

const PREDECESSORS = 24;
const SUCCESSORS = 20;

test.each([
  ["w, r", (1 << PREDECESSORS) | (2 << SUCCESSORS), true],
  ["o, i", (4 << PREDECESSORS) | (8 << SUCCESSORS), true],
  ["rw, rw", (3 << PREDECESSORS) | (3 << SUCCESSORS), true],
  ["rw, w", (3 << PREDECESSORS) | (1 << SUCCESSORS), false],
  ["r, rw", (2 << PREDECESSORS) | (3 << SUCCESSORS), false],
  ["w, r with a reserved fm", (8 << 28) | (1 << PREDECESSORS) | (2 << SUCCESSORS), true],
  ["tso", (8 << 28) | (3 << PREDECESSORS) | (3 << SUCCESSORS), false],
])("fence %s on a host with total store order", (_, word, isFull) => {
  const view = pageWith([0x0000000f | word]);
  const { page, offset } = pageOf(PAGE + 0x100);
  const text = traceRegion(view, page, offset, 0n, { hasTotalStoreOrder: true });
  expect(text).toContain("; region at 0x100: ");
  expect(text.includes("atomic.rmw.add")).toBe(isFull);
  expect(text).not.toContain("atomic.fence");
  expect(traceRegion(view, page, offset, 0n)).toContain("atomic.fence");
});

test("only code that was reached is included, if that is known", () => {
  const view = pageWith([
    assemble("beq", { rs1: 10, rs2: 0, imm: 8 }),
    assemble("jalr", { rd: 0, rs1: 1, imm: 0 }),
    assemble("add", { rd: 10, rs1: 0, rs2: 0 }),
    assemble("jalr", { rd: 0, rs1: 1, imm: 0 }),
  ]);
  const profile = { isReached: () => false, isTranslated: () => false, isCovered: () => false };
  expect(traceRegion(view, PAGE, 0x100, 0n)).toContain("add a0, zero, zero");
  expect(traceRegion(view, PAGE, 0x100, 0n, { profile })).not.toContain("add a0, zero, zero");
});

test("every part of the engine has a text form", () => {
  const functions = reachableFunctions([makeRun(true)]);
  expect(functions.length).toBeGreaterThan(30);
  for (const fn of functions) expect(functionText(fn).length).toBeGreaterThan(0);
});
