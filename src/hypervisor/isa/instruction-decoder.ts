// The interpreter's decode tables, generated from the instruction table. A 32-bit word is decoded by an index
// of its opcode, funct3 and funct7; a compressed word by the whole word. Words with the same index share an
// operation whose code tests the rest. Decoded instructions are not cached, so fence.i costs nothing.
//
//   +0x00000  65 536 entries of 8 bytes for compressed words: u32 full instruction word, u32 operation
//   +0x80000  32 768 entries of 1 byte: operation by index
import { allExpansions, rows } from "./isa.ts";
import type { Row } from "./instruction-semantics.ts";

export const EXPANSIONS = 0;
export const OPERATIONS = 0x80000;
const TABLES_SIZE = OPERATIONS + 0x8000;

/** The bits of a 32-bit word that form its index. */
const INDEXED_BITS = 0xfe00707f;

/** Index of a 32-bit word: funct7, funct3, opcode without its two low bits. */
export function decodeIndex(word: number): number {
  return ((word >>> 17) & 0x7f00) | ((word >>> 7) & 0xe0) | ((word >>> 2) & 0x1f);
}

/**
 * The rows that an operation distinguishes; a single row whose fixed bits are all in the index needs no test.
 */
export type Operation = readonly Row[];

export interface Decoder {
  /** Operation 0 is the illegal instruction. */
  readonly operations: readonly Operation[];
  readonly operationOfIndex: Uint8Array;
  /** The row of a 32-bit word; undefined if it is illegal. */
  rowOf(word: number): Row | undefined;
}

function build(): Decoder {
  const operations: Row[][] = [[]];
  const operationOfIndex = new Uint16Array(0x8000);
  for (const row of rows) {
    /** By an operation, the one with this row in addition. */
    const withRow = new Map<number, number>();
    const mask = decodeIndex(row.mask);
    const match = decodeIndex(row.match);
    // All indexes with these bits: each sum of bits that are not in the mask.
    for (let others = 0; ; others = ((others | mask) + 1) & ~mask & 0x7fff) {
      const index = match | others;
      const before = operationOfIndex[index] as number;
      let operation = withRow.get(before);
      if (operation === undefined) {
        operation = operations.push([...(operations[before] as Row[]), row]) - 1;
        withRow.set(before, operation);
      }
      operationOfIndex[index] = operation;
      if ((others | mask) === 0x7fff) break;
    }
  }
  return numbered(operations, operationOfIndex);
}

/** The operations that occur, numbered by opcode, then by index. */
function numbered(all: readonly Operation[], ofIndex: Uint16Array): Decoder {
  const operations: Operation[] = [[]];
  const numbers = new Map<number, number>([[0, 0]]);
  const operationOfIndex = new Uint8Array(ofIndex.length);
  for (let opcode = 0; opcode < 0x20; opcode++) {
    for (let index = opcode; index < ofIndex.length; index += 0x20) {
      const operation = ofIndex[index] as number;
      let number = numbers.get(operation);
      if (number === undefined) {
        number = operations.push(all[operation] as Operation) - 1;
        numbers.set(operation, number);
      }
      operationOfIndex[index] = number;
    }
  }
  if (operations.length > 256) throw new RangeError(`${operations.length} operations do not fit a byte`);
  const rowOf = (word: number): Row | undefined => {
    const candidates = operations[operationOfIndex[decodeIndex(word)] as number] as Operation;
    return candidates.find((row) => (word & row.mask) >>> 0 === row.match);
  };
  return { operations, operationOfIndex, rowOf };
}

let built: Decoder | undefined;

/** Created at first use: vCPU threads, which run compiled code, never need it. */
export function decoder(): Decoder {
  built ??= build();
  return built;
}

/** True if the index alone proves that the word belongs to this row. */
export function indexDecides(row: Row): boolean {
  return (row.mask & ~INDEXED_BITS) === 0;
}

let madeTables: Uint8Array | undefined;

/** The tables, which are in the shared memory before the first hart runs. */
export function decodeTables(): Uint8Array {
  madeTables ??= makeTables();
  return madeTables;
}

function makeTables(): Uint8Array {
  const { operationOfIndex } = decoder();
  const bytes = new Uint8Array(TABLES_SIZE);
  const tables = new DataView(bytes.buffer);
  const expansions = allExpansions();
  for (let half = 0; half < 0x10000; half++) {
    if ((half & 3) === 3) continue;
    const word = expansions[half]!;
    tables.setUint32(EXPANSIONS + half * 8, word === 0 ? half : word, true);
    const operation = word === 0 ? 0 : operationOfIndex[decodeIndex(word)]!;
    tables.setUint32(EXPANSIONS + half * 8 + 4, operation, true);
  }
  bytes.set(operationOfIndex, OPERATIONS);
  return bytes;
}
