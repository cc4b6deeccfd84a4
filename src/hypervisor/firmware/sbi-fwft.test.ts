// SBI's firmware features through a whole vCPU thread, against SBI 3.0, chapter 18.
import { describe, expect, test } from "vitest";
import { RAM, ScriptedVm } from "../../../test/support/scripted-vm.ts";
import type { HartImage } from "../hart/hart-image.ts";
import { EXIT } from "../hart/engine-interface.ts";
import { CTL_MP_STATE } from "../shared/memory-map.ts";
import { MP_STATE } from "../../accelerator/mp-state.ts";

const FWFT = 0x46574654;
const HSM = 0x48534d;
const NOT_SUPPORTED = -2n;
const INVALID_PARAM = -3n;
const DENIED = -4n;
const DENIED_LOCKED = -14n;
const MISALIGNED = 0n;
const ADUE = 4n;
const LOCK = 1n;
const HIGH = 1n << 32n;
const slice = (): number => EXIT.SLICE;

function machine(): { s: ScriptedVm; set: Call; get: (feature: bigint, hart?: number) => [bigint, bigint] } {
  const s = new ScriptedVm({ harts: 2 });
  const set: Call = (feature, value, flags = 0n, hart = 0) =>
    s.ecall(hart, FWFT, 0, [feature, value, flags])[0];
  return { s, set, get: (feature, hart = 0) => s.ecall(hart, FWFT, 1, [feature]) };
}
type Call = (feature: bigint, value: bigint, flags?: bigint, hart?: number) => bigint;
const imageOf = (s: ScriptedVm, hart: number): HartImage => s.images[hart] as HartImage;

test("PTE_AD_HW_UPDATING is 0 after a reset, and is menvcfg.ADUE of the calling hart alone", () => {
  const { s, set, get } = machine();
  expect([get(ADUE), imageOf(s, 0).get("svade")]).toEqual([[0n, 0n], 1n]);
  expect([set(ADUE, 1n), get(ADUE), imageOf(s, 0).get("svade")]).toEqual([0n, [0n, 1n], 0n]);
  expect([get(ADUE, 1), imageOf(s, 1).get("svade")]).toEqual([[0n, 0n], 1n]);
  expect([set(ADUE, 0n), get(ADUE)]).toEqual([0n, [0n, 0n]]);
});

test("misaligned exceptions are delegated after a reset", () => {
  const { set, get } = machine();
  expect(get(MISALIGNED)).toEqual([0n, 1n]);
  expect([set(MISALIGNED, 0n), get(MISALIGNED)]).toEqual([0n, [0n, 0n]]);
  expect([set(MISALIGNED, 1n), get(MISALIGNED)]).toEqual([0n, [0n, 1n]]);
});

test.each([
  ["landing pads", 1n, NOT_SUPPORTED],
  ["shadow stacks", 2n, NOT_SUPPORTED],
  ["double traps", 3n, NOT_SUPPORTED],
  ["pointer masking", 5n, NOT_SUPPORTED],
  ["the first reserved local one", 6n, DENIED],
  ["the last reserved local one", 0x3fffffffn, DENIED],
  ["platform-specific local ones", 0x40000000n, DENIED],
  ["the first reserved global one", 0x80000000n, DENIED],
  ["the last reserved global one", 0xbfffffffn, DENIED],
  ["platform-specific global ones", 0xffffffffn, DENIED],
])("features that are not there: %s", (_name, feature, error) => {
  const { set, get } = machine();
  for (const value of [0n, 1n, 2n]) expect(set(feature, value)).toBe(error);
  expect(get(feature)).toEqual([error, 0n]);
  expect(get(HIGH | feature)).toEqual([error, 0n]);
});

describe.each([
  ["MISALIGNED_EXC_DELEG", MISALIGNED, 1n],
  ["PTE_AD_HW_UPDATING", ADUE, 0n],
])("%s", (_name, feature, reset) => {
  test("the feature has 32 bits, value and flags have 64", () => {
    const { set, get } = machine();
    expect([set(HIGH | feature, reset ^ 1n), get(feature)]).toEqual([0n, [0n, reset ^ 1n]]);
    for (const value of [2n, 0xffffffffn, HIGH, HIGH | 1n, 2n ** 64n - 1n])
      expect([value, set(feature, value)]).toEqual([value, INVALID_PARAM]);
    for (const flags of [2n, 3n, HIGH, HIGH | LOCK, 2n ** 64n - 2n])
      expect([flags, set(feature, reset, flags)]).toEqual([flags, INVALID_PARAM]);
    expect(get(feature)).toEqual([0n, reset ^ 1n]);
  });

  test("a lock holds for this hart until it is reset, also through a non-retentive suspend", () => {
    const { s, set, get } = machine();
    expect(set(feature, reset ^ 1n, LOCK, 1)).toBe(0n);
    for (const value of [0n, 1n, 2n])
      for (const flags of [0n, LOCK, 2n]) expect(set(feature, value, flags, 1)).toBe(DENIED_LOCKED);
    expect(set(feature, reset)).toBe(0n);

    imageOf(s, 1).set("mie", 2n);
    imageOf(s, 1).set("mip", 2n);
    s.ecall(1, HSM, 3, [0x80000000n, BigInt(RAM), 0n], slice, slice);
    expect([imageOf(s, 1).get("pc"), get(feature, 1)]).toEqual([BigInt(RAM), [0n, reset ^ 1n]]);
    expect(set(feature, reset, 0n, 1)).toBe(DENIED_LOCKED);

    s.requests[1]?.store(CTL_MP_STATE, MP_STATE.STOPPED);
    expect(s.ecall(0, HSM, 0, [1n, BigInt(RAM), 0n])[0]).toBe(0n);
    s.run(1, slice);
    expect([get(feature, 1), set(feature, reset ^ 1n, 0n, 1)]).toEqual([[0n, reset], 0n]);
  });
});
