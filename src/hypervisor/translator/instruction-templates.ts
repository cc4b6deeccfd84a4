// Templates of first translations: what a row's meaning emits depends on few things, so it is recorded once
// and then written with other registers, immediates and addresses, at a tenth of the cost. Without float,
// jumps and branches, which depend on the region.
import { I32, I64, type Value } from "../../wasm/expr.ts";
import type { Template } from "../../wasm/encode.ts";
import {
  type Func,
  type Local,
  recordTemplate,
  TEMPLATE_EXIT,
  templateConstant,
} from "../../wasm/function.ts";
import { raiseIllegal, set } from "../hart/hart-traps.ts";
import { REGION } from "../interpreter/code-dispatch.ts";
import type { LoadKind, Row, StoreSize } from "../isa/instruction-semantics.ts";
import {
  InstructionWriter,
  stopForEvent,
  type Surroundings,
  type TranslationMode,
} from "./instruction-writer.ts";
import { type Decoding, DECODING_PLACES, type Instruction } from "./region.ts";

/** Operands of a template: locals of the registers, and constants. */
export const OPERAND = {
  rs1: 0,
  rs2: 1,
  rd: 2,
  imm: 3,
  /** Offsets in the page of the instruction and of the next one. */
  offset: 4,
  next: 5,
  unexecuted: 6,
  /** The encoding in memory. */
  bits: 7,
} as const;

/** The locals that each region begins with, after its parameters. */
export const REGION_LOCALS = [I64, I32] as const;
const [HART, CONTEXT] = [0, 1];
const [BASE, UNEXECUTED] = [REGION.params.length, REGION.params.length + 1];

export interface InstructionTemplate {
  readonly template: Template;
  /** It may leave in the middle of a block. */
  readonly mayStop: boolean;
}

/** What a meaning has read of the word, besides its registers and whether its operands are 0. */
const READ = { NOTHING: 0, FIELDS: 1, WORD: 2 } as const;

/** A template, or what else decides: other fields, the whole word, or that there is none. */
type Known = InstructionTemplate | "fields" | "word" | "none";

/** Maximum number of templates for fields, and for words; then all are recorded again. */
const MAX_KNOWN = 1 << 13;

export class InstructionTemplates {
  readonly #mode: TranslationMode;
  /** The decodings that were asked for last, by their places, and their templates. */
  readonly #decodings = new Array<Decoding | undefined>(DECODING_PLACES).fill(undefined);
  readonly #templates = new Array<InstructionTemplate | undefined>(DECODING_PLACES).fill(undefined);
  /** By which operands are 0; by the fields besides registers; by word. */
  readonly #byOperands = new Map<Row, Known[]>();
  readonly #byFields = new Map<number, Known>();
  readonly #byWord = new Map<number, Known>();

  constructor(mode: TranslationMode) {
    this.#mode = mode;
  }

  /** The template of an instruction; undefined if it has none. */
  of({ decoding }: Instruction): InstructionTemplate | undefined {
    const { place } = decoding;
    if (this.#decodings[place] !== decoding) {
      this.#decodings[place] = decoding;
      this.#templates[place] = this.#find(decoding);
    }
    return this.#templates[place];
  }

