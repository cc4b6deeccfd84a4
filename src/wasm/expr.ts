// Typed WebAssembly expressions: objects I32, I64, F32 and F64 whose methods are the instructions of the core
// spec (chapter 4.3) and of the threads proposal (atomics). An expression is a tree that is evaluated in the
// statement that uses it, once for each use. Bind it with `f.let(expr)` to evaluate it once. Integer
// operations on constants are folded, so a meaning written for run-time fields costs nothing where they are
// constant. Left out: vectors, references, globals.
import { type Code, floatBytes, sleb, sleb32, uleb } from "./encode.ts";
import { ATOMIC, BULK, OP, PREFIX, TYPE, VECTOR } from "./opcodes.ts";

type AsI32 = I32 | number;
type AsI64 = I64 | number | bigint;

/** Read-modify-write operators of the threads proposal. */
export type RmwOp = "add" | "sub" | "and" | "or" | "xor" | "xchg";

const vector = (name: keyof typeof VECTOR): Code => [PREFIX.vector, uleb(VECTOR[name])];

/** The memory immediate: log2 of the alignment, and the offset in bytes. */
export function memarg(align: number, offset: number): Code {
  return [align, uleb(offset)];
}

export class I32 {
  static readonly type = TYPE.i32;
  readonly type = TYPE.i32;
  readonly code: Code;
  /** The signed value if it is known; operations on such expressions are folded. */
  readonly constant: number | undefined;
  constructor(code: Code, constant?: number) {
    this.code = code;
    this.constant = constant;
  }
  /** A constant, taken modulo 2^32. */
  static of(n: number): I32 {
    return new I32([OP["i32.const"], sleb32(n)], n | 0);
  }
  /**
   * `right` and `left` are the neutral elements: the constant operand that leaves the other one unchanged.
   */
  #op(
    opcode: number,
    o: AsI32,
    fold: (a: number, b: number) => number | boolean | undefined,
    right?: number,
    left?: number,
  ): I32 {
    const other = i32(o);
    if (other.constant !== undefined) {
      const known = this.constant === undefined ? undefined : fold(this.constant, other.constant);
      if (known !== undefined) return I32.of(Number(known));
      if (other.constant === right) return this;
    } else if (this.constant !== undefined && this.constant === left) return other;
    return new I32([this.code, other.code, opcode]);
  }

  eqz(): I32 {
    return this.constant === undefined
      ? new I32([this.code, OP["i32.eqz"]])
      : I32.of(Number(this.constant === 0));
  }
  eq(o: AsI32): I32 {
    return this.#op(OP["i32.eq"], o, (a, b) => a === b);
  }
  ne(o: AsI32): I32 {
    return this.#op(OP["i32.ne"], o, (a, b) => a !== b);
  }
  ltS(o: AsI32): I32 {
    return this.#op(OP["i32.lt_s"], o, (a, b) => a < b);
  }
  ltU(o: AsI32): I32 {
    return this.#op(OP["i32.lt_u"], o, (a, b) => a >>> 0 < b >>> 0);
  }
  gtS(o: AsI32): I32 {
    return this.#op(OP["i32.gt_s"], o, (a, b) => a > b);
  }
  gtU(o: AsI32): I32 {
    return this.#op(OP["i32.gt_u"], o, (a, b) => a >>> 0 > b >>> 0);
  }
  leS(o: AsI32): I32 {
    return this.#op(OP["i32.le_s"], o, (a, b) => a <= b);
  }
  leU(o: AsI32): I32 {
    return this.#op(OP["i32.le_u"], o, (a, b) => a >>> 0 <= b >>> 0);
  }
  geS(o: AsI32): I32 {
    return this.#op(OP["i32.ge_s"], o, (a, b) => a >= b);
  }
  geU(o: AsI32): I32 {
    return this.#op(OP["i32.ge_u"], o, (a, b) => a >>> 0 >= b >>> 0);
  }
  clz(): I32 {
    return this.constant === undefined
      ? new I32([this.code, OP["i32.clz"]])
      : I32.of(Math.clz32(this.constant));
  }
  ctz(): I32 {
    return new I32([this.code, OP["i32.ctz"]]);
  }
  popcnt(): I32 {
    return new I32([this.code, OP["i32.popcnt"]]);
  }
  add(o: AsI32): I32 {
    return this.#op(OP["i32.add"], o, (a, b) => a + b, 0, 0);
  }
  sub(o: AsI32): I32 {
    return this.#op(OP["i32.sub"], o, (a, b) => a - b, 0);
  }
  mul(o: AsI32): I32 {
    return this.#op(OP["i32.mul"], o, (a, b) => Math.imul(a, b), 1, 1);
  }
  divS(o: AsI32): I32 {
    return this.#op(OP["i32.div_s"], o, unfolded);
  }
  divU(o: AsI32): I32 {
    return this.#op(OP["i32.div_u"], o, unfolded);
  }
  remS(o: AsI32): I32 {
    return this.#op(OP["i32.rem_s"], o, unfolded);
  }
  remU(o: AsI32): I32 {
    return this.#op(OP["i32.rem_u"], o, unfolded);
  }
  and(o: AsI32): I32 {
    return this.#op(OP["i32.and"], o, (a, b) => a & b, -1, -1);
  }
  or(o: AsI32): I32 {
    return this.#op(OP["i32.or"], o, (a, b) => a | b, 0, 0);
  }
  xor(o: AsI32): I32 {
    return this.#op(OP["i32.xor"], o, (a, b) => a ^ b, 0, 0);
  }
  shl(o: AsI32): I32 {
    return this.#op(OP["i32.shl"], o, (a, b) => a << b, 0);
  }
  shrS(o: AsI32): I32 {
    return this.#op(OP["i32.shr_s"], o, (a, b) => a >> b, 0);
  }
  shrU(o: AsI32): I32 {
    return this.#op(OP["i32.shr_u"], o, (a, b) => a >>> b, 0);
  }
  rotl(o: AsI32): I32 {
    return this.#op(OP["i32.rotl"], o, (a, b) => (a << b) | (a >>> -b), 0);
  }
  rotr(o: AsI32): I32 {
    return this.#op(OP["i32.rotr"], o, (a, b) => (a >>> b) | (a << -b), 0);
  }
  extend8S(): I32 {
    return this.constant === undefined
      ? new I32([this.code, OP["i32.extend8_s"]])
      : I32.of((this.constant << 24) >> 24);
  }
  extend16S(): I32 {
    return this.constant === undefined
      ? new I32([this.code, OP["i32.extend16_s"]])
      : I32.of((this.constant << 16) >> 16);
  }
  /** Sign-extended to 64 bits. */
  extendS(): I64 {
    return this.constant === undefined ? new I64([this.code, OP["i64.extend_i32_s"]]) : I64.of(this.constant);
  }
  /** Zero-extended to 64 bits. */
  extendU(): I64 {
    return this.constant === undefined
      ? new I64([this.code, OP["i64.extend_i32_u"]])
      : I64.of(this.constant >>> 0);
  }
  toF64S(): F64 {
    return new F64([this.code, OP["f64.convert_i32_s"]]);
  }
  toF64U(): F64 {
    return new F64([this.code, OP["f64.convert_i32_u"]]);
  }
  toF32S(): F32 {
    return new F32([this.code, OP["f32.convert_i32_s"]]);
  }
  toF32U(): F32 {
    return new F32([this.code, OP["f32.convert_i32_u"]]);
  }
  reinterpretF32(): F32 {
    return new F32([this.code, OP["f32.reinterpret_i32"]]);
  }
  /** `this` non-zero ? a : b. Evaluates both, or only the chosen one if `this` is constant. */
  select<T extends Value>(a: T, b: T): T {
    if (this.constant !== undefined) return this.constant === 0 ? b : a;
    return make(a, [a.code, b.code, this.code, OP.select]);
  }
  /** `this` non-zero ? a : b. Evaluates only the chosen one. */
  choose<T extends Value>(a: T, b: T): T {
    if (this.constant !== undefined) return this.constant === 0 ? b : a;
    return make(a, [this.code, OP.if, a.type, a.code, OP.else, b.code, OP.end]);
  }

  // Memory: `this` is the address; `offset` is added without wrapping. Little-endian, any alignment.
  load32(offset = 0): I32 {
    return new I32([this.code, OP["i32.load"], memarg(0, offset)]);
  }
  load8U(offset = 0): I32 {
    return new I32([this.code, OP["i32.load8_u"], memarg(0, offset)]);
  }
  load16U(offset = 0): I32 {
    return new I32([this.code, OP["i32.load16_u"], memarg(0, offset)]);
  }
  load64(offset = 0): I64 {
    return new I64([this.code, OP["i64.load"], memarg(0, offset)]);
  }
  load64From8S(offset = 0): I64 {
    return new I64([this.code, OP["i64.load8_s"], memarg(0, offset)]);
  }
  load64From8U(offset = 0): I64 {
    return new I64([this.code, OP["i64.load8_u"], memarg(0, offset)]);
  }
  load64From16S(offset = 0): I64 {
    return new I64([this.code, OP["i64.load16_s"], memarg(0, offset)]);
  }
  load64From16U(offset = 0): I64 {
    return new I64([this.code, OP["i64.load16_u"], memarg(0, offset)]);
  }
  load64From32S(offset = 0): I64 {
    return new I64([this.code, OP["i64.load32_s"], memarg(0, offset)]);
  }
  load64From32U(offset = 0): I64 {
    return new I64([this.code, OP["i64.load32_u"], memarg(0, offset)]);
  }
  loadF32(offset = 0): F32 {
    return new F32([this.code, OP["f32.load"], memarg(0, offset)]);
  }
  loadF64(offset = 0): F64 {
    return new F64([this.code, OP["f64.load"], memarg(0, offset)]);
  }

  // Atomics: sequentially consistent; they trap unless naturally aligned.
  atomicLoad32(offset = 0): I32 {
    return new I32([this.code, PREFIX.atomic, ATOMIC["i32.atomic.load"], memarg(2, offset)]);
  }
  atomicLoad64(offset = 0): I64 {
    return new I64([this.code, PREFIX.atomic, ATOMIC["i64.atomic.load"], memarg(3, offset)]);
  }
  /** Returns the old value. */
  rmw32(op: RmwOp, value: AsI32, offset = 0): I32 {
    return new I32([
      this.code,
      i32(value).code,
      PREFIX.atomic,
      ATOMIC[`i32.atomic.rmw.${op}`],
      memarg(2, offset),
    ]);
  }
  rmw64(op: RmwOp, value: AsI64, offset = 0): I64 {
    return new I64([
      this.code,
      i64(value).code,
      PREFIX.atomic,
      ATOMIC[`i64.atomic.rmw.${op}`],
      memarg(3, offset),
    ]);
  }
  /** Returns the old value; stores only if that was `expected`. */
  cmpxchg32(expected: AsI32, replacement: AsI32, offset = 0): I32 {
    return new I32([
      this.code,
      i32(expected).code,
      i32(replacement).code,
      PREFIX.atomic,
      ATOMIC["i32.atomic.rmw.cmpxchg"],
      memarg(2, offset),
    ]);
  }
  cmpxchg64(expected: AsI64, replacement: AsI64, offset = 0): I64 {
    return new I64([
      this.code,
      i64(expected).code,
      i64(replacement).code,
      PREFIX.atomic,
      ATOMIC["i64.atomic.rmw.cmpxchg"],
      memarg(3, offset),
    ]);
  }
}

