// Where the bytes of a stream come from: a file or an array (any place can be read), or a pipe (only onwards), and the
// buffer that the reader looks at them through. The buffer is reused: memory stays the same however long the stream.
import { decodeUtf8 } from "../../base/text.ts";

/** Where a stream is read from: a file, a pipe, bytes. */
export interface ByteSource {
  /** Bytes there are; undefined for a pipe, which is read at consecutive offsets only. */
  readonly size: number | undefined;
  /** Fills the start of `into` from `offset` on: at least one byte, or 0 at the end. */
  read(offset: number, into: Uint8Array): Promise<number>;
}

/** A stream in memory. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    read(offset, into) {
      const part = bytes.subarray(offset, offset + into.length);
      into.set(part);
      return Promise.resolve(part.length);
    },
  };
}

/** What comes in pieces, such as a pipe or a response's body. Not to be read by anybody else. */
export function piecesSource(pieces: AsyncIterable<Uint8Array>): ByteSource {
  const iterator = pieces[Symbol.asyncIterator]();
  let piece: Uint8Array = new Uint8Array(0);
  return {
    size: undefined,
    async read(_offset, into) {
      while (piece.length === 0) {
        const next = await iterator.next();
        if (next.done === true) return 0;
        piece = next.value;
      }
      const part = piece.subarray(0, into.length);
      into.set(part);
      piece = piece.subarray(part.length);
      return part.length;
    },
  };
}

const FIRST_READ_BYTES = 64 * 1024;
const READ_BYTES = 4 * 1024 * 1024;
/** The least that is taken at first, of a small source. */
const FIRST_BYTES = 4096;

/** A place in a stream. `need` what is to be looked at; then the integers (big-endian) and bytes can be taken. */
export class Cursor {
  readonly source: ByteSource;
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView;
  /** Index in `bytes` of the next byte, and behind the last one that was read. */
  at = 0;
  end = 0;
  /** Stream offset of bytes[0]. */
  base: number;
  #ended = false;

  constructor(source: ByteSource, offset = 0) {
    this.source = source;
    this.base = offset;
    this.bytes = new Uint8Array(
      Math.min(FIRST_READ_BYTES, Math.max(FIRST_BYTES, source.size ?? FIRST_READ_BYTES)),
    );
    this.view = new DataView(this.bytes.buffer);
  }

  /** Stream offset of the next byte. */
  get offset(): number {
    return this.base + this.at;
  }
  get available(): number {
    return this.end - this.at;
  }

  /** Buffers n bytes, if there are as many; false at the end of the stream. Views that were taken are void then. */
  async need(n: number): Promise<boolean> {
    while (this.available < n) {
      if (this.#ended) return false;
      this.#makeRoom(n);
      const got = await this.source.read(this.base + this.end, this.bytes.subarray(this.end));
      if (got === 0) this.#ended = true;
      this.end += got;
    }
    return true;
  }

  /**
   * Room to read into, behind what is buffered. Grows twofold, to the size of a good read, then only as what is needed in
   * one piece really comes: no length that a stream claims is believed.
   */
  #makeRoom(n: number): void {
    const { available } = this;
    const old = this.bytes;
    const small = old.length < READ_BYTES && this.end === old.length;
    const full = this.at === 0 && this.end === old.length;
    if (small || full) {
      this.bytes = new Uint8Array(old.length * 2);
      this.view = new DataView(this.bytes.buffer);
    } else if (this.at === 0 || (available > 0 && this.at + n <= old.length)) return;
    if (available > 0) this.bytes.set(old.subarray(this.at, this.end));
    this.base += this.at;
    this.at = 0;
    this.end = available;
  }

  u8(): number {
    return this.view.getUint8(this.at++);
  }
  u16(): number {
    const value = this.view.getUint16(this.at);
    this.at += 2;
    return value;
  }
  u32(): number {
    const value = this.view.getUint32(this.at);
    this.at += 4;
    return value;
  }
  u64(): bigint {
    const value = this.view.getBigUint64(this.at);
    this.at += 8;
    return value;
  }
  /** A view of the next n buffered bytes, valid until the next `need`. */
  take(n: number): Uint8Array<ArrayBuffer> {
    const view = this.bytes.subarray(this.at, this.at + n);
    this.at += n;
    return view;
  }
  text(n: number): string {
    return decodeUtf8(this.take(n));
  }
  /** Goes on by n bytes, without reading what lies between where the source allows it; false if there are fewer. */
  async skip(n: number): Promise<boolean> {
    let left = n;
    for (;;) {
      const step = Math.min(left, this.available);
      this.at += step;
      left -= step;
      if (left === 0) return true;
      const { size } = this.source;
      if (size !== undefined && left > this.bytes.length) {
        const to = Math.min(size, this.offset + left);
        left -= to - this.offset;
        this.base = to;
        this.at = 0;
        this.end = 0;
        if (left > 0) return false;
      } else if (!(await this.need(1))) return false;
    }
  }
}
