// Typed WebAssembly expressions: objects I32, I64, F32 and F64 whose methods are the instructions of the core
// spec (chapter 4.3) and of the threads proposal (atomics). An expression is a tree that is evaluated in the
// statement that uses it, once for each use. Bind it with `f.let(expr)` to evaluate it once. Integer
// operations on constants are folded, so a meaning written for run-time fields costs nothing where they are
// constant. Left out: vectors, references, globals.
import { type Code, floatBytes, sleb, sleb32, uleb } from "./encode.ts";

type AsI32 = I32 | number;
type AsI64 = I64 | number | bigint;

/** Read-modify-write operators of the threads proposal and their positions in its opcode space. */
const RMW = { add: 0, sub: 1, and: 2, or: 3, xor: 4, xchg: 5 } as const;
export type RmwOp = keyof typeof RMW;

const ATOMIC = 0xfe;
const SIMD = 0xfd;

/** The memory immediate: log2 of the alignment, and the offset in bytes. */
export function memarg(align: number, offset: number): Code {
  return [align, uleb(offset)];
}

export class I32 {
  static readonly type = 0x7f;
  readonly type = 0x7f as const;
  readonly code: Code;
  /** The signed value if it is known; operations on such expressions are folded. */
  readonly constant: number | undefined;
  constructor(code: Code, constant?: number) {
    this.code = code;
    this.constant = constant;
  }
  /** A constant, taken modulo 2^32. */
  static of(n: number): I32 {
    return new I32([0x41, sleb32(n)], n | 0);
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
    return this.constant === undefined ? new I32([this.code, 0x45]) : I32.of(Number(this.constant === 0));
  }
  eq(o: AsI32): I32 {
    return this.#op(0x46, o, (a, b) => a === b);
  }
  ne(o: AsI32): I32 {
    return this.#op(0x47, o, (a, b) => a !== b);
  }
  ltS(o: AsI32): I32 {
    return this.#op(0x48, o, (a, b) => a < b);
  }
  ltU(o: AsI32): I32 {
    return this.#op(0x49, o, (a, b) => a >>> 0 < b >>> 0);
  }
  gtS(o: AsI32): I32 {
    return this.#op(0x4a, o, (a, b) => a > b);
  }
  gtU(o: AsI32): I32 {
    return this.#op(0x4b, o, (a, b) => a >>> 0 > b >>> 0);
  }
  leS(o: AsI32): I32 {
    return this.#op(0x4c, o, (a, b) => a <= b);
  }
  leU(o: AsI32): I32 {
    return this.#op(0x4d, o, (a, b) => a >>> 0 <= b >>> 0);
  }
  geS(o: AsI32): I32 {
    return this.#op(0x4e, o, (a, b) => a >= b);
  }
  geU(o: AsI32): I32 {
    return this.#op(0x4f, o, (a, b) => a >>> 0 >= b >>> 0);
  }
  clz(): I32 {
    return this.constant === undefined ? new I32([this.code, 0x67]) : I32.of(Math.clz32(this.constant));
  }
  ctz(): I32 {
    return new I32([this.code, 0x68]);
  }
  popcnt(): I32 {
    return new I32([this.code, 0x69]);
  }
  add(o: AsI32): I32 {
    return this.#op(0x6a, o, (a, b) => a + b, 0, 0);
  }
  sub(o: AsI32): I32 {
    return this.#op(0x6b, o, (a, b) => a - b, 0);
  }
  mul(o: AsI32): I32 {
    return this.#op(0x6c, o, (a, b) => Math.imul(a, b), 1, 1);
  }
  divS(o: AsI32): I32 {
    return this.#op(0x6d, o, unfolded);
  }
  divU(o: AsI32): I32 {
    return this.#op(0x6e, o, unfolded);
  }
  remS(o: AsI32): I32 {
    return this.#op(0x6f, o, unfolded);
  }
  remU(o: AsI32): I32 {
    return this.#op(0x70, o, unfolded);
  }
  and(o: AsI32): I32 {
    return this.#op(0x71, o, (a, b) => a & b, -1, -1);
  }
  or(o: AsI32): I32 {
    return this.#op(0x72, o, (a, b) => a | b, 0, 0);
  }
  xor(o: AsI32): I32 {
    return this.#op(0x73, o, (a, b) => a ^ b, 0, 0);
  }
  shl(o: AsI32): I32 {
    return this.#op(0x74, o, (a, b) => a << b, 0);
  }
  shrS(o: AsI32): I32 {
    return this.#op(0x75, o, (a, b) => a >> b, 0);
  }
  shrU(o: AsI32): I32 {
    return this.#op(0x76, o, (a, b) => a >>> b, 0);
  }
  rotl(o: AsI32): I32 {
    return this.#op(0x77, o, (a, b) => (a << b) | (a >>> -b), 0);
  }
  rotr(o: AsI32): I32 {
    return this.#op(0x78, o, (a, b) => (a >>> b) | (a << -b), 0);
  }
  extend8S(): I32 {
    return this.constant === undefined ? new I32([this.code, 0xc0]) : I32.of((this.constant << 24) >> 24);
  }
  extend16S(): I32 {
    return this.constant === undefined ? new I32([this.code, 0xc1]) : I32.of((this.constant << 16) >> 16);
  }
  /** Sign-extended to 64 bits. */
  extendS(): I64 {
    return this.constant === undefined ? new I64([this.code, 0xac]) : I64.of(this.constant);
  }
  /** Zero-extended to 64 bits. */
  extendU(): I64 {
    return this.constant === undefined ? new I64([this.code, 0xad]) : I64.of(this.constant >>> 0);
  }
  toF64S(): F64 {
    return new F64([this.code, 0xb7]);
  }
  toF64U(): F64 {
    return new F64([this.code, 0xb8]);
  }
  toF32S(): F32 {
    return new F32([this.code, 0xb2]);
  }
  toF32U(): F32 {
    return new F32([this.code, 0xb3]);
  }
  reinterpretF32(): F32 {
    return new F32([this.code, 0xbe]);
  }
  /** `this` non-zero ? a : b. Evaluates both, or only the chosen one if `this` is constant. */
  select<T extends Value>(a: T, b: T): T {
    if (this.constant !== undefined) return this.constant === 0 ? b : a;
    return make(a, [a.code, b.code, this.code, 0x1b]);
  }
  /** `this` non-zero ? a : b. Evaluates only the chosen one. */
  choose<T extends Value>(a: T, b: T): T {
    if (this.constant !== undefined) return this.constant === 0 ? b : a;
    return make(a, [this.code, 0x04, a.type, a.code, 0x05, b.code, 0x0b]);
  }

