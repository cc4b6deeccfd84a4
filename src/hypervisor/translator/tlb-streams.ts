// Streams: loads or stores of a loop that mostly stay in one page from one iteration to the next, because
// their address is fixed, moves by constants, or is fixed except for a small index. The translator keeps a
// stream's last TLB lookup in locals, so that the access does not wait for the TLB. A wrong guess costs one
// compare.
import { decodeImmediate } from "../isa/instruction-encoding.ts";
import { type Block, dominates, type Instruction, PAGE_SIZE, type Region } from "./region.ts";
import type { Row } from "../isa/instruction-semantics.ts";

/**
 * Size of a range that is more often in one page than in two. If accesses alternate between two pages, the
 * guess is wrong half the time.
 */
const IN_ONE_PAGE = PAGE_SIZE / 4;

/** Each costs two locals, and an instruction at each entry of the region. */
const MAX_STREAMS = 16;

/** The stream of each access that is in one, 0 for the region's first. */
export function findStreams(region: Region): ReadonlyMap<Instruction, number> {
  const streams = new Map<Instruction, number>();
  const numbers = new Map<string, number>();
  const seen = new Set<Block>();
  // The innermost loop of a block is the smallest one that contains it.
  for (const [i, loop] of loopsOf(region)
    .sort((a, b) => a.size - b.size)
    .entries()) {
    const motions = motionsIn(loop);
    for (const block of loop) {
      if (seen.has(block)) continue;
      seen.add(block);
      for (const [access, place] of placesOf(block, motions)) {
        const name = `${i} ${place}`;
        const number = numbers.get(name) ?? numbers.size;
        if (number >= MAX_STREAMS) continue;
        numbers.set(name, number);
        streams.set(access, number);
      }
    }
  }
  return streams;
}

/** Natural loops: the target of a back edge, and all blocks that lead to that edge. */
function loopsOf({ blocks }: Region): Set<Block>[] {
  const loops = new Map<Block, Set<Block>>();
  let predecessors: Map<Block, Block[]> | undefined;
  for (const from of blocks) {
    for (const head of from.successors) {
      if (head.order > from.order || !dominates(head, from)) continue;
      predecessors ??= predecessorsOf(blocks);
      const loop = loops.get(head) ?? new Set([head]);
      loops.set(head, loop);
      const queue = [from];
      for (let block = queue.pop(); block !== undefined; block = queue.pop()) {
        if (loop.has(block)) continue;
        loop.add(block);
        queue.push(...(predecessors.get(block) ?? []));
      }
    }
  }
  return [...loops.values()];
}

function predecessorsOf(blocks: readonly Block[]): Map<Block, Block[]> {
  const predecessors = new Map<Block, Block[]>();
  for (const block of blocks) {
    for (const next of block.successors) {
      const known = predecessors.get(next);
      if (known === undefined) predecessors.set(next, [block]);
      else known.push(block);
    }
  }
  return predecessors;
}

interface Motions {
  /** Registers that the loop does not write. */
  readonly fixed: (register: number) => boolean;
  /** Registers that the loop does not write, or changes only by constants. */
  readonly steady: (register: number) => boolean;
}

function motionsIn(loop: ReadonlySet<Block>): Motions {
  let written = 0;
  let jumping = 0;
  for (const { instructions } of loop) {
    for (const instruction of instructions) {
      const { writes } = instruction.decoding;
      written |= writes;
      const { row, word } = instruction;
      if (row?.name !== "addi" || rs1(word) !== rd(word)) jumping |= writes;
    }
  }
  return {
    fixed: (register) => ((written >>> register) & 1) === 0,
    steady: (register) => ((jumping >>> register) & 1) === 0,
  };
}

/**
 * The place of each access of a block that mostly stays in one page; accesses to the same place have the same
 * name.
 */
function placesOf(block: Block, motions: Motions): Map<Instruction, string> {
  const found = new Map<Instruction, string>();
  /** Registers that hold a number below this bound. */
  const bounds = new Map<number, number>();
  /** Registers that hold a sum that is such a place. */
  const sums = new Map<number, string>();
  for (const instruction of block.instructions) {
    const { row, word } = instruction;
    if (row === undefined) break;
    if (accessSize(row) !== undefined) {
      const base = rs1(word);
      const place = motions.steady(base) ? `x${base}` : sums.get(base);
      const distance = Math.floor(decodeImmediate(row.immediate as "I" | "S", word) / IN_ONE_PAGE);
      if (place !== undefined) found.set(instruction, `${row.immediate} ${place} ${distance}`);
    }
    if (!row.fields.has("rd")) continue;
    const bound = boundOf(row, word, bounds);
    const sum = sumOf(row, word, bounds, motions);
    bounds.delete(rd(word));
    sums.delete(rd(word));
    if (bound !== undefined) bounds.set(rd(word), bound);
    if (sum !== undefined) sums.set(rd(word), sum);
  }
  return found;
}

/** An upper bound of the result, if it is small. */
function boundOf(row: Row, word: number, bounds: ReadonlyMap<number, number>): number | undefined {
  const of = bounds.get(rs1(word));
  const shift = (word >>> 20) & 63;
  switch (row.name) {
    case "lbu":
      return 256;
    case "andi": {
      const mask = decodeImmediate("I", word);
      return mask >= 0 ? mask + 1 : of;
    }
    case "slli":
      return of === undefined ? undefined : small(of * 2 ** shift);
    case "srli":
      return small(2 ** (64 - shift));
    case "srliw":
      return shift === 0 ? undefined : small(2 ** (32 - shift));
    default:
      return undefined;
  }
}

const small = (bound: number): number | undefined => (bound <= IN_ONE_PAGE ? bound : undefined);

/** The sum of a fixed register and a small index, or of a fixed and a steady register. */
function sumOf(
  { name }: Row,
  word: number,
  bounds: ReadonlyMap<number, number>,
  { fixed, steady }: Motions,
): string | undefined {
  const shift = ["add", "sh1add", "sh2add", "sh3add"].indexOf(name);
  if (shift < 0) return undefined;
  const isIndex = (register: number): boolean =>
    small((bounds.get(register) ?? Infinity) * 2 ** shift) !== undefined;
  const [a, b] = [rs1(word), (word >>> 20) & 31];
  if (fixed(b) && isIndex(a)) return `table x${b}`;
  if (shift > 0) return undefined;
  if (fixed(a) && isIndex(b)) return `table x${a}`;
  return (fixed(a) && steady(b)) || (fixed(b) && steady(a)) ? `x${a} + x${b}` : undefined;
}

const rd = (word: number): number => (word >>> 7) & 31;
const rs1 = (word: number): number => (word >>> 15) & 31;

/** Bytes that a plain load or store accesses at rs1 + immediate; undefined for other instructions. */
export function accessSize({ name }: Row): number | undefined {
  const letter = /^f?[ls]([bhwd])u?$/.exec(name)?.[1];
  return letter === undefined ? undefined : 1 << "bhwd".indexOf(letter);
}
