// Regions: the pieces of guest code that the translator compiles to one function each. From hot entries in a
// 4 KiB page, a region contains all blocks that direct branches and jumps within the page reach, and the
// return points of calls. A region never leaves its page, so it is the same in every address space that maps
// the page. Also here: the order and the dominators that structured control flow needs.
import { decoder } from "../isa/instruction-decoder.ts";
import { decodeImmediate } from "../isa/instruction-encoding.ts";
import { expandCompressed } from "../isa/isa.ts";
import type { Row } from "../isa/instruction-semantics.ts";

export const PAGE_SIZE = 4096;

/** Maximum number of instructions in a region; code beyond it belongs to another region. */
const MAX_INSTRUCTIONS = 400;
const RETURN_ADDRESS = 1;
/** Entry numbers have 8 bits. */
const MAX_ENTRIES = 200;

/** What an encoding means, wherever it is. */
export interface Decoding {
  /** Its place in a table of DECODING_PLACES entries. */
  readonly place: number;
  readonly size: 2 | 4;
  /** The full word; a compressed instruction's expansion. */
  readonly word: number;
  /** The encoding in memory: halfword or word. */
  readonly bits: number;
  /** Undefined if the instruction is illegal. */
  readonly row: Row | undefined;
  /** The immediate of the row's format; 0 if it has none. */
  readonly immediate: number;
  /** The x registers that it reads and writes, without x0; none if the interpreter executes it. */
  readonly reads: number;
  readonly writes: number;
  readonly kind: Flow["kind"];
  /** Of a direct branch, jump or call: the target minus the instruction's address. */
  readonly distance: number;
}

export interface Instruction {
  /** Byte offset in the page. */
  readonly offset: number;
  readonly size: 2 | 4;
  readonly word: number;
  readonly bits: number;
  readonly row: Row | undefined;
  readonly flow: Flow;
  readonly decoding: Decoding;
}

/**
 * Where control goes after an instruction. "step": the interpreter must execute it. `target` is an offset
 * that may be outside the page.
 */
type Flow =
  | { readonly kind: "next" | "step" | "indirect" | "indirectCall" }
  | { readonly kind: "branch" | "jump" | "call"; readonly target: number };

export interface Block {
  readonly start: number;
  readonly instructions: readonly Instruction[];
  /** Offset after the last instruction. */
  readonly end: number;
  /** Blocks of the region that it may go to directly. */
  readonly successors: readonly Block[];
  /** Index in reverse postorder. */
  readonly order: number;
  /**
   * Immediate dominator; undefined if control comes from outside, or from blocks without a common dominator.
   */
  readonly dominator: Block | undefined;
  /** Number of edges from blocks before it in order; the entry from outside counts as one. */
  readonly forwardEdges: number;
  /** The head of a loop: an edge from a block that it dominates leads back to it. */
  readonly isLoop: boolean;
}

export interface Region {
  /** Host address of the page: its offset in shared memory. */
  readonly page: number;
  /** In reverse postorder. */
  readonly blocks: readonly Block[];
  /** Blocks that can be entered from outside; the index in this list is the entry number. */
  readonly entries: readonly Block[];
  /**
   * Blocks that edges of the region enter in the way of an entry from outside, because structured control
   * flow has no form for these edges.
   */
  readonly inner: readonly Block[];
}

/**
 * Instructions that need the privilege mode, can leave guest mode, or read the counters: rare, or they end a
 * region anyway.
 */
const STEPPED = new Set([
  "ecall",
  "ebreak",
  "mret",
  "sret",
  "wfi",
  "wrs.nto",
  "wrs.sto",
  "pause",
  "sfence.vma",
  "fence.i",
]);
/**
 * Writes of frm and fcsr change what translated code tested at entry; counters are exact only between slices.
 */
const STEPPED_CSRS = new Set([0x002, 0x003, 0xc00, 0xc02, 0xb00, 0xb02, 0x320]);

