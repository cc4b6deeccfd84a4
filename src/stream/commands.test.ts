import { describe, expect, test } from "vitest";
import { ByteWriter } from "../base/bytes.ts";
import { decodePostcopyAdvise, decodeRamDiscard } from "./commands.ts";

describe("POSTCOPY_ADVISE", () => {
  test("POSTCOPY_ADVISE holds page sizes", () => {
    const data = new ByteWriter().u64(0x20_1000n).u64(4096n).view();
    expect(decodePostcopyAdvise(data)).toEqual({ pageSizes: [4096, 2 ** 21], targetPageSize: 4096 });
    expect(decodePostcopyAdvise(new Uint8Array(0))).toEqual({});
    expect(() => decodePostcopyAdvise(new Uint8Array(8))).toThrow(/has 8 bytes, expected 0 or 16/);
  });
});

describe("POSTCOPY_RAM_DISCARD", () => {
  const data = new ByteWriter().u8(0).countedString("pc.ram").u8(0).u64(0x1000n).u64(0x2000n).finish();
  test("POSTCOPY_RAM_DISCARD holds ranges", () => {
    expect(decodeRamDiscard(data)).toEqual({ block: "pc.ram", ranges: [{ start: 0x1000, length: 0x2000 }] });
  });
  test("POSTCOPY_RAM_DISCARD that ends early is refused", () => {
    for (let n = 0; n < data.length; n++) {
      if (n === data.length - 16) continue;
      expect(() => decodeRamDiscard(data.subarray(0, n))).toThrow(/POSTCOPY_RAM_DISCARD of \d+ bytes is/);
    }
  });
});
