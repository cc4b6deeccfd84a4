// The table against what the specifications say about some registers, and its rows against each other.
import { describe, expect, it, test } from "vitest";
import { hartState } from "./hart-state.ts";
import { CSR_NUMBERS, csrName, CSRS, qemuNameOf, registerEntries } from "./registers.ts";
import { sstatusOf, statusWords, withSstatus } from "./status.ts";
import { SUPERVISOR_ENTRY } from "./supervisor-entry.ts";

it.each([
  ["fcsr", 0x003],
  ["satp", 0x180],
  ["stimecmp", 0x14d],
  ["menvcfg", 0x30a],
  ["pmpcfg2", 0x3a2],
  ["pmpaddr15", 0x3bf],
  ["mhpmevent3", 0x323],
  ["hpmcounter31", 0xc1f],
  ["tdata3", 0x7a3],
  ["mhartid", 0xf14],
])("%s is CSR %i", (name, number) => {
  expect([CSR_NUMBERS.get(name), csrName(number)]).toEqual([number, name]);
});

it("a number without a CSR is shown as a number", () => {
  expect([csrName(0x3a1), csrName(0x015)]).toEqual(["0x3a1", "0x15"]);
});

it("numbers, names and QEMU's names are unique", () => {
  const qemu = registerEntries.flatMap(([, row]) => row.qemu ?? []);
  const numbers = CSRS.map(({ number }) => String(number));
  for (const all of [numbers, CSRS.map(({ name }) => name), qemu]) expect(new Set(all).size).toBe(all.length);
  expect([qemuNameOf("x"), qemuNameOf("mstatus")]).toEqual(["env.gpr", "env.mstatus"]);
});

it("a register with a read-only number has no writable bits", () => {
  const writable = registerEntries.filter(([, { csr = 0, writable }]) => csr >> 10 === 3 && writable);
  expect(writable).toEqual([]);
});

it("after a reset a hart is in M-mode, both widths are 64 bits, and no timer is set", () => {
  const { priv, mstatus, stimecmp, ...rest } = hartState.create();
  expect([priv, mstatus, stimecmp]).toEqual([3, 0xa_0000_0000n, 2n ** 64n - 1n]);
  for (const value of Object.values(rest).flatMap((v) => (typeof v === "object" ? [...v] : [v])))
    expect(Number(value)).toBe(0);
});

it("a field that no row has is an error of types", () => {
  const state = hartState.create();
  // @ts-expect-error: no row has this name
  expect(state.mstatusx).toBeUndefined();
  const mstatus: bigint = state.mstatus;
  const pmpcfg: Uint8Array = state.pmpcfg;
  expect([mstatus, pmpcfg.length]).toEqual([0xa_0000_0000n, 16]);
});

it("the built-in firmware leaves a supervisor in the state that SBI and Linux expect", () => {
  expect(SUPERVISOR_ENTRY).toEqual({
    priv: 1,
    medeleg: 0xb1ffn,
    mideleg: 0x222n,
    mcounteren: 0xffffffffn,
    scounteren: 7n,
    menvcfg: 0x80000000_000000f0n,
    svade: 1,
    pmpcfg: 0x1f,
    pmpaddr: 2n ** 54n - 1n,
  });
});

describe("sstatus", () => {
  test.each([
    ["shows its bits, UXL and nothing of M-mode's", 0xa_007e_79aan, 0x80000002_000c6122n],
    ["shows SD only while FS is dirty", 0xa_0000_2000n, 0x2_0000_2000n],
    ["shows no vectors, no other memory order and no SXL", 0x80000033_0001_8640n, 0x2_0000_0000n],
  ])("%s", (_what, mstatus, sstatus) => {
    expect(sstatusOf(mstatus)).toBe(sstatus);
  });
  test("a write changes SIE, SPIE, SPP, FS, SUM and MXR", () => {
    expect(withSstatus(0xa_0000_1888n, 2n ** 64n - 1n)).toBe(0xa_000c_79aan);
    expect(withSstatus(0xa_000c_79aan, 0n)).toBe(0xa_0000_1888n);
  });
});

it("a bit of mstatus without a name is shown by its number", () => {
  expect(statusWords(1n << 24n)).toBe("bit 24 MPP=U VS=off FS=off");
});