const expansions = new Map<number, number>();

function expansionOf(half: number): number {
  let word = expansions.get(half);
  if (word === undefined) {
    // 0 is not a valid instruction.
    word = expandCompressed(half)?.word ?? 0;
    expansions.set(half, word);
  }
  return word;
}

function kindOf(row: Row | undefined, word: number): Flow["kind"] {
  if (row === undefined || STEPPED.has(row.name)) return "step";
  if (row.extension === "Zicsr") return STEPPED_CSRS.has(word >>> 20) ? "step" : "next";
  const links = ((word >>> 7) & 31) !== 0;
  if (row.immediate === "B") return "branch";
  if (row.immediate === "J") return links ? "call" : "jump";
  if (row.name === "jalr") return links ? "indirectCall" : "indirect";
  return "next";
}

/** Decodings that were made last, by `place`; compressed encodings differ from others in the low two bits. */
export const DECODING_PLACES = 1 << 15;
const decodings = new Array<Decoding | undefined>(DECODING_PLACES).fill(undefined);

function decodingOf(bits: number, size: 2 | 4): Decoding {
  const place = (Math.imul(bits, 0x9e3779b1) >>> 8) & (DECODING_PLACES - 1);
  const known = decodings[place];
  if (known?.bits === bits) return known;
  const word = size === 2 ? expansionOf(bits) : bits;
  return (decodings[place] = newDecoding(
    place,
    bits,
    size,
    word,
    word === 0 ? undefined : decoder().rowOf(word),
  ));
}

function newDecoding(place: number, bits: number, size: 2 | 4, word: number, row: Row | undefined): Decoding {
  const kind = kindOf(row, word);
  const immediate = row?.immediate === undefined ? 0 : decodeImmediate(row.immediate, word);
  const bit = (field: "rs1" | "rs2" | "rd"): number => {
    const low = kind === "step" ? undefined : row?.fields.get(field);
    return low === undefined ? 0 : (1 << ((word >>> low) & 31)) & ~1;
  };
  const distance = kind === "branch" || kind === "jump" || kind === "call" ? immediate : 0;
  return {
    place,
    size,
    word,
    bits,
    row,
    immediate,
    reads: bit("rs1") | bit("rs2"),
    writes: bit("rd"),
    kind,
    distance,
  };
}

const FLOWS = {
  next: { kind: "next" },
  step: { kind: "step" },
  indirect: { kind: "indirect" },
  indirectCall: { kind: "indirectCall" },
} as const;

function decode(view: DataView<SharedArrayBuffer>, page: number, offset: number): Instruction {
  const half = view.getUint16(page + offset, true);
  let decoding: Decoding;
  if ((half & 3) !== 3) decoding = decodingOf(half, 2);
  // The second half is in the next page, which may be mapped anywhere.
  else if (offset + 4 > PAGE_SIZE) decoding = newDecoding(0, half, 4, 0, undefined);
  else decoding = decodingOf(view.getUint32(page + offset, true), 4);
  const { size, word, bits, row, kind, distance } = decoding;
  const flow: Flow =
    kind === "branch" || kind === "jump" || kind === "call"
      ? { kind, target: offset + distance }
      : FLOWS[kind];
  return { offset, size, word, bits, row, flow, decoding };
}

/**
 * Control comes back after the instruction: after a call, and after most instructions that the interpreter
 * executes.
 */
function hasReturnPoint({ row, flow }: Instruction): boolean {
  return flow.kind !== "step" || (row !== undefined && !/^[ms]ret$/.test(row.name));
}

/** Whether the instruction may jump to anywhere in its page. */
export function isTableJump({ flow, word }: Instruction): boolean {
  return flow.kind === "indirect" && ((word >>> 15) & 31) !== RETURN_ADDRESS;
}

const isInPage = (offset: number): boolean => offset >= 0 && offset < PAGE_SIZE;

