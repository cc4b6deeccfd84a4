// WebAssembly functions as TypeScript closures over typed expressions. A function is a constant; a module
// contains the functions it exports and all that they call, so nothing is declared or registered twice.
//
//   const now = imported("env", "now", [], F64);
//   const sum = fn("sum", [I32, I32], I64, (f, address, count) => {      // sum of `count` 64-bit words
//     const total = f.let(I64.of(0));
//     f.loop((again) => {
//       f.if(count.eqz(), () => f.return(total));
//       total.set(total.add(address.load64()));
//       address.set(address.add(8));
//       count.set(count.sub(1));
//       f.br(again);
//     });
//     return total;
//   });
//   const bytes = buildModule({ memory: { module: "env", name: "memory", … }, exports: { sum } });
//
// `f` emits statements in the order of the calls; `sum.call(a, 3)` is an expression, `f.call(sum, a, 3)` a
// statement. A local made by `f.let` lives until the enclosing body ends; then its slot is reused.
import { BranchHint, type Code, CodeBytes, Hole, HOLE, type Indexed, type Template, uleb } from "./encode.ts";
import { ATOMIC, BULK, OP, PREFIX, TYPE } from "./opcodes.ts";
import { F32, F64, I32, I64, memarg, type Value, type ValueType } from "./expr.ts";

type InstanceOf<T> = T extends ValueType ? InstanceType<T> : undefined;
type Settable<T extends Value> = T | (T extends I32 ? number : T extends I64 ? number | bigint : never);

/** A local variable: an expression that can be assigned. */
export type Local<T extends Value> = T & {
  /** Its number in the function; undefined in a template. */
  readonly index: number | undefined;
  set(value: Settable<T>): void;
  /** Assigns the value and evaluates to it. */
  tee(value: Settable<T>): T;
};

type Params<P extends readonly ValueType[]> = { [K in keyof P]: Local<InstanceType<P[K]>> };
type Args<P extends readonly ValueType[]> = { [K in keyof P]: Settable<InstanceType<P[K]>> };
// A function with a result may return it with `f.return` alone; then the end of its body is unreachable.
type Body<P extends readonly ValueType[], R> = (
  f: Func,
  ...params: Params<P>
) => InstanceOf<R> | undefined | void;

/** The target of a branch, valid only inside the body that received it. */
export interface Label {
  readonly depth: number;
}

/** A function of any type, as a module writes it. */
export interface AnyFn extends Indexed {
  readonly name: string;
  readonly params: readonly ValueType[];
  readonly result: ValueType | undefined;
  /** The module it is imported from; undefined if it has a body. */
  readonly importedFrom: string | undefined;
  assemble(): FunctionCode;
}

/** The contents of a function's code entry. */
export interface FunctionCode {
  /** Types of the locals that follow the parameters. */
  readonly locals: readonly ValueType[];
  /** Names of locals by index, where they have one. */
  readonly localNames: ReadonlyMap<number, string>;
  readonly code: CodeBytes;
}

/** A function of a module, imported or with a body. */
export class Fn<
  P extends readonly ValueType[] = readonly ValueType[],
  R extends ValueType | undefined = ValueType | undefined,
> implements AnyFn
{
  readonly indexSpace = "function";
  readonly name: string;
  readonly params: P;
  readonly result: R;
  readonly importedFrom: string | undefined;
  readonly #body: Body<P, R> | undefined;
  #assembled: FunctionCode | undefined;

  constructor(name: string, params: P, result: R, source: { body: Body<P, R> } | { importedFrom: string }) {
    this.name = name;
    this.params = params;
    this.result = result;
    this.importedFrom = "importedFrom" in source ? source.importedFrom : undefined;
    this.#body = "body" in source ? source.body : undefined;
  }

  /** The call as an expression. For a function without a result, use `f.call`. */
  call(...args: Args<P>): InstanceOf<R> {
    const code = [argumentsOf(this.params, args), OP.call, this];
    const result = this.result;
    return (result === undefined ? { code } : new result(code)) as InstanceOf<R>;
  }

  /**
   * Runs the body once: all modules that share the function, and queries of its callees, get the same code.
   */
  assemble(): FunctionCode {
    this.#assembled ??= this.#assemble();
    return this.#assembled;
  }
  #assemble(): FunctionCode {
    const f = new Func(this.params);
    const value = this.#body?.(f, ...(f.params as unknown as Params<P>)) as Value | undefined;
    return f.finish(value, this.result !== undefined);
  }
}