  // Memory: `this` is the address; `offset` is added without wrapping. Little-endian, any alignment.
  load32(offset = 0): I32 {
    return new I32([this.code, 0x28, memarg(0, offset)]);
  }
  load8S(offset = 0): I32 {
    return new I32([this.code, 0x2c, memarg(0, offset)]);
  }
  load8U(offset = 0): I32 {
    return new I32([this.code, 0x2d, memarg(0, offset)]);
  }
  load16S(offset = 0): I32 {
    return new I32([this.code, 0x2e, memarg(0, offset)]);
  }
  load16U(offset = 0): I32 {
    return new I32([this.code, 0x2f, memarg(0, offset)]);
  }
  load64(offset = 0): I64 {
    return new I64([this.code, 0x29, memarg(0, offset)]);
  }
  load64From8S(offset = 0): I64 {
    return new I64([this.code, 0x30, memarg(0, offset)]);
  }
  load64From8U(offset = 0): I64 {
    return new I64([this.code, 0x31, memarg(0, offset)]);
  }
  load64From16S(offset = 0): I64 {
    return new I64([this.code, 0x32, memarg(0, offset)]);
  }
  load64From16U(offset = 0): I64 {
    return new I64([this.code, 0x33, memarg(0, offset)]);
  }
  load64From32S(offset = 0): I64 {
    return new I64([this.code, 0x34, memarg(0, offset)]);
  }
  load64From32U(offset = 0): I64 {
    return new I64([this.code, 0x35, memarg(0, offset)]);
  }
  loadF32(offset = 0): F32 {
    return new F32([this.code, 0x2a, memarg(0, offset)]);
  }
  loadF64(offset = 0): F64 {
    return new F64([this.code, 0x2b, memarg(0, offset)]);
  }

