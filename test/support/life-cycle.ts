// What each call does in each state of a machine in a program, as docs/embedding.md says it, and a guest to
// try it with.
import { readFileSync } from "node:fs";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";

/** Waits for a byte on the console and prints it; `q` powers off. */
const ECHO = `
  start:
    li a7, 2
    ecall
    bltz a0, start
    li t0, 113
    beq a0, t0, off
    li a7, 1
    ecall
    j start
  off:
    li a7, 0x53525354
    li a6, 0
    li a0, 0
    li a1, 0
    ecall
`;

export function echoKernel(): Uint8Array<ArrayBuffer> {
  return flatBinary(assemble([{ name: "echo", text: ECHO }], { base: 0x80200000n }));
}

const document = readFileSync(new URL("../../docs/embedding.md", import.meta.url), "utf8");
const [head = [], , ...body] = (document.slice(document.indexOf("| | created")).split("\n\n")[0] ?? "")
  .split("\n")
  .map((row) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );

/** The table: the run state after each call, or the code of its error. */
export const lifeCycle = {
  states: head.slice(1),
  calls: body.map(([call]) => call),
  column: (state: string) => body.map((row) => [row[0], row[head.indexOf(state)]]),
};
