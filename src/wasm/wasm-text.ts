// The text of a function for debugging, in the folded text format (core spec 2.0, chapter 6): one line for
// each statement, locals as `$name`, constants as numbers where they are operands. Supports the instructions
// that expr.ts and function.ts emit; throws RangeError for others. Left out: block types, alignments, and all
// else that only an assembler needs.
import { type Indexed } from "./encode.ts";
import { type AnyFn, Fn, FnType } from "./function.ts";
import { ATOMIC, BULK, OP, PREFIX, TYPE, VECTOR } from "./opcodes.ts";

export interface TextLine {
  /** The last `f.note` before it, if any. */
  readonly note: number | undefined;
  /** The number of enclosing blocks. */
  readonly depth: number;
  readonly text: string;
}

const namesOf = (opcodes: Readonly<Record<string, number>>): ReadonlyMap<number, string> =>
  new Map(Object.entries(opcodes).map(([name, opcode]) => [opcode, name]));
const NAMES = namesOf(OP);
const BULK_NAMES = namesOf(BULK);
const VECTOR_NAMES = namesOf(VECTOR);
const ATOMIC_NAMES = namesOf(ATOMIC);
const TYPE_NAMES = namesOf(TYPE);

/** Numeric instructions with two operands; the others have one. */
const BINARY =
  /^i(32|64)\.(eq|ne|[lg][te]_[su]|add|sub|mul|div_[su]|rem_[su]|and|or|xor|shl|shr_[su]|rotl|rotr)$|^f(32|64)\.(eq|ne|[lg][te]|add|sub|mul|div|min|max|copysign)$/;

interface Frame {
  readonly label: string;
  /** For an `if` with a result: the condition, and the text of the first arm once it is complete. */
  readonly condition?: string;
  readonly type?: string;
  first?: string;
}

/** `parameters` names the function's parameters; other locals have the name given to `f.let`, or a number. */
export function functionText(target: AnyFn, parameters: readonly string[] = []): TextLine[] {
  return new Printer(target, parameters).print();
}

class Printer {
  readonly #fn: AnyFn;
  readonly #bytes: Uint8Array;
  readonly #references: ReadonlyMap<number, Indexed>;
  readonly #notes: readonly { readonly at: number; readonly note: number }[];
  readonly #hints: ReadonlyMap<number, number>;
  readonly #names: ReadonlyMap<number, string>;
  readonly #lines: TextLine[] = [];
  /** Operands that no instruction has consumed yet. */
  readonly #operands: string[] = [];
  readonly #frames: Frame[] = [];
  #at = 0;
  #labels = 0;
  #nextNote = 0;
  #note: number | undefined;

  constructor(target: AnyFn, parameters: readonly string[]) {
    const { code, localNames } = target.assemble();
    this.#fn = target;
    this.#bytes = code.resolved(() => 0);
    this.#references = new Map(code.references.map(({ at, to }) => [at, to]));
    this.#notes = code.notes;
    this.#hints = new Map(code.hints.map(({ at, hint }) => [at, hint.value]));
    this.#names = new Map([...parameters.entries(), ...localNames]);
  }

  print(): TextLine[] {
    while (this.#at < this.#bytes.length) {
      for (let next = this.#notes[this.#nextNote]; next !== undefined && next.at <= this.#at; ) {
        this.#note = next.note;
        next = this.#notes[++this.#nextNote];
      }
      const hint = this.#hints.get(this.#at);
      this.#instruction(this.#byte(), hint);
    }
    return this.#lines;
  }

  // ---- reading ----

