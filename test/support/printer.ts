// A guest that prints numbered lines without end, on the UART as a driver that polls (as an early console
// does) or through the firmware: the judge of a console's back-pressure.
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { LINUX_HEADER } from "./linux-header.ts";

const BASE = 0x80200000n;

const PUT = {
  uart: `
1: lbu t2, 5(s0)
  andi t2, t2, 0x20
  beqz t2, 1b
  sb a0, 0(s0)`,
  /** DBCN's write of one byte. */
  sbi: `
  mv t6, a0
1: mv a0, t6
  li a7, 0x4442434e
  li a6, 2
  ecall`,
};

/** Its kernel image. Each line is a number of eight hexadecimal digits, from 0 on. */
export function buildPrinter(by: keyof typeof PUT = "uart"): Uint8Array<ArrayBuffer> {
  const text = `
${LINUX_HEADER}boot:
  li s0, 0x10000000
  # FIFOs on, as a driver sets them.
  li t0, 1
  sb t0, 2(s0)
  li s1, 0
line:
  li s2, 28
digit:
  srl a0, s1, s2
  andi a0, a0, 15
  addi a0, a0, 0x30
  li t1, 0x39
  ble a0, t1, print
  addi a0, a0, 39
print:
${PUT[by]}
  addi s2, s2, -4
  bgez s2, digit
  li t0, -8
  beq s2, t0, next
  li a0, 10
  li s2, -4
  j print
next:
  addi s1, s1, 1
  j line
image_end:
`;
  return flatBinary(assemble([{ name: "printer", text }], { base: BASE }));
}

/**
 * The number of the first and of the line after the last whole one. Throws where a byte is lost or doubled;
 * the first line may begin and the last one end anywhere.
 */
export function checkLines(text: string): { first: number; next: number } {
  // On a terminal our own messages come between.
  const printed = text.replaceAll("\r", "").replaceAll(/wherry: .*\n/g, "");
  const lines = printed.split("\n").slice(1, -1);
  const numbers = lines.map((line) => (/^[0-9a-f]{8}$/.test(line) ? Number.parseInt(line, 16) : Number.NaN));
  const [first = Number.NaN] = numbers;
  const wrong = numbers.findIndex((number, i) => number !== first + i);
  if (wrong >= 0 || numbers.length === 0) {
    throw new Error(
      `line ${wrong} of ${lines.length}: ${lines.slice(Math.max(0, wrong - 2), wrong + 2).join(" ")}`,
    );
  }
  return { first, next: first + numbers.length };
}
