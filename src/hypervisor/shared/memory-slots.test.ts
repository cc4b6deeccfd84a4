import { expect, test } from "vitest";
import { hartBase, MAX_SLOTS, SLOT_ENTRIES, VM_CODE_STALE, VM_CURRENT_BANK } from "./memory-map.ts";
import { type Slot, SlotMemory, SlotTable } from "./memory-slots.ts";

const DIRTY = hartBase(1);
const RAM = DIRTY + 0x10000;

function memory(): { buffer: SharedArrayBuffer; table: SlotTable; view: DataView; bank: () => number } {
  const buffer = new SharedArrayBuffer(RAM + 0x10000);
  const view = new DataView(buffer);
  return { buffer, table: new SlotTable(buffer), view, bank: () => view.getUint32(VM_CURRENT_BANK, true) };
}
const slot = (index: number, guestPhys: number, size: number, more: Partial<Slot> = {}): Slot => ({
  ...{
    slot: index,
    guestPhys,
    size,
    hostOffset: RAM,
    dirtyOffset: DIRTY,
    codeOffset: 0,
    readonly: false,
  },
  ...more,
});

test("a change is written to the bank that is not current, and leaves the other unchanged", () => {
  const { buffer, table, view, bank } = memory();
  const first = bank();
  table.set(slot(0, 0x8000, 0x2000));
  const second = bank();
  expect(second).not.toBe(first);
  expect(view.getUint32(first, true)).toBe(0);
  const before = new Uint8Array(buffer).slice(second, second + 0x100);
  table.set(slot(1, 0x20000, 0x1000, { readonly: true }));
  expect(bank()).toBe(first);
  expect(new Uint8Array(buffer).slice(second, second + 0x100)).toEqual(before);
  expect(view.getUint32(first, true)).toBe(2);
  const entry = first + SLOT_ENTRIES + 32;
  expect([0, 8].map((at) => view.getBigUint64(entry + at, true))).toEqual([0x20000n, 0x1000n]);
  expect([16, 20, 24].map((at) => view.getUint32(entry + at, true))).toEqual([RAM, 1, DIRTY]);
});

test("size 0 removes a slot", () => {
  const { table, view, bank } = memory();
  table.set(slot(0, 0x8000, 0x2000));
  table.set(slot(0, 0x8000, 0));
  expect(view.getUint32(bank(), true)).toBe(0);
  expect(table.get(0)).toBeUndefined();
});

test.each([
  ["overlap", slot(1, 0x9000, 0x1000)],
  ["overlap", slot(1, 0x7000, 0x1001 + 0xfff)],
  ["multiples", slot(1, 0x10800, 0x1000)],
  ["multiples", slot(1, 0x10000, 0x800)],
  ["multiples", slot(1, 0x10000, 0x1000, { hostOffset: RAM + 4 })],
])("refuses %s", (what, bad) => {
  const { table, bank } = memory();
  table.set(slot(0, 0x8000, 0x2000));
  const current = bank();
  expect(() => table.set(bad)).toThrow(what);
  expect(bank()).toBe(current);
  expect(table.get(1)).toBeUndefined();
});

test("adjacent slots, and a slot that moves onto its own old range, do not overlap", () => {
  const { table } = memory();
  table.set(slot(0, 0x8000, 0x2000));
  table.set(slot(1, 0xa000, 0x1000));
  table.set(slot(2, 0x7000, 0x1000));
  table.set(slot(0, 0x9000, 0x1000));
});

test("one slot too many is refused and changes nothing", () => {
  const { table, bank } = memory();
  for (let i = 0; i < MAX_SLOTS; i++) table.set(slot(i, i * 0x1000, 0x1000));
  const current = bank();
  expect(() => table.set(slot(MAX_SLOTS, 0x100000, 0x1000))).toThrow("32");
  expect(table.get(MAX_SLOTS)).toBeUndefined();
  expect(bank()).toBe(current);
  table.set(slot(0, 0, 0));
  table.set(slot(MAX_SLOTS, 0x100000, 0x1000));
});

test("guest memory as a vCPU thread accesses it: within one slot, dirty bits, read-only", () => {
  const { buffer, table, view } = memory();
  table.set(slot(0, 0x8000, 0x3000));
  table.set(slot(1, 0xb000, 0x1000, { hostOffset: RAM + 0x3000, readonly: true, dirtyOffset: DIRTY + 64 }));
  const guest = new SlotMemory(buffer);
  expect(guest.write(0x8ffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
  expect(guest.read(0x8ffe, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
  expect(view.getUint32(RAM + 0xffe, true)).toBe(0x04030201);
  expect(view.getUint32(DIRTY, true)).toBe(0b011);
  expect(guest.write(0xa000, Uint8Array.of(1))).toBe(true);
  expect(view.getUint32(DIRTY, true)).toBe(0b111);
  expect(guest.write(0xb000, Uint8Array.of(1))).toBe(false);
  expect(guest.write(0xaffe, Uint8Array.of(9, 9, 9))).toBe(false);
  expect(guest.read(0xaffe, 3)).toBeUndefined();
  expect(guest.read(0x7fff, 1)).toBeUndefined();
  expect(guest.read(0xaffe, 2)).toEqual(Uint8Array.of(0, 0));
  expect(view.getUint32(DIRTY + 64, true)).toBe(0);
});

test("a vCPU thread's writes make code stale, page by page", () => {
  const { buffer, table, view } = memory();
  const code = DIRTY + 0x1000;
  table.set(slot(0, 0x8000, 0x3000, { codeOffset: code }));
  view.setUint32(code, 0b101, true);
  const guest = new SlotMemory(buffer);
  guest.write(0x9000, Uint8Array.of(1));
  guest.write(0x8000, new Uint8Array(0));
  expect([view.getUint32(code, true), view.getUint32(code + 64, true)]).toEqual([0b101, 0]);
  guest.write(0x8fff, Uint8Array.of(1, 2));
  expect([view.getUint32(code, true), view.getUint32(code + 64, true)]).toEqual([0b100, 0b001]);
  guest.write(0x9ffe, Uint8Array.of(1, 2, 3));
  expect([view.getUint32(code, true), view.getUint32(code + 64, true)]).toEqual([0, 0b101]);
  expect(view.getUint32(VM_CODE_STALE, true)).toBe(2);
});

test("a removed slot is gone at once, before any request is handled", () => {
  const { buffer, table } = memory();
  table.set(slot(0, 0x8000, 0x3000));
  const guest = new SlotMemory(buffer);
  expect(guest.read(0x8000, 1)).toBeDefined();
  table.set(slot(0, 0x8000, 0));
  expect(guest.read(0x8000, 1)).toBeUndefined();
  expect(guest.write(0x8000, Uint8Array.of(1))).toBe(false);
});
