// The reading end of a stream: a bounded buffer over a channel, integers in big-endian, hashes of what is
// consumed. The input is hostile: a stream that ends early is an error that says in which part.
import { Xxh32 } from "../base/xxh32.ts";
import type { Channel } from "./channel.ts";
import { GET_ANOTHER_COPY, MigrationError } from "./migration-error.ts";

/** The buffer of a stream that has more than a greeting to say; until then it is small. */
const CAPACITY = 1024 * 1024;
const FIRST_CAPACITY = 4096;

/**
 * Reads a stream from a channel: `need` waits for bytes, then the getters take them. Big-endian. Throws
 * MigrationError at the stream's end.
 */
export class StreamReader {
  readonly #channel: Channel;
  #buffer = new Uint8Array(FIRST_CAPACITY);
  #view = new DataView(this.#buffer.buffer);
  #at = 0;
  #end = 0;
  /** Stream offset of buffer[0]. */
  #base = 0;
  readonly #hash = new Xxh32();
  #hashedTo = 0;
  /** Nobody takes the hash of multifd's channels. */
  isHashed = true;
  /** What is being read, for messages; set by whoever reads. */
  where: () => string = () => "header";

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** Stream offset of the next byte. */
  get offset(): number {
    return this.#base + this.#at;
  }
  /** Where in its file the stream begins. */
  get base(): number {
    return this.#channel.base ?? 0;
  }
  get available(): number {
    return this.#end - this.#at;
  }

  fail(code: string, message: string, offset = this.offset, cause?: unknown): never {
    throw new MigrationError(code, message, { where: this.where(), offset, cause });
  }

  #hashUp(): void {
    if (this.isHashed) this.#hash.update(this.#buffer, this.#hashedTo, this.#at);
    this.#hashedTo = this.#at;
  }

  /** XXH32 of all bytes consumed since the last call (or the start). */
  takeHash(): number {
    this.#hashUp();
    const digest = this.#hash.digest();
    this.#hash.reset();
    return digest;
  }

  /** Buffers at least one byte more; false at the end of the stream. Grows only for `room` bytes after the cursor. */
  async more(room = 0): Promise<boolean> {
    this.#makeRoom(Math.max(room, this.available + 1));
    let n: number;
    try {
      n = await this.#channel.read(this.#buffer.subarray(this.#end));
    } catch (error) {
      this.fail(
        "migration.connection",
        `the connection was lost: ${error instanceof Error ? error.message : String(error)}`,
        this.#base + this.#end,
        error,
      );
    }
    this.#end += n;
    return n > 0;
  }

  #makeRoom(room: number): void {
    const { available } = this;
    if (this.#end < this.#buffer.length && this.#at + room <= this.#buffer.length) return;
    this.#hashUp();
    const old = this.#buffer;
    if (room > old.length || old.length < CAPACITY) {
      this.#buffer = new Uint8Array(Math.max(room, old.length * 2, CAPACITY));
      this.#view = new DataView(this.#buffer.buffer);
      this.#buffer.set(old.subarray(this.#at, this.#end));
    } else {
      old.copyWithin(0, this.#at, this.#end);
    }
    this.#base += this.#at;
    this.#at = 0;
    this.#hashedTo = 0;
    this.#end = available;
  }

  /** What is said of a stream that ends too early. */
  endAdvice = GET_ANOTHER_COPY;

  /** Resolves once n bytes can be read. Check `available` first where speed matters. */
  async need(n: number): Promise<void> {
    while (this.available < n) {
      if (!(await this.more(n))) {
        this.fail(
          "migration.cut",
          `the stream ends ${n - this.available} bytes too early; ${this.endAdvice}`,
          this.#base + this.#end,
        );
      }
    }
  }

  #take(n: number): number {
    const at = this.#at;
    this.#at = at + n;
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
  /** The u32 `ahead` bytes after the cursor, which must be available. Consumes nothing. */
  peekU32(ahead = 0): number {
    return this.#view.getUint32(this.#at + ahead);
  }
  /** The next n available bytes, consumed; a view that is valid until the next `need` or `more`. */
  bytes(n: number): Uint8Array<ArrayBuffer> {
    const at = this.#take(n);
    return this.#buffer.subarray(at, at + n);
  }
  /** All that is available, not consumed; valid until the next `need` or `more`. */
  peekAll(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(this.#at, this.#end);
  }
  skip(n: number): void {
    this.#take(n);
  }
  /** Goes on to a stream offset that is not behind; a file is not read in between, if the channel can skip. */
  async skipTo(offset: number): Promise<void> {
    while (this.offset < offset) {
      const missing = offset - this.offset - this.available;
      if (missing <= 0) {
        this.skip(offset - this.offset);
        return;
      }
      this.skip(this.available);
      if (this.#channel.skip === undefined) await this.need(1);
      else {
        await this.#channel.skip(missing);
        this.#hashUp();
        this.#base += this.#at + missing;
        this.#at = 0;
        this.#end = 0;
        this.#hashedTo = 0;
      }
    }
  }
}
