// Codecs of fields: integers, booleans, arrays, buffers, bitmaps and unused bytes, in the format of QEMU's
// vmstate_info_*. All integers are big-endian on the wire. The codec of structs is in struct.ts.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Codec, FieldSchema, StateRecord } from "./field.ts";
import type { Place } from "./place.ts";

/** A fixed number of elements, or the key of an earlier field that holds the number, and its upper bound. */
export type Count = number | { readonly key: string; readonly max: number };

export interface ScalarFormat<T> {
  readonly type: string;
  readonly width: 1 | 2 | 4 | 8;
  readonly zero: T;
  /** True if `value` is a T and in its range. */
  fits(value: unknown): boolean;
  write(writer: ByteWriter, value: T): void;
  /** Returns undefined if the bytes do not encode a T. */
  read(reader: ByteReader): T | undefined;
}

function integer(
  type: string,
  width: 1 | 2 | 4,
  lo: number,
  write: (w: ByteWriter, v: number) => void,
  read: (r: ByteReader) => number,
): ScalarFormat<number> {
  const hi = lo + 2 ** (8 * width) - 1;
  return {
    type,
    width,
    zero: 0,
    fits: (v) => typeof v === "number" && Number.isInteger(v) && v >= lo && v <= hi,
    write,
    read,
  };
}

function wide(type: string, signed: boolean): ScalarFormat<bigint> {
  const wrap = signed ? BigInt.asIntN : BigInt.asUintN;
  return {
    type,
    width: 8,
    zero: 0n,
    fits: (v) => typeof v === "bigint" && wrap(64, v) === v,
    write: (w, v) => w.u64(v),
    read: (r) => wrap(64, r.u64()),
  };
}

export const U8 = integer(
  "uint8",
  1,
  0,
  (w, v) => w.u8(v),
  (r) => r.u8(),
);
export const U16 = integer(
  "uint16",
  2,
  0,
  (w, v) => w.u16(v),
  (r) => r.u16(),
);
export const U32 = integer(
  "uint32",
  4,
  0,
  (w, v) => w.u32(v),
  (r) => r.u32(),
);
export const I8 = integer(
  "int8",
  1,
  -(2 ** 7),
  (w, v) => w.u8(v),
  (r) => (r.u8() << 24) >> 24,
);
export const I16 = integer(
  "int16",
  2,
  -(2 ** 15),
  (w, v) => w.u16(v),
  (r) => (r.u16() << 16) >> 16,
);
export const I32 = integer(
  "int32",
  4,
  -(2 ** 31),
  (w, v) => w.u32(v),
  (r) => r.u32() | 0,
);
export const U64 = wide("uint64", false);
export const I64 = wide("int64", true);
/** Expiry time in ns; all ones if the timer is not armed. */
export const TIMER: ScalarFormat<bigint> = { ...U64, type: "timer" };
export const BOOL: ScalarFormat<boolean> = {
  type: "bool",
  width: 1,
  zero: false,
  fits: (v) => typeof v === "boolean",
  write: (w, v) => w.u8(v ? 1 : 0),
  read: (r) => {
    const byte = r.u8();
    return byte > 1 ? undefined : byte === 1;
  },
};

function describeFormat(format: ScalarFormat<unknown>): string {
  return `${format.type === "bool" ? "a" : "an integer of type"} ${format.type}`;
}

export function scalarCodec<T extends number | bigint | boolean>(format: ScalarFormat<T>): Codec<T> {
  const { type, width } = format;
  return {
    type,
    width,
    uniform: true,
    schema: { type, size: width },
    create: () => format.zero,
    validate(value, place) {
      if (!format.fits(value)) place.fail("state.type", describeFormat(format), String(value));
    },
    write: (writer, value) => format.write(writer, value),
    read(reader, place) {
      const value = format.read(reader);
      return value ?? place.fail("state.type", `${type} (0 or 1)`, "another byte");
    },
    assign: (_target, source) => source,
    scalars: (value) => (typeof value === "boolean" ? [] : [value as number | bigint]),
    describe: () => [{ size: width }],
  };
}

/** The number of elements according to `state`; fails if it exceeds its bound. */
export function countIn(count: Count, place: Place, state: StateRecord): number {
  if (typeof count === "number") return count;
  const n = state[count.key];
  if (typeof n !== "number" || n < 0 || n > count.max) {
    place.fail("state.count", `0 to ${count.max} elements (${count.key})`, String(n));
  }
  return n;
}

export function countSchema(count: Count): Pick<FieldSchema, "count"> {
  return { count: typeof count === "number" ? count : `${count.key} <= ${count.max}` };
}

export function countKeyOf(count: Count): { countKey?: string } {
  return typeof count === "number" ? {} : { countKey: count.key };
}

export interface TypedArray<E> {
  readonly length: number;
  [index: number]: E;
  set(source: ArrayLike<E>): void;
  slice(): TypedArray<E>;
  [Symbol.iterator](): Iterator<E>;
}

