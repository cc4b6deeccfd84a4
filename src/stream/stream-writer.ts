// The writing end of a stream: collects writes of 512 KiB, hashes the bytes, and limits the rate. Of two
// buffers, one is filled while the other is being written.
import { ByteWriter } from "../base/bytes.ts";
import { Xxh32 } from "../base/xxh32.ts";
import type { Channel } from "./channel.ts";
import { MigrationError } from "./migration-error.ts";

const BATCH_BYTES = 512 * 1024;
const ZEROS = new Uint8Array(4096);

/**
 * Writes a stream into a channel: the setters fill a batch, `drain` and `flush` wait until the channel has
 * taken it. Big-endian.
 */
export class StreamWriter {
  readonly #channel: Channel;
  /** Waits until `bytes` more may be sent. */
  readonly #pace: (bytes: number) => Promise<void>;
  #out = new ByteWriter(BATCH_BYTES + 8192);
  #spare = new ByteWriter(BATCH_BYTES + 8192);
  #flushed = 0;
  /** Bytes written at other places, less those skipped. */
  #elsewhere = 0;
  #acknowledged = 0;
  readonly #hash = new Xxh32();
  #hashedTo = 0;
  #inFlight: Promise<void> = Promise.resolve();

  constructor(channel: Channel, pace: (bytes: number) => Promise<void> = () => Promise.resolve()) {
    this.#channel = channel;
    this.#pace = pace;
  }

  /** Where to append. Valid until the next `flush`. */
  get out(): ByteWriter {
    return this.#out;
  }
  /** Bytes appended so far: the stream offset of the next byte. */
  get offset(): number {
    return this.#flushed + this.#out.length;
  }
  /** Where in its file the stream begins. */
  get base(): number {
    return this.#channel.base ?? 0;
  }
  /** Bytes handed over so far to be written, wherever in the file. */
  get handed(): number {
    return this.offset + this.#elsewhere;
  }
  /** Bytes that the channel has taken. */
  get taken(): number {
    return this.#acknowledged;
  }
  /** True when there is enough for a write: time to `await flush()`. */
  get full(): boolean {
    return this.#out.length >= BATCH_BYTES;
  }

  #hashUp(): void {
    this.#hash.update(this.#out.view(), this.#hashedTo, this.#out.length);
    this.#hashedTo = this.#out.length;
  }

  /** XXH32 of all bytes appended since the last call (or the start). */
  takeHash(): number {
    this.#hashUp();
    const digest = this.#hash.digest();
    this.#hash.reset();
    return digest;
  }

  /** Hands what was appended to the channel, after the write before has been taken. */
  async flush(): Promise<void> {
    await this.#inFlight;
    const batch = this.#out;
    const { length } = batch;
    if (length === 0) return;
    await this.#pace(length);
    this.#hashUp();
    this.#hashedTo = 0;
    this.#flushed += length;
    this.#out = this.#spare;
    this.#out.reset();
    this.#spare = batch;
    this.#inFlight = this.#channel.write(batch.view()).then(() => {
      this.#acknowledged += length;
    });
    // A failure is reported by the next flush; it is not unhandled until then.
    this.#inFlight.catch(() => {});
  }

  /**
   * The next byte goes to a stream offset that is not behind: zeros are between, or nothing if the channel
   * can skip.
   */
  async skipTo(offset: number): Promise<void> {
    const bytes = offset - this.offset;
    if (bytes === 0) return;
    if (this.#channel.skip === undefined || bytes < BATCH_BYTES) {
      for (let left = bytes; left > 0; ) {
        const piece = Math.min(left, ZEROS.length);
        this.#out.bytes(ZEROS.subarray(0, piece));
        left -= piece;
        if (this.full) await this.flush();
      }
      return;
    }
    await this.drain();
    await this.#channel.skip(bytes);
    this.#flushed += bytes;
    this.#elsewhere -= bytes;
  }

  /** Files only: writes bytes at any offset at once; appending continues at its own position. */
  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#inFlight;
    await this.#pace(bytes.length);
    if (this.#channel.writeAt === undefined) {
      throw new MigrationError(
        "migration.seek",
        "pages at their places (mapped-ram) need a file to write to",
      );
    }
    await this.#channel.writeAt(offset, bytes);
    this.#elsewhere += bytes.length;
    this.#acknowledged += bytes.length;
  }

  /** Flushes and waits until the channel has taken everything. */
  async drain(): Promise<void> {
    await this.flush();
    await this.#inFlight;
  }
}
