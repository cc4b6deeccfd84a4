// A small RISC-V assembler: GNU syntax, sections, macros; one or more source texts to bytes at fixed
// addresses. It repeats its pass over the source until all symbols are stable, so forward references need no
// relocations. Left out: linking, relaxation, selection of compressed instructions, debug information.
import { AsmError } from "./assembler-error.ts";
import { evaluate, unescape } from "./expression.ts";
import { assembleInstruction } from "./instruction.ts";
import { type Line, readLines, splitOperands } from "./assembler-source.ts";

export interface AssembleOptions {
  /** Address of the first byte of the first section. */
  readonly base: bigint;
  /**
   * Alignment of the address of each further section; sections are in the order of their first use. Default
   * 16.
   */
  readonly sectionAlign?: number;
  /** Symbols defined before the first line. */
  readonly defines?: Readonly<Record<string, number | bigint>>;
}

export interface AssembledSection {
  readonly name: string;
  readonly address: bigint;
  /** Empty for .bss. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Size in memory; larger than bytes.length only for .bss. */
  readonly size: number;
}

export interface Assembled {
  readonly sections: readonly AssembledSection[];
  readonly symbols: ReadonlyMap<string, bigint>;
}

export interface Source {
  /** The name in messages. */
  readonly name: string;
  readonly text: string;
}

const MAX_PASSES = 12;

class Section {
  readonly name: string;
  readonly bytes: number[] = [];
  size = 0;
  constructor(name: string) {
    this.name = name;
  }
}

const DATA_SIZES: Readonly<Record<string, number>> = {
  ".byte": 1,
  ".half": 2,
  ".2byte": 2,
  ".word": 4,
  ".4byte": 4,
  ".dword": 8,
  ".8byte": 8,
  ".quad": 8,
};

class Pass {
  readonly sections = new Map<string, Section>();
  readonly symbols = new Map<string, bigint>();
  readonly #numeric = new Map<string, bigint[]>();
  readonly #previous: Pass | undefined;
  readonly #bases: ReadonlyMap<string, bigint>;
  readonly #final: boolean;
  #section: Section;

  constructor(previous: Pass | undefined, options: AssembleOptions, final: boolean) {
    this.#previous = previous;
    this.#final = final;
    this.#bases = previous ? previous.layout(options) : new Map();
    for (const [name, value] of Object.entries(options.defines ?? {})) this.symbols.set(name, BigInt(value));
    this.#section = this.#open(".text");
  }

  /** The section addresses for the sizes of this pass. */
  layout(options: AssembleOptions): Map<string, bigint> {
    const align = BigInt(options.sectionAlign ?? 16);
    const bases = new Map<string, bigint>();
    let at = options.base;
    for (const section of this.sections.values()) {
      bases.set(section.name, at);
      at = ((at + BigInt(section.size) + align - 1n) / align) * align;
    }
    return bases;
  }

  baseOf(section: string): bigint {
    return this.#bases.get(section) ?? 0n;
  }

