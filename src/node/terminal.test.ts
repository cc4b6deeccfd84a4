import { expect, test } from "vitest";
import { EscapeFilter } from "./terminal.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const feed = (...typed: string[]) => {
  const filter = new EscapeFilter();
  const results = typed.map((t) => filter.feed(bytes(t)));
  return {
    data: results.map((r) => new TextDecoder().decode(r.data)).join(""),
    actions: results.flatMap((r) => r.actions),
  };
};

test.each([
  [["ls\r"], "ls\r", []],
  [["a\x01xb"], "ab", ["quit"]],
  [["a\x01", "xb"], "ab", ["quit"]],
  [["\x01h", "\x01?"], "", ["help", "help"]],
  [["\x01\x01x"], "\x01x", []],
  [["\x01\x01\x01x"], "\x01", ["quit"]],
  [["\x01zx"], "x", []],
  [["\x03"], "\x03", []],
])("%j", (typed, data, actions) => {
  expect(feed(...typed)).toEqual({ data, actions });
});
