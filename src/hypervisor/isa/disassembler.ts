// The text of an instruction, from the instruction table: names and operand order of the assembler manual.
import { F_NAMES, ROUNDING_MODE_NAMES, X_NAMES } from "../../riscv/abi-names.ts";
import { csrName } from "../../riscv/registers.ts";
import { type FieldName, type Operands, operandsOf } from "./instruction-encoding.ts";
import { expandCompressed, rowOf } from "./isa.ts";
import type { Row } from "./instruction-semantics.ts";

/** Destination first, then sources, as in assembler syntax. */
const ORDER: readonly FieldName[] = [
  "rd",
  "frd",
  "csr",
  "frs1",
  "rs1",
  "frs2",
  "rs2",
  "frs3",
  "uimm5",
  "shamt5",
  "shamt6",
];

/** Instructions whose address operand is written `imm(rs1)`. */
const isAccess = (row: Row): boolean => /^(l[bhwd]u?|s[bhwd]|f[ls][hwd])$/.test(row.name);

function operandText(field: FieldName, value: number): string | undefined {
  if (field === "csr") return csrName(value);
  if (field.startsWith("f")) return F_NAMES[value];
  return field.startsWith("r") ? X_NAMES[value] : String(value);
}

function fullText(row: Row, word: number, pc: bigint | undefined): string {
  const operands = operandsOf(row, word) as Operands & Record<string, number>;
  const has = (field: FieldName): boolean => row.fields.has(field);
  const name = `${row.name}${(["", ".rl", ".aq", ".aqrl"] as const)[(operands.aq ?? 0) * 2 + (operands.rl ?? 0)]}`;
  if (row.name === "fence") return `fence ${fenceSet(operands.pred)}, ${fenceSet(operands.succ)}`;
  if (row.name === "fence.i") return name;
  const parts: string[] = [];
  const address = has("aq") || row.name.startsWith("cbo.");
  for (const field of ORDER) {
    if (!has(field) || (field === "rs1" && (isAccess(row) || address))) continue;
    const text = operandText(field, operands[field] as number);
    if (text !== undefined) parts.push(text);
  }
  const { imm, rs1 } = operands;
  if (address) parts.push(`(${X_NAMES[rs1 as number]})`);
  else if (isAccess(row)) parts.push(`${imm}(${X_NAMES[rs1 as number]})`);
  else if (row.immediate === "U") parts.push(`0x${((imm as number) >>> 12).toString(16)}`);
  else if (row.immediate === "B" || row.immediate === "J") {
    const target = pc === undefined ? undefined : BigInt.asUintN(64, pc + BigInt(imm as number));
    parts.push(target === undefined ? `. + ${imm}` : `0x${target.toString(16)}`);
  } else if (imm !== undefined) parts.push(String(imm));
  // The dynamic rounding mode is the default, and not shown.
  const rounding = has("rm") ? ROUNDING_MODE_NAMES[operands.rm as number] : undefined;
  if (rounding !== undefined && rounding !== "dyn") parts.push(rounding);
  return parts.length === 0 ? name : `${name} ${parts.join(", ")}`;
}

const fenceSet = (bits = 0): string =>
  ["i", "o", "r", "w"].filter((_, i) => (bits & (8 >> i)) !== 0).join("") || "0";

/**
 * The text of the instruction whose first 32 bits are `word`; a compressed one (low bits not 11) uses only
 * the first 16 and is shown as its expansion. `pc` makes branch targets absolute. Unknown words are `.word`
 * or `.half`.
 */
export function disassemble(word: number, pc?: bigint): string {
  if ((word & 3) === 3) {
    const row = rowOf(word);
    return row === undefined ? `.word 0x${(word >>> 0).toString(16)}` : fullText(row, word, pc);
  }
  const expansion = expandCompressed(word & 0xffff);
  if (expansion === undefined) return `.half 0x${(word & 0xffff).toString(16)}`;
  return fullText(rowOf(expansion.word) as Row, expansion.word, pc);
}
