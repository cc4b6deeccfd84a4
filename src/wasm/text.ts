// The text of a function for debugging, in the folded text format (core spec 2.0, chapter 6): one line for
// each statement, locals as `$name`, constants as numbers where they are operands. Supports the instructions
// that expr.ts and function.ts emit; throws RangeError for others. Left out: block types, alignments, and all
// else that only an assembler needs.
import { type Indexed } from "./encode.ts";
import { type AnyFn, Fn, FnType } from "./function.ts";

export interface TextLine {
  /** The last `f.note` before it, if any. */
  readonly note: number | undefined;
  /** The number of enclosing blocks. */
  readonly depth: number;
  readonly text: string;
}

const words = (text: string): string[] => text.trim().split(/\s+/);

/** Opcodes from 0x45 on. */
const NUMERIC = words(`
  i32.eqz i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u
  i64.eqz i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u
  f32.eq f32.ne f32.lt f32.gt f32.le f32.ge f64.eq f64.ne f64.lt f64.gt f64.le f64.ge
  i32.clz i32.ctz i32.popcnt i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u
  i32.and i32.or i32.xor i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr
  i64.clz i64.ctz i64.popcnt i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u
  i64.and i64.or i64.xor i64.shl i64.shr_s i64.shr_u i64.rotl i64.rotr
  f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt
  f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign
  f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt
  f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign
  i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u i64.extend_i32_s i64.extend_i32_u
  i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u
  f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u f32.demote_f64
  f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32
  i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64
  i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s`);
const NUMERIC_FIRST = 0x45;
/** Ranges of instructions with two operands: first and last opcode. */
const BINARY: readonly (readonly [number, number])[] = [
  [0x46, 0x4f],
  [0x51, 0x66],
  [0x6a, 0x78],
  [0x7c, 0x8a],
  [0x92, 0x98],
  [0xa0, 0xa6],
];
/** Opcodes from 0x28 on (loads) and 0x36 on (stores). */
const MEMORY = words(`
  i32.load i64.load f32.load f64.load i32.load8_s i32.load8_u i32.load16_s i32.load16_u
  i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u
  i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32`);
const LOAD = 0x28;
const STORE = 0x36;
const SATURATING = words(`
  i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u
  i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u`);
