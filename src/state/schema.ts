// The vocabulary of schemas: field constructors, struct, subsection, defineState.
//   export const plicState = defineState("riscv_sifive_plic", { version: 1 }, { threshold: u32, … });
//   type PlicState = StateOf<typeof plicState>;
// The TypeScript type of a field: number up to 32 bits, bigint for 64, boolean, typed array, nested object.
import {
  arrayCodec,
  BOOL,
  bitmapCodec,
  bufferCodec,
  I8,
  I16,
  I32,
  I64,
  scalarCodec,
  TIMER,
  U8,
  U16,
  U32,
  U64,
  unusedCodec,
} from "./codecs.ts";
import type { StateDefinition } from "./definition.ts";
import { Field } from "./field.ts";
import { StructCodec } from "./struct.ts";

export { defineState, qemuState, StateDefinition, type StateOf, subsection } from "./definition.ts";
export type {
  Added,
  DecodeOptions,
  Flat,
  Flatten,
  Intersection,
  PathOptions,
  StateOptions,
  Subsection,
  SubsectionOptions,
  Subsections,
  Values,
} from "./definition.ts";
export type {
  Bound,
  Codec,
  DescribedElement,
  DescribedField,
  DescribedState,
  Field,
  FieldOptions,
  FieldSchema,
  LooseState,
  StateRecord,
  StateSchema,
} from "./field.ts";
export { type Place, StateError } from "./place.ts";
export type { Fields, Hooks } from "./walk.ts";

/** A number of 8 bits, unsigned. */
export const u8: Field<number> = new Field(scalarCodec(U8));
/** A number of 16 bits, unsigned. */
export const u16: Field<number> = new Field(scalarCodec(U16));
/** A number of 32 bits, unsigned. */
export const u32: Field<number> = new Field(scalarCodec(U32));
/** A bigint of 64 bits, unsigned. */
export const u64: Field<bigint> = new Field(scalarCodec(U64));
/** A number of 8 bits, signed. */
export const i8: Field<number> = new Field(scalarCodec(I8));
/** A number of 16 bits, signed. */
export const i16: Field<number> = new Field(scalarCodec(I16));
/** A number of 32 bits, signed. */
export const i32: Field<number> = new Field(scalarCodec(I32));
/** A bigint of 64 bits, signed. */
export const i64: Field<bigint> = new Field(scalarCodec(I64));
/** A boolean: a byte, 0 or 1. */
export const bool: Field<boolean> = new Field(scalarCodec<boolean>(BOOL));
/** Expiry time of a QEMU timer in ns; all ones if it is not armed. */
export const timer: Field<bigint> = new Field(scalarCodec(TIMER));

/** `length` numbers of 8 bits. */
export const u8Array = (length: number): Field<Uint8Array> =>
  new Field(arrayCodec<number, Uint8Array>(U8, Uint8Array, length));
/** `length` numbers of 16 bits. */
export const u16Array = (length: number): Field<Uint16Array> =>
  new Field(arrayCodec<number, Uint16Array>(U16, Uint16Array, length));
/** `length` numbers of 32 bits. */
export const u32Array = (length: number): Field<Uint32Array> =>
  new Field(arrayCodec<number, Uint32Array>(U32, Uint32Array, length));
/** `length` bigints of 64 bits. */
export const u64Array = (length: number): Field<BigUint64Array> =>
  new Field(arrayCodec<bigint, BigUint64Array>(U64, BigUint64Array, length));

/** The earlier field `countKey` holds the number of elements, at most `max`. */
export const varU32Array = (countKey: string, max: number): Field<Uint32Array> =>
  new Field(arrayCodec<number, Uint32Array>(U32, Uint32Array, { key: countKey, max }));
/** The same with bigints of 64 bits. */
export const varU64Array = (countKey: string, max: number): Field<BigUint64Array> =>
  new Field(arrayCodec<bigint, BigUint64Array>(U64, BigUint64Array, { key: countKey, max }));

/** Bytes that form one field. */
export const buffer = (length: number): Field<Uint8Array> => new Field(bufferCodec(length));
/** The earlier field `countKey` holds the number of bytes, at most `max`. */
export const varBuffer = (countKey: string, max: number): Field<Uint8Array> =>
  new Field(bufferCodec({ key: countKey, max }));

/** Bits in 64-bit words, lowest first (QEMU's VMSTATE_BITMAP). */
export const bitmap = (bits: number): Field<BigUint64Array> => new Field(bitmapCodec(bits));
/** The same; the earlier field `countKey` holds the number of bits, at most `maxBits`. */
export const varBitmap = (countKey: string, maxBits: number): Field<BigUint64Array> =>
  new Field(bitmapCodec({ key: countKey, max: maxBits }));

/** A nested object, at the definition's own version or the given one (VMSTATE_VSTRUCT). */
export const struct = <T>(definition: StateDefinition<T>, version = definition.version): Field<T> =>
  new Field(new StructCodec<T>(definition, version) as never);
/** `length` nested objects. */
export const structArray = <T>(definition: StateDefinition<T>, length: number): Field<T[]> =>
  new Field(new StructCodec<T>(definition, definition.version, length) as never);
/** Nested objects; the earlier field `countKey` holds their number, at most `max`. */
export const varStructArray = <T>(
  definition: StateDefinition<T>,
  countKey: string,
  max: number,
): Field<T[]> =>
  new Field(new StructCodec<T>(definition, definition.version, { key: countKey, max }) as never);

/** `size` reserved bytes: zeros on the wire, not a property of the state. */
export const unused = (size: number): Field<undefined> => new Field(unusedCodec(size));
