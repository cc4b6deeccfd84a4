// Facts of the architecture are in src/riscv, each in one file. This gate finds second copies of them in the
// product: a CSR number beside the CSR's name, a mask's value, all ones, a table of mstatus' or of
// interrupts' bits, a list of ISA extensions. Comments and tests may have them: a test states what it
// expects.
import { ALL_ONES } from "../src/base/uint64.ts";
import { DELEGABLE, INTERRUPT, INTERRUPTS, SUPERVISOR_INTERRUPTS } from "../src/riscv/causes.ts";
import { MENVCFG_WRITABLE } from "../src/riscv/envcfg.ts";
import { EXTENSION_NAMES, MISA, MISA_EXTENSIONS } from "../src/riscv/extensions.ts";
import { CSR_NUMBERS } from "../src/riscv/registers.ts";
import { SUPERVISOR_ENTRY } from "../src/riscv/supervisor-entry.ts";
import { MSTATUS, MSTATUS_FIXED, MSTATUS_WRITABLE, SSTATUS_WRITABLE } from "../src/riscv/status.ts";
import { copiesGate } from "./source-text.ts";

/** Where a fact is, by a value that nothing else in the product has. */
const VALUES: ReadonlyMap<bigint, string> = new Map([
  [ALL_ONES, "ALL_ONES of src/base/uint64.ts"],
  [SUPERVISOR_INTERRUPTS, "SUPERVISOR_INTERRUPTS of src/riscv/causes.ts"],
  [INTERRUPTS, "INTERRUPTS of src/riscv/causes.ts"],
  [DELEGABLE, "DELEGABLE of src/riscv/causes.ts"],
  [SUPERVISOR_ENTRY.medeleg, "SUPERVISOR_ENTRY of src/riscv/supervisor-entry.ts"],
  [MSTATUS_WRITABLE, "MSTATUS_WRITABLE of src/riscv/status.ts"],
  [SSTATUS_WRITABLE, "SSTATUS_WRITABLE of src/riscv/status.ts"],
  [MSTATUS_FIXED, "MSTATUS_FIXED of src/riscv/status.ts"],
  [MENVCFG_WRITABLE, "MENVCFG_WRITABLE of src/riscv/envcfg.ts"],
  [MISA, "MISA of src/riscv/extensions.ts"],
  [MISA_EXTENSIONS, "MISA_EXTENSIONS of src/riscv/extensions.ts"],
]);
const HOMES = ["src/riscv/", "src/base/uint64.ts"];

const alternatives = (names: Iterable<string>): string => [...names].join("|");
const INTERRUPT_BITS = Object.keys(INTERRUPT).map((name) => `${name}P`);
/** `SSI: 1`, `["MPP", 11]`, `MIP_STIP = 1 << 5`, `SSIP: bit(1)`. */
const BIT = new RegExp(
  `(?:(?<![A-Za-z_])(?:${alternatives([...Object.keys(MSTATUS), ...Object.keys(INTERRUPT)])})|` +
    `(?<![A-Za-z])(?:${alternatives(INTERRUPT_BITS)}))` +
    String.raw`(?:["']?\]?\s*[:=]|["'],)\s*(?:bit\(|1n?\s*<<\s*)?(?:\d+|0x[0-9a-f]+)n?\b(?!\s*<<)`,
);
const NUMBERS = [...CSR_NUMBERS].map(([name, number]) => ({
  name,
  pattern: new RegExp(String.raw`(?:^|[^a-z])${name}(?:$|[^a-z0-9]).*\b0x0*${number.toString(16)}\b`, "i"),
}));
const LONG_NAMES = EXTENSION_NAMES.filter((name) => name.length > 1);
const EXTENSION_NUMBER = new RegExp(String.raw`\b(${alternatives(LONG_NAMES)})["']?\s*[:,]\s*\d`, "i");
const MANY = 3;

const ALL_ONES_SUMS = /\b2n \*\* 64n - 1n|\(1n << 64n\) - 1n|BigInt\.asUintN\(64, -1n\)/;

function copiesIn(line: string): string[] {
  const found: string[] = [];
  for (const [literal] of line.matchAll(/\b0x[0-9a-f_]+n?\b|\b\d[\d_]*n\b/gi)) {
    const home = VALUES.get(BigInt(literal.replaceAll("_", "").replace(/n$/, "")));
    if (home !== undefined) found.push(`${literal} is ${home}`);
  }
  if (ALL_ONES_SUMS.test(line)) found.push(`all ones are ${VALUES.get(ALL_ONES)}`);
  const csr = NUMBERS.find(({ pattern }) => pattern.test(line));
  if (csr !== undefined) found.push(`the number of ${csr.name} is in src/riscv/registers.ts`);
  const bit = BIT.exec(line);
  if (bit !== null) found.push(`${bit[0]} is a bit of src/riscv/status.ts or src/riscv/causes.ts`);
  const listed = LONG_NAMES.filter((name) => line.includes(`"${name}"`));
  if (listed.length >= MANY) found.push(`extensions (${listed.join(", ")}) are in src/riscv/extensions.ts`);
  const extension = EXTENSION_NUMBER.exec(line);
  if (extension !== null) found.push(`the number of ${extension[1]} is in src/riscv/extensions.ts`);
  return found;
}

export const onePlaceGate = copiesGate(HOMES, copiesIn);