  #open(name: string): Section {
    let section = this.sections.get(name);
    if (!section) this.sections.set(name, (section = new Section(name)));
    return section;
  }

  get #here(): bigint {
    return this.baseOf(this.#section.name) + BigInt(this.#section.size);
  }

  #lookup(name: string): bigint {
    if (name === ".") return this.#here;
    const local = /^(\d+)([bf])$/.exec(name);
    let value: bigint | undefined;
    if (local) {
      const number = local[1] as string;
      const seen = this.#numeric.get(number)?.length ?? 0;
      const forward = this.#previous ? this.#previous.#numeric : this.#numeric;
      value = local[2] === "b" ? this.#numeric.get(number)?.[seen - 1] : forward.get(number)?.[seen];
    } else value = this.symbols.get(name) ?? this.#previous?.symbols.get(name);
    if (value === undefined && this.#final) throw new Error(`undefined symbol '${name}'`);
    return value ?? this.#here;
  }

  value(expression: string): bigint {
    return evaluate(expression, (name) => this.#lookup(name));
  }

  define(name: string): void {
    if (/^\d+$/.test(name)) {
      const list = this.#numeric.get(name) ?? [];
      list.push(this.#here);
      this.#numeric.set(name, list);
      return;
    }
    if (this.symbols.has(name)) throw new Error(`symbol '${name}' is defined twice`);
    this.symbols.set(name, this.#here);
  }

  #emit(value: bigint, bytes: number): void {
    const section = this.#section;
    if (section.name.startsWith(".bss")) throw new Error("only .space and .align may stand in .bss");
    for (let i = 0; i < bytes; i++) section.bytes.push(Number((value >> BigInt(8 * i)) & 0xffn));
    section.size += bytes;
  }

  #fill(count: number, byte: number): void {
    if (count < 0) throw new Error(`negative size ${count}`);
    if (!this.#section.name.startsWith(".bss"))
      for (let i = 0; i < count; i++) this.#section.bytes.push(byte);
    this.#section.size += count;
  }

  statement(name: string, operands: readonly string[]): void {
    const size = DATA_SIZES[name];
    if (size !== undefined) {
      for (const operand of operands) this.#emit(BigInt.asUintN(64, this.value(operand)), size);
      return;
    }
    switch (name) {
      case ".text":
      case ".data":
      case ".rodata":
      case ".bss":
        this.#section = this.#open(name);
        return;
      case ".section":
        this.#section = this.#open(operands[0] ?? ".text");
        return;
      case ".ascii":
      case ".asciz":
      case ".string":
        for (const operand of operands) {
          if (!/^".*"$/s.test(operand)) throw new Error(`expected a quoted text, found ${operand}`);
          for (const byte of unescape(operand.slice(1, -1))) this.#emit(BigInt(byte), 1);
          if (name !== ".ascii") this.#emit(0n, 1);
        }
        return;
      case ".align":
      case ".p2align":
      case ".balign": {
        const n = Number(this.value(operands[0] ?? ""));
        const align = BigInt(name === ".balign" ? n : 2 ** n);
        const pad = Number((align - (this.#here % align)) % align);
        if (!this.#section.name.startsWith(".text") || pad % 4) return this.#fill(pad, 0);
        for (let i = 0; i < pad; i += 4) this.#emit(0x13n, 4);
        return;
      }
      case ".space":
      case ".skip":
      case ".zero":
        return this.#fill(
          Number(this.value(operands[0] ?? "")),
          operands[1] ? Number(this.value(operands[1])) : 0,
        );
      case ".equ":
      case ".set": {
        const symbol = operands[0] ?? "";
        if (!/^[A-Za-z_.$][\w.$]*$/.test(symbol)) throw new Error(`expected a name, found '${symbol}'`);
        this.symbols.set(symbol, this.value(operands[1] ?? ""));
        return;
      }
      case ".global":
      case ".globl":
      case ".option":
      case ".type":
      case ".size":
        return;
    }
    if (name.startsWith(".")) throw new Error(`unknown directive '${name}'`);
    const context = { pc: this.#here, value: (text: string) => this.value(text) };
    // Until the symbols are stable, a correct operand may be out of range.
    try {
      assembleInstruction(name, operands, context, (unit, bytes) => this.#emit(BigInt(unit), bytes));
    } catch (error) {
      if (this.#final || this.#section.size > Number(context.pc - this.baseOf(this.#section.name)))
        throw error;
      this.#emit(0n, name.startsWith("c.") ? 2 : name === "la" || name === "call" || name === "tail" ? 8 : 4);
    }
  }
}

function run(pass: Pass, lines: readonly Line[]): void {
  for (const line of readLines(lines, (expression) => pass.value(expression))) {
    try {
      for (const label of line.labels) pass.define(label);
      if (line.name !== "") pass.statement(line.name, splitOperands(line.rest));
    } catch (error) {
      if (error instanceof AsmError) throw error;
      throw new AsmError(line.place, error instanceof Error ? error.message : String(error));
    }
  }
}

function same(a: ReadonlyMap<string, bigint>, b: ReadonlyMap<string, bigint>): boolean {
  return a.size === b.size && [...a].every(([name, value]) => b.get(name) === value);
}

/** Assembles `sources` as one text. Throws AsmError with file and line of the first error. */
export function assemble(sources: readonly Source[], options: AssembleOptions): Assembled {
  const lines = sources.flatMap(({ name, text }) =>
    text.split("\n").map((line, n): Line => ({ place: `${name}:${n + 1}`, text: line })),
  );
  let previous = new Pass(undefined, options, false);
  run(previous, lines);
  for (let n = 0; n < MAX_PASSES; n++) {
    const next = new Pass(previous, options, false);
    run(next, lines);
    const stable =
      same(previous.symbols, next.symbols) && same(previous.layout(options), next.layout(options));
    previous = next;
    if (stable) break;
    if (n === MAX_PASSES - 1) throw new AsmError(lines[0]?.place ?? "?", "symbols do not settle");
  }
  const last = new Pass(previous, options, true);
  run(last, lines);
  const sections = [...last.sections.values()].map((section) => ({
    name: section.name,
    address: last.baseOf(section.name),
    bytes: Uint8Array.from(section.bytes),
    size: section.size,
  }));
  return { sections, symbols: last.symbols };
}

/** All sections as one memory image, starting at the lowest address. Trailing .bss is omitted. */
export function flatBinary({ sections }: Assembled): Uint8Array<ArrayBuffer> {
  const filled = sections.filter((section) => section.bytes.length > 0);
  const base = sections.reduce(
    (low, section) => (section.address < low ? section.address : low),
    filled[0]?.address ?? 0n,
  );
  const end = filled.reduce(
    (high, section) => Math.max(high, Number(section.address - base) + section.bytes.length),
    0,
  );
  const image = new Uint8Array(end);
  for (const section of filled) image.set(section.bytes, Number(section.address - base));
  return image;
}
