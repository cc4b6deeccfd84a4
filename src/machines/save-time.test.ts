import { beforeEach, expect, test } from "vitest";
import { SaveTime } from "./save-time.ts";

const SECOND = 1_000_000_000n;
const SAVED = BigInt(Date.UTC(2026, 0, 1)) * 1_000_000n;

let wallNs: bigint;
let ticks: bigint;
const clock = {
  frequencyHz: 10_000_000,
  read: () => ticks,
  write(to: bigint) {
    ticks = to;
  },
};

beforeEach(() => {
  ticks = 123n;
});

/** Restored `ns` after the save. */
function after(ns: bigint, loadedNs = SAVED): string | undefined {
  wallNs = loadedNs + ns;
  const time = new SaveTime(() => wallNs);
  time.loadedNs = loadedNs;
  return time.catchUp(clock);
}

test.each([
  ["at once", 0n, 0n],
  ["part of a tick", 199n, 1n],
  ["an hour", 3600n * SECOND, 36_000_000_000n],
  ["ten years", 315_360_000n * SECOND, 3_153_600_000_000_000n],
])("guest time goes on by as long as the machine was away: %s", (_, ns, more) => {
  expect(after(ns)).toBeUndefined();
  expect(ticks).toBe(123n + more);
});

test("a clock that was set back, or an absurd time, adds nothing, and the reason has both dates", () => {
  expect(after(-SECOND)).toBe(
    "it was saved at 2026-01-01T00:00:00.000Z, and this computer's clock shows 2025-12-31T23:59:59.000Z: one of the two clocks is wrong",
  );
  expect(after(2_000_000_000n * SECOND, SECOND)).toMatch(/^it was saved at 1970-01-01.*too long/);
  expect(after(1n - 2n ** 64n, 2n ** 64n - 1n)).toMatch(/^it was saved at 2554-.*wrong/);
  expect(ticks).toBe(123n);
});

test("a state that does not tell its time, and guest time of instructions, add nothing", () => {
  expect(after(5n * SECOND, 0n)).toMatch(/does not tell/);
  const icount = new SaveTime(undefined);
  icount.loadedNs = SAVED;
  expect([icount.catchUp(clock), icount.nowNs()]).toEqual(["guest time counts instructions", 0n]);
  expect(ticks).toBe(123n);
});