interface Draft {
  readonly start: number;
  readonly instructions: Instruction[];
  readonly end: number;
  readonly targets: number[];
}

/** What is known about code, by byte offsets in the page. */
export interface Profile {
  /** A branch to here has been taken; otherwise the target is left out. */
  isReached(offset: number): boolean;
  /** Another region can be entered here: this region jumps there instead of including the code. */
  isTranslated(offset: number): boolean;
  /** Another region includes it, but cannot be entered there. */
  isCovered(offset: number): boolean;
}

/**
 * Instructions of a region that other regions may include too; further ones are left to the other regions.
 */
const MAX_SHARED = 48;

/** The region of one entry, a byte offset in the page at host address `page`. See `findRegions`. */
export function findRegion(
  view: DataView<SharedArrayBuffer>,
  page: number,
  entry: number,
  profile?: Profile,
): Region {
  return findRegions(view, page, [entry], profile)[0] as Region;
}

/**
 * Find the regions of these entries (byte offsets in the page at host address `page`): unconnected code, such
 * as functions that do not call each other, forms separate regions. Entries in the middle of code that other
 * entries lead to are left out. Reads the code as it is now; the caller makes sure that later changes are
 * noticed.
 */
export function findRegions(
  view: DataView<SharedArrayBuffer>,
  page: number,
  entryOffsets: readonly number[],
  profile?: Profile,
  maxInstructions = MAX_INSTRUCTIONS,
): Region[] {
  const code = explore(view, page, entryOffsets, profile, maxInstructions);
  const { leaders, entries, targets, following } = code;
  let drafts = draftsOf(code);
  let groups = connected(drafts, entries);
  if (entryOffsets.length > 1) {
    // A place where an interrupt returned to is not useful as an entry: it splits a block, or enters a loop
    // in its middle.
    const incidental = groups
      .filter((group) => !group.hasTableJump)
      .flatMap((group) => group.entries)
      .filter((offset) => following.has(offset) && !targets.has(offset));
    for (const offset of incidental) {
      entries.delete(offset);
      leaders.delete(offset);
    }
    drafts = draftsOf(code);
    groups = connected(drafts, entries);
  }
  return mergeGroups(groups).map((offsets) => orderBlocks(page, drafts, offsets));
}

interface Code {
  readonly decoded: ReadonlyMap<number, Instruction>;
  /** Offsets where blocks start. */
  readonly leaders: Set<number>;
  readonly entries: Set<number>;
  /** Offsets that instructions jump to, and those that are reached only from the preceding instruction. */
  readonly targets: ReadonlySet<number>;
  readonly following: ReadonlySet<number>;
}

function explore(
  view: DataView<SharedArrayBuffer>,
  page: number,
  entryOffsets: readonly number[],
  profile: Profile | undefined,
  maxInstructions: number,
): Code {
  const decoded = new Map<number, Instruction>();
  const leaders = new Set<number>();
  const entries = new Set<number>();
  const targets = new Set<number>();
  const following = new Set<number>();
  const queue: number[] = [];
  const lead = (offset: number): void => {
    if (!isInPage(offset) || leaders.has(offset)) return;
    if (profile !== undefined && !entryOffsets.includes(offset)) {
      if (profile.isTranslated(offset)) return;
      if (decoded.size >= MAX_SHARED && profile.isCovered(offset)) return;
    }
    leaders.add(offset);
    queue.push(offset);
  };
  const enter = (offset: number): void => {
    if (!isInPage(offset) || entries.size >= MAX_ENTRIES) return;
    lead(offset);
    if (leaders.has(offset)) entries.add(offset);
  };
  for (const offset of entryOffsets) enter(offset);

  for (let start = queue.shift(); start !== undefined; start = queue.shift()) {
    if (decoded.size >= maxInstructions) break;
    let offset = start;
    while (isInPage(offset) && !decoded.has(offset)) {
      const instruction = decode(view, page, offset);
      decoded.set(offset, instruction);
      const { flow } = instruction;
      offset += instruction.size;
      if (flow.kind === "next") {
        following.add(offset);
        continue;
      }
      targets.add(offset);
      if ("target" in flow) targets.add(flow.target);
      if (flow.kind === "branch") {
        lead(offset);
        if (profile !== undefined && isInPage(flow.target) && !profile.isReached(flow.target)) break;
        lead(flow.target);
        // A slice may end here, and the next one starts here.
        if (flow.target <= instruction.offset) enter(flow.target);
      } else if (flow.kind === "jump") {
        lead(flow.target);
        if (flow.target <= instruction.offset) enter(flow.target);
      } else if (flow.kind !== "indirect" && hasReturnPoint(instruction)) {
        if (flow.kind === "call") lead(flow.target);
        enter(offset);
      }
      break;
    }
  }
  return { decoded, leaders, entries, targets, following };
}