export class I64 {
  static readonly type = TYPE.i64;
  readonly type = TYPE.i64;
  readonly code: Code;
  /** See I32. */
  readonly constant: bigint | undefined;
  constructor(code: Code, constant?: bigint) {
    this.code = code;
    this.constant = constant;
  }
  /** A constant, taken modulo 2^64. */
  static of(n: number | bigint): I64 {
    const value = BigInt.asIntN(64, BigInt(n));
    return new I64([OP["i64.const"], sleb(value)], value);
  }
  #op(
    opcode: number,
    o: AsI64,
    fold: (a: bigint, b: bigint) => bigint | undefined,
    right?: bigint,
    left?: bigint,
  ): I64 {
    const other = i64(o);
    if (other.constant !== undefined) {
      const known = this.constant === undefined ? undefined : fold(this.constant, other.constant);
      if (known !== undefined) return I64.of(known);
      if (other.constant === right) return this;
    } else if (this.constant !== undefined && this.constant === left) return other;
    return new I64([this.code, other.code, opcode]);
  }
  #test(opcode: number, o: AsI64, fold: (a: bigint, b: bigint) => boolean): I32 {
    const other = i64(o);
    if (this.constant !== undefined && other.constant !== undefined) {
      return I32.of(Number(fold(this.constant, other.constant)));
    }
    return new I32([this.code, other.code, opcode]);
  }

  eqz(): I32 {
    return this.constant === undefined
      ? new I32([this.code, OP["i64.eqz"]])
      : I32.of(Number(this.constant === 0n));
  }
  eq(o: AsI64): I32 {
    return this.#test(OP["i64.eq"], o, (a, b) => a === b);
  }
  ne(o: AsI64): I32 {
    return this.#test(OP["i64.ne"], o, (a, b) => a !== b);
  }
  ltS(o: AsI64): I32 {
    return this.#test(OP["i64.lt_s"], o, (a, b) => a < b);
  }
  ltU(o: AsI64): I32 {
    return this.#test(OP["i64.lt_u"], o, (a, b) => u64(a) < u64(b));
  }
  gtS(o: AsI64): I32 {
    return this.#test(OP["i64.gt_s"], o, (a, b) => a > b);
  }
  gtU(o: AsI64): I32 {
    return this.#test(OP["i64.gt_u"], o, (a, b) => u64(a) > u64(b));
  }
  leS(o: AsI64): I32 {
    return this.#test(OP["i64.le_s"], o, (a, b) => a <= b);
  }
  leU(o: AsI64): I32 {
    return this.#test(OP["i64.le_u"], o, (a, b) => u64(a) <= u64(b));
  }
  geS(o: AsI64): I32 {
    return this.#test(OP["i64.ge_s"], o, (a, b) => a >= b);
  }
  geU(o: AsI64): I32 {
    return this.#test(OP["i64.ge_u"], o, (a, b) => u64(a) >= u64(b));
  }
  clz(): I64 {
    return new I64([this.code, OP["i64.clz"]]);
  }
  ctz(): I64 {
    return new I64([this.code, OP["i64.ctz"]]);
  }
  popcnt(): I64 {
    return new I64([this.code, OP["i64.popcnt"]]);
  }
  add(o: AsI64): I64 {
    return this.#op(OP["i64.add"], o, (a, b) => a + b, 0n, 0n);
  }
  sub(o: AsI64): I64 {
    return this.#op(OP["i64.sub"], o, (a, b) => a - b, 0n);
  }
  mul(o: AsI64): I64 {
    return this.#op(OP["i64.mul"], o, (a, b) => a * b, 1n, 1n);
  }
  divS(o: AsI64): I64 {
    return this.#op(OP["i64.div_s"], o, unfolded);
  }
  divU(o: AsI64): I64 {
    return this.#op(OP["i64.div_u"], o, unfolded);
  }
  remS(o: AsI64): I64 {
    return this.#op(OP["i64.rem_s"], o, unfolded);
  }
  remU(o: AsI64): I64 {
    return this.#op(OP["i64.rem_u"], o, unfolded);
  }
  and(o: AsI64): I64 {
    return this.#op(OP["i64.and"], o, (a, b) => a & b, -1n, -1n);
  }
  or(o: AsI64): I64 {
    return this.#op(OP["i64.or"], o, (a, b) => a | b, 0n, 0n);
  }
  xor(o: AsI64): I64 {
    return this.#op(OP["i64.xor"], o, (a, b) => a ^ b, 0n, 0n);
  }
  not(): I64 {
    return this.xor(-1);
  }
  shl(o: AsI64): I64 {
    return this.#op(OP["i64.shl"], o, (a, b) => a << (b & 63n), 0n);
  }
  shrS(o: AsI64): I64 {
    return this.#op(OP["i64.shr_s"], o, (a, b) => a >> (b & 63n), 0n);
  }
  shrU(o: AsI64): I64 {
    return this.#op(OP["i64.shr_u"], o, (a, b) => u64(a) >> (b & 63n), 0n);
  }
  rotl(o: AsI64): I64 {
    return this.#op(OP["i64.rotl"], o, unfolded);
  }
  rotr(o: AsI64): I64 {
    return this.#op(OP["i64.rotr"], o, unfolded);
  }
  extend8S(): I64 {
    return this.constant === undefined
      ? new I64([this.code, OP["i64.extend8_s"]])
      : I64.of(BigInt.asIntN(8, this.constant));
  }
  extend16S(): I64 {
    return this.constant === undefined
      ? new I64([this.code, OP["i64.extend16_s"]])
      : I64.of(BigInt.asIntN(16, this.constant));
  }
  extend32S(): I64 {
    return this.constant === undefined
      ? new I64([this.code, OP["i64.extend32_s"]])
      : I64.of(BigInt.asIntN(32, this.constant));
  }
  /** The low 32 bits. */
  wrap(): I32 {
    return this.constant === undefined
      ? new I32([this.code, OP["i32.wrap_i64"]])
      : I32.of(Number(BigInt.asIntN(32, this.constant)));
  }
  toF64S(): F64 {
    return new F64([this.code, OP["f64.convert_i64_s"]]);
  }
  toF64U(): F64 {
    return new F64([this.code, OP["f64.convert_i64_u"]]);
  }
  toF32S(): F32 {
    return new F32([this.code, OP["f32.convert_i64_s"]]);
  }
  toF32U(): F32 {
    return new F32([this.code, OP["f32.convert_i64_u"]]);
  }
  reinterpretF64(): F64 {
    return new F64([this.code, OP["f64.reinterpret_i64"]]);
  }
}

