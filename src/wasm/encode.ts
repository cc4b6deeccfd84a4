// The WebAssembly binary format (core spec 2.0, chapter 5): LEB128, names, sections, and the rope that holds
// instructions until function and data indexes are known.

/** A thing whose index is known only when the module is written. */
export interface Indexed {
  readonly indexSpace: "function" | "data" | "type";
}

/** Emits no byte: tells whether the branch that follows is likely taken (branch hinting proposal). */
export class BranchHint {
  static readonly likely = new BranchHint(1);
  static readonly unlikely = new BranchHint(0);
  readonly value: 0 | 1;
  private constructor(value: 0 | 1) {
    this.value = value;
  }
}

/** What a place of a template is filled with, each time the template is written. */
export const HOLE = {
  /** The index of a local: operand `number`. */
  local: 0,
  /** A signed 32-bit constant: operand `number`. */
  constant: 1,
  /** A branch out of the template, to its exit, from `number` nested bodies. */
  exit: 2,
  /** The index of a local that lives within the template: number × 4 + its type's place in LOCAL_TYPES. */
  temporary: 3,
} as const;

/** A place of a template (function.ts) that is filled in when it is written. */
export class Hole {
  readonly kind: number;
  readonly number: number;
  constructor(kind: number, number: number) {
    this.kind = kind;
    this.number = number;
  }
}

/** A piece of code: a byte, a sequence, a reference written as its LEB128 index, a hint, or a hole. */
export type Code = number | readonly Code[] | Indexed | BranchHint | Hole;

const ULEB_CACHE: (readonly number[])[] = [];

/** Unsigned LEB128 of 0 ≤ n < 2^53. */
export function uleb(n: number): readonly number[] {
  if (n >= 0x4000) return encodeUleb(n);
  let known = ULEB_CACHE[n];
  if (known === undefined) {
    known = encodeUleb(n);
    ULEB_CACHE[n] = known;
  }
  return known;
}

function encodeUleb(n: number): number[] {
  const out: number[] = [];
  let rest = n;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    out.push(rest === 0 ? low : low | 0x80);
  } while (rest !== 0);
  return out;
}

/** Signed LEB128 of a 32-bit integer. */
export function sleb32(n: number): readonly number[] {
  const out: number[] = [];
  let rest = n | 0;
  for (;;) {
    const low = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
      out.push(low);
      return out;
    }
    out.push(low | 0x80);
  }
}

/** Signed LEB128 of a 64-bit integer (also right for i32 constants, sign-extended). */
export function sleb(n: bigint): readonly number[] {
  let rest = BigInt.asIntN(64, n);
  if (rest === BigInt.asIntN(32, rest)) return sleb32(Number(rest));
  const out: number[] = [];
  for (;;) {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
      out.push(low);
      return out;
    }
    out.push(low | 0x80);
  }
}

/** IEEE 754 little-endian bytes of a double (size 8) or a float (size 4). */
export function floatBytes(value: number, size: 4 | 8): number[] {
  const view = new DataView(new ArrayBuffer(8));
  if (size === 8) view.setFloat64(0, value, true);
  else view.setFloat32(0, value, true);
  return [...new Uint8Array(view.buffer, 0, size)];
}

/** A counted name. ASCII only, as all our names are. */
export function name(text: string): number[] {
  return [...uleb(text.length), ...Array.from(text, (c) => c.charCodeAt(0))];
}

/** A growing byte array: module sections are too long for spread arguments. */
export class Bytes {
  #bytes = new Uint8Array(1024);
  length = 0;

  push(byte: number): void {
    if (this.length === this.#bytes.length) this.#grow(this.length + 1);
    this.#bytes[this.length++] = byte;
  }
  /** As unsigned LEB128, 0 ≤ n < 2^31. */
  pushUnsigned(n: number): void {
    let rest = n;
    for (; rest > 0x7f; rest >>>= 7) this.push((rest & 0x7f) | 0x80);
    this.push(rest);
  }
  /** As signed LEB128 of a 32-bit integer. */
  pushSigned(n: number): void {
    let rest = n | 0;
    for (; rest < -64 || rest > 63; rest >>= 7) this.push((rest & 0x7f) | 0x80);
    this.push(rest & 0x7f);
  }
  append(source: ArrayLike<number>): void {
    if (this.length + source.length > this.#bytes.length) this.#grow(this.length + source.length);
    this.#bytes.set(source, this.length);
    this.length += source.length;
  }
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.length);
  }
  #grow(needed: number): void {
    const next = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    next.set(this.#bytes);
    this.#bytes = next;
  }
}

