import { expect, test } from "vitest";
import { decodeBase64, encodeBase64 } from "./base64.ts";

test("base64 as Node's, of every length; what is none is refused", () => {
  for (let length = 0; length < 70; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 151 + length * 7) & 0xff);
    const text = encodeBase64(bytes);
    expect(text).toBe(Buffer.from(bytes).toString("base64"));
    expect(decodeBase64(text)).toEqual(bytes);
  }
  const large = Uint8Array.from({ length: 100_001 }, (_, i) => i & 0xff);
  expect(decodeBase64(encodeBase64(large))).toEqual(large);
  for (const bad of ["A", "AA", "AAA", "====", "A===", "AA=A", "AA A", "A\u0141AA", "-_AA"])
    expect(decodeBase64(bad), bad).toBeUndefined();
});
