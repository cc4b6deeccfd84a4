import { expect, test } from "vitest";
import { HotCode, hotPlaces } from "./hot-code.ts";
import { HART_AREA_BASE, HART_AREA_SIZE, HOT_ROWS } from "../shared/memory-map.ts";

test("samples close together are one place; the most frequent come first", () => {
  const buffer = new SharedArrayBuffer(HART_AREA_BASE + HART_AREA_SIZE);
  const hot = new HotCode(buffer, 0);
  for (const pc of [0x1004n, 0xffffffff80000000n, 0x1008n, 0x103en, 0x1040n, 0xffffffff80000002n])
    hot.sample(pc);
  expect(hotPlaces(buffer, 0, 2)).toEqual([
    { address: 0x1004n, count: 3 },
    { address: 0xffffffff80000000n, count: 2 },
  ]);
  expect(hotPlaces(buffer, 0, 9)).toHaveLength(3);
  new HotCode(buffer, 0);
  expect(hotPlaces(buffer, 0, 9)).toEqual([]);
});

test("hot places are found among more places than there are rows", () => {
  const buffer = new SharedArrayBuffer(HART_AREA_BASE + HART_AREA_SIZE);
  const hot = new HotCode(buffer, 0);
  const places = 4 * HOT_ROWS;
  for (let i = 0; i < places; i++) {
    hot.sample(BigInt(i) << 6n);
    if (i % 8 === 0) hot.sample(0xabcdefn);
  }
  const [first] = hotPlaces(buffer, 0, 1);
  expect(first?.address).toBe(0xabcdefn);
  expect(first?.count).toBeGreaterThanOrEqual(places / 8);
  const all = hotPlaces(buffer, 0, HOT_ROWS).reduce((sum, { count }) => sum + count, 0);
  expect(all).toBe(places + places / 8);
});
