// The translator: makes one WebAssembly function of a region's blocks, from the rows that the interpreter
// uses. Guest registers are locals, loaded at entry and written back at every exit; a load or store that hits
// the TLB is inline. Control flow is structured by dominators (Ramsey, "Beyond Relooper", ICFP 2022). Jumps
// for which that is impossible, or that leave the region, use the hart's jump cache and a tail call. Calling
// convention and reasons to leave: code-dispatch.ts.
import { REGISTERS } from "../../riscv/registers.ts";
import { I32, I64 } from "../../wasm/expr.ts";
import { fn, type AnyFn, type Func, type Label, type Local } from "../../wasm/function.ts";
import { X_NAMES } from "../../riscv/abi-names.ts";
import { decodeImmediate } from "../isa/instruction-encoding.ts";
import { entryOf, jumpEntry, LEAVE, REGION, slotOf } from "../interpreter/code-dispatch.ts";
import { CTX_JUMPS, CTX_READ, CTX_WRITE } from "../hart/tlb-context.ts";
import { hartLayout } from "../hart/hart-layout.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { type Block, type Instruction, isIrregular, isTableJump, PAGE_SIZE, type Region } from "./region.ts";
import { analyzeFlow, type RegionFlow } from "./region-flow.ts";
import { accessSize, findStreams } from "./tlb-streams.ts";
import { type InstructionTemplate, type InstructionTemplates, OPERAND } from "./instruction-templates.ts";
import { tlbEntry } from "../hart/hart-tlb.ts";
import {
  InstructionWriter,
  stopForEvent,
  type Lookup,
  type Surroundings,
  type TranslationMode,
  type Window,
} from "./instruction-writer.ts";
import { RegionFloat } from "./translator-float.ts";
import { EVENT, set } from "../hart/hart-traps.ts";

/** Notes (trace-region.ts) are offsets of instructions, and this value for exits. */
const NOT_AN_INSTRUCTION = -1;

/**
 * The region as a function of type REGION. With templates it is a first translation: fast to make and small,
 * for V8's baseline compiler. Without, it is an improved one.
 */
export function translateRegion(
  name: string,
  region: Region,
  mode: TranslationMode,
  place?: RegionPlace,
  templates?: InstructionTemplates,
): AnyFn {
  return fn(name, REGION.params, I32, (f, hart, context, countdown, pc, entry) => {
    new RegionWriter(f, region, mode, place, templates, { hart, context, countdown, pc, entry }).emit();
  });
}

/** The region's place, if it is known: its indirect jumps can then recognise its own entries. */
export interface RegionPlace {
  /** Its slot of the function table. */
  readonly slot: number;
  /** Address of the page's table of translations. */
  readonly table: number;
}

interface Parameters {
  readonly hart: Local<I32>;
  readonly context: Local<I32>;
  readonly countdown: Local<I32>;
  readonly pc: Local<I64>;
  readonly entry: Local<I32>;
}

class RegionWriter implements Surroundings {
  readonly f: Func;
  readonly #region: Region;
  readonly mode: TranslationMode;
  readonly p: Parameters;
  readonly hart: I32;
  readonly context: I32;
  /** The block that is being written. */
  #block!: Block;
  /** Guest-virtual address of the page. */
  readonly #base: Local<I64>;
  /** Where to continue, or the reason to leave, for the exits below. */
  readonly #target: Local<I64>;
  readonly #reason: Local<I32>;
  readonly x: (Local<I64> | undefined)[] = [];
  /** Set if the region has float instructions. */
  float: RegionFloat | undefined;
  /** Continue at #target, in another region if there is one. */
  #leave!: Label;
  /** Return to the interpreter for #reason; pc is stored, the registers of set #stored are not yet. */
  #stop!: Label;
  readonly #stored: Local<I32>;
  readonly #storedSets: number[] = [];
  /** The sets of registers that first translations store at #leave, by #stored. */
  readonly #leftSets: number[] = [];
  /** Enter the block with the current entry number, without leaving the region. */
  #again: Label | undefined;
  /** Stop in the middle of the current block, with #unexecuted of its instructions not executed. */
  #stopInBlock: Label = { depth: 0 };
  readonly #unexecuted: Local<I32>;
  /** Accesses that share another access's TLB lookup. */
  readonly windows = new Map<Instruction, Window>();
  readonly #streams = new Map<Instruction, Lookup>();
  /** Set in a first translation. */
  readonly #templates: InstructionTemplates | undefined;
  readonly #operands = new Int32Array(Object.keys(OPERAND).length);
  readonly #blockLabels = new Map<Block, Label>();
  readonly #loopLabels = new Map<Block, Label>();
  readonly #blocks: ReadonlyMap<number, Block>;
  readonly #children = new Map<Block | undefined, Block[]>();
  /** Maximum number of instructions from a block to the next test of the countdown. */
  readonly #longest = new Map<Block, number>();

