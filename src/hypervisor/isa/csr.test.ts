// CSRs: values read after writing all ones and all zeros, privilege, read-only numbers, views, side effects.
import { beforeEach, describe, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { CSR_NUMBERS, CSRS } from "../../riscv/registers.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import { PRIV } from "../../riscv/privilege.ts";
import { MSTATUS } from "../../riscv/status.ts";

const CODE = RAM_BASE + 0x1000n;
const HANDLER = RAM_BASE + 0x2000n;
const ONES = (1n << 64n) - 1n;

let h: HartHarness;
beforeEach(() => {
  h = new HartHarness();
  h.hart.set("mtvec", HANDLER);
  h.hart.set("priv", BigInt(PRIV.M));
  h.hart.set("mcountinhibit", 5n);
});

/** Executes one CSR instruction; returns the old value, or undefined if it was illegal. */
function csr(
  name: string | number,
  op: "csrrw" | "csrrs" | "csrrc" = "csrrs",
  value?: bigint,
): bigint | undefined {
  const number = typeof name === "number" ? name : (CSR_NUMBERS.get(name) as number);
  h.setX(5, value ?? 0n);
  h.execute([asm(op, { csr: number, rs1: value === undefined ? 0 : 5, rd: 6 })], CODE);
  if (h.hart.get("pc") === CODE + 4n) return h.x(6);
  expect([h.hart.get("pc"), h.hart.get("mcause")]).toEqual([HANDLER, 2n]);
  h.hart.set("priv", BigInt(PRIV.M));
  return undefined;
}

const { SIE, MIE, SPIE, MPIE, SPP, SUM, MXR, TVM, TW, TSR, MPRV } = MSTATUS;
const MSTATUS_WRITABLE =
  [SIE, MIE, SPIE, MPIE, SPP, SUM, MXR, TVM, TW, TSR, MPRV].reduce((sum, b) => sum | (1n << BigInt(b)), 0n) |
  (3n << BigInt(MSTATUS.FS)) |
  (3n << BigInt(MSTATUS.MPP));
const SSTATUS_WRITABLE = 0xde122n & ~(3n << 15n);
const SD = 1n << 63n;

/** Name, value after writing all ones, value after writing zeros. */
const masks: [string, bigint, bigint][] = [
  ["mstatus", MSTATUS_WRITABLE | SD | (5n << 33n), 5n << 33n],
  ["sstatus", SSTATUS_WRITABLE | SD | (1n << 33n), 1n << 33n],
  ["mie", 0xaaan, 0n],
  ["mip", 0x222n, 0n],
  ["medeleg", 0xb3ffn, 0n],
  ["mideleg", 0x222n, 0n],
  ["mtvec", 0n, 0n],
  ["mepc", ONES - 1n, 0n],
  ["mcause", ONES, 0n],
  ["mtval", ONES, 0n],
  ["mscratch", ONES, 0n],
  ["mcounteren", 0xffffffffn, 0n],
  ["mcountinhibit", 5n, 0n],
  ["menvcfg", (5n << 61n) | 0xf1n, 0n],
  ["mcycle", ONES, 0n],
  ["minstret", ONES, 0n],
  ["mhpmcounter3", 0n, 0n],
  ["mhpmevent31", 0n, 0n],
  ["stvec", 0n, 0n],
  ["sepc", ONES - 1n, 0n],
  ["scause", ONES, 0n],
  ["stval", ONES, 0n],
  ["sscratch", ONES, 0n],
  ["scounteren", 0xffffffffn, 0n],
  ["senvcfg", 0xf1n, 0n],
  ["satp", 0n, 0n],
  ["stimecmp", ONES, 0n],
  ["misa", (2n << 62n) | 0x14112dn, (2n << 62n) | 0x14112dn],
  ["pmpaddr3", (1n << 54n) - 1n, 0n],
  ["tselect", 0n, 0n],
];

describe("write masks", () => {
  it.each(masks)("%s", (name, afterOnes, afterZeros) => {
    csr(name, "csrrw", 0n);
    expect(csr(name, "csrrw", ONES)).toBe(afterZeros);
    if (name === "mcountinhibit") h.hart.set("mcountinhibit", 5n);
    expect(csr(name)).toBe(afterOnes);
    csr(name, "csrrw", 0n);
    expect(csr(name)).toBe(afterZeros);
  });

  it("keep MPP legal, and ignore reserved modes of tvec and satp", () => {
    csr("mstatus", "csrrw", 3n << BigInt(MSTATUS.MPP));
    csr("mstatus", "csrrw", 2n << BigInt(MSTATUS.MPP));
    expect((csr("mstatus") as bigint) >> BigInt(MSTATUS.MPP)).toBe((5n << 22n) | 3n);
    csr("stvec", "csrrw", 0x8000_0001n);
    csr("stvec", "csrrw", 0x9000_0002n);
    expect(csr("stvec")).toBe(0x8000_0001n);
    csr("satp", "csrrw", (8n << 60n) | (0xabcdn << 44n) | 0x80000n);
    csr("satp", "csrrw", (7n << 60n) | 1n);
    expect(csr("satp")).toBe((8n << 60n) | (0xabcdn << 44n) | 0x80000n);
  });
});

it("without triggers, tselect holds 0, tdata1 is 0 and tinfo 1: no trigger exists (Sdtrig, 5.7.1)", () => {
  csr("tselect", "csrrw", 1n);
  expect(["tselect", "tdata1", "tinfo"].map((name) => csr(name))).toEqual([0n, 0n, 1n]);
  csr("tinfo", "csrrw", ONES);
  csr("tdata1", "csrrw", ONES);
  expect(["tdata1", "tinfo"].map((name) => csr(name))).toEqual([0n, 1n]);
});

describe("access", () => {
  it("needs the privilege that the number encodes", () => {
    for (const row of CSRS) {
      if (row.number < 0x100) continue;
      for (const priv of [PRIV.U, PRIV.S]) {
        h.hart.set("mcounteren", 0xffffffffn);
        h.hart.set("scounteren", 0xffffffffn);
        h.hart.set("menvcfg", 1n << 63n);
        h.hart.set("priv", BigInt(priv));
        expect(csr(row.number) !== undefined, `${row.name} in ${priv}`).toBe(((row.number >> 8) & 3) <= priv);
      }
    }
  });

  it("raises illegal instruction for writes to read-only numbers, and for numbers that do not exist", () => {
    expect(csr("mhartid")).toBe(0n);
    expect(csr("mhartid", "csrrw", 0n)).toBeUndefined();
    expect(csr("cycle", "csrrs", 0n)).toBeUndefined();
    for (const number of [0x3a1, 0x747, 0x600, 0x5a8, 0x7b0, 0xc80, 0x3c0])
      expect(csr(number)).toBeUndefined();
  });

  it("to counters is controlled by mcounteren and scounteren", () => {
    const readable = (name: string, priv: number, m: bigint, s: bigint): boolean => {
      h.hart.set("mcounteren", m);
      h.hart.set("scounteren", s);
      h.hart.set("priv", BigInt(priv));
      return csr(name) !== undefined;
    };
    expect(readable("time", PRIV.M, 0n, 0n)).toBe(true);
    expect(readable("time", PRIV.S, 0n, 2n)).toBe(false);
    expect(readable("time", PRIV.S, 2n, 0n)).toBe(true);
    expect(readable("time", PRIV.U, 2n, 0n)).toBe(false);
    expect(readable("time", PRIV.U, 2n, 2n)).toBe(true);
    expect(readable("hpmcounter31", PRIV.U, 1n << 31n, 1n << 31n)).toBe(true);
    expect(readable("instret", PRIV.U, 2n, 2n)).toBe(false);
  });

  it("to float registers requires mstatus.FS, and a write makes it dirty", () => {
    for (const name of ["fflags", "frm", "fcsr"]) expect(csr(name)).toBeUndefined();
    h.hart.set("mstatus", 1n << BigInt(MSTATUS.FS));
    csr("fcsr", "csrrw", ONES);
    expect([csr("fcsr"), csr("frm"), csr("fflags")]).toEqual([0xffn, 7n, 31n]);
    expect(csr("mstatus")).toBe(SD | (3n << BigInt(MSTATUS.FS)) | (5n << 33n));
  });
});

describe("views and side effects", () => {
  it("sie and sip show delegated interrupts; only SSIP is writable in sip", () => {
    h.hart.set("mideleg", 0x22n);
    h.hart.set("mie", 0xaaan);
    h.lines = 0xaaa;
    expect([csr("sie"), csr("sip")]).toEqual([0x22n, 0x22n]);
    csr("sie", "csrrw", 0n);
    expect(csr("mie")).toBe(0xa88n);
    h.lines = 0;
    csr("sip", "csrrw", ONES);
    expect(csr("mip")).toBe(2n);
    csr("sip", "csrrc", 2n);
    expect(csr("mip")).toBe(0n);
  });

  it("setting one bit of mip does not latch a line", () => {
    h.lines = 1 << 9;
    csr("mip", "csrrs", 2n);
    expect(csr("mip")).toBe(0x202n);
    h.lines = 0;
    expect(csr("mip")).toBe(2n);
  });

  it("set and clear by register and immediate, and return the old value", () => {
    csr("mscratch", "csrrw", 0xf0n);
    expect(csr("mscratch", "csrrs", 0x0fn)).toBe(0xf0n);
    expect(csr("mscratch", "csrrc", 0xf1n)).toBe(0xffn);
    const scratch = { csr: 0x340, rd: 6 };
    h.execute([asm("csrrwi", { ...scratch, uimm5: 31 })], CODE);
    expect(h.x(6)).toBe(0x0en);
    h.execute([asm("csrrci", { ...scratch, uimm5: 1 })], CODE);
    h.execute([asm("csrrsi", { ...scratch, uimm5: 0 })], CODE);
    expect(h.x(6)).toBe(30n);
  });

  it("source and destination may be the same register", () => {
    csr("mscratch", "csrrw", 7n);
    h.setX(5, 9n);
    h.execute([asm("csrrw", { csr: 0x340, rs1: 5, rd: 5 })], CODE);
    expect([h.x(5), csr("mscratch")]).toEqual([7n, 9n]);
  });

  it("count instructions, and not the one that writes the counter", () => {
    csr("mcountinhibit", "csrrw", 0n);
    h.execute([asm("csrrwi", { csr: 0xb02, uimm5: 0 }), asm("csrrs", { csr: 0xb02, rd: 6 })], CODE);
    expect(h.x(6)).toBe(0n);
    h.execute([asm("addi"), asm("addi"), asm("csrrs", { csr: 0xc02, rd: 6 })], CODE);
    expect(h.x(6)).toBe(3n);
  });

  it("locked pmpcfg entries protect themselves and the address below a TOR", () => {
    csr("pmpcfg0", "csrrw", 0x8f_00_9fn);
    csr("pmpcfg0", "csrrw", 0x1f_1f_1fn);
    expect(csr("pmpcfg0")).toBe(0x8f_1f_9fn);
    // 0: locked itself; 1: below a locked TOR; 2: locked itself; 3: not locked.
    for (const [i, value] of [0n, 0n, 0n, 1n].entries()) {
      csr(`pmpaddr${i}`, "csrrw", 1n);
      expect(csr(`pmpaddr${i}`)).toBe(value);
    }
    // W without R is reserved and keeps the old value.
    csr("pmpcfg2", "csrrw", 0x1fn);
    csr("pmpcfg2", "csrrw", 0x1an);
    expect(csr("pmpcfg2")).toBe(0x1fn);
  });

  it("no two fields of the hart overlap in memory", () => {
    expect(hartLayout.end).toBeLessThan(0x1000);
    expect(hartLayout.offsetOf("f") - hartLayout.offsetOf("x")).toBe(256);
  });
});