/** Defines a function. `body` receives the function builder and the parameters as locals. */
export function fn<const P extends readonly ValueType[], R extends ValueType | undefined>(
  name: string,
  params: P,
  result: R,
  body: Body<P, R>,
): Fn<P, R> {
  return new Fn(name, params, result, { body });
}

/** Declares an imported function. */
export function imported<const P extends readonly ValueType[], R extends ValueType | undefined>(
  module: string,
  name: string,
  params: P,
  result: R,
): Fn<P, R> {
  return new Fn(name, params, result, { importedFrom: module });
}

/**
 * A function type, for calls through the module's table. Make one object for each type and use it everywhere.
 */
export class FnType<
  P extends readonly ValueType[] = readonly ValueType[],
  R extends ValueType | undefined = ValueType | undefined,
> implements Indexed
{
  readonly indexSpace = "type";
  readonly params: P;
  readonly result: R;
  constructor(params: P, result: R) {
    this.params = params;
    this.result = result;
  }

  /** Calls entry `index` of the table; traps if the entry has another type. */
  callIndirect(index: I32, ...args: Args<P>): InstanceOf<R> {
    const code = [argumentsOf(this.params, args), index.code, OP.call_indirect, this, 0];
    return (this.result === undefined ? { code } : new this.result(code)) as InstanceOf<R>;
  }
}

function argumentsOf<P extends readonly ValueType[]>(params: P, args: Args<P>): Code {
  return args.map((a, i) => constant(a as Value | number | bigint, params[i] as ValueType).code);
}

/** Bytes that `f.init` copies into memory (a passive data segment). */
export class Data implements Indexed {
  readonly indexSpace = "data";
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** In a template: where branches out of it lead. */
export const TEMPLATE_EXIT: Label = { depth: -1 };

/** Types of the locals of a template; see HOLE. */
const LOCAL_TYPES: readonly ValueType[] = [I32, I64, F32, F64];

/**
 * Records the statements of `body` as a template. `fixed`: the types of the locals that each function that
 * the template is written in begins with; they are parameters of the body.
 */
export function recordTemplate(fixed: readonly ValueType[], body: (f: Func) => void): Template {
  const f = new Func(fixed, true);
  body(f);
  return f.template();
}

/** Operand `number` of a template as an expression: a local, or a signed 32-bit constant. */
export const templateConstant = {
  i32: (number: number): I32 => new I32([OP["i32.const"], new Hole(HOLE.constant, number)]),
  i64: (number: number): I64 => new I64([OP["i64.const"], new Hole(HOLE.constant, number)]),
};

/** Emits the statements of one function. */
export class Func {
  readonly params: readonly Local<Value>[];
  readonly #code = new CodeBytes();
  readonly #localTypes: ValueType[] = [];
  readonly #localNames = new Map<number, string>();
  readonly #free = new Map<number, number[]>();
  #scope: [type: number, index: number][] = [];
  #depth = 0;
  /** Locals and branches out are holes. */
  readonly #isTemplate: boolean;
  /** By type, the locals that templates use within themselves. */
  readonly #temporaries: number[][] = [[], [], [], []];
  /** False: branches have no hints, for code that V8 will not optimise. */
  hasHints = true;

