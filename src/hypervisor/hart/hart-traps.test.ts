// Traps, delegation, returns, interrupts, environment calls, wait-for-interrupt and the ways out of run().
import { beforeEach, describe, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { hartBase } from "../shared/memory-map.ts";
import { CONFIG_BUILTIN_FIRMWARE, SCRATCH } from "../shared/hart-scratch.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { CAUSE } from "../../riscv/causes.ts";
import { MSTATUS } from "../../riscv/status.ts";
import { EXIT } from "./engine-interface.ts";

const M_HANDLER = RAM_BASE + 0x2000n;
const S_HANDLER = RAM_BASE + 0x3000n;
const CODE = RAM_BASE + 0x1000n;
const INTERRUPT_BIT = 1n << 63n;
const bit = (n: number): bigint => 1n << BigInt(n);
const field = (at: number, value: number): bigint => BigInt(value) << BigInt(at);

let h: HartHarness;
const get = (name: Parameters<HartHarness["hart"]["get"]>[0]): bigint => h.hart.get(name);

function start(priv: number, mstatus = 0n): void {
  h.hart.set("priv", BigInt(priv));
  h.hart.set("mstatus", mstatus);
  h.hart.set("pc", CODE);
}

beforeEach(() => {
  h = new HartHarness();
  h.hart.set("mtvec", M_HANDLER);
  h.hart.set("stvec", S_HANDLER);
  // Each trap of S or U is tested from entry to return; the handlers start with a nop.
  for (const at of [M_HANDLER, S_HANDLER]) h.load(new Array(64).fill(asm("addi")), at);
});

describe("exceptions", () => {
  it.each([
    ["ecall from M", PRIV.M, asm("ecall"), CAUSE.ECALL + 3, 0n],
    ["ecall from S", PRIV.S, asm("ecall"), CAUSE.ECALL + 1, 0n],
    ["ecall from U", PRIV.U, asm("ecall"), CAUSE.ECALL, 0n],
    ["ebreak", PRIV.S, asm("ebreak"), CAUSE.BREAKPOINT, 0n],
    ["an illegal word", PRIV.U, 0xffffffff, CAUSE.ILLEGAL_INSTRUCTION, 0xffffffffn],
    ["an illegal short word", PRIV.U, 0x00010000, CAUSE.ILLEGAL_INSTRUCTION, 0n],
    ["mret from S", PRIV.S, asm("mret"), CAUSE.ILLEGAL_INSTRUCTION, BigInt(asm("mret"))],
    ["sret from U", PRIV.U, asm("sret"), CAUSE.ILLEGAL_INSTRUCTION, BigInt(asm("sret"))],
    ["wfi from U", PRIV.U, asm("wfi"), CAUSE.ILLEGAL_INSTRUCTION, BigInt(asm("wfi"))],
    ["sfence.vma from U", PRIV.U, asm("sfence.vma"), CAUSE.ILLEGAL_INSTRUCTION, BigInt(asm("sfence.vma"))],
  ])("%s goes to M by default", (_name, priv, word, cause, tval) => {
    start(priv, bit(MSTATUS.MIE));
    h.load([word], CODE);
    h.run(1);
    expect([get("pc"), get("mepc"), get("mcause"), get("mtval"), get("priv")]).toEqual([
      M_HANDLER,
      CODE,
      BigInt(cause),
      tval,
      3n,
    ]);
    expect(get("mstatus")).toBe(bit(MSTATUS.MPIE) | field(MSTATUS.MPP, priv));
  });

  it("of a fetch are raised only when the instruction is executed", () => {
    start(PRIV.M);
    h.setX(5, 0x100n);
    h.load([asm("jalr", { rd: 0, rs1: 5, imm: 0 })], CODE);
    h.run(1);
    expect([get("pc"), get("mcause")]).toEqual([0x100n, 0n]);
    h.run(1);
    expect([get("pc"), get("mcause"), get("mepc")]).toEqual([M_HANDLER, 1n, 0x100n]);
  });

  it("are delegated from S and U, never from M", () => {
    h.hart.set("medeleg", bit(CAUSE.BREAKPOINT));
    for (const priv of [PRIV.U, PRIV.S]) {
      start(priv, bit(MSTATUS.SIE));
      h.execute([asm("ebreak")], CODE);
      expect([get("pc"), get("sepc"), get("scause"), get("priv")]).toEqual([S_HANDLER, CODE, 3n, 1n]);
      expect(get("mstatus")).toBe(bit(MSTATUS.SPIE) | field(MSTATUS.SPP, priv));
    }
    start(PRIV.M);
    h.execute([asm("ebreak")], CODE);
    expect([get("pc"), get("mcause")]).toEqual([M_HANDLER, 3n]);
  });

  it.each([
    ["TVM", MSTATUS.TVM, asm("sfence.vma")],
    ["TVM", MSTATUS.TVM, asm("csrrs", { csr: 0x180, rd: 5 })],
    ["TW", MSTATUS.TW, asm("wfi")],
    ["TSR", MSTATUS.TSR, asm("sret")],
  ])("mstatus.%s traps its instruction in S", (_name, status, word) => {
    start(PRIV.S, bit(status));
    h.execute([word], CODE);
    expect([get("pc"), get("mcause"), get("mtval")]).toEqual([M_HANDLER, 2n, BigInt(word)]);
  });

  it("report a compressed instruction's own bits", () => {
    // c.fld with the float unit off.
    h.loadHalves([0x2000], CODE);
    start(PRIV.S);
    h.run(1);
    expect([get("mcause"), get("mtval")]).toEqual([2n, 0x2000n]);
  });

  it("do not change the destination register", () => {
    start(PRIV.M);
    h.setX(6, 5n);
    h.setX(5, 0x7000_0000n);
    h.execute([asm("lw", { rd: 6, rs1: 5 })], CODE);
    expect([get("mcause"), h.x(6)]).toEqual([5n, 5n]);
  });
});

describe("returns", () => {
  it("mret restores privilege and interrupt enable, and ends MPRV below M", () => {
    for (const priv of [PRIV.U, PRIV.S, PRIV.M]) {
      start(PRIV.M, bit(MSTATUS.MPIE) | field(MSTATUS.MPP, priv) | bit(MSTATUS.MPRV));
      h.hart.set("mepc", RAM_BASE + 0x500n);
      h.execute([asm("mret")], CODE);
      expect([get("pc"), get("priv")]).toEqual([RAM_BASE + 0x500n, BigInt(priv)]);
      const mprv = priv === PRIV.M ? bit(MSTATUS.MPRV) : 0n;
      expect(get("mstatus")).toBe(bit(MSTATUS.MIE) | bit(MSTATUS.MPIE) | mprv);
    }
  });

  it("sret does the same for S-mode", () => {
    for (const priv of [PRIV.U, PRIV.S]) {
      start(PRIV.S, bit(MSTATUS.SPIE) | field(MSTATUS.SPP, priv));
      h.hart.set("sepc", RAM_BASE + 0x500n);
      h.execute([asm("sret")], CODE);
      expect([get("pc"), get("priv")]).toEqual([RAM_BASE + 0x500n, BigInt(priv)]);
      expect(get("mstatus")).toBe(bit(MSTATUS.SIE) | bit(MSTATUS.SPIE));
    }
  });
});

describe("interrupts", () => {
  function interruptTaken(): bigint | undefined {
    h.load([asm("addi", { rd: 9, rs1: 9, imm: 1 })], CODE);
    h.run(1);
    const pc = get("pc");
    if (pc === M_HANDLER + 4n) return get("mcause") & ~INTERRUPT_BIT;
    if (pc === S_HANDLER + 4n) return get("scause") & ~INTERRUPT_BIT;
    expect(pc).toBe(CODE + 4n);
    return undefined;
  }

  it("are taken by priority: MEI, MSI, MTI, SEI, SSI, STI", () => {
    h.hart.set("mie", 0xaaan);
    let pending = 0xaaa;
    for (const n of [11, 3, 7, 9, 1, 5]) {
      start(PRIV.M, bit(MSTATUS.MIE));
      h.lines = pending;
      expect(interruptTaken()).toBe(BigInt(n));
      pending &= ~(1 << n);
    }
    start(PRIV.M, bit(MSTATUS.MIE));
    h.lines = pending;
    expect(interruptTaken()).toBeUndefined();
  });

  it.each([
    // priv, mstatus, delegated: taken?
    [PRIV.M, 0n, false, undefined],
    [PRIV.M, bit(MSTATUS.SIE), true, undefined],
    [PRIV.S, 0n, false, "m"],
    [PRIV.S, 0n, true, undefined],
    [PRIV.S, bit(MSTATUS.SIE), true, "s"],
    [PRIV.U, 0n, true, "s"],
    [PRIV.U, 0n, false, "m"],
  ] as const)("in mode %i, mstatus %i, delegated %s: %s", (priv, mstatus, delegated, taken) => {
    h.hart.set("mie", bit(9));
    h.hart.set("mideleg", delegated ? bit(9) : 0n);
    h.lines = 1 << 9;
    start(priv, mstatus);
    interruptTaken();
    const handler = { m: M_HANDLER, s: S_HANDLER };
    expect(get("pc")).toBe(taken === undefined ? CODE + 4n : handler[taken] + 4n);
  });

  it("use the vector table; exceptions use its base", () => {
    h.hart.set("stvec", S_HANDLER | 1n);
    h.hart.set("mideleg", 0x222n);
    h.hart.set("medeleg", bit(3));
    h.hart.set("mie", bit(5));
    h.lines = 1 << 5;
    start(PRIV.U);
    h.load([asm("ebreak")], CODE);
    h.run(1);
    expect([get("pc"), get("scause"), get("sepc")]).toEqual([S_HANDLER + 24n, INTERRUPT_BIT | 5n, CODE]);
    h.lines = 0;
    start(PRIV.U);
    h.run(1);
    expect([get("pc"), get("scause")]).toEqual([S_HANDLER, 3n]);
  });

  it("are taken right after the CSR write that enables them, and after xRET", () => {
    h.hart.set("mie", bit(7));
    h.lines = 1 << 7;
    start(PRIV.M);
    h.load([asm("csrrsi", { csr: 0x300, uimm5: 8 }), asm("addi", { rd: 9, imm: 1 })], CODE);
    h.run(2);
    expect([get("mepc"), h.x(9)]).toEqual([CODE + 4n, 0n]);
    start(PRIV.M, bit(MSTATUS.MPIE) | field(MSTATUS.MPP, 3));
    h.hart.set("mepc", CODE + 4n);
    h.load([asm("mret")], CODE);
    h.run(2);
    expect([get("mepc"), h.x(9)]).toEqual([CODE + 4n, 0n]);
  });

  it("are taken right after a write of mideleg that assigns them to M", () => {
    h.hart.set("mideleg", bit(1));
    h.hart.set("mie", bit(1));
    h.hart.set("mip", bit(1));
    start(PRIV.M, bit(MSTATUS.MIE));
    h.load([asm("csrrw", { csr: 0x303 }), asm("addi", { rd: 9, imm: 1 })], CODE);
    h.run(2);
    expect([get("mepc"), get("mcause"), h.x(9)]).toEqual([CODE + 4n, INTERRUPT_BIT | 1n, 0n]);
  });

  it("are taken within 1024 instructions of a loop", () => {
    h.hart.set("mie", bit(7));
    h.load([asm("addi", { rd: 9, rs1: 9, imm: 1 }), asm("jal", { imm: -4 })], CODE);
    start(PRIV.M, bit(MSTATUS.MIE));
    h.run(2000);
    h.lines = 1 << 7;
    h.run(1);
    expect(get("mcause")).toBe(INTERRUPT_BIT | 7n);
  });
});

describe("Sstc", () => {
  beforeEach(() => {
    h.hart.set("menvcfg", bit(63));
    h.hart.set("mcounteren", 2n);
  });

  it("drives the line when stimecmp is written, with the guest's clock", () => {
    h.ticks = 1000;
    h.clockDelta = 500n;
    start(PRIV.S);
    h.setX(5, 1500n);
    h.setX(6, 1501n);
    h.execute([asm("csrrw", { csr: 0x14d, rs1: 5 }), asm("csrrs", { csr: 0xc01, rd: 7 })], CODE);
    expect([h.lines, h.x(7)]).toEqual([1 << 5, 1500n]);
    start(PRIV.S);
    h.execute([asm("csrrw", { csr: 0x14d, rs1: 6 })], CODE);
    expect(h.lines).toBe(0);
  });

  it("is illegal in S without STCE or mcounteren.TM", () => {
    const word = asm("csrrs", { csr: 0x14d, rd: 5 });
    h.hart.set("menvcfg", 0n);
    start(PRIV.S);
    h.execute([word], CODE);
    expect(get("mcause")).toBe(2n);
    h.hart.set("menvcfg", bit(63));
    h.hart.set("mcounteren", 0n);
    h.hart.set("mcause", 0n);
    start(PRIV.S);
    h.execute([word], CODE);
    expect(get("mcause")).toBe(2n);
  });
});

describe("leaving run()", () => {
  it("after the budget, at an instruction boundary, with consistent counters", () => {
    h.load([asm("addi", { rd: 5, rs1: 5, imm: 1 }), asm("jal", { imm: -4 })], CODE);
    start(PRIV.M);
    for (const budget of [1, 2, 1023, 1024, 1025, 5000]) expect(h.run(budget)).toBe(EXIT.SLICE);
    expect(get("minstret")).toBe(8075n);
    expect(get("mcycle")).toBe(8075n);
    expect(h.x(5)).toBe(4038n);
  });

  it("by kick, before anything is executed", () => {
    h.load([asm("addi", { rd: 5, rs1: 5, imm: 1 })], CODE);
    start(PRIV.M);
    h.kick = 1;
    expect(h.run(100)).toBe(EXIT.KICK);
    expect([get("pc"), h.x(5)]).toEqual([CODE, 0n]);
  });

  it("by wfi, unless an enabled interrupt is pending", () => {
    start(PRIV.M);
    h.hart.set("mie", bit(7));
    expect(h.execute([asm("wfi")], CODE)).toBe(EXIT.WFI);
    expect(get("pc")).toBe(CODE + 4n);
    h.lines = 1 << 7;
    expect(h.execute([asm("wfi")], CODE)).toBe(EXIT.SLICE);
    expect(get("pc")).toBe(CODE + 4n);
  });

  it("by ecall from S with the built-in firmware, pc at the ecall", () => {
    h.view.setUint32(hartBase(0) + SCRATCH.config, CONFIG_BUILTIN_FIRMWARE, true);
    start(PRIV.S);
    expect(h.execute([asm("ecall")], CODE)).toBe(EXIT.ECALL);
    expect(get("pc")).toBe(CODE);
    h.hart.set("medeleg", bit(8));
    start(PRIV.U);
    expect(h.execute([asm("ecall")], CODE)).toBe(EXIT.SLICE);
    expect([get("pc"), get("scause")]).toEqual([S_HANDLER, 8n]);
  });

  it("even if the trap handler itself cannot be fetched", () => {
    h.hart.set("mtvec", 0x4000_0000n);
    h.hart.set("pc", 0x4000_0000n);
    expect(h.run(5000)).toBe(EXIT.SLICE);
    expect(get("mcause")).toBe(1n);
  });
});