export class F64 {
  static readonly type = TYPE.f64;
  readonly type = TYPE.f64;
  readonly code: Code;
  constructor(code: Code) {
    this.code = code;
  }
  static of(n: number): F64 {
    return new F64([OP["f64.const"], floatBytes(n, 8)]);
  }
  #op(opcode: number, o: F64): F64 {
    return new F64([this.code, o.code, opcode]);
  }
  #one(opcode: number): F64 {
    return new F64([this.code, opcode]);
  }
  #test(opcode: number, o: F64): I32 {
    return new I32([this.code, o.code, opcode]);
  }

  eq(o: F64): I32 {
    return this.#test(OP["f64.eq"], o);
  }
  ne(o: F64): I32 {
    return this.#test(OP["f64.ne"], o);
  }
  lt(o: F64): I32 {
    return this.#test(OP["f64.lt"], o);
  }
  gt(o: F64): I32 {
    return this.#test(OP["f64.gt"], o);
  }
  le(o: F64): I32 {
    return this.#test(OP["f64.le"], o);
  }
  ge(o: F64): I32 {
    return this.#test(OP["f64.ge"], o);
  }
  abs(): F64 {
    return this.#one(OP["f64.abs"]);
  }
  neg(): F64 {
    return this.#one(OP["f64.neg"]);
  }
  ceil(): F64 {
    return this.#one(OP["f64.ceil"]);
  }
  floor(): F64 {
    return this.#one(OP["f64.floor"]);
  }
  trunc(): F64 {
    return this.#one(OP["f64.trunc"]);
  }
  nearest(): F64 {
    return this.#one(OP["f64.nearest"]);
  }
  sqrt(): F64 {
    return this.#one(OP["f64.sqrt"]);
  }
  add(o: F64): F64 {
    return this.#op(OP["f64.add"], o);
  }
  sub(o: F64): F64 {
    return this.#op(OP["f64.sub"], o);
  }
  mul(o: F64): F64 {
    return this.#op(OP["f64.mul"], o);
  }
  div(o: F64): F64 {
    return this.#op(OP["f64.div"], o);
  }
  min(o: F64): F64 {
    return this.#op(OP["f64.min"], o);
  }
  max(o: F64): F64 {
    return this.#op(OP["f64.max"], o);
  }
  copysign(o: F64): F64 {
    return this.#op(OP["f64.copysign"], o);
  }
  /** this × y + z, rounded once or twice, as the host chooses (relaxed SIMD; see fused.ts). */
  relaxedMadd(y: F64, z: F64): F64 {
    const splat = vector("f64x2.splat");
    const operands = [this.code, splat, y.code, splat, z.code, splat];
    return new F64([operands, vector("f64x2.relaxed_madd"), vector("f64x2.extract_lane"), 0]);
  }
  /** Rounds to single precision, to nearest even. */
  demote(): F32 {
    return new F32([this.code, OP["f32.demote_f64"]]);
  }
  reinterpret(): I64 {
    return new I64([this.code, OP["i64.reinterpret_f64"]]);
  }
  /** Saturating conversions (NaN gives 0). */
  toI32S(): I32 {
    return new I32([this.code, PREFIX.bulk, BULK["i32.trunc_sat_f64_s"]]);
  }
  toI32U(): I32 {
    return new I32([this.code, PREFIX.bulk, BULK["i32.trunc_sat_f64_u"]]);
  }
  toI64S(): I64 {
    return new I64([this.code, PREFIX.bulk, BULK["i64.trunc_sat_f64_s"]]);
  }
  toI64U(): I64 {
    return new I64([this.code, PREFIX.bulk, BULK["i64.trunc_sat_f64_u"]]);
  }
}

