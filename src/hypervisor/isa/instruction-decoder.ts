// The interpreter's decode tables, generated from the instruction table. A 32-bit word is decoded by an index
// of its opcode, funct3 and funct7; a compressed word by the whole word. Words with the same index share an
// operation whose code tests the rest. Decoded instructions are not cached, so fence.i costs nothing.
//
//   +0x00000  65 536 entries of 8 bytes for compressed words: u32 full instruction word, u32 operation
//   +0x80000  32 768 entries of 1 byte: operation by index
import { DECODE_TABLES_SIZE, VM_CODE_CACHE } from "../shared/memory-map.ts";
import { expandCompressed, rows } from "./isa.ts";
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

function wordOfIndex(index: number): number {
  return ((index & 0x7f00) << 17) | ((index & 0xe0) << 7) | ((index & 0x1f) << 2) | 3;
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
  const known = new Map<string, number>([["", 0]]);
  const operationOfIndex = new Uint8Array(0x8000);
  for (let opcode = 0; opcode < 0x20; opcode++) {
    const ofOpcode = rows.filter((row) => (row.match >>> 2) % 0x20 === opcode);
    for (let index = opcode; index < operationOfIndex.length; index += 0x20) {
      const word = wordOfIndex(index);
      const candidates = ofOpcode.filter((row) => ((word ^ row.match) & row.mask & INDEXED_BITS) === 0);
      const key = candidates.map((row) => row.name).join();
      let operation = known.get(key);
      if (operation === undefined) {
        operation = operations.push(candidates) - 1;
        known.set(key, operation);
      }
      operationOfIndex[index] = operation;
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

/** Write the tables to shared memory; once for a machine, before the first hart runs. */
export function initEngineTables(buffer: ArrayBufferLike, tablesBase: number): void {
  const { operationOfIndex } = decoder();
  const tables = new DataView(buffer, tablesBase, TABLES_SIZE);
  for (let half = 0; half < 0x10000; half++) {
    if ((half & 3) === 3) continue;
    const expansion = expandCompressed(half);
    const operation = expansion === undefined ? 0 : operationOfIndex[decodeIndex(expansion.word)];
    tables.setUint32(EXPANSIONS + half * 8, expansion?.word ?? half, true);
    tables.setUint32(EXPANSIONS + half * 8 + 4, operation as number, true);
  }
  new Uint8Array(buffer, tablesBase + OPERATIONS).set(operationOfIndex);
  new DataView(buffer).setUint32(VM_CODE_CACHE, tablesBase + DECODE_TABLES_SIZE, true);
}
