// A cursor over a stream whose bytes arrive over time: buffer the bytes that are needed, then take integers
// (big-endian) and bytes from the buffer. Its two subclasses differ in the source of the bytes and in the
// treatment of faults: StreamReader reads a channel for the loader and hashes; Scan reads a file or pipe for
// the inspector. The grammar of this room reads through either. base/bytes.ts reads bytes that are all
// present. The buffer is reused, so memory does not grow with the stream.
import { decodeUtf8 } from "../base/text.ts";
import type { StreamFault } from "./stream-fault.ts";

/**
 * A position in a stream: `need` or `ahead` buffers bytes, then the getters consume them. Integers are
 * big-endian.
 */
export abstract class StreamCursor {
  /**
   * Buffered bytes are [`at`, `end`); the next byte is at `at`. Invalid after the next `need`, `ahead` or
   * `more`.
   */
  buffer: Uint8Array<ArrayBuffer>;
  view: DataView;
  at = 0;
  end = 0;
  /** Stream offset of buffer[0]. */
  #start: number;
  readonly #mostBytes: number;
  #ended = false;

  /**
   * The buffer starts with `firstBytes` and grows with the bytes that arrive, up to `mostBytes`, and beyond
   * only if one `need` or `ahead` requires more.
   */
  protected constructor(firstBytes: number, mostBytes: number, offset = 0) {
    this.#mostBytes = mostBytes;
    this.#start = offset;
    this.buffer = new Uint8Array(firstBytes);
    this.view = new DataView(this.buffer.buffer);
  }

  /**
   * Fills the start of `into` with bytes from stream offset `offset`: at least one, or 0 at the end of the
   * stream.
   */
  protected abstract fill(into: Uint8Array, offset: number): Promise<number>;
  /**
   * Skips up to `bytes` bytes at stream offset `offset` without reading them. Resolves to the number skipped.
   */
  protected jump(_bytes: number, _offset: number): Promise<number> {
    return Promise.resolve(0);
  }
  /** Called before bytes below `at` leave the buffer; the byte at `at` becomes its first. */
  protected leaving(): void {}

  /** Called if the stream ends `missing` bytes too early. */
  abstract cut(missing: number): never;
  /** Called for a fault after which nothing can be read. */
  abstract refuse(fault: StreamFault): never;
  /** Called for a fault after which the stream can still be read. Returns if the reader continues. */
  abstract report(fault: StreamFault): void;

  /** Stream offset of the next byte. */
  get offset(): number {
    return this.#start + this.at;
  }
  /** Offset of the next byte in the file that holds the stream. */
  abstract get fileOffset(): number;
  get available(): number {
    return this.end - this.at;
  }

  /** Buffers at least one byte more; false at the end of the stream. */
  async more(): Promise<boolean> {
    return await this.#more(this.available + 1);
  }

  async #more(n: number): Promise<boolean> {
    if (this.#ended) return false;
    this.#makeRoom(n);
    const got = await this.fill(this.buffer.subarray(this.end), this.#start + this.end);
    if (got === 0) this.#ended = true;
    this.end += got;
    return got > 0;
  }

  /** Buffers n bytes; false if the stream ends before. */
  async ahead(n: number): Promise<boolean> {
    while (this.available < n) if (!(await this.#more(n))) return false;
    return true;
  }

  /** Buffers n bytes. If the stream ends before, calls `cut`. Check `available` first where speed matters. */
  async need(n: number): Promise<void> {
    if (this.available < n && !(await this.ahead(n))) this.cut(n - this.available);
  }

  /**
   * Makes room for more bytes. Doubles the buffer, and only as bytes arrive: no length in the stream is
   * trusted.
   */
  #makeRoom(n: number): void {
    const { available } = this;
    const old = this.buffer;
    const isSmall = old.length < this.#mostBytes && this.end === old.length;
    const isFull = this.at === 0 && this.end === old.length;
    if (!isSmall && !isFull && (this.at === 0 || (available > 0 && this.at + n <= old.length))) return;
    this.leaving();
    if (isSmall || isFull) {
      this.buffer = new Uint8Array(old.length * 2);
      this.view = new DataView(this.buffer.buffer);
      this.buffer.set(old.subarray(this.at, this.end));
    } else if (available > 0) old.copyWithin(0, this.at, this.end);
    this.#start += this.at;
    this.at = 0;
    this.end = available;
  }

  u8(): number {
    return this.view.getUint8(this.at++);
  }
  u16(): number {
    this.at += 2;
    return this.view.getUint16(this.at - 2);
  }
  u32(): number {
    this.at += 4;
    return this.view.getUint32(this.at - 4);
  }
  u64(): bigint {
    this.at += 8;
    return this.view.getBigUint64(this.at - 8);
  }
  /** Consumes the next n buffered bytes; a view. */
  bytes(n: number): Uint8Array<ArrayBuffer> {
    this.at += n;
    return this.buffer.subarray(this.at - n, this.at);
  }
  text(n: number): string {
    return decodeUtf8(this.bytes(n));
  }
  /** Skips n buffered bytes. */
  skip(n: number): void {
    this.at += n;
  }
  /** All buffered bytes, not consumed; a view. */
  peekAll(): Uint8Array<ArrayBuffer> {
    return this.buffer.subarray(this.at, this.end);
  }
  /** The u32 that starts `ahead` bytes after the next byte, and must be buffered. Consumes nothing. */
  peekU32(ahead = 0): number {
    return this.view.getUint32(this.at + ahead);
  }

  async nextU8(): Promise<number> {
    await this.need(1);
    return this.u8();
  }
  async nextU16(): Promise<number> {
    await this.need(2);
    return this.u16();
  }
  async nextU32(): Promise<number> {
    await this.need(4);
    return this.u32();
  }
  async nextU64(): Promise<bigint> {
    await this.need(8);
    return this.u64();
  }
  /** QEMU's counted string: u8 length and characters. */
  async nextString(): Promise<string> {
    await this.need(1);
    await this.need(1 + this.buffer[this.at]!);
    return this.text(this.u8());
  }

  /** Skips n bytes, buffered or not. Does not read what the source can skip. */
  async pass(n: number): Promise<void> {
    await this.skipTo(this.offset + n);
  }

  /** Skips to a stream offset, which is not before the current one. */
  async skipTo(offset: number): Promise<void> {
    for (;;) {
      this.at += Math.min(this.available, Math.max(0, offset - this.offset));
      const missing = offset - this.offset;
      if (missing <= 0) return;
      const passed = this.#ended ? 0 : await this.jump(missing, this.offset);
      if (passed > 0) {
        this.leaving();
        this.#start += this.at + passed;
        this.at = 0;
        this.end = 0;
      } else if (!(await this.ahead(1))) this.cut(missing);
    }
  }
}
