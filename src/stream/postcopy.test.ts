import { describe, expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { decodeCapabilities, encodeCapabilities } from "./capabilities.ts";
import { decodePostcopyAdvise, decodeRamDiscard } from "./postcopy.ts";
import { decodeRamListEntry } from "./ram-list.ts";

describe("POSTCOPY_ADVISE", () => {
  test("tells page sizes", () => {
    const data = new ByteWriter().u64(0x20_1000n).u64(4096n).view();
    expect(decodePostcopyAdvise(data)).toEqual({ pageSizes: [4096, 2 ** 21], targetPageSize: 4096 });
    expect(decodePostcopyAdvise(new Uint8Array(0))).toEqual({});
    expect(() => decodePostcopyAdvise(new Uint8Array(8))).toThrow(/has 8 bytes, expected 0 or 16/);
  });
});

describe("POSTCOPY_RAM_DISCARD", () => {
  const data = new ByteWriter().u8(0).countedString("pc.ram").u8(0).u64(0x1000n).u64(0x2000n).finish();
  test("tells ranges", () => {
    expect(decodeRamDiscard(data)).toEqual({ block: "pc.ram", ranges: [{ start: 0x1000, length: 0x2000 }] });
  });
  test("cut anywhere is refused", () => {
    for (let n = 0; n < data.length; n++) {
      if (n === data.length - 16) continue;
      expect(() => decodeRamDiscard(data.subarray(0, n))).toThrow(/POSTCOPY_RAM_DISCARD of \d+ bytes is/);
    }
  });
});

describe("an entry of the list of RAM blocks", () => {
  const plain = { ignoreShared: false, postcopyAdvised: false, mappedRam: false };
  const entry = () => new ByteWriter().countedString("pc.ram").u64(0x10_0000n);
  test("is a name and a size", () => {
    expect(decodeRamListEntry(new ByteReader(entry().view()), plain)).toEqual({
      name: "pc.ram",
      size: 0x10_0000,
    });
  });
  test("has the guest's address with ignore-shared", () => {
    const reader = new ByteReader(entry().u64(0x8000_0000n).view());
    expect(decodeRamListEntry(reader, { ...plain, ignoreShared: true }).guestPhys).toBe(0x8000_0000);
  });
  test("may have a page size after POSTCOPY_ADVISE", () => {
    const advised = { ...plain, postcopyAdvised: true };
    const huge = new ByteReader(
      entry()
        .u64(2n ** 21n)
        .u64(0x10n)
        .view(),
    );
    expect(decodeRamListEntry(huge, advised).pageSize).toBe(2 ** 21);
    expect(huge.remaining).toBe(8);
    for (const next of [new ByteWriter().u64(0x10n), new ByteWriter().u64(0x200n), entry()]) {
      const reader = new ByteReader(entry().bytes(next.view()).view());
      expect(decodeRamListEntry(reader, advised).pageSize).toBeUndefined();
      expect(reader.remaining).toBe(next.length);
    }
  });
});

test("capabilities are told as they were written, and not more than there can be", () => {
  const writer = new ByteWriter();
  encodeCapabilities(writer, ["mapped-ram", "x-ignore-shared"]);
  expect(decodeCapabilities(new ByteReader(writer.view()))).toEqual(["mapped-ram", "x-ignore-shared"]);
  expect(() => decodeCapabilities(new ByteReader(new ByteWriter().u32(0x7fff_ffff).view()))).toThrow(
    /at most 256/,
  );
});
