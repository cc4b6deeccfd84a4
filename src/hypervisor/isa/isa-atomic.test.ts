// LR/SC, AMOs and cache-block operations.
import { beforeEach, describe, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { EXIT } from "../hart/engine-interface.ts";
import { SPINS } from "../shared/hart-scratch.ts";
import { PRIV } from "../../riscv/privilege.ts";

const CODE = RAM_BASE + 0x1000n;
const DATA = RAM_BASE + 0x8000n;
const HANDLER = RAM_BASE + 0x2000n;
const U = (v: bigint): bigint => BigInt.asUintN(64, v);
const S = (v: bigint): bigint => BigInt.asIntN(64, v);

let h: HartHarness;
beforeEach(() => {
  h = new HartHarness();
  h.hart.set("mtvec", HANDLER);
  h.setX(5, DATA);
});

describe("wrs.nto, wrs.sto", () => {
  const TW = 1n << 21n;
  /**
   * Executes lr.w, another instruction, and the wait; returns how many were executed, or the cause of its
   * trap.
   */
  function wait(
    name: string,
    between: number,
    priv: number,
    status = 0n,
  ): { steps: bigint } | { cause: bigint } {
    h.load([asm("lr.w", { rd: 6, rs1: 5 }), between, asm(name)], CODE);
    const { hart } = h;
    hart.set("pc", CODE);
    hart.set("priv", BigInt(priv));
    hart.set("mstatus", status);
    hart.set("mcause", 0n);
    const before = hart.get("minstret");
    h.run(3);
    if (hart.get("mcause") !== 0n) {
      expect([hart.get("mepc"), hart.get("mtval")]).toEqual([CODE + 8n, BigInt(asm(name))]);
      return { cause: hart.get("mcause") };
    }
    expect(hart.get("pc")).toBe(CODE + 12n);
    return { steps: hart.get("minstret") - before };
  }
  const nop = asm("addi", {});
  const store = asm("sw", { rs1: 5, rs2: 5, imm: 0 });

  it.each(["wrs.nto", "wrs.sto"])("%s always terminates", (name) => {
    for (const between of [nop, store, asm("sc.w", { rd: 0, rs1: 5, rs2: 5 })]) {
      expect(wait(name, between, PRIV.M, TW)).toEqual({ steps: 3n });
    }
  });

  it("wrs.nto is illegal below M-mode with TW, where it would have to wait", () => {
    for (const priv of [PRIV.S, PRIV.U]) {
      expect(wait("wrs.nto", nop, priv)).toEqual({ steps: 3n });
      expect(wait("wrs.nto", nop, priv, TW)).toEqual({ cause: 2n });
      expect(wait("wrs.sto", nop, priv, TW)).toEqual({ steps: 3n });
      // The reservation is lost, or a pending interrupt, although globally disabled, ends the wait.
      h.write64(DATA, 1n);
      expect(wait("wrs.nto", store, priv, TW)).toEqual({ steps: 3n });
    }
    h.hart.set("mie", 2n);
    h.hart.set("mideleg", 2n);
    h.hart.set("mip", 2n);
    expect(wait("wrs.nto", nop, PRIV.S, TW)).toEqual({ steps: 3n });
  });

  it("waits on a double word compare all of it", () => {
    h.write64(DATA, 1n);
    const high = asm("sw", { rs1: 5, rs2: 5, imm: 4 });
    h.execute([asm("lr.d", { rd: 6, rs1: 5 }), high], CODE);
    h.hart.set("priv", BigInt(PRIV.S));
    h.hart.set("mstatus", TW);
    h.execute([asm("wrs.nto")], CODE + 8n);
    expect(h.hart.get("mcause")).toBe(0n);
    expect(h.hart.get("pc")).toBe(CODE + 12n);
  });

  it.each([
    ["wrs.nto", [asm("lr.w", { rd: 6, rs1: 5 }), asm("wrs.nto"), asm("jal", { imm: -8 })]],
    ["pause", [asm("pause"), nop, asm("jal", { imm: -8 })]],
  ])("%s in a loop ends the run, with interrupts enabled, disabled or pending", (_name, words) => {
    for (const [mip, mie] of [
      [0n, 0n],
      [2n, 2n],
    ] as const) {
      h = new HartHarness();
      h.load(words, CODE);
      h.setX(5, DATA);
      h.hart.set("mip", mip);
      h.hart.set("mie", mie);
      h.hart.set("pc", CODE);
      const before = h.hart.get("minstret");
      expect(h.run(10_000_000)).toBe(EXIT.SPIN);
      expect(h.hart.get("minstret") - before).toBeLessThan(BigInt(4 * SPINS));
      // It goes on after the wait, and may wait again.
      expect(h.run(10)).toBe(EXIT.SLICE);
    }
  });

  it("the slice ends, so that a kick is noticed", () => {
    h.load([asm("lr.w", { rd: 6, rs1: 5 }), asm("wrs.nto"), asm("jal", { imm: -8 })], CODE);
    h.hart.set("pc", CODE);
    h.kick = 1;
    expect(h.run(10_000_000)).toBe(1);
  });
});

describe("AMO", () => {
  const operations: Record<string, (old: bigint, value: bigint) => bigint> = {
    amoswap: (_old, value) => value,
    amoadd: (old, value) => old + value,
    amoxor: (old, value) => old ^ value,
    amoand: (old, value) => old & value,
    amoor: (old, value) => old | value,
    amomin: (old, value) => (old < value ? old : value),
    amomax: (old, value) => (old > value ? old : value),
    amominu: (old, value) => (U(old) < U(value) ? old : value),
    amomaxu: (old, value) => (U(old) > U(value) ? old : value),
  };
  const values = [0n, 1n, -1n, 5n, 0x7fffffffn, -0x80000000n, 0x123456789abcdefn, -(1n << 63n)];

  it.each(Object.entries(operations))("%s", (name, operation) => {
    for (const old of values) {
      for (const value of values) {
        h.write64(DATA, U(old));
        h.setX(6, U(value));
        h.execute([asm(`${name}.d`, { rd: 7, rs1: 5, rs2: 6 })], CODE);
        expect([S(h.x(7)), S(h.read64(DATA))]).toEqual([old, S(operation(old, value))]);

        // The word at +4, with its neighbour unchanged.
        const [old32, value32] = [BigInt.asIntN(32, old), BigInt.asIntN(32, value)];
        h.write64(DATA, (BigInt.asUintN(32, old) << 32n) | 0x55n);
        h.setX(8, DATA + 4n);
        h.execute([asm(`${name}.w`, { rd: 7, rs1: 8, rs2: 6, aq: 1, rl: 1 })], CODE);
        expect(S(h.x(7))).toBe(old32);
        expect(h.read64(DATA)).toBe((BigInt.asUintN(32, operation(old32, value32)) << 32n) | 0x55n);
      }
    }
  });

  it("must be aligned, and in memory", () => {
    for (const [name, address, cause] of [
      ["amoadd.w", DATA + 2n, 6n],
      ["amoadd.d", DATA + 4n, 6n],
      ["sc.w", DATA + 1n, 6n],
      ["lr.d", DATA + 4n, 4n],
      ["amoadd.w", 0x7000_0000n, 7n],
      ["lr.w", 0x7000_0000n, 5n],
    ] as const) {
      h.setX(5, address);
      h.setX(7, 99n);
      h.execute([asm(name, { rd: 7, rs1: 5 })], CODE);
      expect([h.hart.get("mcause"), h.hart.get("mtval"), h.x(7)]).toEqual([cause, address, 99n]);
    }
  });

  it("works with the destination also as address or operand", () => {
    h.write64(DATA, 7n);
    h.setX(6, 3n);
    h.execute([asm("amoadd.d", { rd: 6, rs1: 5, rs2: 6 })], CODE);
    expect([h.x(6), h.read64(DATA)]).toEqual([7n, 10n]);
  });
});

describe("LR/SC", () => {
  const lr = asm("lr.d", { rd: 7, rs1: 5 });
  const sc = asm("sc.d", { rd: 8, rs1: 5, rs2: 6 });

  beforeEach(() => {
    h.write64(DATA, 41n);
    h.setX(6, 42n);
  });

  it("stores once, while the reservation is valid", () => {
    h.execute([lr, sc], CODE);
    expect([h.x(7), h.x(8), h.read64(DATA)]).toEqual([41n, 0n, 42n]);
    h.setX(6, 43n);
    h.execute([sc], CODE);
    expect([h.x(8), h.read64(DATA)]).toEqual([1n, 42n]);
  });

  it("fails after a store in between, at another address, with another width, after a trap", () => {
    h.setX(9, 5n);
    h.execute([lr, asm("sd", { rs1: 5, rs2: 9 }), sc], CODE);
    expect([h.x(8), h.read64(DATA)]).toEqual([1n, 5n]);
    h.setX(10, DATA + 8n);
    h.execute([lr, asm("sc.d", { rd: 8, rs1: 10, rs2: 6 })], CODE);
    expect([h.x(8), h.read64(DATA + 8n)]).toEqual([1n, 0n]);
    h.execute([lr, asm("sc.w", { rd: 8, rs1: 5, rs2: 6 })], CODE);
    expect(h.x(8)).toBe(1n);
    h.execute([lr, asm("ebreak")], CODE);
    h.execute([sc], CODE);
    expect(h.x(8)).toBe(1n);
  });

  it("sign-extends words", () => {
    h.write64(DATA, 0xffffffff_80000000n);
    h.execute([asm("lr.w", { rd: 7, rs1: 5 }), asm("sc.w", { rd: 8, rs1: 5, rs2: 6 })], CODE);
    expect([S(h.x(7)), h.x(8), h.read64(DATA)]).toEqual([-0x80000000n, 0n, 0xffffffff_0000002an]);
  });
});

describe("cache blocks", () => {
  const zero = asm("cbo.zero", { rs1: 5 });

  it("cbo.zero clears the 64 bytes around an address", () => {
    for (let i = -1n; i < 9n; i++) h.write64(DATA + i * 8n, 7n);
    h.setX(5, DATA + 13n);
    h.execute([zero], CODE);
    expect([-1n, 0n, 7n, 8n].map((i) => h.read64(DATA + i * 8n))).toEqual([7n, 0n, 0n, 7n]);
  });

  it("requires menvcfg in S-mode, and also senvcfg in U-mode", () => {
    const legal = (word: number, priv: number, menvcfg: bigint, senvcfg: bigint): boolean => {
      h.hart.set("menvcfg", menvcfg);
      h.hart.set("senvcfg", senvcfg);
      h.hart.set("priv", BigInt(priv));
      h.execute([word], CODE);
      return h.hart.get("pc") === CODE + 4n;
    };
    for (const [name, bits] of [
      ["cbo.zero", 0x80n],
      ["cbo.clean", 0x40n],
      ["cbo.flush", 0x40n],
      ["cbo.inval", 0x30n],
    ] as const) {
      const word = asm(name, { rs1: 5 });
      expect(legal(word, PRIV.M, 0n, 0n)).toBe(true);
      expect(legal(word, PRIV.S, 0n, bits)).toBe(false);
      expect(legal(word, PRIV.S, bits, 0n)).toBe(true);
      expect(legal(word, PRIV.U, bits, 0n)).toBe(false);
      expect(legal(word, PRIV.U, bits, bits)).toBe(true);
    }
  });

  it("raises store faults for addresses that do not exist", () => {
    h.setX(5, 0x7000_0000n);
    for (const name of ["cbo.zero", "cbo.clean"]) {
      h.execute([asm(name, { rs1: 5 })], CODE);
      expect([h.hart.get("mcause"), h.hart.get("mtval")]).toEqual([7n, 0x7000_0000n]);
    }
  });
});
