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
    return isReserved(row, half) ? undefined : { row, word: expansion(row, half) };
  }
  return undefined;
}

function isReserved({ needed }: CompressedRow, half: number): boolean {
  return needed !== 0 && (half & needed) === 0;
}

function expansion(row: CompressedRow, half: number): number {
  const { name, operands } = row.expand(half);
  return assemble(name, operands);
}

/**
 * The expansions of all compressed words, 0 for a reserved one. Each bit of an expansion is fixed, or one bit
 * of the compressed word: a bit that changes in the one changes the same bits of the other, whatever the rest
 * is.
 */
export function allExpansions(): Uint32Array {
  const words = new Uint32Array(0x10000);
  // Of the rows that match, the first counts: it comes last here.
  for (const row of allCompressedRows.toReversed()) {
    const halves = [row.match];
    const first = expansion(row, row.match);
    words[row.match] = first;
    for (let bit = 1; bit < 0x10000; bit <<= 1) {
      if ((row.mask & bit) !== 0) continue;
      const change = first ^ expansion(row, row.match | bit);
      for (let i = 0, end = halves.length; i < end; i++) {
        const half = halves[i]!;
        words[half | bit] = words[half]! ^ change;
        halves.push(half | bit);
      }
    }
    for (const half of halves) if (isReserved(row, half)) words[half] = 0;
  }
  return words;
}
