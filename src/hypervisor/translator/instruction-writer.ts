// One instruction of a region: its row's meaning with known operands. What surrounds it is a region
// (region-translator.ts), or a template that many regions share (instruction-templates.ts).
import { I32, I64, type Value } from "../../wasm/expr.ts";
import type { Func, Local } from "../../wasm/function.ts";
import { CTX_READ, CTX_WRITE } from "../hart/tlb-context.ts";
import { tlbEntry } from "../hart/hart-tlb.ts";
import { EVENT, raise, raiseIllegal } from "../hart/hart-traps.ts";
import { loadSlowAt, storeSlowAt } from "../hart/mmu.ts";
import type { FloatSemantics } from "../isa/float-semantics.ts";
import { decodeImmediate } from "../isa/instruction-encoding.ts";
import {
  loadAccess,
  type LoadKind,
  SIZE_OF_LOAD,
  type Semantics,
  storeAccess,
  type StoreSize,
} from "../isa/instruction-semantics.ts";
import { SCRATCH } from "../shared/hart-scratch.ts";
import { type Instruction, PAGE_SIZE } from "./region.ts";
import type { Accesses, RegionFloat } from "./translator-float.ts";

export interface TranslationMode {
  /**
   * Never execute more instructions than `countdown`: slices end at exactly their budget. The time CSR and
   * devices may read the clock, which counts instructions, so the interpreter, which knows the exact count,
   * executes those accesses.
   */
  readonly exact: boolean;
  /** See `Semantics`. */
  readonly hasTotalStoreOrder: boolean;
}

/** A stream's last TLB lookup. Valid until the region is left: dropping translations waits for that. */
export interface Lookup {
  readonly page: Local<I64>;
  /** The number to add to a virtual address in that page. */
  readonly toHost: Local<I32>;
}

/** Memory near a base register, for which several accesses of a block share one TLB lookup. */
export interface Window {
  /** Host address of the lowest byte; 0 if the window is not entirely in a page that the TLB has. */
  readonly hva: Local<I32>;
  /** The offset of this access from there. */
  readonly offset: number;
}

/** The code around an instruction. `unexecuted`: the block's instructions after it. */
export interface Surroundings {
  readonly f: Func;
  readonly mode: TranslationMode;
  readonly hart: I32;
  readonly context: I32;
  /** The guest's registers; undefined for x0. */
  readonly x: readonly (Local<I64> | undefined)[];
  readonly float: RegionFloat | undefined;
  /** Accesses that share another access's TLB lookup. */
  readonly windows: ReadonlyMap<Instruction, Window>;
  /** The last TLB lookup of this access's stream. */
  streamOf(access: Instruction): Lookup | undefined;
  /** Look a page up in the TLB unless it is the stream's. */
  lookUp(stream: Lookup, table: number, page: Local<I64>, notFound: () => void): void;
  /** The address of an offset of the page. */
  address(offset: number): I64;
  storePc(offset: number): void;
  /** Stop in the middle of a block; the trap or event is in memory. */
  stopAfter(unexecuted: number): void;
  /** The interpreter executes this instruction and continues. */
  step(instruction: Instruction, unexecuted: number): void;
  jumpTo(target: I64): void;
  /** Continue at an offset of the page. */
  goTo(offset: number): void;
}

/** An event that the last instruction has caused is handled before the next one, at offset `next`. */
export function stopForEvent(around: Surroundings, next: number, unexecuted: number): void {
  around.f.if(
    around.hart.load32(SCRATCH.event),
    () => {
      around.storePc(next);
      around.stopAfter(unexecuted);
    },
    undefined,
    false,
  );
}

/** The translator's `Semantics` for one instruction, with known operands. */
export class InstructionWriter implements Semantics, Accesses {
  readonly f: Func;
  readonly hart: I32;
  readonly #around: Surroundings;
  readonly #instruction: Instruction;
  readonly #unexecuted: number;

  /** `unexecuted`: the block's instructions after this one. */
  constructor(around: Surroundings, instruction: Instruction, unexecuted: number) {
    this.f = around.f;
    this.hart = around.hart;
    this.#around = around;
    this.#instruction = instruction;
    this.#unexecuted = unexecuted;
  }

