// Where a state's fields are in a flat little-endian memory image (WebAssembly memory): the hart's
// schema gives the offsets that the interpreter and the translator use, so the two cannot drift.
// Natural alignment, in the order of the schema. Only integers, booleans, fixed arrays and buffers.
import type { StateDefinition } from "./definition.ts";
import type { ImageFormat, StateRecord } from "./field.ts";
import { StateError } from "./place.ts";

export interface LayoutField {
  readonly key: string;
  /** Bytes from the start of the area that `base` was given for. */
  readonly offset: number;
  readonly format: ImageFormat;
}

export interface Layout<K extends string = string> {
  readonly base: number;
  /** Bytes from `base` to the end of the last field, a multiple of 8. */
  readonly size: number;
  readonly fields: readonly LayoutField[];
  /** Byte offset of a field, or of one element of it. Throws StateError if there is no such field or element. */
  offsetOf(key: K, index?: number): number;
}

/** `base` is the offset of the first field, a multiple of 8. Throws StateError for a field without a fixed size. */
export function layoutOf<T>(
  definition: StateDefinition<T>,
  { base = 0 }: { readonly base?: number } = {},
): Layout<keyof T & string> {
  const fields = new Map<string, LayoutField>();
  let end = base;
  for (const [key, field] of definition.entries()) {
    const { image: format } = field.codec;
    if (format === undefined) {
      throw new StateError(
        "state.layout",
        `${definition.name}.${key}`,
        undefined,
        "a field of fixed size",
        field.type,
      );
    }
    const offset = Math.ceil(end / format.width) * format.width;
    fields.set(key, { key, offset, format });
    end = offset + format.width * format.count;
  }
  return {
    base,
    size: Math.ceil((end - base) / 8) * 8,
    fields: [...fields.values()],
    offsetOf(key, index = 0) {
      const field = fields.get(key);
      if (field === undefined || index < 0 || index >= field.format.count) {
        const expected = field === undefined ? "a field" : `an index below ${field.format.count}`;
        throw new StateError(
          "state.layout",
          `${definition.name}.${key}`,
          undefined,
          expected,
          `${key}[${index}]`,
        );
      }
      return field.offset + index * field.format.width;
    },
  };
}

/** The state of one hart (or other thing) in shared memory, at `areaOffset` bytes into `buffer`. */
export class MemoryImage<T> {
  readonly layout: Layout<keyof T & string>;
  readonly #definition: StateDefinition<T>;
  readonly #view: DataView;
  readonly #fields: ReadonlyMap<string, LayoutField>;

  constructor(
    definition: StateDefinition<T>,
    layout: Layout<keyof T & string>,
    buffer: ArrayBufferLike,
    areaOffset: number,
  ) {
    this.layout = layout;
    this.#definition = definition;
    this.#view = new DataView(buffer, areaOffset, layout.base + layout.size);
    this.#fields = new Map(layout.fields.map((f) => [f.key, f]));
  }

  /** A field, or one element of an array, as its bits: unsigned. */
  get(key: keyof T & string, index = 0): bigint {
    const offset = this.layout.offsetOf(key, index);
    return this.#load(offset, this.#width(key));
  }

  /** Store the low bits of `value` that the field has room for. */
  set(key: keyof T & string, value: bigint, index = 0): void {
    const offset = this.layout.offsetOf(key, index);
    this.#store(offset, this.#width(key), value);
  }

  /** Copy the image into `target`, a state of the definition. */
  read(target: T): void {
    const record = target as StateRecord;
    for (const { key, offset, format } of this.layout.fields) {
      if (!format.array) {
        record[key] = this.#value(offset, format);
        continue;
      }
      const array = record[key] as { [i: number]: unknown };
      for (let i = 0; i < format.count; i++) array[i] = this.#value(offset + i * format.width, format);
    }
  }

  /** Copy `source` into the image. Throws StateError, and writes nothing, if `source` is not valid. */
  write(source: T): void {
    this.#definition.validate(source);
    const record = source as StateRecord;
    for (const { key, offset, format } of this.layout.fields) {
      const value = record[key];
      if (!format.array) {
        this.#store(offset, format.width, BigInt(value as number));
        continue;
      }
      for (let i = 0; i < format.count; i++) {
        this.#store(
          offset + i * format.width,
          format.width,
          BigInt((value as ArrayLike<number>)[i] as number),
        );
      }
    }
  }

  #width(key: string): number {
    return this.#fields.get(key)?.format.width ?? 8;
  }

  #value(offset: number, { width, kind }: ImageFormat): number | bigint | boolean {
    const bits = this.#load(offset, width);
    const value = kind === "signed" ? BigInt.asIntN(8 * width, bits) : bits;
    if (kind === "bool") return bits !== 0n;
    return width === 8 ? value : Number(value);
  }

  #load(offset: number, width: number): bigint {
    switch (width) {
      case 1:
        return BigInt(this.#view.getUint8(offset));
      case 2:
        return BigInt(this.#view.getUint16(offset, true));
      case 4:
        return BigInt(this.#view.getUint32(offset, true));
      default:
        return this.#view.getBigUint64(offset, true);
    }
  }

  #store(offset: number, width: number, value: bigint): void {
    switch (width) {
      case 1:
        this.#view.setUint8(offset, Number(BigInt.asUintN(8, value)));
        break;
      case 2:
        this.#view.setUint16(offset, Number(BigInt.asUintN(16, value)), true);
        break;
      case 4:
        this.#view.setUint32(offset, Number(BigInt.asUintN(32, value)), true);
        break;
      default:
        this.#view.setBigUint64(offset, value, true);
    }
  }
}