  constructor(params: readonly ValueType[], isTemplate = false) {
    this.#isTemplate = isTemplate;
    this.params = params.map((type, i) => this.#local(new type([]), i));
  }

  /** A local of the function that a template is written in: operand `number`. */
  operand<T extends ValueType>(type: T, number: number): Local<InstanceType<T>> {
    return this.#local(new type([]) as InstanceType<T>, new Hole(HOLE.local, number));
  }

  /** Writes a template with these operands; branches out of it lead to `exit`. */
  write(template: Template, operands: ArrayLike<number>, exit: Label): void {
    this.#code.write(template, operands, this.#depth - exit.depth, this.#temporaryAt);
  }
  readonly #temporaryAt = (number: number): number => {
    const ofType = this.#temporaries[number & 3] as number[];
    const known = ofType[number >> 2];
    if (known !== undefined) return known;
    const type = LOCAL_TYPES[number & 3] as ValueType;
    return (ofType[number >> 2] = this.params.length + this.#localTypes.push(type) - 1);
  };

  /** A new local with this value. The name is for debugging; the last name given to a slot counts. */
  let<T extends Value>(value: T, localName?: string): Local<T> {
    const { local, index } = this.#fresh(value, localName);
    this.#emit(value.code, OP["local.set"], indexCode(index));
    return local;
  }
  /** A new local with an undefined value. */
  declare<T extends ValueType>(type: T, localName?: string): Local<InstanceType<T>> {
    return this.#fresh(new type([]) as InstanceType<T>, localName).local;
  }
  #fresh<T extends Value>(like: T, localName: string | undefined): { local: Local<T>; index: number | Hole } {
    const index = this.#free.get(like.type)?.pop() ?? this.#newIndex(like);
    if (localName !== undefined) this.#localNames.set(index, localName);
    this.#scope.push([like.type, index]);
    const place = this.#isTemplate ? new Hole(HOLE.temporary, index) : index;
    return { local: this.#local(like, place), index: place };
  }
  #newIndex(like: Value): number {
    if (!this.#isTemplate) return this.params.length + this.#localTypes.push(typeOf(like)) - 1;
    const type = LOCAL_TYPES.indexOf(typeOf(like));
    const ofType = this.#temporaries[type] as number[];
    return 4 * (ofType.push(0) - 1) + type;
  }

  /** Attaches `note` to the code that follows; its meaning is the caller's (see wasm-text.ts). */
  note(note: number): void {
    this.#code.notes.push({ at: this.#code.bytes.length, note });
  }
  /** Evaluates for the side effects only. */
  drop(value: Value): void {
    this.#emit(value.code, OP.drop);
  }
  call<P extends readonly ValueType[]>(target: Fn<P, ValueType | undefined>, ...args: Args<P>): void {
    this.#emit((target.call(...args) as { code: Code }).code);
    if (target.result !== undefined) this.#emit(OP.drop);
  }
  return(value?: Value): void {
    this.#emit(value?.code ?? [], OP.return);
  }
  /**
   * Tail call of entry `index` of the table, which has the same result type: no frame of this function
   * remains.
   */
  returnCallIndirect<P extends readonly ValueType[]>(
    type: FnType<P, ValueType | undefined>,
    index: I32,
    ...args: Args<P>
  ): void {
    this.#emit(argumentsOf(type.params, args), index.code, OP.return_call_indirect, type, 0);
  }
  unreachable(): void {
    this.#emit(OP.unreachable);
  }

  /**
   * `likely` tells whether `then` is likely (undefined: unknown); unlikely code is placed out of line. For a
   * constant condition only the taken arm is emitted.
   */
  if(condition: I32, then: () => void, otherwise?: () => void, likely?: boolean): void {
    if (condition.constant !== undefined) {
      const taken = condition.constant === 0 ? otherwise : then;
      if (taken !== undefined) this.#inScope(taken);
      return;
    }
    this.#emit(condition.code, this.#hint(likely), OP.if, TYPE.none);
    this.#nested(then);
    if (otherwise !== undefined) {
      this.#emit(OP.else);
      this.#nested(otherwise);
    }
    this.#emit(OP.end);
  }
  /** A branch to `exit` leaves the block. */
  block(body: (exit: Label) => void): void {
    this.#emit(OP.block, TYPE.none);
    this.#nested(body);
    this.#emit(OP.end);
  }
  /** A branch to `again` repeats the loop; the end of the body leaves it. */
  loop(body: (again: Label) => void): void {
    this.#emit(OP.loop, TYPE.none);
    this.#nested(body);
    this.#emit(OP.end);
  }
  br(label: Label): void {
    this.#emit(OP.br, this.#depthOf(label));
  }
  #depthOf(label: Label): Code {
    return label === TEMPLATE_EXIT ? new Hole(HOLE.exit, this.#depth) : uleb(this.#depth - label.depth);
  }
  #hint(likely: boolean | undefined): Code {
    if (likely === undefined || !this.hasHints) return [];
    return likely ? BranchHint.likely : BranchHint.unlikely;
  }
  brIf(label: Label, condition: I32, likely?: boolean): void {
    if (condition.constant !== undefined) {
      if (condition.constant !== 0) this.br(label);
      return;
    }
    this.#emit(condition.code, this.#hint(likely), OP.br_if, this.#depthOf(label));
  }
  /** Branches to label `index`, or to the last one if there is no such label. */
  brTable(index: I32, labels: readonly Label[]): void {
    const depths = labels.map((label) => uleb(this.#depth - label.depth));
    this.#emit(index.code, OP.br_table, uleb(labels.length - 1), depths);
  }
  /**
   * Runs case number `targets[index]` of `cases` (`index` itself without targets), or `otherwise` if out of
   * range. A case ends with a branch or continues after the switch.
   */
  switch(
    index: I32,
    cases: readonly (() => void)[],
    otherwise: () => void,
    targets?: readonly number[],
  ): void {
    this.block((done) => {
      const n = cases.length;
      for (let i = 0; i <= n; i++) this.#emit(OP.block, TYPE.none);
      const table = targets ?? Array.from(cases.keys());
      this.#emit(
        index.code,
        OP.br_table,
        uleb(table.length),
        table.map((t) => uleb(Math.min(t, n))),
        uleb(n),
      );
      this.#depth += n;
      for (const body of [...cases, otherwise]) {
        this.#emit(OP.end);
        this.#inScope(body);
        this.br(done);
        this.#depth--;
      }
      this.#depth++;
    });
  }

  /** Locals made in `body` are released after it. */
  scope(body: () => void): void {
    this.#inScope(body);
  }

  // Stores write the low bits of the value. Little-endian, any alignment.
  store8(address: I32, value: I32 | I64 | number, offset = 0): void {
    this.#store(address, value, OP["i32.store8"], OP["i64.store8"], offset);
  }
  store16(address: I32, value: I32 | I64 | number, offset = 0): void {
    this.#store(address, value, OP["i32.store16"], OP["i64.store16"], offset);
  }
  store32(address: I32, value: I32 | I64 | number, offset = 0): void {
    this.#store(address, value, OP["i32.store"], OP["i64.store32"], offset);
  }
  store64(address: I32, value: I64 | number | bigint, offset = 0): void {
    this.#emit(address.code, constant(value, I64).code, OP["i64.store"], memarg(0, offset));
  }
  storeF32(address: I32, value: F32, offset = 0): void {
    this.#emit(address.code, value.code, OP["f32.store"], memarg(0, offset));
  }
  storeF64(address: I32, value: F64, offset = 0): void {
    this.#emit(address.code, value.code, OP["f64.store"], memarg(0, offset));
  }
  atomicStore32(address: I32, value: I32 | number, offset = 0): void {
    this.#emit(
      address.code,
      constant(value, I32).code,
      PREFIX.atomic,
      ATOMIC["i32.atomic.store"],
      memarg(2, offset),
    );
  }
  /** A full memory barrier. */
  fence(): void {
    this.#emit(PREFIX.atomic, ATOMIC["atomic.fence"], 0);
  }
  /** memory.fill: `length` bytes of `byte`. */
  fill(address: I32, byte: I32 | number, length: I32 | number): void {
    this.#emit(
      address.code,
      constant(byte, I32).code,
      constant(length, I32).code,
      PREFIX.bulk,
      BULK["memory.fill"],
      0,
    );
  }
  /** memory.copy. */
  copy(target: I32, source: I32, length: I32 | number): void {
    this.#emit(target.code, source.code, constant(length, I32).code, PREFIX.bulk, BULK["memory.copy"], 0, 0);
  }
  /** memory.init: copies all of `data` to `target`. */
  init(target: I32, data: Data): void {
    this.#emit(
      target.code,
      I32.of(0).code,
      I32.of(data.bytes.length).code,
      PREFIX.bulk,
      BULK["memory.init"],
      data,
      0,
    );
  }

  /** The statements so far as a template. */
  template(): Template {
    return this.#code.template();
  }
  /** The locals and the code, with the final `end`. `mustReturn`: the function has a result. */
  finish(value: Value | undefined, mustReturn: boolean): FunctionCode {
    if (value !== undefined) this.#emit(value.code);
    else if (mustReturn) this.unreachable();
    this.#emit(OP.end);
    return { locals: this.#localTypes, localNames: this.#localNames, code: this.#code };
  }

  #emit(...code: Code[]): void {
    this.#code.emit(code);
  }
  #store(address: I32, value: I32 | I64 | number, op32: number, op64: number, offset: number): void {
    const v = typeof value === "number" ? I32.of(value) : value;
    this.#emit(address.code, v.code, v instanceof I64 ? op64 : op32, memarg(0, offset));
  }
  #local<T extends Value>(like: T, index: number | Hole): Local<T> {
    return new LOCALS[like.type]((code) => this.#code.emit(code), index) as unknown as Local<T>;
  }
  #nested(body: (label: Label) => void): void {
    this.#depth++;
    this.#inScope(() => body({ depth: this.#depth }));
    this.#depth--;
  }
  #inScope(body: () => void): void {
    const outer = this.#scope;
    this.#scope = [];
    body();
    for (const [type, index] of this.#scope) {
      const free = this.#free.get(type);
      if (free === undefined) this.#free.set(type, [index]);
      else free.push(index);
    }
    this.#scope = outer;
  }
}

