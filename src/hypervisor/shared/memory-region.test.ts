import { expect, test } from "vitest";
import { MemoryRegion } from "./memory-region.ts";

test("items follow each other at their alignment", () => {
  const region = new MemoryRegion("region", 0x100, 0x200);
  expect(region.u32("a")).toBe(0x100);
  expect(region.u64("b")).toBe(0x108);
  expect(region.u32("c")).toBe(0x110);
  expect(region.take("d", 3, 64)).toBe(0x140);
  expect(region.u32("e")).toBe(0x144);
  expect(region.used).toBe(0x148);
});

test("an item at a given offset may not overlap another, whichever comes first", () => {
  const region = new MemoryRegion("region", 0, 0x100);
  region.at("fixed", 0x40, 0x20);
  expect(() => region.at("planted", 0x5f, 4)).toThrow("region: planted overlaps fixed");
  expect(() => region.at("planted", 0x3d, 4)).toThrow("region: planted overlaps fixed");
  expect(() => region.at("planted", 0x30, 0x40)).toThrow("region: planted overlaps fixed");
  expect(region.at("before", 0x3c, 4)).toBe(0x3c);
  expect(region.at("after", 0x60, 4)).toBe(0x60);
});

test("no item exceeds the region", () => {
  const region = new MemoryRegion("region", 0, 0x10);
  region.u64("a");
  expect(() => region.take("planted", 9)).toThrow("region: planted ends at 0x11, the region at 0x10");
  expect(region.u64("b")).toBe(8);
  expect(() => region.u32("planted")).toThrow("region: planted ends at 0x14, the region at 0x10");
});
