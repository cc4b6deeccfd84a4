// Zfa: the constants of fli in all formats, and each other row once (check:float tests its arithmetic).
import { beforeEach, expect, it } from "vitest";
import { asm, HartHarness, RAM_BASE } from "../../../test/support/hart-harness.ts";
import { FFLAGS } from "../float/softfloat-format.ts";
import { MSTATUS } from "../../riscv/status.ts";

const CODE = RAM_BASE + 0x1000n;
const HALF_BOX = 0xffff_ffff_ffff_0000n;
const BOX = 0xffff_ffff_0000_0000n;
const SNAN = 0x7ff0_0000_0000_0001n;
const NAN = 0x7ff8_0000_0000_0000n;

let h: HartHarness;
const f = (register: number): bigint => h.hart.get("f", register);
const bits = (value: number): bigint => new BigUint64Array(Float64Array.of(value).buffer)[0]!;
const bits32 = (value: number): bigint => BigInt(new Uint32Array(Float32Array.of(value).buffer)[0]!);

beforeEach(() => {
  h = new HartHarness();
  h.hart.set("mstatus", 1n << BigInt(MSTATUS.FS));
});

/** The specification's table, except rows 1 and 31. */
const VALUES = [
  ...[-1, 0, 2 ** -16, 2 ** -15, 2 ** -8, 2 ** -7, 0.0625, 0.125, 0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625],
  ...[
    0.75,
    0.875,
    1,
    1.25,
    1.5,
    1.75,
    2,
    2.5,
    3,
    4,
    8,
    16,
    128,
    256,
    32768,
    65536,
    Number.POSITIVE_INFINITY,
    0,
  ],
];

it("fli loads 32 constants in each format", () => {
  for (const [i, value] of VALUES.entries()) {
    const words = (["d", "s", "h"] as const).map((letter, j) => asm(`fli.${letter}`, { frd: j, uimm5: i }));
    h.execute(words, CODE);
    expect(f(0), `fli.d ${i}`).toBe(i === 1 ? 1n << 52n : i === 31 ? NAN : bits(value));
    expect(f(1), `fli.s ${i}`).toBe(BOX | (i === 1 ? 1n << 23n : i === 31 ? 0x7fc0_0000n : bits32(value)));
    // Half-precision values come from a conversion, which does not saturate: 65536 becomes infinity.
    if (i === 1) expect(f(2)).toBe(HALF_BOX | 0x400n);
    else if (i === 31) expect(f(2)).toBe(HALF_BOX | 0x7e00n);
    else {
      h.hart.set("f", bits(value), 4);
      h.execute([asm("fcvt.h.d", { frd: 3, frs1: 4 })], CODE);
      expect(f(2), `fli.h ${i}`).toBe(f(3));
    }
  }
});

it("fminm and fmaxm propagate NaNs, and distinguish the zeros", () => {
  const run = (name: string, a: bigint, b: bigint): bigint => {
    h.hart.set("f", a, 1);
    h.hart.set("f", b, 2);
    h.hart.set("fflags", 0n);
    h.execute([asm(name, { frd: 3, frs1: 1, frs2: 2 })], CODE);
    return f(3);
  };
  expect(run("fminm.d", bits(-0), bits(0))).toBe(bits(-0));
  expect(run("fmaxm.d", bits(-0), bits(0))).toBe(bits(0));
  expect(run("fmaxm.d", bits(2), NAN | 5n)).toBe(NAN);
  expect(h.hart.get("fflags")).toBe(0n);
  expect(run("fminm.d", SNAN, bits(1))).toBe(NAN);
  expect(h.hart.get("fflags")).toBe(BigInt(FFLAGS.NV));
});

it("fround uses the rounding mode and keeps the sign, and only froundnx raises NX", () => {
  const run = (name: string, value: number, rm: number): number => {
    h.hart.set("f", bits(value), 1);
    h.hart.set("fflags", 0n);
    h.execute([asm(name, { frd: 3, frs1: 1, rm })], CODE);
    return new Float64Array(BigUint64Array.of(f(3)).buffer)[0]!;
  };
  expect([0, 1, 2, 3, 4].map((rm) => run("fround.d", 2.5, rm))).toEqual([2, 2, 2, 3, 3]);
  expect([0, 1, 2, 3, 4].map((rm) => run("fround.d", -2.5, rm))).toEqual([-2, -2, -3, -2, -3]);
  expect([0, 1, 2, 3, 4].map((rm) => run("fround.d", -0.25, rm))).toEqual([-0, -0, -1, -0, -0]);
  expect(run("fround.d", 0.49999999999999994, 4)).toBe(0);
  expect(h.hart.get("fflags")).toBe(0n);
  run("froundnx.d", 2.5, 0);
  expect(h.hart.get("fflags")).toBe(BigInt(FFLAGS.NX));
  run("froundnx.d", 2, 0);
  expect(h.hart.get("fflags")).toBe(0n);
});

it("fleq and fltq raise no flag for quiet NaNs", () => {
  for (const name of ["fleq.d", "fltq.d"]) {
    h.hart.set("f", NAN, 1);
    h.hart.set("f", bits(1), 2);
    h.hart.set("fflags", 0n);
    h.execute([asm(name, { rd: 5, frs1: 1, frs2: 2 }), asm(name, { rd: 6, frs1: 2, frs2: 2 })], CODE);
    expect([h.x(5), h.x(6), h.hart.get("fflags")]).toEqual([0n, name === "fleq.d" ? 1n : 0n, 0n]);
  }
});

it("fcvtmod.w.d is JavaScript's ToInt32", () => {
  const values = [
    0,
    -0,
    1.5,
    -1.5,
    2 ** 31,
    -(2 ** 31) - 1,
    2 ** 32 + 7.9,
    -(2 ** 53) - 2,
    2 ** 63 + 2 ** 12,
  ];
  for (const value of [...values, -(2 ** 80) - 2 ** 30, 1e300, 2 ** 83 + 2 ** 31, Infinity, NaN, 4e9, -4e9]) {
    h.hart.set("f", bits(value), 1);
    h.hart.set("fflags", 0n);
    h.execute([asm("fcvtmod.w.d", { rd: 5, frs1: 1 })], CODE);
    expect(BigInt.asIntN(64, h.x(5)), `${value}`).toBe(BigInt(value | 0));
    const inside = Math.trunc(value) === (value | 0);
    const flags = !inside ? FFLAGS.NV : Math.trunc(value) === value ? 0 : FFLAGS.NX;
    expect(h.hart.get("fflags"), `flags of ${value}`).toBe(BigInt(flags));
  }
});
