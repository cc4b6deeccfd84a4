// The F and D rows as a guest uses them: mstatus.FS, rounding modes, NaN boxing, fcsr. Arithmetic has its own
// tests (softfloat*.test.ts); random programs against QEMU are in test/oracle.
import { beforeEach, describe, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { FFLAGS } from "../float/softfloat-format.ts";
import { CAUSE } from "../../riscv/causes.ts";
import { MSTATUS } from "../../riscv/status.ts";

const HANDLER = RAM_BASE + 0x2000n;
const CODE = RAM_BASE + 0x1000n;
const DATA = RAM_BASE + 0x8000n;
const FS = { off: 0n, initial: 1n, clean: 2n, dirty: 3n };
const BOX = 0xffff_ffff_0000_0000n;
const ONE = 0x3f80_0000n;
const THREE = 0x4040_0000n;
const NAN = 0x7fc0_0000n;

let h: HartHarness;
const fs = (): bigint => (h.hart.get("mstatus") >> BigInt(MSTATUS.FS)) & 3n;
const f = (register: number): bigint => h.hart.get("f", register);
const setF = (register: number, bits: bigint): void => h.hart.set("f", bits, register);

/** Runs one instruction; true if it was illegal. */
function illegal(word: number): boolean {
  h.hart.set("mcause", 0n);
  h.execute([word], CODE);
  return h.hart.get("mcause") === BigInt(CAUSE.ILLEGAL_INSTRUCTION);
}

beforeEach(() => {
  h = new HartHarness();
  h.hart.set("mtvec", HANDLER);
  h.hart.set("mstatus", FS.initial << BigInt(MSTATUS.FS));
  setF(1, BOX | ONE);
  setF(2, BOX | THREE);
  h.setX(8, DATA);
});

describe("mstatus.FS", () => {
  const words: [string, number][] = [
    ["fadd.s", asm("fadd.s", { frd: 3, frs1: 1, frs2: 2 })],
    ["fld", asm("fld", { frd: 3, rs1: 8 })],
    ["fsw", asm("fsw", { frs2: 1, rs1: 8 })],
    ["fmv.x.d", asm("fmv.x.d", { rd: 5, frs1: 1 })],
    ["fclass.s", asm("fclass.s", { rd: 5, frs1: 1 })],
    ["a read of fcsr", asm("csrrs", { rd: 5, csr: 3 })],
  ];

  it.each(words)("off makes %s illegal", (_name, word) => {
    expect(illegal(word)).toBe(false);
    h.hart.set("mstatus", 0n);
    expect(illegal(word)).toBe(true);
    expect(fs()).toBe(FS.off);
  });

  it("becomes dirty when f registers or fflags may change, and only then", () => {
    const after = (word: number): bigint => {
      h.hart.set("mstatus", FS.clean << BigInt(MSTATUS.FS));
      h.execute([word], CODE);
      return fs();
    };
    expect(after(asm("fadd.s", { frd: 3, frs1: 1, frs2: 2 }))).toBe(FS.dirty);
    expect(after(asm("feq.s", { rd: 3, frs1: 1, frs2: 2 }))).toBe(FS.dirty);
    expect(after(asm("fld", { frd: 3, rs1: 8 }))).toBe(FS.dirty);
    expect(after(asm("csrrwi", { csr: 2, uimm5: 1 }))).toBe(FS.dirty);
    expect(after(asm("fsd", { frs2: 1, rs1: 8 }))).toBe(FS.clean);
    expect(after(asm("fmv.x.w", { rd: 3, frs1: 1 }))).toBe(FS.clean);
    h.setX(8, 0n);
    expect(after(asm("fld", { frd: 3, rs1: 8 }))).toBe(FS.clean);
  });
});

describe("rounding modes", () => {
  const divide = (rm: number): number => asm("fdiv.s", { frd: 3, frs1: 1, frs2: 2, rm });

  it("reserved ones are illegal, in the instruction and in frm", () => {
    for (const rm of [0, 1, 2, 3, 4, 7]) expect(illegal(divide(rm))).toBe(false);
    for (const rm of [5, 6]) expect(illegal(divide(rm))).toBe(true);
    for (const frm of [5n, 6n, 7n]) {
      h.hart.set("frm", frm);
      expect(illegal(divide(7))).toBe(true);
      expect(illegal(divide(0))).toBe(false);
    }
  });

  it("dynamic uses frm", () => {
    const third = (rm: number, frm = 0n): bigint => {
      h.hart.set("frm", frm);
      h.execute([divide(rm)], CODE);
      return f(3) & 0xffff_ffffn;
    };
    expect(third(7, 3n)).toBe(third(3));
    expect(third(7, 2n)).toBe(third(2));
    expect(third(3)).toBe(third(2) + 1n);
    expect(h.hart.get("fflags")).toBe(BigInt(FFLAGS.NX));
  });
});

describe("NaN boxing", () => {
  it("binary32 results are boxed, operands that are not boxed are the canonical NaN", () => {
    h.execute([asm("fadd.s", { frd: 3, frs1: 1, frs2: 2 })], CODE);
    expect(f(3)).toBe(BOX | 0x4080_0000n);
    setF(1, ONE);
    h.execute([asm("fadd.s", { frd: 3, frs1: 1, frs2: 2 })], CODE);
    expect(f(3)).toBe(BOX | NAN);
    h.execute([asm("fsgnjn.s", { frd: 4, frs1: 1, frs2: 1 })], CODE);
    expect(f(4)).toBe(BOX | NAN | 0x8000_0000n);
    h.execute([asm("fmin.s", { frd: 5, frs1: 1, frs2: 2 })], CODE);
    expect(f(5)).toBe(BOX | THREE);
    expect(h.hart.get("fflags")).toBe(0n);
  });

  it("moves and stores use the low bits unchanged, loads box", () => {
    setF(1, 0x1234_5678_8765_4321n);
    h.execute([asm("fmv.x.w", { rd: 5, frs1: 1 }), asm("fsw", { frs2: 1, rs1: 8 })], CODE);
    expect(h.x(5)).toBe(0xffff_ffff_8765_4321n);
    expect(h.read64(DATA)).toBe(0x8765_4321n);
    h.execute([asm("flw", { frd: 2, rs1: 8 })], CODE);
    expect(f(2)).toBe(BOX | 0x8765_4321n);
  });
});

describe("flags", () => {
  it("comparisons: feq is quiet, flt is not; fcsr reads and writes frm and fflags", () => {
    setF(3, BOX | NAN);
    h.execute([asm("feq.s", { rd: 5, frs1: 1, frs2: 3 })], CODE);
    expect([h.x(5), h.hart.get("fflags")]).toEqual([0n, 0n]);
    h.execute([asm("flt.s", { rd: 5, frs1: 1, frs2: 3 }), asm("csrrwi", { rd: 6, csr: 3, uimm5: 9 })], CODE);
    expect([h.x(5), h.x(6)]).toEqual([0n, BigInt(FFLAGS.NV)]);
    expect([h.hart.get("frm"), h.hart.get("fflags")]).toEqual([0n, 9n]);
  });
});

describe.each(["interpreter", "translator"] as const)("flags that a program clears, %s", (engine) => {
  it("accrue again after they were cleared", () => {
    h = new HartHarness({ engine });
    h.hart.set("mstatus", FS.dirty << BigInt(MSTATUS.FS));
    h.hart.set("fflags", BigInt(FFLAGS.NX));
    setF(1, BOX | ONE);
    setF(2, BOX | THREE);
    const divide = asm("fdiv.s", { frd: 3, frs1: 1, frs2: 2, rm: 0 });
    h.load([divide, asm("csrrwi", { rd: 5, csr: 1, uimm5: 0 }), divide, asm("jal", { imm: 0 })], CODE);
    h.hart.set("pc", CODE);
    h.run(10);
    expect([h.x(5), h.hart.get("fflags")]).toEqual([BigInt(FFLAGS.NX), BigInt(FFLAGS.NX)]);
  });
});

describe.each(["interpreter", "translator"] as const)("in the middle of a block, %s", (engine) => {
  const run = (status: bigint, frm: bigint) => {
    h = new HartHarness({ engine });
    h.hart.set("mtvec", HANDLER);
    h.hart.set("mstatus", status << BigInt(MSTATUS.FS));
    h.hart.set("frm", frm);
    setF(1, BOX | ONE);
    setF(2, BOX | THREE);
    h.load([asm("jal", { imm: 0 })], HANDLER);
    const body = [
      asm("addi", { rd: 5, rs1: 5, imm: 1 }),
      asm("fdiv.s", { frd: 3, frs1: 1, frs2: 2, rm: 7 }),
      asm("fdiv.s", { frd: 4, frs1: 3, frs2: 2, rm: 7 }),
      asm("addi", { rd: 6, rs1: 6, imm: 1 }),
    ];
    h.load([...body, asm("jal", { imm: -4 * body.length })], CODE);
    h.hart.set("pc", CODE);
    h.run(10 * (body.length + 1));
  };

  it("float instructions are illegal while FS is off, or frm reserved", () => {
    for (const [status, frm] of [
      [FS.off, 0n],
      [FS.dirty, 5n],
    ] as const) {
      run(status, frm);
      expect([h.hart.get("mcause"), h.hart.get("mepc"), h.x(5), h.x(6)]).toEqual([2n, CODE + 4n, 1n, 0n]);
    }
  });

  it("FS becomes dirty, and frm takes effect", () => {
    const quotients = [0n, 2n, 3n].map((frm) => {
      run(FS.initial, frm);
      expect([fs(), h.x(5), h.x(6), h.hart.get("fflags")]).toEqual([FS.dirty, 10n, 10n, 1n]);
      return f(4) - BOX;
    });
    expect(quotients).toEqual([0x3de3_8e39n, 0x3de3_8e38n, 0x3de3_8e3an]);
  });
});

describe("compressed", () => {
  it("c.fsd, c.fld, c.fsdsp, c.fldsp", () => {
    setF(9, 0x0123_4567_89ab_cdefn);
    h.setX(2, DATA + 0x100n);
    // c.fsd f9, 8(x8); c.fld f10, 8(x8); c.fsdsp f9, 16(sp); c.fldsp f11, 16(sp)
    h.loadHalves([0xa404, 0x2408, 0xa826, 0x25c2], CODE);
    h.hart.set("pc", CODE);
    h.run(4);
    expect([f(10), f(11), h.read64(DATA + 8n), h.read64(DATA + 0x110n)]).toEqual(new Array(4).fill(f(9)));
  });
});
