import { describe, expect, test } from "vitest";
import { applyXbzrle } from "./xbzrle.ts";
import { seed } from "../../test/support/seed.ts";
import { randomBelow } from "../../test/support/random.ts";

const PAGE = 4096;
const random = randomBelow(seed);

/** Encodes as QEMU does: runs by length, without the last run of equal bytes. */
function encode(before: Uint8Array, after: Uint8Array): Uint8Array {
  const out: number[] = [];
  const length = (n: number) => (n < 0x80 ? out.push(n) : out.push((n & 0x7f) | 0x80, n >>> 7));
  for (let i = 0; i < PAGE; ) {
    const from = i;
    while (i < PAGE && before[i] === after[i]) i++;
    if (i === PAGE) break;
    length(i - from);
    const start = i;
    while (i < PAGE && before[i] !== after[i]) i++;
    length(i - start);
    out.push(...after.subarray(start, i));
  }
  return Uint8Array.from(out);
}

describe("a delta", () => {
  test("of random changes gives the new page", () => {
    for (let round = 0; round < 300; round++) {
      const before = Uint8Array.from({ length: PAGE }, () => random(4));
      const after = before.slice();
      for (let n = random(30); n > 0; n--) {
        const at = random(PAGE);
        after.fill(random(256), at, at + random(300));
      }
      const page = before.slice();
      applyXbzrle(encode(before, after), page);
      expect(page).toEqual(after);
    }
  });

  test("of a whole page, and of none of it", () => {
    const before = new Uint8Array(PAGE);
    const after = new Uint8Array(PAGE).fill(7);
    const page = before.slice();
    applyXbzrle(encode(before, after), page);
    expect(page).toEqual(after);
    applyXbzrle(new Uint8Array(0), page);
    expect(page).toEqual(after);
  });

  test.each([
    [[0], /expected the length of a run, found the end/],
    [[0x80], /is cut/],
    [[0x80, 0x80], /more than two bytes/],
    [[0, 0], /a run of no bytes/],
    [[1, 1, 9, 0, 1, 9], /a run of no bytes/],
    [[0, 3, 1, 2], /3 new bytes are announced/],
    [[0xff, 0x1f, 2, 1, 1], /beyond a page of 4096/],
    [[0xff, 0x7f, 1, 1], /beyond a page of 4096/],
  ])("%j is refused", (delta, message) => {
    expect(() => applyXbzrle(Uint8Array.from(delta), new Uint8Array(PAGE))).toThrow(message);
  });

  test("of random bytes throws or stays within the page", () => {
    for (let round = 0; round < 3000; round++) {
      const delta = Uint8Array.from({ length: random(40) }, () => random(256));
      const whole = new Uint8Array(PAGE + 64);
      try {
        applyXbzrle(delta, whole.subarray(0, PAGE));
      } catch (error) {
        expect((error as { code?: string }).code).toBe("migration.xbzrle");
      }
      expect(whole.subarray(PAGE).every((byte) => byte === 0)).toBe(true);
    }
  });
});