  // Atomics: sequentially consistent; they trap unless naturally aligned.
  atomicLoad32(offset = 0): I32 {
    return new I32([this.code, ATOMIC, 0x10, memarg(2, offset)]);
  }
  atomicLoad64(offset = 0): I64 {
    return new I64([this.code, ATOMIC, 0x11, memarg(3, offset)]);
  }
  /** Returns the old value. */
  rmw32(op: RmwOp, value: AsI32, offset = 0): I32 {
    return new I32([this.code, i32(value).code, ATOMIC, 0x1e + 7 * RMW[op], memarg(2, offset)]);
  }
  rmw64(op: RmwOp, value: AsI64, offset = 0): I64 {
    return new I64([this.code, i64(value).code, ATOMIC, 0x1f + 7 * RMW[op], memarg(3, offset)]);
  }
  /** Returns the old value; stores only if that was `expected`. */
  cmpxchg32(expected: AsI32, replacement: AsI32, offset = 0): I32 {
    return new I32([this.code, i32(expected).code, i32(replacement).code, ATOMIC, 0x48, memarg(2, offset)]);
  }
  cmpxchg64(expected: AsI64, replacement: AsI64, offset = 0): I64 {
    return new I64([this.code, i64(expected).code, i64(replacement).code, ATOMIC, 0x49, memarg(3, offset)]);
  }
}

