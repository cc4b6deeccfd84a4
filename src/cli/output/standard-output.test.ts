// Long output: written in pieces, no faster than the reader takes them.
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { writePieces } from "./standard-output.ts";

test("long output is neither built as one string nor queued as a whole", async () => {
  let [taken, longest, made, ahead] = [0, 0, 0, 0];
  const slow = new Writable({
    decodeStrings: false,
    write(text: string, _encoding, done) {
      longest = Math.max(longest, text.length);
      taken += text.length;
      setTimeout(done, 1);
    },
  });
  function* pieces(): Generator<string> {
    for (let i = 0; i < 200; i++) {
      made += 10_000;
      ahead = Math.max(ahead, made - taken);
      yield "x".repeat(10_000);
    }
  }
  await writePieces(pieces(), slow);
  slow.end();
  await new Promise((resolve) => slow.once("finish", resolve));
  expect(taken).toBe(2_000_000);
  expect(longest).toBeLessThan(100_000);
  expect(ahead).toBeLessThan(200_000);
});
