// What only translated code can get wrong: that it follows changes of the guest's code. That it does what the
// interpreter does is check:lockstep's to judge.
import { expect, test } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/hart-harness.ts";

const FUNCTION = RAM_BASE + 0x2000n;
const RETURN = asm("jalr", { rs1: 1 });
const addi = (imm: number): number => asm("addi", { rd: 10, rs1: 10, imm });
/** Calls FUNCTION x5 times, with x6 its address. */
const CALLS = [
  asm("jalr", { rd: 1, rs1: 6 }),
  asm("addi", { rd: 5, rs1: 5, imm: -1 }),
  asm("bne", { rs1: 5, imm: -8 }),
];

function callFunction(h: HartHarness, times: bigint): void {
  h.setX(5, times);
  h.setX(6, FUNCTION);
  h.setX(10, 0n);
  h.hart.set("pc", RAM_BASE);
  h.run(Number(times) * 5);
}

test.each([0, 4, 200])("fence.i that is interpreted drops what was translated, threshold %i", (threshold) => {
  const h = new HartHarness({ engine: "translator", threshold });
  h.load([addi(1), RETURN], FUNCTION);
  h.load(CALLS);
  callFunction(h, 1000n);
  expect(h.x(10)).toBe(1000n);
  // Cold code: write the new instruction, fence, and call.
  const patch = RAM_BASE + 0x4000n;
  h.load([asm("sw", { rs1: 6, rs2: 7 }), asm("fence.i", {}), asm("jalr", { rs1: 6, rd: 1 })], patch);
  h.setX(7, BigInt(addi(16)));
  h.setX(10, 0n);
  h.hart.set("pc", patch);
  h.run(5);
  expect(h.x(10)).toBe(16n);
});

// Three accesses near one register share a look into the TLB.
test.each(["lw", "sw"])("%s through a null pointer traps, though others are near it", (name) => {
  const h = new HartHarness({ engine: "translator", threshold: 0 });
  const access = (imm: number): number =>
    asm(name, { rs1: 5, imm, ...(name === "lw" ? { rd: 6 } : { rs2: 6 }) });
  const handler = RAM_BASE + 0x1000n;
  h.load([access(0), access(8), access(16), asm("jal", { imm: 0 })]);
  // Counts, and does it again.
  h.load([asm("addi", { rd: 9, rs1: 9, imm: 1 }), asm("jalr", { rs1: 8 })], handler);
  h.setX(5, 0x40n);
  h.setX(8, RAM_BASE);
  h.hart.set("mtvec", handler);
  h.run(300);
  expect([h.x(9), h.hart.get("mepc"), h.hart.get("mtval")]).toEqual([100n, RAM_BASE, 0x40n]);
});