function draftsOf({ decoded, leaders }: Code): Map<number, Draft> {
  const drafts = new Map<number, Draft>();
  for (const start of leaders) {
    if (!decoded.has(start)) continue;
    const instructions: Instruction[] = [];
    const targets: number[] = [];
    let offset = start;
    for (;;) {
      const instruction = decoded.get(offset);
      if (instruction === undefined) break;
      instructions.push(instruction);
      offset += instruction.size;
      const { flow } = instruction;
      if (flow.kind === "branch") targets.push(offset, flow.target);
      else if (flow.kind === "jump" || flow.kind === "call") targets.push(flow.target);
      if (flow.kind !== "next") break;
      if (leaders.has(offset)) {
        targets.push(offset);
        break;
      }
    }
    drafts.set(start, { start, instructions, end: offset, targets });
  }
  return drafts;
}

/** Connected entries: code leads from one to another, in either direction. */
interface Group {
  readonly entries: number[];
  size: number;
  hasTableJump: boolean;
  hasIndirectCall: boolean;
}

function connected(drafts: ReadonlyMap<number, Draft>, entries: ReadonlySet<number>): Group[] {
  const neighbours = new Map<number, number[]>([...drafts.keys()].map((start) => [start, []]));
  for (const { start, instructions, end, targets } of drafts.values()) {
    const { kind } = (instructions.at(-1) as Instruction).flow;
    // A call returns to the next instruction.
    for (const next of kind === "jump" || kind === "indirect" ? targets : [...targets, end]) {
      if (!drafts.has(next)) continue;
      neighbours.get(start)?.push(next);
      neighbours.get(next)?.push(start);
    }
  }
  const seen = new Set<number>();
  const groups: Group[] = [];
  for (const entry of entries) {
    if (!drafts.has(entry) || seen.has(entry)) continue;
    const group: Group = { entries: [], size: 0, hasTableJump: false, hasIndirectCall: false };
    groups.push(group);
    const queue = [entry];
    for (let at = queue.pop(); at !== undefined; at = queue.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      if (entries.has(at)) group.entries.push(at);
      queue.push(...(neighbours.get(at) as number[]));
      const { instructions } = drafts.get(at) as Draft;
      const last = instructions.at(-1) as Instruction;
      group.size += instructions.length;
      group.hasTableJump ||= isTableJump(last);
      group.hasIndirectCall ||= last.flow.kind === "indirectCall";
    }
  }
  return groups;
}

/** Maximum number of instructions of a function that may be called through a pointer. */
const MAX_POINTER_CALLED = 32;

/**
 * The entries of each region. The targets of indirect jumps and calls are not known: all code that has them
 * is one region, together with small code.
 */
