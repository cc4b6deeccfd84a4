import { describe, expect, test } from "vitest";
import { GuestMemory, PAGE_SIZE } from "../../memory/guest-memory.ts";
import { addPages, allPages, countPages, isZeroPage } from "./ram-save.ts";

function memory(...pages: number[]): GuestMemory {
  const buffer = new SharedArrayBuffer(pages.reduce((n, p) => n + p, 0) * PAGE_SIZE);
  let hostOffset = 0;
  const blocks = pages.map((n, i) => {
    const block = {
      name: `b${i}`,
      guestPhys: i * 0x1000_0000,
      size: n * PAGE_SIZE,
      hostOffset,
      readonly: false,
      dirty: new Int32Array(new SharedArrayBuffer(Math.ceil(n / 32) * 4)),
    };
    hostOffset += block.size;
    return block;
  });
  return new GuestMemory(buffer, blocks);
}

describe("page sets", () => {
  test("all pages of all blocks, and no other bit", () => {
    const set = allPages(memory(1, 31, 32, 33, 64));
    expect(set.map((bits) => countPages([bits]))).toEqual([1, 31, 32, 33, 64]);
    expect(countPages(set)).toBe(161);
  });

  test("adding is a union", () => {
    const set = [Int32Array.of(0b0101, -1)];
    addPages(set, [Int32Array.of(0b0110, 0)]);
    expect(set).toEqual([Int32Array.of(0b0111, -1)]);
    expect(countPages(set)).toBe(35);
  });
});

test("a page is zero only if all its words are", () => {
  const words = new Int32Array((3 * PAGE_SIZE) / 4);
  expect(isZeroPage(words, 1024)).toBe(true);
  for (let i = 0; i < 1024; i++) {
    words[1024 + i] = 1 << (i & 31);
    expect(isZeroPage(words, 1024)).toBe(false);
    words[1024 + i] = 0;
  }
  words[1023] = 1;
  words[2048] = 1;
  expect(isZeroPage(words, 1024)).toBe(true);
});
