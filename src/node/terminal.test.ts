import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { EscapeFilter, openTerminal } from "./terminal.ts";

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

test("a pipe's input is paused until the guest catches up, and none of it is lost", async () => {
  const stdin = new PassThrough() as unknown as NodeJS.ReadStream;
  const stdout = new PassThrough() as unknown as NodeJS.WriteStream;
  let taken = "";
  const terminal = openTerminal(
    {
      input: (bytes) => {
        taken += new TextDecoder().decode(bytes);
        terminal.pauseInput();
      },
      quit: () => {},
      end: () => {},
    },
    { stdin, stdout },
  );
  const feed = stdin as unknown as PassThrough;
  feed.write("first ");
  await new Promise((resolve) => setTimeout(resolve, 10));
  feed.write("second");
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(taken).toBe("first ");
  terminal.resumeInput();
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(taken).toBe("first second");
  terminal.restore();
});