/** Copies in place if the lengths agree, otherwise returns a new copy. */
function assignArray<A extends TypedArray<never>>(target: A, source: A): A {
  if (target.length !== source.length) return source.slice() as unknown as A;
  target.set(source);
  return target;
}

function checkLength(
  value: unknown,
  type: new (n: number) => unknown,
  count: Count,
  place: Place,
  state: StateRecord,
): void {
  if (!(value instanceof type)) place.fail("state.type", `a ${type.name}`, typeof value);
  const expected = countIn(count, place, state);
  const { length } = value as ArrayLike<unknown>;
  if (length !== expected) place.fail("state.length", `${expected} elements`, String(length));
}

/** An array of integers; each is one element of the field (VMSTATE_*_ARRAY, VMSTATE_VARRAY_*). */
export function arrayCodec<E extends number | bigint, A extends TypedArray<E>>(
  format: ScalarFormat<E>,
  type: new (n: number) => A,
  count: Count,
): Codec<A> {
  const { width } = format;
  return {
    type: format.type,
    width,
    uniform: true,
    schema: { type: format.type, size: width, ...countSchema(count) },
    ...countKeyOf(count),
    create: () => new type(typeof count === "number" ? count : 0),
    validate: (value, place, state) => checkLength(value, type, count, place, state),
    write(writer, value) {
      for (const element of value) format.write(writer, element);
    },
    read(reader, place, state) {
      const n = countIn(count, place, state);
      if (n * width > reader.remaining) reader.bytes(n * width);
      const value = new type(n);
      for (let i = 0; i < n; i++) value[i] = format.read(reader) ?? format.zero;
      return value;
    },
    assign: assignArray as unknown as (target: A, source: A) => A,
    scalars: (value) => value as Iterable<E>,
    describe: (value) => Array.from({ length: value.length }, () => ({ size: width })),
  };
}

/** Bytes that form one field (VMSTATE_BUFFER, VMSTATE_VBUFFER). */
export function bufferCodec(count: Count): Codec<Uint8Array> {
  return {
    type: "buffer",
    width: 1,
    uniform: true,
    schema: {
      type: "buffer",
      size: typeof count === "number" ? count : 0,
      ...(typeof count === "number" ? {} : countSchema(count)),
    },
    ...countKeyOf(count),
    create: () => new Uint8Array(typeof count === "number" ? count : 0),
    validate: (value, place, state) => checkLength(value, Uint8Array, count, place, state),
    write: (writer, value) => writer.bytes(value),
    read: (reader, place, state) => reader.bytes(countIn(count, place, state)).slice(),
    assign: assignArray as unknown as (target: Uint8Array, source: Uint8Array) => Uint8Array,
    scalars: (value) => value,
    describe: (value) => [{ size: value.length }],
  };
}

/** VMSTATE_BITMAP: `bits` bits in be64 words, the lowest word first. Bits beyond the last one are zero. */
export function bitmapCodec(bits: Count): Codec<BigUint64Array> {
  const wordsOf = (n: number): number => Math.ceil(n / 64);
  const checkTail = (value: BigUint64Array, n: number, place: Place): void => {
    const last = value[value.length - 1];
    if (n % 64 !== 0 && last !== undefined && last >> BigInt(n % 64) !== 0n) {
      place.fail("state.bitmap", `${n} bits`, "a bit beyond the last");
    }
  };
  return {
    type: "bitmap",
    width: 8,
    uniform: true,
    schema: { type: "bitmap", size: typeof bits === "number" ? wordsOf(bits) * 8 : 0, ...countSchema(bits) },
    ...countKeyOf(bits),
    create: () => new BigUint64Array(typeof bits === "number" ? wordsOf(bits) : 0),
    validate(value, place, state) {
      const n = countIn(bits, place, state);
      checkLength(value, BigUint64Array, wordsOf(n), place, state);
      checkTail(value, n, place);
    },
    write(writer, value) {
      for (const word of value) writer.u64(word);
    },
    read(reader, place, state) {
      const n = wordsOf(countIn(bits, place, state));
      if (n * 8 > reader.remaining) reader.bytes(n * 8);
      return BigUint64Array.from({ length: n }, () => reader.u64());
    },
    assign: assignArray as unknown as (target: BigUint64Array, source: BigUint64Array) => BigUint64Array,
    scalars: () => [],
    describe: (value) => [{ size: value.length * 8 }],
  };
}

/**
 * Bytes that older versions used (VMSTATE_UNUSED): written as zeros, skipped on load, not part of the state.
 */
export function unusedCodec(size: number): Codec<undefined> {
  return {
    type: "unused_buffer",
    width: 0,
    uniform: true,
    schema: { type: "unused_buffer", size },
    create: () => undefined,
    validate: () => {},
    write: (writer) => writer.bytes(new Uint8Array(size)),
    read: (reader) => {
      reader.bytes(size);
      return undefined;
    },
    assign: () => undefined,
    scalars: () => [],
    describe: () => [{ size }],
  };
}
