import { describe, expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import {
  decodeMappedRamHeader,
  encodeMappedRamHeader,
  isWithoutPages,
  mappedRamBitmapBytes,
  mappedRamFault,
  mappedRamRuns,
  placeMappedRam,
} from "./mapped-ram.ts";
import { randomBelow } from "../../test/support/random.ts";

const MIB = 1024 * 1024;
const PAGE = 4096;

test("blocks have the file offsets of QEMU 11.1", () => {
  // RAM blocks of the RISC-V `virt` board with 64 MiB: file offset of the header, the bitmap and the pages.
  const blocks = [
    [0x400_0000, 0x76, 0x92, 0x10_0000],
    [0x200_0000, 0x410_0014, 0x410_0030, 0x420_0000],
    [0x1000, 0x842_001e, 0x842_003a, 0x850_0000],
    [0xf000, 0x850_101e, 0x850_103a, 0x860_0000],
  ] as const;
  for (const [size, at, bitmapOffset, pagesOffset] of blocks) {
    const header = placeMappedRam(at, size, PAGE);
    expect(header).toEqual({ version: 1, pageSize: PAGE, bitmapOffset, pagesOffset });
    expect(mappedRamFault(header, size, bitmapOffset)).toBeUndefined();
    const writer = new ByteWriter();
    encodeMappedRamHeader(writer, header);
    expect(writer.length).toBe(28);
    expect(decodeMappedRamHeader(new ByteReader(writer.view()))).toEqual(header);
  }
});

describe("a header is refused", () => {
  const good = placeMappedRam(100, 64 * PAGE, PAGE);
  test.each([
    [{ version: 2 }, /version 2, expected 1/],
    [{ pageSize: 0 }, /pages of 0 bytes/],
    [{ pageSize: 4095 }, /pages of 4095 bytes/],
    [{ pageSize: 2 ** 40 }, /power of two/],
    [{ bitmapOffset: 64 }, /its bitmap is at file offset 64, expected 128/],
    [{ bitmapOffset: 3 * MIB }, /its bitmap is at/],
    [{ pagesOffset: 128 }, /its pages are at/],
    [{ pagesOffset: MIB + 1 }, /its pages are at/],
    [{ pagesOffset: 2 ** 60 }, /its pages are at/],
  ])("with %j", (change, message) => {
    expect(mappedRamFault({ ...good, ...change }, 64 * PAGE, 128)).toMatch(message);
  });

  test("if the bitmap of its block is too long", () => {
    const size = 2 ** 43;
    expect(mappedRamFault(placeMappedRam(100, size, PAGE), size, 128)).toMatch(/a bitmap of \d+ bytes/);
  });

  test("but not for a block without pages", () => {
    const header = { ...good, bitmapOffset: 0, pagesOffset: 0 };
    expect(isWithoutPages(header)).toBe(true);
    expect(mappedRamFault(header, 64 * PAGE, 128)).toBeUndefined();
  });
});

test("runs match the bits of random bitmaps", () => {
  const random = randomBelow(1);
  const bit = () => random(2);
  for (const pages of [1, 7, 8, 9, 63, 64, 65, 500]) {
    for (const dense of [0, 1, 2, 3]) {
      const bits = Array.from({ length: pages }, (_, i) =>
        dense < 2 ? dense : dense === 2 ? bit() : (i >> 4) & 1,
      );
      // Bits beyond the block are ignored.
      const bitmap = new Uint8Array(mappedRamBitmapBytes(pages * PAGE, PAGE)).fill(0xff, (pages + 7) >> 3);
      for (const [i, set] of bits.entries()) bitmap[i >> 3]! |= set << (i & 7);
      const found = new Array<number>(pages).fill(0);
      let last = -1;
      for (const { first, count } of mappedRamRuns(bitmap, pages)) {
        expect(first).toBeGreaterThan(last);
        found.fill(1, first, first + count);
        last = first + count;
      }
      expect(found).toEqual(bits);
    }
  }
});