  readonly #place: RegionPlace | undefined;
  readonly #flow: RegionFlow;
  /** All entries: those from outside first, then inner entries. */
  readonly #entered: readonly Block[];

  constructor(
    f: Func,
    region: Region,
    mode: TranslationMode,
    place: RegionPlace | undefined,
    templates: InstructionTemplates | undefined,
    parameters: Parameters,
  ) {
    this.#templates = templates;
    f.hasHints = templates === undefined;
    // REGION_LOCALS
    this.#base = f.let(parameters.pc.and(BigInt(-PAGE_SIZE)), "page");
    this.#unexecuted = f.let(I32.of(0), "unexecuted");
    // Calls within the region return to it, and the targets of jump tables are mostly in the page.
    const reenters = region.blocks.some(({ instructions, successors }) => {
      const last = instructions.at(-1) as Instruction;
      return isTableJump(last) || (last.flow.kind === "call" && successors.length > 0);
    });
    this.#place = reenters ? place : undefined;
    this.#flow = analyzeFlow(region, this.#place !== undefined);
    this.#entered = [...region.entries, ...region.inner];
    this.f = f;
    this.#region = region;
    this.mode = mode;
    this.p = parameters;
    this.hart = parameters.hart;
    this.context = parameters.context;
    this.#blocks = new Map(region.blocks.map((block) => [block.start, block]));
    for (const block of region.blocks) {
      const siblings = this.#children.get(block.dominator);
      if (siblings === undefined) this.#children.set(block.dominator, [block]);
      else siblings.push(block);
    }
    for (const block of region.blocks.toReversed()) {
      const after = block.successors
        .filter((next) => next.order > block.order && !next.isLoop)
        .map((next) => this.#longest.get(next) as number);
      this.#longest.set(block, block.instructions.length + Math.max(0, ...after));
    }
    this.#target = f.let(I64.of(0), "target");
    this.#reason = f.let(I32.of(LEAVE.EVENT), "reason");
    this.#stored = f.let(I32.of(0), "stored");
    if (templates !== undefined) return;
    const lookups: Lookup[] = [];
    for (const [access, number] of findStreams(region)) {
      lookups[number] ??= { page: f.let(I64.of(NO_PAGE)), toHost: f.let(I32.of(0)) };
      this.#streams.set(access, lookups[number]);
    }
  }

  emit(): void {
    const f = this.f;
    const { hart, countdown, pc } = this.p;
    const leaveAtOnce = (reason: number): void => {
      set(f, hart, "pc", pc);
      f.store32(hart, reason, SCRATCH.leave);
      f.return(countdown);
    };
    f.if(countdown.ltS(this.#needed), () => leaveAtOnce(LEAVE.BUDGET), undefined, false);
    this.#loadRegisters();
    f.block((stop) => {
      this.#stop = stop;
      f.block((leave) => {
        this.#leave = leave;
        this.#enter();
        f.unreachable();
      });
      f.note(NOT_AN_INSTRUCTION);
      this.#storeOneOf(this.#leftSets);
      this.float?.writeBack();
      this.#continueAtTarget();
    });
    f.note(NOT_AN_INSTRUCTION);
    this.#storeOneOf(this.#storedSets);
    this.float?.writeBack();
    countdown.set(countdown.add(this.#unexecuted));
    // The device access has not been done: the interpreter does it.
    f.if(hart.load32(SCRATCH.event).eq(EVENT.DEVICE), () => {
      f.store32(hart, EVENT.NONE, SCRATCH.event);
      countdown.set(countdown.add(1));
      this.#reason.set(LEAVE.STEP);
    });
    f.store32(hart, this.#reason, SCRATCH.leave);
    f.return(countdown);
  }

  /** The number of instructions that must be left in the slice to enter the region. */
  get #needed(): number {
    if (!this.mode.exact) return 1;
    return Math.max(...this.#region.entries.map((b) => this.#longest.get(b) as number));
  }

  // ---- registers ----

  #loadRegisters(): void {
    const f = this.f;
    const { hart, entry } = this.p;
    const { entries, blocks } = this.#region;
    let named = 0;
    for (const { instructions } of blocks) {
      for (const instruction of instructions) {
        const { reads, writes } = instruction.decoding;
        named |= reads | writes;
      }
    }
    for (const i of bitsOf(named)) this.x[i] = f.declare(I64, X_NAMES[i]);
    const load = (mask: number): void => {
      for (const i of bitsOf(mask)) {
        (this.x[i] as Local<I64>).set(hart.load64(hartLayout.offsetOf("x") + 8 * i));
      }
    };
    const masks = entries.map((block) => this.#flow.loads(block));
    // A superfluous load costs less than separate code for each set of registers.
    const needs = (i: number): number => masks.filter((mask) => ((mask >>> i) & 1) !== 0).length;
    const common = bitsOf(masks.reduce((a, b) => a | b, 0))
      .filter((i) => needs(i) * 2 >= masks.length)
      .reduce((mask, i) => mask | (1 << i), 0);
    load(common);
    if (masks.some((mask) => (mask & ~common) !== 0)) {
      f.switch(
        entry,
        masks.map((mask) => () => load(mask & ~common)),
        () => {},
      );
    }
    if (RegionFloat.isUsedBy(this.#region)) this.float = new RegionFloat(f, hart, this.#region);
  }

  #store(mask: number): void {
    for (const i of bitsOf(mask)) {
      this.f.store64(this.p.hart, this.x[i] as Local<I64>, hartLayout.offsetOf("x") + 8 * i);
    }
  }

  /** Store the set that #stored tells. */
  #storeOneOf(sets: readonly number[]): void {
    if (sets.length === 1) return this.#store(sets[0] as number);
    if (sets.length === 0) return;
    const cases = sets.map((mask) => () => this.#store(mask));
    this.f.switch(this.#stored, cases, () => {});
  }

  // ---- exits ----

  /** x registers are stored: continue at #target by the jump cache, or return to the interpreter. */
  #continueAtTarget(): void {
    const f = this.f;
    const { hart, context, countdown } = this.p;
    const entry = f.let(jumpEntry(context, this.#target));
    f.if(entry.load64(CTX_JUMPS).eq(this.#target), () => {
      const value = f.let(entry.load32(CTX_JUMPS + 8));
      f.returnCallIndirect(REGION, slotOf(value), hart, context, countdown, this.#target, entryOf(value));
    });
    set(f, hart, "pc", this.#target);
    f.store32(hart, LEAVE.LOOKUP, SCRATCH.leave);
    f.return(countdown);
  }

  #leaveTo(block: Block, target: I64): void {
    this.#target.set(target);
    this.#storeAndLeave(block);
  }

  #storeAndLeave(block: Block): void {
    const mask = this.#flow.writtenAfter(block);
    if (this.#templates === undefined) this.#store(mask);
    else this.#stored.set(indexIn(this.#leftSets, mask));
    this.f.br(this.#leave);
  }

  /** As `#leaveTo`, but if the target is an entry of this region, the registers stay in locals. */
  jumpTo(target: I64): void {
    const { f } = this;
    const block = this.#block;
    const place = this.#place;
    if (place === undefined || this.#again === undefined) return this.#leaveTo(block, target);
    const again = this.#again;
    this.#target.set(target);
    const offset = f.let(this.#target.sub(this.#base));
    f.if(offset.ltU(PAGE_SIZE).and(this.p.countdown.geS(this.#needed)), () => {
      const translation = f.let(offset.wrap().shl(1).and(~3).load32(place.table));
      f.if(slotOf(translation).eq(place.slot), () => {
        this.p.entry.set(entryOf(translation));
        f.br(again);
      });
    });
    this.#storeAndLeave(block);
  }

  /** Stop, and store these registers: rare exits share the code that does it. */
  #stopAndStore(mask: number): void {
    this.#stored.set(indexIn(this.#storedSets, mask));
    this.f.br(this.#stop);
  }

  #stopFor(reason: number, mask: number): void {
    this.#reason.set(reason);
    this.#stopAndStore(mask);
  }

  address(offset: number): I64 {
    return this.#base.add(offset);
  }

  storePc(offset: number): void {
    set(this.f, this.p.hart, "pc", this.address(offset));
  }

  // ---- control flow ----

  #enter(): void {
    const { entry } = this.p;
    const dispatch = (): void => {
      this.#emitWithMerges(undefined, () => {
        const only = this.#entered.length === 1 ? this.#entered[0] : undefined;
        if (only !== undefined) this.#branchTo(undefined, only);
        else {
          const labels = this.#entered.map((block) => this.#blockLabels.get(block) as Label);
          this.f.brTable(entry, labels);
        }
      });
    };
    const isEnteredAgain =
      this.#place !== undefined ||
      this.#region.blocks.some((b) => b.successors.some((to) => isIrregular(b, to)));
    if (!isEnteredAgain) return dispatch();
    this.f.loop((again) => {
      this.#again = again;
      dispatch();
    });
  }

  /** Blocks with several incoming edges follow their dominator, each after a block that branches to it. */
  #emitWithMerges(dominator: Block | undefined, body: () => void): void {
    const merges = (this.#children.get(dominator) ?? []).filter((block) => this.#isMerge(block));
    const nest = (n: number): void => {
      const block = merges[n];
      if (block === undefined) return body();
      this.f.block((label) => {
        this.#blockLabels.set(block, label);
        nest(n + 1);
      });
      this.#emitBlock(block);
    };
    // The last in reverse postorder comes last, so its label is the outermost.
    merges.sort((a, b) => b.order - a.order);
    nest(0);
  }

  #isMerge(block: Block): boolean {
    return block.forwardEdges > 1 || (this.#entered.length > 1 && this.#entered.includes(block));
  }

  #emitBlock(block: Block): void {
    const inside = (): void => this.#emitWithMerges(block, () => this.#emitInstructions(block));
    if (!block.isLoop) return inside();
    this.f.loop((again) => {
      this.#loopLabels.set(block, again);
      inside();
    });
  }

  /** Go from one block (undefined: from outside) to another. */
  #branchTo(from: Block | undefined, to: Block): void {
    if (from === undefined || to.order > from.order) {
      if (!this.#isMerge(to)) return this.#emitBlock(to);
      return this.f.br(this.#blockLabels.get(to) as Label);
    }
    if (isIrregular(from, to)) {
      this.#poll(to, this.#flow.writtenAfter(from));
      this.p.entry.set(this.#entered.indexOf(to));
      return this.f.br(this.#again as Label);
    }
    if (!this.mode.exact) this.#poll(to, this.#flow.writtenAfter(from));
    this.f.br(this.#loopLabels.get(to) as Label);
  }

  /** Test whether the slice has room to continue at a block. `written`: registers to store if it does not. */
  #poll(at: Block, written: number): void {
    const needed = this.mode.exact ? (this.#longest.get(at) as number) : 1;
    this.f.if(
      this.p.countdown.ltS(needed),
      () => {
        this.storePc(at.start);
        this.#stopFor(LEAVE.BUDGET, written);
      },
      undefined,
      false,
    );
  }

  goTo(offset: number): void {
    const block = this.#block;
    this.#edge(block, offset);
    // Blocks that are reached only from here have been written in between.
    this.#block = block;
  }

  #edge(from: Block, offset: number): void {
    const to = this.#blocks.get(offset);
    if (to !== undefined && from.successors.includes(to)) this.#branchTo(from, to);
    else this.#leaveTo(from, this.address(offset));
  }

  #emitInstructions(block: Block): void {
    const f = this.f;
    this.float?.startBlock();
    if (block.isLoop && this.mode.exact) this.#poll(block, this.#flow.writtenBefore(block));
    const templates = block.instructions.map((instruction) => this.#templateOf(instruction));
    if (this.#templates !== undefined && !mayStop(block, templates)) return this.#emitBody(block, templates);
    f.block((stopInBlock) => {
      this.#stopInBlock = stopInBlock;
      this.#emitBody(block, templates);
    });
    this.#stopAndStore(this.#flow.writtenAfter(block));
  }

  #templateOf(instruction: Instruction): InstructionTemplate | undefined {
    // An access of fflags concerns the region's float state.
    if (this.float !== undefined && instruction.row?.extension === "Zicsr") return undefined;
    return this.#templates?.of(instruction);
  }

  #emitBody(block: Block, templates: readonly (InstructionTemplate | undefined)[]): void {
    const f = this.f;
    const { countdown } = this.p;
    const { instructions } = block;
    f.note(block.start);
    const last = instructions.at(-1) as Instruction;
    const stepped = last.flow.kind === "step" ? 1 : 0;
    const executed = instructions.length - stepped;
    if (executed > 0) countdown.set(countdown.sub(executed));
    const windows = this.#templates === undefined ? findWindows(instructions) : NO_WINDOWS;
    // Overlapping blocks share instructions.
    for (const instruction of instructions) this.windows.delete(instruction);
    for (const [i, instruction] of instructions.entries()) {
      if (instruction.flow.kind === "step") {
        this.storePc(instruction.offset);
        this.#stopFor(LEAVE.STEP, this.#flow.writtenAfter(block));
        return;
      }
      const template = templates[i];
      if (template !== undefined) {
        this.#writeTemplate(template, instruction, executed - i - 1);
        continue;
      }
      const window = windows.get(instruction);
      if (window !== undefined) this.#openWindow(window);
      f.scope(() => this.#emitInstruction(block, instruction, executed - i - 1));
    }
    if (last.flow.kind === "next") this.#edge(block, block.end);
  }

  #writeTemplate({ template }: InstructionTemplate, instruction: Instruction, unexecuted: number): void {
    const { word, offset, size, bits, decoding } = instruction;
    const operands = this.#operands;
    operands[OPERAND.rs1] = this.#localOf(word >>> 15);
    operands[OPERAND.rs2] = this.#localOf(word >>> 20);
    operands[OPERAND.rd] = this.#localOf(word >>> 7);
    operands[OPERAND.imm] = decoding.immediate;
    operands[OPERAND.offset] = offset;
    operands[OPERAND.next] = offset + size;
    operands[OPERAND.unexecuted] = unexecuted;
    operands[OPERAND.bits] = bits;
    this.f.note(offset);
    this.f.write(template, operands, this.#stopInBlock);
  }
  /** The local of the register in the low five bits; meaningless if the region does not name it. */
  #localOf(register: number): number {
    return this.x[register & 31]?.index ?? 0;
  }

  #openWindow(accesses: readonly Access[]): void {
    const { f } = this;
    const { base, instruction } = accesses[0] as Access;
    const low = Math.min(...accesses.map((a) => a.offset));
    const span = Math.max(...accesses.map((a) => a.offset + a.size)) - low;
    const table = instruction.row?.immediate === "S" ? CTX_WRITE : CTX_READ;
    const hva = f.let(I32.of(0));
    f.scope(() => {
      const va = f.let((this.x[base] as Local<I64>).add(low));
      const isWhole = va
        .wrap()
        .and(PAGE_SIZE - 1)
        .leU(PAGE_SIZE - span);
      const stream = this.#streams.get(instruction);
      if (stream !== undefined) {
        const page = f.let(va.and(-PAGE_SIZE));
        this.lookUp(stream, table, page, () => {});
        const isInside = page.eq(stream.page).and(isWhole);
        hva.set(isInside.select<I32>(va.wrap().add(stream.toHost), I32.of(0)));
        return;
      }
      const entry = f.let(tlbEntry(this.p.context, va));
      // One comparison of the difference is not enough: the tag of an empty entry is just before page 0.
      const isInside = va.and(-PAGE_SIZE).eq(entry.load64(table)).and(isWhole);
      hva.set(isInside.select<I32>(va.wrap().add(entry.load32(table + 8)), I32.of(0)));
    });
    for (const { instruction: each, offset } of accesses)
      this.windows.set(each, { hva, offset: offset - low });
  }

  /** The last TLB lookup of this access's stream. */
  streamOf(access: Instruction): Lookup | undefined {
    return this.#streams.get(access);
  }

  /** Look a page up in the TLB unless it is the stream's. */
  lookUp(stream: Lookup, table: number, page: Local<I64>, notFound: () => void): void {
    const { f } = this;
    const lookUpPage = (): void => {
      const entry = f.let(tlbEntry(this.p.context, page));
      const found = (): void => {
        stream.page.set(page);
        stream.toHost.set(entry.load32(table + 8));
      };
      f.if(entry.load64(table).eq(page), found, notFound, true);
    };
    f.if(page.ne(stream.page), lookUpPage, undefined, false);
  }

  /** `unexecuted`: the block's instructions after this one; the countdown already includes them. */
  #emitInstruction(block: Block, instruction: Instruction, unexecuted: number): void {
    const { row, offset, size, flow } = instruction;
    if (row === undefined) return;
    this.f.note(offset);
    if (this.mode.exact && row.extension === "Zicsr" && instruction.word >>> 20 === REGISTERS.time.csr) {
      this.step(instruction, unexecuted);
      return;
    }
    this.#block = block;
    row.meaning(new InstructionWriter(this, instruction, unexecuted));
    if (flow.kind !== "next") return;
    const isAccess = row.fields.has("rs1") && row.extension !== "M";
    if (row.extension !== "Zicsr" && !(this.mode.exact && isAccess)) return;
    // The instruction may have cleared fflags.
    if (row.extension === "Zicsr") this.float?.flagsChanged();
    stopForEvent(this, offset + size, unexecuted);
  }

  /** The interpreter executes this instruction and continues. */
  step({ offset }: Instruction, unexecuted: number): void {
    const { countdown } = this.p;
    this.storePc(offset);
    countdown.set(countdown.add(unexecuted + 1));
    this.#reason.set(LEAVE.STEP);
    this.f.br(this.#stopInBlock);
  }

  /** Stop in the middle of a block; the trap or event is in memory. */
  stopAfter(unexecuted: number): void {
    if (unexecuted > 0) this.#unexecuted.set(unexecuted);
    this.f.br(this.#stopInBlock);
  }
}

/** Not a page address: the bits of the page offset are not 0. */
const NO_PAGE = -1n;

/** Maximum size of a window, in bytes. */
const WINDOW_SIZE = 512;

interface Access {
  readonly instruction: Instruction;
  readonly base: number;
  readonly offset: number;
  readonly size: number;
}

const NO_WINDOWS: ReadonlyMap<Instruction, readonly Access[]> = new Map();

/** Whether code in the middle of the block may leave it. */
function mayStop({ instructions }: Block, templates: readonly (InstructionTemplate | undefined)[]): boolean {
  return instructions.some(({ flow, row }, i) => {
    const template = templates[i];
    if (template !== undefined) return template.mayStop;
    return row !== undefined && flow.kind === "next";
  });
}

/** The accesses of a block that share a window, by the first of them. */
function findWindows(instructions: readonly Instruction[]): Map<Instruction, readonly Access[]> {
  const windows = new Map<Instruction, Access[]>();
  const open = new Map<string, Access[]>();
  const close = (key: string): void => {
    const accesses = open.get(key) as Access[];
    if (accesses.length > 2) windows.set((accesses[0] as Access).instruction, accesses);
    open.delete(key);
  };
  for (const instruction of instructions) {
    const { row, word } = instruction;
    if (row === undefined) break;
    const size = accessSize(row);
    if (size !== undefined) {
      const base = (word >>> 15) & 31;
      const offset = decodeImmediate(row.immediate as "I" | "S", word);
      const key = `${row.immediate} ${base}`;
      const access = { instruction, base, offset, size };
      const sharing = open.get(key);
      const lowest = Math.min(offset, ...(sharing ?? []).map((a) => a.offset));
      const end = Math.max(offset + size, ...(sharing ?? []).map((a) => a.offset + a.size));
      if (sharing !== undefined && end - lowest <= WINDOW_SIZE) sharing.push(access);
      else {
        if (sharing !== undefined) close(key);
        if (base !== 0) open.set(key, [access]);
      }
    }
    if (!row.fields.has("rd")) continue;
    const rd = (word >>> 7) & 31;
    for (const key of [`I ${rd}`, `S ${rd}`]) if (open.has(key)) close(key);
  }
  for (const key of [...open.keys()]) close(key);
  return windows;
}

/** The place of an item in a list, to which it is added if it is not there. */
function indexIn(list: number[], item: number): number {
  const known = list.indexOf(item);
  return known >= 0 ? known : list.push(item) - 1;
}

/** Numbers of the registers in a mask, ascending. */
function bitsOf(mask: number): number[] {
  const bits: number[] = [];
  for (let rest = mask; rest !== 0; rest &= rest - 1) bits.push(31 - Math.clz32(rest & -rest));
  return bits;
}
