// The writing end of a stream: collects writes of 512 KiB, hashes the bytes, and limits the rate. Of two
// buffers, one is filled while the other is being written.
import { ByteWriter } from "../base/bytes.ts";
import { Xxh32 } from "../base/xxh32.ts";
import type { Channel } from "./channel.ts";
import { MigrationError } from "./migration-error.ts";

const BATCH_BYTES = 512 * 1024;
const ZEROS = new Uint8Array(4096);

/** Resolves when the rate limit permits bytes, to how many: at most those asked for, and at least one. */
export type Pace = (bytes: number) => Promise<number>;

/** Resolves when the rate limit permits all of `bytes`. */
export async function paceAll(pace: Pace, bytes: number): Promise<void> {
  for (let left = bytes; left > 0; ) left -= await pace(left);
}

/**
 * Writes a stream into a channel: the setters fill a batch; `drain` and `flush` wait until the channel has
 * accepted it. Big-endian.
 */
export class StreamWriter {
  readonly #channel: Channel;
  readonly #pace: Pace;
  #out = new ByteWriter(BATCH_BYTES + 8192);
  #spare = new ByteWriter(BATCH_BYTES + 8192);
  #flushed = 0;
  /** Bytes written by `writeAt`, minus bytes skipped. */
  #elsewhere = 0;
  #acknowledged = 0;
  readonly #hash = new Xxh32();
  #hashedTo = 0;
  #inFlight: Promise<void> = Promise.resolve();

  constructor(channel: Channel, pace: Pace = (bytes) => Promise.resolve(bytes)) {
    this.#channel = channel;
    this.#pace = pace;
  }

  /** Append here. Valid until the next `flush`. */
  get out(): ByteWriter {
    return this.#out;
  }
  /** Bytes appended so far: the stream offset of the next byte. */
  get offset(): number {
    return this.#flushed + this.#out.length;
  }
  /** File offset of the stream's first byte. */
  get base(): number {
    return this.#channel.base ?? 0;
  }
  /** Bytes handed to the channel or appended so far, by `write` and by `writeAt`. */
  get queuedBytes(): number {
    return this.offset + this.#elsewhere;
  }
  /** Bytes that the channel has accepted. */
  get acceptedBytes(): number {
    return this.#acknowledged;
  }
  /** True when a batch is full: call `flush`. */
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

  /** Hands the appended bytes to the channel, after it has accepted the batch before. */
  async flush(): Promise<void> {
    await this.#inFlight;
    const batch = this.#out;
    const { length } = batch;
    if (length === 0) return;
    // A low limit permits a batch in pieces: the reader must not take the source for one that has stopped.
    let at = 0;
    for (;;) {
      const piece = await this.#pace(length - at);
      if (at + piece >= length) break;
      await this.#channel.write(batch.view().subarray(at, at + piece));
      this.#acknowledged += piece;
      at += piece;
    }
    this.#hashUp();
    this.#hashedTo = 0;
    this.#flushed += length;
    this.#out = this.#spare;
    this.#out.reset();
    this.#spare = batch;
    this.#inFlight = this.#channel.write(batch.view().subarray(at)).then(() => {
      this.#acknowledged += length - at;
    });
    // The next flush reports a failure; until then it must not count as unhandled.
    this.#inFlight.catch(() => {});
  }

  /**
   * Continues at a stream offset, which is not before the current one. Writes zeros up to it, or skips if the
   * channel can.
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

  /** Files only: writes at any file offset immediately. Does not move the position of appended bytes. */
  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#inFlight;
    await paceAll(this.#pace, bytes.length);
    if (this.#channel.writeAt === undefined) {
      throw new MigrationError("migration.seek", "mapped-ram can only be written to a file");
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