export class I64 {
  static readonly type = 0x7e;
  readonly type = 0x7e as const;
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
    return new I64([0x42, sleb(value)], value);
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
    return this.constant === undefined ? new I32([this.code, 0x50]) : I32.of(Number(this.constant === 0n));
  }
  eq(o: AsI64): I32 {
    return this.#test(0x51, o, (a, b) => a === b);
  }
  ne(o: AsI64): I32 {
    return this.#test(0x52, o, (a, b) => a !== b);
  }
  ltS(o: AsI64): I32 {
    return this.#test(0x53, o, (a, b) => a < b);
  }
  ltU(o: AsI64): I32 {
    return this.#test(0x54, o, (a, b) => u64(a) < u64(b));
  }
  gtS(o: AsI64): I32 {
    return this.#test(0x55, o, (a, b) => a > b);
  }
  gtU(o: AsI64): I32 {
    return this.#test(0x56, o, (a, b) => u64(a) > u64(b));
  }
  leS(o: AsI64): I32 {
    return this.#test(0x57, o, (a, b) => a <= b);
  }
  leU(o: AsI64): I32 {
    return this.#test(0x58, o, (a, b) => u64(a) <= u64(b));
  }
  geS(o: AsI64): I32 {
    return this.#test(0x59, o, (a, b) => a >= b);
  }
  geU(o: AsI64): I32 {
    return this.#test(0x5a, o, (a, b) => u64(a) >= u64(b));
  }
  clz(): I64 {
    return new I64([this.code, 0x79]);
  }
  ctz(): I64 {
    return new I64([this.code, 0x7a]);
  }
  popcnt(): I64 {
    return new I64([this.code, 0x7b]);
  }
  add(o: AsI64): I64 {
    return this.#op(0x7c, o, (a, b) => a + b, 0n, 0n);
  }
  sub(o: AsI64): I64 {
    return this.#op(0x7d, o, (a, b) => a - b, 0n);
  }
  mul(o: AsI64): I64 {
    return this.#op(0x7e, o, (a, b) => a * b, 1n, 1n);
  }
  divS(o: AsI64): I64 {
    return this.#op(0x7f, o, unfolded);
  }
  divU(o: AsI64): I64 {
    return this.#op(0x80, o, unfolded);
  }
  remS(o: AsI64): I64 {
    return this.#op(0x81, o, unfolded);
  }
  remU(o: AsI64): I64 {
    return this.#op(0x82, o, unfolded);
  }
  and(o: AsI64): I64 {
    return this.#op(0x83, o, (a, b) => a & b, -1n, -1n);
  }
  or(o: AsI64): I64 {
    return this.#op(0x84, o, (a, b) => a | b, 0n, 0n);
  }
  xor(o: AsI64): I64 {
    return this.#op(0x85, o, (a, b) => a ^ b, 0n, 0n);
  }
  not(): I64 {
    return this.xor(-1);
  }
  shl(o: AsI64): I64 {
    return this.#op(0x86, o, (a, b) => a << (b & 63n), 0n);
  }
  shrS(o: AsI64): I64 {
    return this.#op(0x87, o, (a, b) => a >> (b & 63n), 0n);
  }
  shrU(o: AsI64): I64 {
    return this.#op(0x88, o, (a, b) => u64(a) >> (b & 63n), 0n);
  }
  rotl(o: AsI64): I64 {
    return this.#op(0x89, o, unfolded);
  }
  rotr(o: AsI64): I64 {
    return this.#op(0x8a, o, unfolded);
  }
  extend8S(): I64 {
    return this.constant === undefined ? new I64([this.code, 0xc2]) : I64.of(BigInt.asIntN(8, this.constant));
  }
  extend16S(): I64 {
    return this.constant === undefined
      ? new I64([this.code, 0xc3])
      : I64.of(BigInt.asIntN(16, this.constant));
  }
  extend32S(): I64 {
    return this.constant === undefined
      ? new I64([this.code, 0xc4])
      : I64.of(BigInt.asIntN(32, this.constant));
  }
  /** The low 32 bits. */
  wrap(): I32 {
    return this.constant === undefined
      ? new I32([this.code, 0xa7])
      : I32.of(Number(BigInt.asIntN(32, this.constant)));
  }
  toF64S(): F64 {
    return new F64([this.code, 0xb9]);
  }
  toF64U(): F64 {
    return new F64([this.code, 0xba]);
  }
  toF32S(): F32 {
    return new F32([this.code, 0xb4]);
  }
  toF32U(): F32 {
    return new F32([this.code, 0xb5]);
  }
  reinterpretF64(): F64 {
    return new F64([this.code, 0xbf]);
  }
}

