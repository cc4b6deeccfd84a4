// Dispatch of guest-physical addresses to devices.
import { expect, it } from "vitest";
import { AddressSpace, MemoryError } from "./address-space.ts";

function recorder(): {
  log: string[];
  read(offset: number, size: number): number;
  write(...a: number[]): void;
} {
  const log: string[] = [];
  return {
    log,
    read: (offset, size) => {
      log.push(`r${offset}/${size}`);
      return 0x80000000 + offset;
    },
    write: (offset, size, value) => void log.push(`w${offset}/${size}=${value?.toString(16)}`),
  };
}

it("finds the device, splits 8-byte accesses low half first, and faults outside all ranges", () => {
  const space = new AddressSpace();
  const low = recorder();
  const high = recorder();
  space.add("high", 0x2000, 0x10, high);
  space.add("low", 0x1000, 0x100, low);
  expect(space.read(0x1004, 4)).toBe(0x80000004n);
  expect(space.read(0x2008, 8)).toBe(0x8000000c_80000008n);
  expect(space.write(0x10ff, 1, 0xfffn)).toBe(true);
  expect(space.write(0x2000, 8, 0x11223344_55667788n)).toBe(true);
  expect(low.log).toEqual(["r4/4", "w255/1=ff"]);
  expect(high.log).toEqual(["r8/4", "r12/4", "w0/4=55667788", "w4/4=11223344"]);
  for (const [at, size] of [
    [0xfff, 4],
    [0x10fe, 4],
    [0x1100, 1],
    [0x200c, 8],
    [0, 1],
  ] as const) {
    expect(space.read(at, size)).toBeUndefined();
    expect(space.write(at, size, 0n)).toBe(false);
  }
});

it("refuses ranges that overlap", () => {
  const space = new AddressSpace();
  space.add("a", 0x1000, 0x100, recorder());
  expect(() => space.add("b", 0x10ff, 1, recorder())).toThrow(MemoryError);
  expect(() => space.add("b", 0x10ff, 1, recorder())).toThrow("overlaps a at 0x1000");
  space.add("c", 0x1100, 1, recorder());
});