/** The vector instructions we use: name, number of operands, whether a lane index follows. */
const VECTOR: ReadonlyMap<number, readonly [string, number, boolean]> = new Map([
  [0x13, ["f32x4.splat", 1, false]],
  [0x14, ["f64x2.splat", 1, false]],
  [0x1f, ["f32x4.extract_lane", 1, true]],
  [0x21, ["f64x2.extract_lane", 1, true]],
  [0x105, ["f32x4.relaxed_madd", 3, false]],
  [0x107, ["f64x2.relaxed_madd", 3, false]],
] as const);
/** Groups of seven opcodes from 0x1e on: i32, i64, and five narrow forms that we do not use. */
const RMW = words("add sub and or xor xchg cmpxchg");
const TYPES = new Map([
  [0x7f, "i32"],
  [0x7e, "i64"],
  [0x7d, "f32"],
  [0x7c, "f64"],
]);
const NO_RESULT = 0x40;

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
    if (opcode >= NUMERIC_FIRST && opcode < NUMERIC_FIRST + NUMERIC.length) {
      const isBinary = BINARY.some(([first, last]) => opcode >= first && opcode <= last);
      return this.#push(NUMERIC[opcode - NUMERIC_FIRST] as string, isBinary ? 2 : 1);
    }
    if (opcode >= LOAD && opcode < LOAD + MEMORY.length) {
      const name = `${MEMORY[opcode - LOAD]}${this.#offset()}`;
      return opcode < STORE ? this.#push(name, 1) : this.#do(name, 2);
    }
    switch (opcode) {
      case 0x00:
        return this.#do("unreachable", 0);
      case 0x02:
      case 0x03: {
        this.#byte();
        const label = `@${++this.#labels}`;
        this.#statement(`(${opcode === 0x02 ? "block" : "loop"} ${label}`);
        this.#frames.push({ label });
        return;
      }
      case 0x04:
        return this.#if(likely);
      case 0x05:
        return this.#else();
      case 0x0b:
        return this.#end();
      case 0x0c:
        return this.#do(`br ${this.#label()}`, 0);
      case 0x0d: {
        const label = this.#label();
        return this.#statement(`${this.#folded(`br_if ${label}`, this.#take(1))}${likely}`);
      }
      case 0x0e: {
        const labels = Array.from({ length: this.#unsigned() + 1 }, () => this.#label());
        return this.#do(`br_table ${labels.join(" ")}`, 1);
      }
      case 0x0f:
        return this.#do("return", this.#fn.result === undefined ? 0 : 1);
      case 0x10:
      case 0x11:
      case 0x12:
      case 0x13:
        return this.#call(opcode);
      case 0x1a:
        return this.#do("drop", 1);
      case 0x1b:
        return this.#push("select", 3);
      case 0x20:
        return void this.#operands.push(this.#local());
      case 0x21:
        return this.#do(`local.set ${this.#local()}`, 1);
      case 0x22:
        return this.#push(`local.tee ${this.#local()}`, 1);
      case 0x41:
      case 0x42:
        return void this.#operands.push(String(this.#signed()));
      case 0x43:
      case 0x44:
        return void this.#operands.push(this.#float(opcode === 0x43 ? 4 : 8));
      case 0xfc:
        return this.#prefixed(this.#unsigned());
      case 0xfd: {
        const [name, operands, hasLane] = this.#known(VECTOR, this.#unsigned());
        return this.#push(hasLane ? `${name} ${this.#byte()}` : name, operands);
      }
      case 0xfe:
        return this.#atomic(this.#unsigned());
      default:
        throw new RangeError(`${this.#fn.name}: opcode 0x${opcode.toString(16)} has no text`);
    }
  }

  #known<V>(table: ReadonlyMap<number, V>, opcode: number): V {
    const found = table.get(opcode);
    if (found === undefined)
      throw new RangeError(`${this.#fn.name}: opcode 0x${opcode.toString(16)} has no text`);
    return found;
  }

  #call(opcode: number): void {
    const isIndirect = (opcode & 1) === 1;
    const target = this.#reference();
    if (isIndirect) this.#unsigned();
    if (!(target instanceof Fn || target instanceof FnType)) throw new RangeError("a call of no function");
    const name = [
      opcode >= 0x12 ? "return_call" : "call",
      isIndirect ? "_indirect" : target instanceof Fn ? ` $${target.name}` : "",
    ].join("");
    const operands = target.params.length + (isIndirect ? 1 : 0);
    if (opcode >= 0x12 || target.result === undefined) this.#do(name, operands);
    else this.#push(name, operands);
  }

  #if(likely: string): void {
    const type = this.#byte();
    const condition = this.#take(1)[0] as string;
    if (type !== NO_RESULT) {
      this.#frames.push({ label: "if", condition, type: TYPES.get(type) ?? "?" });
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

  #prefixed(opcode: number): void {
    if (opcode < SATURATING.length) return this.#push(SATURATING[opcode] as string, 1);
    if (opcode === 8) this.#reference();
    else this.#unsigned();
    if (opcode !== 11) this.#unsigned();
    this.#do(
      this.#known(
        new Map([
          [8, "memory.init"],
          [10, "memory.copy"],
          [11, "memory.fill"],
        ]),
        opcode,
      ),
      3,
    );
  }

  #atomic(opcode: number): void {
    if (opcode === 0x03) {
      this.#byte();
      return this.#do("atomic.fence", 0);
    }
    const type = opcode % 7 === 2 || opcode === 0x10 || opcode === 0x17 ? "i32" : "i64";
    const offset = this.#offset();
    if (opcode === 0x10 || opcode === 0x11) return this.#push(`${type}.atomic.load${offset}`, 1);
    if (opcode === 0x17 || opcode === 0x18) return this.#do(`${type}.atomic.store${offset}`, 2);
    const operation = RMW[Math.floor((opcode - 0x1e) / 7)];
    if (operation === undefined || (opcode - 0x1e) % 7 > 1)
      throw new RangeError(`${this.#fn.name}: atomic opcode 0x${opcode.toString(16)} has no text`);
    this.#push(`${type}.atomic.rmw.${operation}${offset}`, operation === "cmpxchg" ? 3 : 2);
  }
}
