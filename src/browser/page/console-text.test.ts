import { expect, test } from "vitest";
import { ConsoleText, keyInput } from "./console-text.ts";

function show(...pieces: string[]): string {
  const text = new ConsoleText();
  for (const piece of pieces) text.write(new TextEncoder().encode(piece));
  return text.text;
}

test("line feeds, carriage returns and backspaces move as on a terminal", () => {
  expect(show("a\r\nb\r\n")).toBe("a\nb\n");
  expect(show("12%\r100%")).toBe("100%");
  expect(show("lx\b \bs")).toBe("ls");
  expect(show("\b\bx")).toBe("x");
});

test("escape sequences are dropped, even when split", () => {
  expect(show("\x1b[1;32mgreen\x1b[0m \x1b[6n\x1b(Bend")).toBe("green end");
  expect(show("a\x1b", "[3", "1mb")).toBe("ab");
});

test("split characters are joined, and old lines are dropped", () => {
  const text = new ConsoleText();
  for (const byte of new TextEncoder().encode("ø€😀")) text.write(Uint8Array.of(byte));
  expect(text.text).toBe("ø€😀");
  text.write(new TextEncoder().encode(`\n${"x".repeat(99)}\n`.repeat(5000)));
  expect(text.text.length).toBeLessThan(300_000);
  expect(text.text.endsWith("x\n")).toBe(true);
});

test("keys send a terminal's sequences; the browser keeps its own keys", () => {
  const key = (name: string, modifiers = {}) =>
    keyInput({ key: name, ctrlKey: false, altKey: false, metaKey: false, shiftKey: false, ...modifiers });
  expect(key("q")).toBe("q");
  expect(key("Enter")).toBe("\r");
  expect(key("ArrowUp")).toBe("\x1b[A");
  expect(key("c", { ctrlKey: true })).toBe("\x03");
  expect(key("v", { ctrlKey: true })).toBe(undefined);
  expect(key("r", { metaKey: true })).toBe(undefined);
  expect(key("F5")).toBe(undefined);
  expect(key("Tab", { shiftKey: true })).toBe(undefined);
});
