// Makes fields from bytes: a cursor for decoders of data that the VMDESCRIPTION leaves opaque. Every read has
// a name and becomes a field; nothing is skipped silently, so all bytes are accounted for. Input is hostile:
// reading past the end throws EndOfBytes, and exceeding the limit of fields throws TooManyFields.
import { ByteReader } from "../../base/bytes.ts";
import { WherryError } from "../../base/errors.ts";
import { decodeUtf8 } from "../../base/text.ts";
import type { Field, FieldValue } from "../model/stream-report.ts";

type Order = "big" | "little";

/** Describes a value; undefined if there is nothing to add. */
export type Meaning = (value: bigint) => string | undefined;

/** Thrown at the limit of fields, which take far more memory than their bytes. */
export class TooManyFields extends WherryError {
  constructor(limit: number, offset: number) {
    super(
      "inspect.fields",
      `more than ${limit} fields, at offset ${offset}: what follows is not taken apart`,
    );
  }
}

export class FieldReader {
  readonly #bytes: Uint8Array;
  readonly #reader: ByteReader;
  readonly #base: number;
  readonly #limit: number;
  #fields: Field[] = [];
  #count = 0;
  #unknown = 0;

  /** `base` is the stream offset of bytes[0]; `limit` is the most fields. */
  constructor(bytes: Uint8Array, base: number, limit = Number.POSITIVE_INFINITY) {
    this.#limit = limit;
    this.#bytes = bytes;
    this.#reader = new ByteReader(bytes);
    this.#base = base;
  }

  /** Stream offset of the next byte. */
  get offset(): number {
    return this.#base + this.#reader.offset;
  }
  get remaining(): number {
    return this.#reader.remaining;
  }
  /** Fields read so far, in order. */
  get fields(): readonly Field[] {
    return this.#fields;
  }
  /** Number of fields made, including nested ones. */
  get count(): number {
    return this.#count;
  }
  /** Bytes in fields of type `unknown`, which the decoder could not identify. */
  get unknown(): number {
    return this.#unknown;
  }
  /** n bytes, starting `ahead` bytes after the cursor, not consumed; undefined if there are fewer. */
  peek(n: number, ahead = 0): Uint8Array | undefined {
    return this.#reader.peek(ahead, n);
  }

  #make(): void {
    if (this.#count >= this.#limit) throw new TooManyFields(this.#limit, this.offset);
    this.#count++;
  }
  #add<V extends FieldValue>(
    name: string,
    type: string,
    size: number,
    value: V,
    meaning: string | undefined,
  ): V {
    const offset = this.offset - size;
    if (type === "unknown") this.#unknown += size;
    this.#fields.push({ name, offset, size, type, value, ...(meaning === undefined ? {} : { meaning }) });
    return value;
  }
  #integer(name: string, bytes: number, order: Order, meaning?: Meaning): bigint {
    this.#make();
    let value = 0n;
    const raw = this.#reader.bytes(bytes);
    for (let i = 0; i < bytes; i++) {
      value = (value << 8n) | BigInt(raw[order === "big" ? i : bytes - 1 - i] ?? 0);
    }
    return this.#add(name, `uint${bytes * 8}`, bytes, value, meaning?.(value));
  }
  u8(name: string, meaning?: Meaning): number {
    return Number(this.#integer(name, 1, "big", meaning));
  }
  u16(name: string, meaning?: Meaning, order: Order = "big"): number {
    return Number(this.#integer(name, 2, order, meaning));
  }
  u32(name: string, meaning?: Meaning, order: Order = "big"): number {
    return Number(this.#integer(name, 4, order, meaning));
  }
  u64(name: string, meaning?: Meaning, order: Order = "big"): bigint {
    return this.#integer(name, 8, order, meaning);
  }
  /** Reads bytes as one field. */
  bytes(name: string, length: number, meaning?: string, type = "buffer"): Uint8Array {
    this.#make();
    return this.#add(name, type, length, this.#reader.bytes(length).slice(), meaning);
  }
  /** Reads u8 length and characters (QEMU's counted string). */
  countedString(name: string): string {
    this.#make();
    const length = this.#reader.u8();
    return this.#add(name, "string", length + 1, decodeUtf8(this.#reader.bytes(length)), undefined);
  }
  /** Reads a container: `read` reads its members. */
  group<T>(name: string, type: string, read: () => T, meaning?: string): T {
    this.#make();
    const outer = this.#fields;
    const offset = this.offset;
    this.#fields = [];
    try {
      return read();
    } finally {
      const children = this.#fields;
      this.#fields = outer;
      const size = this.offset - offset;
      outer.push({ name, offset, size, type, children, ...(meaning === undefined ? {} : { meaning }) });
    }
  }
  /** Reads the remaining bytes, if any, as one field of unknown bytes. Not counted. */
  rest(name = "rest"): Uint8Array | undefined {
    if (this.remaining === 0) return undefined;
    return this.#add(name, "unknown", this.remaining, this.#reader.bytes(this.remaining).slice(), undefined);
  }
  /** All bytes, including those already read. */
  get all(): Uint8Array {
    return this.#bytes;
  }
}
