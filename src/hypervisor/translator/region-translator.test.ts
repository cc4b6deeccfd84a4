// Behaviour that only translated code can get wrong: that it follows changes of the guest's code.
// check:lockstep compares translator and interpreter otherwise.
import { expect, test } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { hartBase } from "../shared/memory-map.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { MSTATUS } from "../../riscv/status.ts";

const FUNCTION = RAM_BASE + 0x2000n;
const RETURN = asm("jalr", { rs1: 1 });
const addi = (imm: number): number => asm("addi", { rd: 10, rs1: 10, imm });
/** Calls FUNCTION x5 times; x6 is its address. */
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

test.each([0, 4, 200])("an interpreted fence.i drops stale translations, threshold %i", (threshold) => {
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

// Three accesses through the same base register share a TLB lookup.
test.each(["lw", "sw"])(
  "%s through a null pointer traps, although neighbouring accesses share its lookup",
  (name) => {
    const h = new HartHarness({ engine: "translator", threshold: 0 });
    const access = (imm: number): number =>
      asm(name, { rs1: 5, imm, ...(name === "lw" ? { rd: 6 } : { rs2: 6 }) });
    const handler = RAM_BASE + 0x1000n;
    h.load([access(0), access(8), access(16), asm("jal", { imm: 0 })]);
    // Counts the trap, and repeats the instruction.
    h.load([asm("addi", { rd: 9, rs1: 9, imm: 1 }), asm("jalr", { rs1: 8 })], handler);
    h.setX(5, 0x40n);
    h.setX(8, RAM_BASE);
    h.hart.set("mtvec", handler);
    h.run(300);
    expect([h.x(9), h.hart.get("mepc"), h.hart.get("mtval")]).toEqual([100n, RAM_BASE, 0x40n]);
  },
);

// Translated code has one context for loads, stores and jumps: with MPRV in M-mode it would be another
// privilege's.
test("with MPRV, neither enters a translation for the other privilege nor leaves one for it", () => {
  const h = new HartHarness({ engine: "translator", threshold: 0, exact: false });
  const CODE = RAM_BASE + 0x1000n;
  const ELSEWHERE = RAM_BASE + 0x5000n;
  const DATA = RAM_BASE + 0x6000n;
  const TABLES = RAM_BASE + 0x10000n;
  const flags = 0xcfn;
  h.write64(TABLES + 16n, ((TABLES + 0x1000n) >> 2n) | 1n);
  h.write64(TABLES + 0x1000n, ((TABLES + 0x2000n) >> 2n) | 1n);
  // In S-mode, CODE and DATA are mapped elsewhere.
  h.write64(TABLES + 0x2008n, (ELSEWHERE >> 2n) | flags);
  h.write64(TABLES + 0x2030n, ((DATA + 0x1000n) >> 2n) | flags);
  const loop = (rd: number): number[] => [
    asm("addi", { rd, rs1: rd, imm: 1 }),
    asm("ld", { rd: 12, rs1: 5 }),
    asm("addi", { rd: 12, rs1: 12, imm: rd }),
    asm("sd", { rs1: 5, rs2: 12 }),
    asm("jal", { imm: -16 }),
  ];
  h.load(loop(10), CODE);
  h.load(loop(11), ELSEWHERE);
  h.setX(5, DATA);
  h.hart.set("satp", (8n << 60n) | (TABLES >> 12n));
  const expected = { machine: 0n, supervisor: 0n, data: 0n, other: 0n };
  const run = (priv: number, isSplit: boolean): void => {
    h.hart.set("pc", CODE);
    h.hart.set("priv", BigInt(priv));
    h.hart.set("mstatus", ((isSplit ? 1n : 0n) << BigInt(MSTATUS.MPRV)) | (1n << BigInt(MSTATUS.MPP)));
    h.engine.flushTlb(hartBase(0));
    const before = [h.x(10), h.x(11)] as const;
    for (let i = 0; i < 3; i++) h.run(1000);
    const [machine, supervisor] = [h.x(10) - before[0], h.x(11) - before[1]];
    expected.machine += machine;
    expected.supervisor += supervisor;
    expect([machine > 0n, supervisor > 0n]).toEqual([priv === PRIV.M, priv === PRIV.S]);
    if (priv === PRIV.M && !isSplit) expected.data += 10n * machine;
    else expected.other += priv === PRIV.M ? 10n * machine : 11n * supervisor;
    // Slices may have ended before a store.
    expect(expected.data - h.read64(DATA)).toBeLessThan(60n);
    expect(expected.other - h.read64(DATA + 0x1000n)).toBeLessThan(110n);
  };
  const [M, S] = [PRIV.M, PRIV.S];
  run(S, false);
  run(M, true);
  run(S, false);
  run(M, false);
  run(M, true);
  run(S, false);
});
