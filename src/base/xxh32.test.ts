import { describe, expect, test } from "vitest";
import { encodeUtf8 } from "./text.ts";
import { Xxh32, xxh32 } from "./xxh32.ts";

// The sanity buffer of the reference implementation's self-test: byte i is the top byte of a generator that
// starts at PRIME32_1 and squares itself at each step.
function sanityBuffer(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let gen = 2654435761n;
  for (let i = 0; i < length; i++) {
    bytes[i] = Number((gen >> 56n) & 0xffn);
    gen = (gen * 11400714785074694797n) & 0xffffffffffffffffn;
  }
  return bytes;
}

describe("XXH32", () => {
  test.each([
    [0, 0, 0x02cc5d05],
    [0, 2654435761, 0x36b78ae7],
    [1, 0, 0xcf65b03e],
    [1, 2654435761, 0xb4545aa4],
    [14, 0, 0x1208e7e2],
    [14, 2654435761, 0x6af1d1fe],
    [222, 0, 0x5bd11dbd],
    [222, 2654435761, 0x58803c5f],
  ])("self-test vector: %i bytes, seed %i", (length, seed, expected) => {
    expect(xxh32(sanityBuffer(length), seed)).toBe(expected);
  });

  test("published text vectors", () => {
    expect(xxh32(encodeUtf8("abc"))).toBe(0x32d153ff);
    expect(xxh32(encodeUtf8("a"))).toBe(0x550d7456);
    expect(xxh32(encodeUtf8("Nobody inspects the spammish repetition"))).toBe(0xe2293b2f);
  });

  test("the digest does not depend on how the input is split into updates", () => {
    const bytes = sanityBuffer(200);
    const whole = xxh32(bytes);
    const hash = new Xxh32();
    for (let cut = 0; cut <= 200; cut++) {
      hash.reset().update(bytes, 0, cut).update(bytes, cut);
      expect(hash.digest()).toBe(whole);
      expect(hash.length).toBe(200);
    }
    hash.reset();
    for (const b of bytes) hash.update(Uint8Array.of(b));
    expect(hash.digest()).toBe(whole);
  });

  test("flipping any one bit changes the digest", () => {
    const bytes = sanityBuffer(101);
    const whole = xxh32(bytes);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(xxh32(bytes)).not.toBe(whole);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });
});