  #byte(): number {
    return this.#bytes[this.#at++] as number;
  }
  #unsigned(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }
  #signed(): bigint {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(Number(shift) + 7, value);
    }
  }
  #float(size: 4 | 8): string {
    const view = new DataView(this.#bytes.buffer, this.#at, size);
    this.#at += size;
    return String(size === 4 ? view.getFloat32(0, true) : view.getFloat64(0, true));
  }
  #reference(): Indexed {
    const found = this.#references.get(this.#at);
    if (found === undefined) throw new RangeError(`${this.#fn.name}: no reference at byte ${this.#at}`);
    this.#unsigned();
    return found;
  }
  #offset(): string {
    this.#unsigned();
    const offset = this.#unsigned();
    return offset === 0 ? "" : ` offset=${offset < 4096 ? offset : `0x${offset.toString(16)}`}`;
  }
  #local(): string {
    const index = this.#unsigned();
    return `$${this.#names.get(index) ?? index}`;
  }

  // ---- writing ----

  #statement(text: string, depth = this.#frames.length): void {
    this.#lines.push({ note: this.#note, depth, text });
  }
  #take(count: number): string[] {
    return count === 0 ? [] : this.#operands.splice(-count);
  }
  #folded(name: string, operands: readonly string[]): string {
    return `(${[name, ...operands].join(" ")})`;
  }
  #push(name: string, operands: number): void {
    this.#operands.push(this.#folded(name, this.#take(operands)));
  }
  #do(name: string, operands: number): void {
    this.#statement(this.#folded(name, this.#take(operands)));
  }
  #label(): string {
    const depth = this.#unsigned();
    return this.#frames.at(-1 - depth)?.label ?? "function";
  }

  #instruction(opcode: number, hint: number | undefined): void {
    const likely = hint === undefined ? "" : hint === 1 ? " ;; likely" : " ;; unlikely";
    const name = NAMES.get(opcode) ?? "";
    if (name !== "" && opcode >= OP["i32.eqz"]) return this.#push(name, BINARY.test(name) ? 2 : 1);
    if (opcode >= OP["i32.load"] && opcode <= OP["i64.store32"]) {
      const access = `${name}${this.#offset()}`;
      return opcode < OP["i32.store"] ? this.#push(access, 1) : this.#do(access, 2);
    }
    switch (opcode) {
      case OP.unreachable:
        return this.#do("unreachable", 0);
      case OP.block:
      case OP.loop: {
        this.#byte();
        const label = `@${++this.#labels}`;
        this.#statement(`(${opcode === OP.block ? "block" : "loop"} ${label}`);
        this.#frames.push({ label });
        return;
      }
      case OP.if:
        return this.#if(likely);
      case OP.else:
        return this.#else();
      case OP.end:
        return this.#end();
      case OP.br:
        return this.#do(`br ${this.#label()}`, 0);
      case OP.br_if: {
        const label = this.#label();
        return this.#statement(`${this.#folded(`br_if ${label}`, this.#take(1))}${likely}`);
      }
      case OP.br_table: {
        const labels = Array.from({ length: this.#unsigned() + 1 }, () => this.#label());
        return this.#do(`br_table ${labels.join(" ")}`, 1);
      }
      case OP.return:
        return this.#do("return", this.#fn.result === undefined ? 0 : 1);
      case OP.call:
      case OP.call_indirect:
      case OP.return_call:
      case OP.return_call_indirect:
        return this.#call(opcode);
      case OP.drop:
        return this.#do("drop", 1);
      case OP.select:
        return this.#push("select", 3);
      case OP["local.get"]:
        return void this.#operands.push(this.#local());
      case OP["local.set"]:
        return this.#do(`local.set ${this.#local()}`, 1);
      case OP["local.tee"]:
        return this.#push(`local.tee ${this.#local()}`, 1);
      case OP["i32.const"]:
      case OP["i64.const"]:
        return void this.#operands.push(String(this.#signed()));
      case OP["f32.const"]:
      case OP["f64.const"]:
        return void this.#operands.push(this.#float(opcode === OP["f32.const"] ? 4 : 8));
      case PREFIX.bulk:
        return this.#bulk(this.#unsigned());
      case PREFIX.vector:
        return this.#vector(this.#unsigned());
      case PREFIX.atomic:
        return this.#atomic(this.#unsigned());
      default:
        throw new RangeError(`${this.#fn.name}: opcode 0x${opcode.toString(16)} has no text`);
    }
  }

  #vector(opcode: number): void {
    const name = this.#known(VECTOR_NAMES, opcode);
    if (name.endsWith("splat")) return this.#push(name, 1);
    if (name.endsWith("extract_lane")) return this.#push(`${name} ${this.#byte()}`, 1);
    this.#push(name, 3);
  }

  #known(table: ReadonlyMap<number, string>, opcode: number): string {
    const found = table.get(opcode);
    if (found === undefined)
      throw new RangeError(`${this.#fn.name}: opcode 0x${opcode.toString(16)} has no text`);
    return found;
  }

  #call(opcode: number): void {
    const isIndirect = opcode === OP.call_indirect || opcode === OP.return_call_indirect;
    const target = this.#reference();
    if (isIndirect) this.#unsigned();
    if (!(target instanceof Fn || target instanceof FnType)) throw new RangeError("a call of no function");
    const opcodeName = this.#known(NAMES, opcode);
    const name = target instanceof Fn ? `${opcodeName} $${target.name}` : opcodeName;
    const operands = target.params.length + (isIndirect ? 1 : 0);
    if (opcode >= OP.return_call || target.result === undefined) this.#do(name, operands);
    else this.#push(name, operands);
  }

  #if(likely: string): void {
    const type = this.#byte();
    const condition = this.#take(1)[0] as string;
    if (type !== TYPE.none) {
      this.#frames.push({ label: "if", condition, type: TYPE_NAMES.get(type) ?? "?" });
      return;
    }
    this.#statement(`(if ${condition}${likely}`);
    this.#frames.push({ label: `@${++this.#labels}` });
  }

  #else(): void {
    const frame = this.#frames.at(-1);
    if (frame?.condition !== undefined) frame.first = this.#take(1)[0] as string;
    else this.#statement("else", this.#frames.length - 1);
  }

  #end(): void {
    const frame = this.#frames.pop();
    if (frame === undefined) {
      // The end of the function itself.
      for (const operand of this.#take(this.#operands.length)) this.#statement(operand);
    } else if (frame.condition === undefined) this.#statement(")");
    else {
      const arms = [`(then ${frame.first})`, `(else ${this.#take(1)[0]})`];
      this.#operands.push(this.#folded(`if (result ${frame.type})`, [frame.condition, ...arms]));
    }
  }

  #bulk(opcode: number): void {
    const name = this.#known(BULK_NAMES, opcode);
    if (opcode < BULK["memory.init"]) return this.#push(name, 1);
    if (opcode === BULK["memory.init"]) this.#reference();
    else this.#unsigned();
    if (opcode !== BULK["memory.fill"]) this.#unsigned();
    this.#do(name, 3);
  }

  #atomic(opcode: number): void {
    const name = this.#known(ATOMIC_NAMES, opcode);
    if (opcode === ATOMIC["atomic.fence"]) {
      this.#byte();
      return this.#do(name, 0);
    }
    const access = `${name}${this.#offset()}`;
    if (name.endsWith("load")) this.#push(access, 1);
    else if (name.endsWith("store")) this.#do(access, 2);
    else this.#push(access, name.endsWith("cmpxchg") ? 3 : 2);
  }
}
