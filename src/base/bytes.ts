// Big-endian byte writer and reader: all integers of QEMU's stream are big-endian. The reader's input is
// hostile: a read past the end throws EndOfBytes.
import { WherryError } from "./errors.ts";
import { decodeUtf8, encodeUtf8 } from "./text.ts";

/** A field needs more bytes than are left. `offset` and `needed` are in bytes from the reader's start. */
export class EndOfBytes extends WherryError {
  readonly offset: number;
  readonly needed: number;
  constructor(offset: number, needed: number, available: number) {
    super("bytes.end", `needs ${needed} bytes at offset ${offset}, found ${available}`);
    this.offset = offset;
    this.needed = needed;
  }
}

/** A growing buffer. `u64` takes a bigint, the others take numbers; values are truncated to their width. */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  #grow(n: number): number {
    const at = this.#length;
    if (at + n > this.#bytes.length) {
      const next = new Uint8Array(Math.max(at + n, this.#bytes.length * 2));
      next.set(this.#bytes.subarray(0, at));
      this.#bytes = next;
      this.#view = new DataView(next.buffer);
    }
    this.#length = at + n;
    return at;
  }

  u8(v: number): this {
    const at = this.#grow(1);
    this.#view.setUint8(at, v);
    return this;
  }
  u16(v: number): this {
    const at = this.#grow(2);
    this.#view.setUint16(at, v);
    return this;
  }
  u32(v: number): this {
    const at = this.#grow(4);
    this.#view.setUint32(at, v);
    return this;
  }
  u64(v: bigint): this {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, v);
    return this;
  }
  bytes(v: Uint8Array): this {
    const at = this.#grow(v.length);
    this.#bytes.set(v, at);
    return this;
  }
  /** QEMU's counted string: a u8 length, then the bytes. */
  countedString(s: string): this {
    const b = encodeUtf8(s);
    if (b.length > 255)
      throw new WherryError("bytes.string", `string of ${b.length} bytes, at most 255 fit: ${s}`);
    return this.u8(b.length).bytes(b);
  }

  /** A view of the bytes written so far, valid until the next write. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }
  /** A copy of the bytes written so far. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#length);
  }
  /** Empties the buffer and keeps its memory. */
  reset(): void {
    this.#length = 0;
  }
}

/** Reads big-endian integers, `u64` as a bigint. A read past the end throws EndOfBytes and moves nothing. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  #take(n: number): number {
    const at = this.#offset;
    if (n > this.#bytes.length - at) throw new EndOfBytes(at, n, this.#bytes.length - at);
    this.#offset = at + n;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2));
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4));
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8));
  }
  /** A view of the next n bytes, not a copy. */
  bytes(n: number): Uint8Array {
    const at = this.#take(n);
    return this.#bytes.subarray(at, at + n);
  }
  peekU8(): number | undefined {
    return this.#bytes[this.#offset];
  }
  /**
   * A view of the n bytes that start `ahead` bytes after the current position; undefined if fewer are left.
   * Consumes nothing.
   */
  peek(ahead: number, n: number): Uint8Array | undefined {
    const at = this.#offset + ahead;
    return at + n > this.#bytes.length ? undefined : this.#bytes.subarray(at, at + n);
  }
  countedString(): string {
    return decodeUtf8(this.bytes(this.u8()));
  }
}
