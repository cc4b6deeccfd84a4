// The instruction table: all rows of all extensions, and lookups by name and by word.
import { encode, type Operands } from "./instruction-encoding.ts";
import { atomicRows, zawrsRows } from "./isa-atomic.ts";
import { bitmanipRows } from "./isa-bitmanip.ts";
import { type CompressedRow, compressedRows } from "./isa-compressed.ts";
import { additionalFloatRows } from "./isa-fa.ts";
import { fpCompressedRows, fpRows } from "./isa-fp.ts";
import { halfRows } from "./isa-half.ts";
import { integerRows } from "./isa-integer.ts";
import { systemRows } from "./isa-system.ts";
import type { Row } from "./instruction-semantics.ts";

export const rows: readonly Row[] = [
  ...integerRows,
  ...atomicRows,
  ...zawrsRows,
  ...bitmanipRows,
  ...fpRows,
  ...halfRows,
  ...additionalFloatRows,
  ...systemRows,
];
export const allCompressedRows: readonly CompressedRow[] = [...compressedRows, ...fpCompressedRows];

const byName = new Map(rows.map((row) => [row.name, row]));

/** The row of this name. Throws RangeError if there is none. */
export function rowNamed(name: string): Row {
  const row = byName.get(name);
  if (row === undefined) throw new RangeError(`no instruction is named ${name}`);
  return row;
}

/** Assemble one 32-bit instruction. Throws RangeError for an unknown name or operands that do not fit. */
export function assemble(name: string, operands: Operands = {}): number {
  return encode(rowNamed(name), operands);
}

/** The row of a 32-bit instruction word. */
export function rowOf(word: number): Row | undefined {
  return rows.find((row) => (word & row.mask) >>> 0 === row.match);
}

/** The row of a compressed word, and its expansion; undefined if it is reserved. */
export function expandCompressed(half: number): { row: CompressedRow; word: number } | undefined {
  for (const row of allCompressedRows) {
    if ((half & row.mask) !== row.match) continue;
    const full = row.expand(half);
    return full === undefined ? undefined : { row, word: assemble(full.name, full.operands) };
  }
  return undefined;
}
