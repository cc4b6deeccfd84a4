// Makes fields out of bytes: a cursor for decoders of what the VMDESCRIPTION leaves opaque. Every read names what it
// reads and becomes a field; nothing is skipped silently, so that all bytes are accounted for. Input is hostile:
// reading past the end throws EndOfBytes.
import { ByteReader } from "../base/bytes.ts";
import { decodeUtf8 } from "../base/text.ts";
import type { Field, FieldValue } from "./model.ts";

type Order = "big" | "little";

/** Says a value in words; undefined if there is nothing to say. */
export type Meaning = (value: bigint) => string | undefined;

export class FieldReader {
  readonly #bytes: Uint8Array;
  readonly #reader: ByteReader;
  readonly #base: number;
  #fields: Field[] = [];

  /** `base` is the stream offset of bytes[0]. */
  constructor(bytes: Uint8Array, base: number) {
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
  /** Of what was read so far, in order. */
  get fields(): readonly Field[] {
    return this.#fields;
  }
  /** n bytes ahead of the cursor, not consumed; undefined if there are fewer. */
  peek(n: number, ahead = 0): Uint8Array | undefined {
    return this.#reader.peek(ahead, n);
  }

  #add<V extends FieldValue>(
    name: string,
    type: string,
    size: number,
    value: V,
    meaning: string | undefined,
  ): V {
    const offset = this.offset - size;
    this.#fields.push({ name, offset, size, type, value, ...(meaning === undefined ? {} : { meaning }) });
    return value;
  }
  #integer(name: string, bytes: number, order: Order, meaning?: Meaning): bigint {
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
  /** Bytes as one field. */
  bytes(name: string, length: number, meaning?: string, type = "buffer"): Uint8Array {
    return this.#add(name, type, length, this.#reader.bytes(length).slice(), meaning);
  }
  /** u8 length and characters (QEMU's counted string). */
  countedString(name: string): string {
    const length = this.#reader.u8();
    return this.#add(name, "string", length + 1, decodeUtf8(this.#reader.bytes(length)), undefined);
  }
  /** A container of what `read` reads. */
  group<T>(name: string, type: string, read: () => T, meaning?: string): T {
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
  /** The rest as one field, if there is any: what no decoder knows. */
  rest(name = "rest"): Uint8Array | undefined {
    return this.remaining === 0 ? undefined : this.bytes(name, this.remaining, undefined, "unknown");
  }
  /** All bytes, from the first. */
  get all(): Uint8Array {
    return this.#bytes;
  }
}