type Emit = (code: Code) => void;

/** The assignable variant of an expression type. */
function assignable<B extends ValueType>(type: B) {
  // Typed as I32 for all; callers see the real type.
  const Base = type as unknown as new (code: Code) => I32;
  return class extends Base {
    readonly #emit: Emit;
    readonly #index: Code;
    readonly index: number | undefined;
    constructor(emit: Emit, index: number | Hole) {
      super([OP["local.get"], indexCode(index)]);
      this.#emit = emit;
      this.#index = indexCode(index);
      this.index = typeof index === "number" ? index : undefined;
    }
    set(value: Settable<Value>): void {
      this.#emit([constant(value, type).code, OP["local.set"], this.#index]);
    }
    tee(value: Settable<Value>): Value {
      return new Base([constant(value, type).code, OP["local.tee"], this.#index]);
    }
  };
}
const LOCALS = {
  [I32.type]: assignable(I32),
  [I64.type]: assignable(I64),
  [F32.type]: assignable(F32),
  [F64.type]: assignable(F64),
};

function indexCode(index: number | Hole): Code {
  return typeof index === "number" ? uleb(index) : index;
}

function typeOf(value: Value): ValueType {
  return value instanceof I32 ? I32 : value instanceof I64 ? I64 : value instanceof F64 ? F64 : F32;
}

function constant(value: Value | number | bigint, type: ValueType): Value {
  if (typeof value !== "number" && typeof value !== "bigint") return value;
  return type === I32 ? I32.of(Number(value)) : I64.of(value);
}
