// The gate of a saved boot: what the user sees of the guest's output, and when input reaches the guest.
import { expect, it } from "vitest";
import { CharPipe } from "../../devices/char-backend.ts";
import { BootGate, type BootGateOptions } from "./boot-gate.ts";

const MARK = "\u001b]wherry;gate\u0007";
const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

function gated(options: Partial<BootGateOptions> = {}) {
  let shown = "";
  const pipe = new CharPipe((output) => (shown += Buffer.from(output).toString("latin1")));
  const gate = new BootGate(pipe, {
    ...{ line: "wherry.hostname=web", isWaiting: false, isOpen: false, onMark: async () => {} },
    ...options,
  });
  const read = (max = 100): string => Buffer.from(gate.read(max)).toString("latin1");
  return { pipe, gate, read, shown: () => shown };
}

it("takes the mark out of the output, in whatever pieces it comes", () => {
  for (const size of [1, 3, 100]) {
    const { gate, shown } = gated();
    const output = `one\u001b]two\u001b${MARK}three`;
    for (let at = 0; at < output.length; at += size) gate.write(bytes(output.slice(at, at + size)));
    expect(shown()).toBe("one\u001b]two\u001bthree");
  }
});

it("keeps the user's input until the guest has the line, again after a reset", async () => {
  let arrived = 0;
  const { pipe, gate, read } = gated({ onMark: async () => void arrived++ });
  let calls = 0;
  gate.onReadable(() => calls++);
  for (const boot of [1, 2]) {
    gate.close();
    pipe.push(bytes("typed\n"));
    expect(read()).toBe("");
    const before = calls;
    gate.write(bytes(MARK));
    await new Promise(setImmediate);
    expect([arrived, calls > before]).toEqual([boot, true]);
    expect(read(8)).toBe("wherry.h");
    const line = calls;
    expect(read()).toBe("ostname=web\n");
    await new Promise(setImmediate);
    expect(calls).toBeGreaterThan(line);
    expect(read()).toBe("typed\n");
  }
});

it("has the line at once for a guest that waits, and none for one that has passed", () => {
  expect(gated({ isWaiting: true }).read()).toBe("wherry.hostname=web\n");
  const { gate, read, shown, pipe } = gated({ isOpen: true, shown: "root@web:~# " });
  pipe.push(bytes("x"));
  gate.write(bytes(`more\r\nroot@web:/# ${MARK}`));
  expect([read(), shown(), gate.lastLine]).toEqual([
    "x",
    `root@web:~# more\r\nroot@web:/# ${MARK}`,
    `root@web:/# ${MARK}`,
  ]);
});
