import { expect, test } from "vitest";
import { GuestMemory } from "../memory/guest-memory.ts";
import { walk } from "./code-trace.ts";

const RAM = 0x80000000;
const SIZE = 0x10000;

function memory(): GuestMemory {
  const buffer = new SharedArrayBuffer(SIZE);
  return new GuestMemory(buffer, [
    {
      name: "ram",
      guestPhys: RAM,
      size: SIZE,
      hostOffset: 0,
      readonly: false,
      dirty: new Int32Array(new SharedArrayBuffer(64)),
    },
  ]);
}

const satp = (mode: number, table: number): bigint => (BigInt(mode) << 60n) | BigInt(table / 4096);
const entry = (guestPhys: number, bits: number): bigint => (BigInt(guestPhys / 4096) << 10n) | BigInt(bits);
const LEAF = 0xf;
const POINTER = 1;

test("addresses by a hart's page tables: pages, superpages, unmapped addresses", () => {
  const m = memory();
  expect(walk(m, 0n, 0x80001234n)).toBe(0x80001234);
  const put = (table: number, index: number, value: bigint): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    expect(m.write(table + index * 8, bytes)).toBe(true);
  };
  put(RAM, 510, entry(RAM + 0x1000, POINTER));
  put(RAM + 0x1000, 3, entry(RAM + 0x2000, POINTER));
  put(RAM + 0x2000, 5, entry(0x90000000, LEAF));
  put(RAM + 0x1000, 4, entry(0xa0000000, LEAF));
  const sv39 = satp(8, RAM);
  const base = 0xffffffff80000000n;
  expect(walk(m, sv39, base + (3n << 21n) + (5n << 12n) + 0x34n)).toBe(0x90000034);
  expect(walk(m, sv39, base + (4n << 21n) + 0x12345n)).toBe(0xa0012345);
  expect(walk(m, sv39, base + (3n << 21n) + (6n << 12n))).toBeUndefined();
  expect(walk(m, sv39, 0n)).toBeUndefined();
  // Sv48: the same tables one level down.
  put(RAM + 0x3000, 511, entry(RAM, POINTER));
  expect(walk(m, satp(9, RAM + 0x3000), base + (4n << 21n))).toBe(0xa0000000);
});
