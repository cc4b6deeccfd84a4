// The effect of device writes on the harts: dirty pages and stale translated code.
import { expect, it } from "vitest";
import { CodePages, GuestMemory, PAGE_SIZE } from "./guest-memory.ts";

const BITMAPS = 0x1000;
const COUNT = 0x800;
const RAM = 0x10000;
const BASE = 0x80000000;

it("marks written pages dirty and their translated code stale, each once", () => {
  const buffer = new SharedArrayBuffer(RAM + 8 * PAGE_SIZE);
  const words = new Int32Array(buffer);
  const dirty = new Int32Array(buffer, 0, 1);
  const code = new CodePages(buffer, BITMAPS, 64, COUNT);
  const memory = new GuestMemory(buffer, [
    { name: "ram", guestPhys: BASE, size: 8 * PAGE_SIZE, hostOffset: RAM, readonly: false, dirty, code },
  ]);
  const state = (): number[] => [dirty[0]!, words[BITMAPS / 4]!, words[BITMAPS / 4 + 16]!, words[COUNT / 4]!];
  words[BITMAPS / 4] = 0b0110_1010;
  memory.write(BASE, new Uint8Array(PAGE_SIZE));
  expect(state()).toEqual([0b1, 0b0110_1010, 0, 0]);
  memory.write(BASE + 2 * PAGE_SIZE - 1, Uint8Array.of(1, 2));
  expect(state()).toEqual([0b111, 0b0110_1000, 0b10, 1]);
  memory.writeU32(BASE + PAGE_SIZE, 7);
  expect(state()).toEqual([0b111, 0b0110_1000, 0b10, 1]);
  memory.writeBlock(memory.blocks[0]!, 3 * PAGE_SIZE, new Uint8Array(5 * PAGE_SIZE));
  expect(state()).toEqual([0xff, 0, 0b0110_1010, 4]);
  memory.write(BASE + 3 * PAGE_SIZE, new Uint8Array(0));
  expect(state()).toEqual([0xff, 0, 0b0110_1010, 4]);
});