/** Size in bytes of an index field that is filled in when the module is written (padded LEB128). */
const INDEX_BYTES = 2;

/**
 * Code that is written many times, each time with other operands. `program`: bytes; above them, 256 + 4 ×
 * number + kind of a hole; below 0, -1 - the place in `references`.
 */
export interface Template {
  readonly program: Int32Array;
  readonly references: readonly Indexed[];
}

/** Instructions as bytes, and the positions of unresolved indexes, hinted branches, notes and holes. */
export class CodeBytes {
  readonly bytes = new Bytes();
  readonly references: { readonly at: number; readonly to: Indexed }[] = [];
  readonly hints: { readonly at: number; readonly hint: BranchHint }[] = [];
  readonly holes: { readonly at: number; readonly hole: Hole }[] = [];
  /** What the code from each position on implements, in the caller's terms; for wasm-text.ts only. */
  readonly notes: { readonly at: number; readonly note: number }[] = [];

  emit(code: Code): void {
    if (typeof code === "number") this.bytes.push(code);
    else if (Array.isArray(code)) {
      for (let i = 0; i < code.length; i++) this.emit((code as readonly Code[])[i] as Code);
    } else if (code instanceof BranchHint) this.hints.push({ at: this.bytes.length, hint: code });
    else if (code instanceof Hole) this.holes.push({ at: this.bytes.length, hole: code });
    else this.#refer(code as Indexed);
  }

  #refer(to: Indexed): void {
    this.references.push({ at: this.bytes.length, to });
    for (let i = 0; i < INDEX_BYTES; i++) this.bytes.push(0);
  }

  /** The code so far as a template. */
  template(): Template {
    const program: number[] = [];
    const references: Indexed[] = [];
    const bytes = this.bytes.finish();
    let [hole, reference] = [0, 0];
    for (let at = 0; at <= bytes.length; at++) {
      for (let next = this.holes[hole]; next?.at === at; next = this.holes[++hole]) {
        program.push(256 + 4 * next.hole.number + next.hole.kind);
      }
      const next = this.references[reference];
      if (next?.at === at) {
        reference++;
        program.push(-references.push(next.to));
        at += INDEX_BYTES - 1;
      } else if (at < bytes.length) program.push(bytes[at] as number);
    }
    return { program: Int32Array.from(program), references };
  }

  /** Write a template; `exit` is the depth of its exit, `temporaryAt` maps its temporaries to locals. */
  write(
    { program, references }: Template,
    operands: ArrayLike<number>,
    exit: number,
    temporaryAt: (number: number) => number,
  ): void {
    const { bytes } = this;
    for (let i = 0; i < program.length; i++) {
      const item = program[i] as number;
      if (item >= 0 && item < 256) bytes.push(item);
      else if (item < 0) this.#refer(references[-item - 1] as Indexed);
      else {
        const number = (item - 256) >> 2;
        const kind = item & 3;
        if (kind === HOLE.constant) bytes.pushSigned(operands[number] as number);
        else if (kind === HOLE.local) bytes.pushUnsigned(operands[number] as number);
        else bytes.pushUnsigned(kind === HOLE.exit ? exit + number : temporaryAt(number));
      }
    }
  }

  /** The bytes with all indexes filled in. */
  resolved(index: (ref: Indexed) => number): Uint8Array<ArrayBuffer> {
    const out = this.bytes.finish();
    for (const { at, to } of this.references) {
      let rest = index(to);
      for (let i = 0; i < INDEX_BYTES; i++) {
        out[at + i] = (rest & 0x7f) | (i === INDEX_BYTES - 1 ? 0 : 0x80);
        rest >>>= 7;
      }
      if (rest !== 0) throw new RangeError(`index ${index(to)} needs more than ${INDEX_BYTES} bytes`);
    }
    return out;
  }
}
