// Enumeration of the bus finds the host bridge only.
import { expect, it } from "vitest";
import { GpexHost, unclaimedPciWindow } from "./gpex-host.ts";
import { SifiveTest } from "./sifive-test.ts";

it("has the host bridge at 00:00.0 and no other function", () => {
  const host = new GpexHost();
  expect(host.read(0, 4)).toBe(0x00081b36);
  expect(host.read(8, 4)).toBe(0x06000000);
  for (const device of [1 << 15, 1 << 12, 1 << 20, 0x100]) expect(host.read(device, 4)).toBe(0xffffffff);
  expect(unclaimedPciWindow.read(0, 2)).toBe(0xffff);
});

it("accepts guest writes to the writable fields of a type 0 header only", () => {
  const host = new GpexHost();
  for (let i = 0; i < 256; i += 4) host.write(i, 4, 0xffffffff);
  expect([0, 4, 8, 12, 16, 44, 60].map((i) => host.read(i, 4))).toEqual([
    0x00081b36, 0x0507, 0x06000000, 0xff, 0, 0x11001af4, 0xff,
  ]);
  host.reset();
  expect(host.read(4, 4)).toBe(0);
});

it("the test finisher reports the guest's request", () => {
  const seen: (number | string)[] = [];
  const test = new SifiveTest({ shutdown: (code) => seen.push(code), reset: () => seen.push("reset") });
  test.write(0, 4, 0x5555);
  test.write(0, 4, 0x0007_3333);
  test.write(0, 2, 0x7777);
  test.write(0, 4, 0x1234);
  test.write(4, 4, 0x5555);
  expect(seen).toEqual([0, 7, "reset"]);
  expect(test.read()).toBe(0);
});