export class F32 {
  static readonly type = TYPE.f32;
  readonly type = TYPE.f32;
  readonly code: Code;
  constructor(code: Code) {
    this.code = code;
  }
  static of(n: number): F32 {
    return new F32([OP["f32.const"], floatBytes(n, 4)]);
  }
  #op(opcode: number, o: F32): F32 {
    return new F32([this.code, o.code, opcode]);
  }
  #one(opcode: number): F32 {
    return new F32([this.code, opcode]);
  }
  #test(opcode: number, o: F32): I32 {
    return new I32([this.code, o.code, opcode]);
  }

  eq(o: F32): I32 {
    return this.#test(OP["f32.eq"], o);
  }
  ne(o: F32): I32 {
    return this.#test(OP["f32.ne"], o);
  }
  lt(o: F32): I32 {
    return this.#test(OP["f32.lt"], o);
  }
  gt(o: F32): I32 {
    return this.#test(OP["f32.gt"], o);
  }
  le(o: F32): I32 {
    return this.#test(OP["f32.le"], o);
  }
  ge(o: F32): I32 {
    return this.#test(OP["f32.ge"], o);
  }
  abs(): F32 {
    return this.#one(OP["f32.abs"]);
  }
  neg(): F32 {
    return this.#one(OP["f32.neg"]);
  }
  ceil(): F32 {
    return this.#one(OP["f32.ceil"]);
  }
  floor(): F32 {
    return this.#one(OP["f32.floor"]);
  }
  trunc(): F32 {
    return this.#one(OP["f32.trunc"]);
  }
  nearest(): F32 {
    return this.#one(OP["f32.nearest"]);
  }
  sqrt(): F32 {
    return this.#one(OP["f32.sqrt"]);
  }
  add(o: F32): F32 {
    return this.#op(OP["f32.add"], o);
  }
  sub(o: F32): F32 {
    return this.#op(OP["f32.sub"], o);
  }
  mul(o: F32): F32 {
    return this.#op(OP["f32.mul"], o);
  }
  div(o: F32): F32 {
    return this.#op(OP["f32.div"], o);
  }
  min(o: F32): F32 {
    return this.#op(OP["f32.min"], o);
  }
  max(o: F32): F32 {
    return this.#op(OP["f32.max"], o);
  }
  copysign(o: F32): F32 {
    return this.#op(OP["f32.copysign"], o);
  }
  /** See F64. */
  relaxedMadd(y: F32, z: F32): F32 {
    const splat = vector("f32x4.splat");
    const operands = [this.code, splat, y.code, splat, z.code, splat];
    return new F32([operands, vector("f32x4.relaxed_madd"), vector("f32x4.extract_lane"), 0]);
  }
  promote(): F64 {
    return new F64([this.code, OP["f64.promote_f32"]]);
  }
  reinterpret(): I32 {
    return new I32([this.code, OP["i32.reinterpret_f32"]]);
  }
  /** Saturating conversions (NaN gives 0). */
  toI32S(): I32 {
    return new I32([this.code, PREFIX.bulk, BULK["i32.trunc_sat_f32_s"]]);
  }
  toI32U(): I32 {
    return new I32([this.code, PREFIX.bulk, BULK["i32.trunc_sat_f32_u"]]);
  }
  toI64S(): I64 {
    return new I64([this.code, PREFIX.bulk, BULK["i64.trunc_sat_f32_s"]]);
  }
  toI64U(): I64 {
    return new I64([this.code, PREFIX.bulk, BULK["i64.trunc_sat_f32_u"]]);
  }
}

export type Value = I32 | I64 | F32 | F64;
export type ValueType = typeof I32 | typeof I64 | typeof F32 | typeof F64;

const TYPES = { [I32.type]: I32, [I64.type]: I64, [F32.type]: F32, [F64.type]: F64 };

/** A new expression of the same type as `like`. */
export function make<T extends Value>(like: T, code: Code): T {
  return new TYPES[like.type](code) as T;
}

/** Not folded: the operation is rare, and divisions may trap. */
const unfolded = (): undefined => undefined;

const u64 = (v: bigint): bigint => BigInt.asUintN(64, v);

function i32(v: AsI32): I32 {
  return typeof v === "number" ? I32.of(v) : v;
}

function i64(v: AsI64): I64 {
  return v instanceof I64 ? v : I64.of(v);
}