function mergeGroups(groups: readonly Group[]): number[][] {
  const isPart = (group: Group): boolean =>
    group.hasTableJump || group.hasIndirectCall || group.size <= MAX_POINTER_CALLED;
  const one = groups.filter(isPart).flatMap((group) => group.entries);
  const others = groups.filter((group) => !isPart(group)).map((group) => group.entries);
  return one.length > 0 ? [...others, one] : others;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Compute reverse postorder from the entries, dominators (Cooper, Harvey and Kennedy's iteration), and loops.
 */
function orderBlocks(
  page: number,
  drafts: ReadonlyMap<number, Draft>,
  entryOffsets: readonly number[],
): Region {
  const blocks = new Map<number, Mutable<Block>>();
  const postorder: Mutable<Block>[] = [];
  const visit = (offset: number): Mutable<Block> | undefined => {
    const draft = drafts.get(offset);
    if (draft === undefined) return undefined;
    const known = blocks.get(offset);
    if (known !== undefined) return known;
    const { start, instructions, end } = draft;
    const block: Mutable<Block> = {
      ...{ start, instructions, end, successors: [], order: 0 },
      ...{ dominator: undefined, forwardEdges: 0, isLoop: false },
    };
    blocks.set(offset, block);
    block.successors = draft.targets.flatMap((target) => visit(target) ?? []);
    postorder.push(block);
    return block;
  };
  const entries = entryOffsets.flatMap((offset) => visit(offset) ?? []);
  const ordered = postorder.reverse();
  ordered.forEach((block, i) => {
    block.order = i;
  });
  // An edge into the middle of a loop makes its target an inner entry, which may make other edges irregular
  // too.
  const inner = new Set<Block>();
  for (let before = -1; inner.size !== before; ) {
    before = inner.size;
    findDominators(ordered, new Set([...entries, ...inner]));
    for (const block of ordered) {
      for (const next of block.successors) {
        if (isIrregular(block, next) && !entries.includes(next as Mutable<Block>)) inner.add(next);
      }
    }
  }
  for (const block of ordered) {
    for (const next of block.successors) {
      if (next.order <= block.order && dominates(next, block)) (next as Mutable<Block>).isLoop = true;
    }
  }
  return { page, blocks: ordered, entries, inner: [...inner] };
}

function findDominators(ordered: readonly Mutable<Block>[], entered: ReadonlySet<Block>): void {
  const predecessors = new Map<Block, Block[]>(ordered.map((block) => [block, []]));
  for (const block of ordered) for (const next of block.successors) predecessors.get(next)?.push(block);
  // ROOT represents the outside: it dominates all blocks, and is never reported as a dominator.
  const ROOT = -1;
  const idom = new Array<number | undefined>(ordered.length).fill(undefined);
  const common = (a: number, b: number): number => {
    let [x, y] = [a, b];
    while (x !== y) {
      while (x > y) x = idom[x] as number;
      while (y > x) y = idom[y] as number;
    }
    return x;
  };
  for (let changed = true; changed; ) {
    changed = false;
    for (const block of ordered) {
      let found: number | undefined = entered.has(block) ? ROOT : undefined;
      for (const { order } of predecessors.get(block) as Block[]) {
        if (idom[order] === undefined) continue;
        found = found === undefined ? order : common(order, found);
      }
      if (idom[block.order] !== found) {
        idom[block.order] = found;
        changed = true;
      }
    }
  }
  for (const block of ordered) {
    const dominator = idom[block.order] as number;
    block.dominator = dominator === ROOT ? undefined : ordered[dominator];
    const from = predecessors.get(block) as Block[];
    block.forwardEdges = from.filter((b) => b.order < block.order).length + (entered.has(block) ? 1 : 0);
  }
}

export function dominates(a: Block, b: Block): boolean {
  for (let at: Block | undefined = b; at !== undefined; at = at.dominator) if (at === a) return true;
  return false;
}

/** A back edge that does not lead to the head of an enclosing loop. */
export function isIrregular(from: Block, to: Block): boolean {
  return to.order <= from.order && !dominates(to, from);
}