  #find(decoding: Decoding): InstructionTemplate | undefined {
    const { row, word, kind } = decoding;
    if (row === undefined || kind !== "next" || this.#mode.exact) return undefined;
    const canonical = canonicalWord(row, word);
    let byOperands = this.#byOperands.get(row);
    if (byOperands === undefined) this.#byOperands.set(row, (byOperands = []));
    const place = zeroOperands(decoding);
    let known = (byOperands[place] ??= this.#record(decoding, canonical, READ.NOTHING));
    if (known === "fields") {
      known = this.#byFields.get(canonical) ?? this.#record(decoding, canonical, READ.FIELDS);
      if (this.#byFields.size >= MAX_KNOWN) this.#byFields.clear();
      this.#byFields.set(canonical, known);
    }
    if (known === "word") {
      known = this.#byWord.get(word) ?? this.#record(decoding, canonical, READ.WORD);
      if (this.#byWord.size >= MAX_KNOWN) this.#byWord.clear();
      this.#byWord.set(word, known);
    }
    return typeof known === "object" ? known : undefined;
  }

  /** Record the template; if the meaning reads more than `allowed`, say what. */
  #record(decoding: Decoding, canonical: number, allowed: number): Known {
    let writer: TemplateWriter | undefined;
    let template: Template | undefined;
    try {
      template = recordTemplate([...REGION.params, ...REGION_LOCALS], (f) => {
        writer = new TemplateWriter(new TemplateSurroundings(f, this.#mode), decoding, canonical);
        writer.write();
      });
    } catch (error) {
      if (!(error instanceof NoTemplate)) throw error;
    }
    const { read, mayStop } = writer as unknown as TemplateWriter;
    if (read > allowed) return read === READ.WORD ? "word" : "fields";
    return template === undefined ? "none" : { template, mayStop };
  }
}

class NoTemplate extends Error {}

function noTemplate(): never {
  throw new NoTemplate();
}

/** The register fields, and the registers that stand for them in a template where they are not x0. */
const REGISTER_FIELDS = [
  ["rs1", 15, 1],
  ["rs2", 20, 2],
  ["rd", 7, 3],
] as const;

/** The word with the registers of a template. */
function canonicalWord(row: Row, word: number): number {
  let canonical = word;
  for (const [name, low, register] of REGISTER_FIELDS) {
    if (!row.fields.has(name) || ((word >>> low) & 31) === 0) continue;
    canonical = (canonical & ~(31 << low)) | (register << low);
  }
  return canonical;
}

/** A bit for each operand that is not 0. */
function zeroOperands({ row, word, immediate }: Decoding): number {
  let bits = immediate === 0 ? 0 : 8;
  for (const [i, [name, low]] of REGISTER_FIELDS.entries()) {
    if (row?.fields.has(name) && ((word >>> low) & 31) !== 0) bits |= 1 << i;
  }
  return bits;
}

class TemplateSurroundings implements Surroundings {
  readonly f: Func;
  readonly mode: TranslationMode;
  readonly hart: I32;
  readonly context: I32;
  readonly x: readonly (Local<I64> | undefined)[];
  readonly windows = new Map<Instruction, never>();
  readonly #base: I64;
  readonly #unexecuted: Local<I32>;
  mayStop = false;

  constructor(f: Func, mode: TranslationMode) {
    this.f = f;
    this.mode = mode;
    this.hart = f.params[HART] as Local<I32>;
    this.context = f.params[CONTEXT] as Local<I32>;
    this.#base = f.params[BASE] as Local<I64>;
    this.#unexecuted = f.params[UNEXECUTED] as Local<I32>;
    const operand = (number: number): Local<I64> => f.operand(I64, number);
    this.x = [undefined, operand(OPERAND.rs1), operand(OPERAND.rs2), operand(OPERAND.rd)];
  }
  get float(): never {
    return noTemplate();
  }
  streamOf(): undefined {
    return undefined;
  }
  lookUp(): never {
    return noTemplate();
  }
  /** `offset`: 0 is the instruction, all else is the next one. */
  address(offset: number): I64 {
    return this.#base.add(templateConstant.i64(offset === 0 ? OPERAND.offset : OPERAND.next));
  }
  storePc(offset: number): void {
    set(this.f, this.hart, "pc", this.address(offset));
  }
  stopAfter(): void {
    this.mayStop = true;
    this.#unexecuted.set(templateConstant.i32(OPERAND.unexecuted));
    this.f.br(TEMPLATE_EXIT);
  }
  step(): never {
    return noTemplate();
  }
  jumpTo(): never {
    return noTemplate();
  }
  goTo(): never {
    return noTemplate();
  }
}

/** The meaning of an instruction with the registers of a template. */
class TemplateWriter extends InstructionWriter {
  readonly #around: TemplateSurroundings;
  readonly #decoding: Decoding;
  #read: number = READ.NOTHING;

  constructor(around: TemplateSurroundings, decoding: Decoding, canonical: number) {
    const { row, size, bits } = decoding;
    super(around, { offset: 0, size, word: canonical, bits, row, flow: { kind: "next" }, decoding }, 0);
    this.#around = around;
    this.#decoding = decoding;
  }

  /** What the meaning has read. */
  get read(): number {
    return this.#read;
  }
  get mayStop(): boolean {
    return this.#around.mayStop;
  }

  write(): void {
    const { row, size } = this.#decoding;
    (row as Row).meaning(this);
    if (row?.extension === "Zicsr") stopForEvent(this.#around, size, 0);
  }

  override get word(): I32 {
    this.#read = READ.WORD;
    return I32.of(this.#decoding.word);
  }
  override field(low: number, width: number): I32 {
    const { row, word } = this.#decoding;
    const isRegister = REGISTER_FIELDS.some(
      ([name, at]) => row?.fields.has(name) && at < low + width && low < at + 5,
    );
    this.#read = Math.max(this.#read, isRegister ? READ.WORD : READ.FIELDS);
    return I32.of((word >>> low) & (2 ** width - 1));
  }
  override get imm(): I64 {
    return this.#decoding.immediate === 0 ? I64.of(0) : templateConstant.i64(OPERAND.imm);
  }

  override load(kind: LoadKind, address: I64): I64;
  override load<T extends Value>(size: StoreSize, address: I64, zero: T): T;
  override load(kind: LoadKind | StoreSize, address: I64): Value {
    return typeof kind === "number" ? noTemplate() : super.load(kind, address);
  }
  override store(size: StoreSize, address: I64, value: I64 | ((hva: I32, offset?: number) => void)): void {
    if (typeof value === "function") return noTemplate();
    super.store(size, address, value);
  }
  override illegal(): void {
    this.#around.storePc(0);
    this.f.call(raiseIllegal, this.hart, templateConstant.i32(OPERAND.bits));
    this.resume();
  }
}