  get word(): I32 {
    return I32.of(this.#instruction.word);
  }
  #number(low: number): number {
    return (this.#instruction.word >>> low) & 31;
  }
  get rs1(): I64 {
    return this.#around.x[this.#number(15)] ?? I64.of(0);
  }
  get rs2(): I64 {
    return this.#around.x[this.#number(20)] ?? I64.of(0);
  }
  get hasTotalStoreOrder(): boolean {
    return this.#around.mode.hasTotalStoreOrder;
  }
  get float(): FloatSemantics {
    const { float } = this.#around;
    if (float === undefined) throw new RangeError("a float instruction in a region that has none");
    return float.semantics(this, this.#instruction.word, this);
  }
  get #immediate(): number {
    const { row, word } = this.#instruction;
    if (row?.immediate === undefined) throw new RangeError(`${row?.name} has no immediate`);
    return decodeImmediate(row.immediate, word);
  }
  get imm(): I64 {
    return I64.of(this.#immediate);
  }
  get pc(): I64 {
    return this.#around.address(this.#instruction.offset);
  }
  get nextPc(): I64 {
    return this.#around.address(this.#instruction.offset + this.#instruction.size);
  }
  field(low: number, width: number): I32 {
    return I32.of((this.#instruction.word >>> low) & (2 ** width - 1));
  }
  setRd(value: I64): void {
    const rd = this.#around.x[this.#number(7)];
    // A call has side effects, for example on fflags, even if its result is not used.
    if (rd === undefined) this.f.drop(value);
    else rd.set(value);
  }

  jump(target: I64): void {
    this.#around.jumpTo(target);
  }
  branch(condition: I32): void {
    const { offset, size } = this.#instruction;
    this.f.if(condition, () => this.#around.goTo(offset + this.#immediate));
    this.#around.goTo(offset + size);
  }
  jumpImmediate(): void {
    this.#around.goTo(this.#instruction.offset + this.#immediate);
  }

  load(kind: LoadKind, address: I64): I64;
  load<T extends Value>(
    size: StoreSize,
    address: I64,
    zero: T,
    fromHost: (hva: I32, offset?: number) => T,
    fromBits: (bits: I64) => T,
  ): T;
  load(
    kind: LoadKind | StoreSize,
    address: I64,
    zero: Value = I64.of(0),
    fromHost?: (hva: I32, offset?: number) => Value,
    fromBits?: (bits: I64) => Value,
  ): Value {
    const [from, bits] = typeof kind === "number" ? [fromHost, fromBits] : loadAccess[kind];
    const read = from as (hva: I32, offset?: number) => Value;
    const size = typeof kind === "number" ? kind : SIZE_OF_LOAD[kind];
    const value = this.f.let(zero);
    this.#access(
      CTX_READ,
      size,
      address,
      (at, offset) => value.set(read(at, offset)),
      (va) => value.set((bits as (bits: I64) => Value)(loadSlowAt.call(this.hart, va, this.pc, size))),
    );
    return value;
  }
  store(size: StoreSize, address: I64, value: I64): void;
  store(size: StoreSize, address: I64, toHost: (hva: I32, offset?: number) => void, bits: I64): void;
  store(size: StoreSize, address: I64, value: I64 | ((hva: I32, offset?: number) => void), bits?: I64): void {
    const { f } = this;
    const write =
      typeof value === "function" ? value : (at: I32, offset = 0) => storeAccess(f, size, at, value, offset);
    const whole = typeof value === "function" ? (bits as I64) : value;
    this.#access(CTX_WRITE, size, address, write, (va) =>
      f.call(storeSlowAt, this.hart, va, whole, this.pc, size),
    );
  }

  /** `table` is CTX_READ or CTX_WRITE. */
  #access(
    table: number,
    size: StoreSize,
    address: I64,
    fast: (hva: I32, offset: number) => void,
    slow: (va: I64) => void,
  ): void {
    const { f } = this;
    const notFound = (va: I64) => () => {
      if (this.#around.mode.exact) return this.step();
      slow(va);
      this.stopIfNotDone();
    };
    const window = this.#around.windows.get(this.#instruction);
    if (window !== undefined) {
      f.if(window.hva, () => fast(window.hva, window.offset), notFound(address), true);
      return;
    }
    const va = f.let(address);
    const stream = this.#around.streamOf(this.#instruction);
    if (stream !== undefined) {
      f.block((done) => {
        const page = f.let(va.and(BigInt(-PAGE_SIZE) | BigInt(size - 1)));
        const missed = (): void => {
          notFound(va)();
          f.br(done);
        };
        this.#around.lookUp(stream, table, page, missed);
        fast(va.wrap().add(stream.toHost), 0);
      });
      return;
    }
    const entry = f.let(tlbEntry(this.#around.context, va));
    const found = entry.load64(table).eq(va.and(BigInt(-PAGE_SIZE) | BigInt(size - 1)));
    f.if(found, () => fast(va.wrap().add(entry.load32(table + 8)), 0), notFound(va), true);
  }

  guard(call: I64): Local<I64> {
    this.#around.storePc(this.#instruction.offset);
    const value = this.f.let(call);
    this.checkEvent();
    return value;
  }
  checkEvent(): void {
    const isTrapped = this.hart.load32(SCRATCH.event).eq(EVENT.TRAPPED);
    this.f.if(isTrapped, () => this.resume(), undefined, false);
  }
  /** Stop here if a slow access was not done: a trap, or EVENT.DEVICE. */
  protected stopIfNotDone(): void {
    this.f.if(this.hart.load32(SCRATCH.event), () => this.resume(), undefined, false);
  }
  /** The interpreter executes instructions that read the counters. */
  syncCounters(): void {}
  trap(cause: I64 | number, tval: I64 | number): void {
    this.#around.storePc(this.#instruction.offset);
    this.f.call(raise, this.hart, cause, tval);
    this.resume();
  }
  trapDynamic(cause: I64): void {
    this.trap(cause, 0);
  }
  illegal(): void {
    this.#around.storePc(this.#instruction.offset);
    this.f.call(raiseIllegal, this.hart, this.#instruction.bits);
    this.resume();
  }
  resume(): void {
    this.#around.stopAfter(this.#unexecuted);
  }
  exit(): void {
    throw new RangeError(`${this.#instruction.row?.name} leaves the guest: it must be stepped`);
  }
  step(): void {
    this.#around.step(this.#instruction, this.#unexecuted);
  }
}