export class F64 {
  static readonly type = 0x7c;
  readonly type = 0x7c as const;
  readonly code: Code;
  constructor(code: Code) {
    this.code = code;
  }
  static of(n: number): F64 {
    return new F64([0x44, floatBytes(n, 8)]);
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
    return this.#test(0x61, o);
  }
  ne(o: F64): I32 {
    return this.#test(0x62, o);
  }
  lt(o: F64): I32 {
    return this.#test(0x63, o);
  }
  gt(o: F64): I32 {
    return this.#test(0x64, o);
  }
  le(o: F64): I32 {
    return this.#test(0x65, o);
  }
  ge(o: F64): I32 {
    return this.#test(0x66, o);
  }
  abs(): F64 {
    return this.#one(0x99);
  }
  neg(): F64 {
    return this.#one(0x9a);
  }
  ceil(): F64 {
    return this.#one(0x9b);
  }
  floor(): F64 {
    return this.#one(0x9c);
  }
  trunc(): F64 {
    return this.#one(0x9d);
  }
  nearest(): F64 {
    return this.#one(0x9e);
  }
  sqrt(): F64 {
    return this.#one(0x9f);
  }
  add(o: F64): F64 {
    return this.#op(0xa0, o);
  }
  sub(o: F64): F64 {
    return this.#op(0xa1, o);
  }
  mul(o: F64): F64 {
    return this.#op(0xa2, o);
  }
  div(o: F64): F64 {
    return this.#op(0xa3, o);
  }
  min(o: F64): F64 {
    return this.#op(0xa4, o);
  }
  max(o: F64): F64 {
    return this.#op(0xa5, o);
  }
  copysign(o: F64): F64 {
    return this.#op(0xa6, o);
  }
  /** this × y + z, rounded once or twice, as the host chooses (relaxed SIMD; see fused.ts). */
  relaxedMadd(y: F64, z: F64): F64 {
    const splat = [SIMD, 0x14];
    return new F64([this.code, splat, y.code, splat, z.code, splat, SIMD, 0x87, 0x02, SIMD, 0x21, 0]);
  }
  /** Rounds to single precision, to nearest even. */
  demote(): F32 {
    return new F32([this.code, 0xb6]);
  }
  reinterpret(): I64 {
    return new I64([this.code, 0xbd]);
  }
  /** Saturating conversions (NaN gives 0). */
  toI32S(): I32 {
    return new I32([this.code, 0xfc, 2]);
  }
  toI32U(): I32 {
    return new I32([this.code, 0xfc, 3]);
  }
  toI64S(): I64 {
    return new I64([this.code, 0xfc, 6]);
  }
  toI64U(): I64 {
    return new I64([this.code, 0xfc, 7]);
  }
}

export class F32 {
  static readonly type = 0x7d;
  readonly type = 0x7d as const;
  readonly code: Code;
  constructor(code: Code) {
    this.code = code;
  }
  static of(n: number): F32 {
    return new F32([0x43, floatBytes(n, 4)]);
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
    return this.#test(0x5b, o);
  }
  ne(o: F32): I32 {
    return this.#test(0x5c, o);
  }
  lt(o: F32): I32 {
    return this.#test(0x5d, o);
  }
  gt(o: F32): I32 {
    return this.#test(0x5e, o);
  }
  le(o: F32): I32 {
    return this.#test(0x5f, o);
  }
  ge(o: F32): I32 {
    return this.#test(0x60, o);
  }
  abs(): F32 {
    return this.#one(0x8b);
  }
  neg(): F32 {
    return this.#one(0x8c);
  }
  ceil(): F32 {
    return this.#one(0x8d);
  }
  floor(): F32 {
    return this.#one(0x8e);
  }
  trunc(): F32 {
    return this.#one(0x8f);
  }
  nearest(): F32 {
    return this.#one(0x90);
  }
  sqrt(): F32 {
    return this.#one(0x91);
  }
  add(o: F32): F32 {
    return this.#op(0x92, o);
  }
  sub(o: F32): F32 {
    return this.#op(0x93, o);
  }
  mul(o: F32): F32 {
    return this.#op(0x94, o);
  }
  div(o: F32): F32 {
    return this.#op(0x95, o);
  }
  min(o: F32): F32 {
    return this.#op(0x96, o);
  }
  max(o: F32): F32 {
    return this.#op(0x97, o);
  }
  copysign(o: F32): F32 {
    return this.#op(0x98, o);
  }
  /** See F64. */
  relaxedMadd(y: F32, z: F32): F32 {
    const splat = [SIMD, 0x13];
    return new F32([this.code, splat, y.code, splat, z.code, splat, SIMD, 0x85, 0x02, SIMD, 0x1f, 0]);
  }
  promote(): F64 {
    return new F64([this.code, 0xbb]);
  }
  reinterpret(): I32 {
    return new I32([this.code, 0xbc]);
  }
  /** Saturating conversions (NaN gives 0). */
  toI32S(): I32 {
    return new I32([this.code, 0xfc, 0]);
  }
  toI32U(): I32 {
    return new I32([this.code, 0xfc, 1]);
  }
  toI64S(): I64 {
    return new I64([this.code, 0xfc, 4]);
  }
  toI64U(): I64 {
    return new I64([this.code, 0xfc, 5]);
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
