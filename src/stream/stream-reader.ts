// The loader's end of a stream: a cursor over a channel that hashes the bytes it consumes. The input is
// hostile: a stream that ends early, or breaks the grammar, is an error with the part, the place and the
// remedy.
import { Xxh32 } from "../base/xxh32.ts";
import type { Channel } from "./channel.ts";
import { GET_ANOTHER_COPY, MigrationError } from "./migration-error.ts";
import { StreamCursor } from "./stream-cursor.ts";
import type { StreamFault } from "./stream-fault.ts";

/** Buffer size. A connection starts with the small buffer. */
const CAPACITY = 1024 * 1024;
const FIRST_CAPACITY = 4096;

/**
 * Reads a stream from a channel: `need` waits for bytes, then the getters consume them. Big-endian. Throws
 * MigrationError at the end of the stream.
 */
export class StreamReader extends StreamCursor {
  readonly #channel: Channel;
  readonly #hash = new Xxh32();
  #hashedTo = 0;
  /** False for multifd channels, which need no hash. */
  isHashed = true;
  /** The part being read, for messages. The caller sets it. */
  where: () => string = () => "header";
  /** The remedy in the error for a stream that ends too early. */
  endAdvice = GET_ANOTHER_COPY;

  constructor(channel: Channel) {
    super(FIRST_CAPACITY, CAPACITY);
    this.#channel = channel;
  }

  override get fileOffset(): number {
    return (this.#channel.base ?? 0) + this.offset;
  }

  fail(code: string, message: string, offset = this.offset, cause?: unknown): never {
    throw new MigrationError(code, message, { where: this.where(), offset, cause });
  }

  cut(missing: number): never {
    this.fail(
      "migration.cut",
      `the stream ends ${missing} bytes too early; ${this.endAdvice}`,
      this.offset + this.available,
    );
  }

  refuse({ code, where, offset, expected, found, cure = GET_ANOTHER_COPY }: StreamFault): never {
    const name = code.startsWith("ram.") ? "ram" : code.replace("stream.", "");
    const what = where === undefined || where === this.where() ? "" : `${where}: `;
    this.fail(`migration.${name}`, `${what}expected ${expected}, found ${found}; ${cure}`, offset);
  }

  /** Bytes that no writer produces are damage, even if the rest could be read. */
  report(fault: StreamFault): void {
    this.refuse(fault);
  }

  protected async fill(into: Uint8Array, offset: number): Promise<number> {
    try {
      return await this.#channel.read(into);
    } catch (error) {
      // This side has ended the connection, and the error says why.
      if (error instanceof MigrationError) throw error;
      return this.fail(
        "migration.connection",
        `the connection was lost: ${error instanceof Error ? error.message : String(error)}`,
        offset,
        error,
      );
    }
  }

  protected override async jump(bytes: number): Promise<number> {
    if (this.#channel.skip === undefined) return 0;
    await this.#channel.skip(bytes);
    return bytes;
  }

  protected override leaving(): void {
    this.#hashUp();
    this.#hashedTo = 0;
  }

  #hashUp(): void {
    if (this.isHashed) this.#hash.update(this.buffer, this.#hashedTo, this.at);
    this.#hashedTo = this.at;
  }

  /** XXH32 of all bytes consumed since the last call (or the start). */
  takeHash(): number {
    this.#hashUp();
    const digest = this.#hash.digest();
    this.#hash.reset();
    return digest;
  }
}
