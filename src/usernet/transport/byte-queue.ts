// A queue of bytes that is read at any offset, as a TCP sender reads for the first time or again.

/** Pieces below this size are copied together, so that a queue of small pieces costs little more memory. */
const SMALL = 4096;

export class ByteQueue {
  readonly #pieces: Uint8Array[] = [];
  /** Bytes of the first piece that were dropped. */
  #skip = 0;
  /** Bytes in use of the last piece, if it is ours to append to. */
  #filled: number | undefined;
  #length = 0;
  /** Where the last read ended: a piece, and the offset of its first byte. */
  #cursor = 0;
  #cursorAt = 0;

  get length(): number {
    return this.#length;
  }

  /** Takes bytes, which nobody changes any more. */
  push(bytes: Uint8Array): void {
    this.#length += bytes.length;
    let rest = bytes;
    if (this.#filled !== undefined) {
      const last = this.#pieces.at(-1)!;
      const n = Math.min(rest.length, last.length - this.#filled);
      last.set(rest.subarray(0, n), this.#filled);
      this.#filled += n;
      rest = rest.subarray(n);
      if (rest.length === 0) return;
      // What is behind the filled part is never read.
      this.#filled = undefined;
    }
    if (rest.length >= SMALL) return void this.#pieces.push(rest);
    const piece = new Uint8Array(SMALL);
    piece.set(rest);
    this.#filled = rest.length;
    this.#pieces.push(piece);
  }

  /** Drops the first `count` bytes. */
  drop(count: number): void {
    this.#length -= count;
    this.#skip += count;
    let gone = 0;
    while (gone < this.#pieces.length - (this.#filled === undefined ? 0 : 1)) {
      const { length } = this.#pieces[gone]!;
      if (this.#skip < length) break;
      this.#skip -= length;
      gone++;
    }
    if (this.#length === 0) {
      gone = this.#pieces.length;
      this.#skip = 0;
      this.#filled = undefined;
    }
    if (gone > 0) this.#pieces.splice(0, gone);
    this.#cursor = 0;
    this.#cursorAt = -this.#skip;
  }

  /** Copies [offset, offset + length) into `target` at `at`; the range is in the queue. */
  copy(offset: number, length: number, target: Uint8Array, at: number): void {
    if (offset < this.#cursorAt) {
      this.#cursor = 0;
      this.#cursorAt = -this.#skip;
    }
    let done = 0;
    while (done < length) {
      const piece = this.#pieces[this.#cursor]!;
      const from = offset + done - this.#cursorAt;
      if (from >= piece.length) {
        this.#cursorAt += piece.length;
        this.#cursor++;
        continue;
      }
      const n = Math.min(length - done, piece.length - from);
      target.set(piece.subarray(from, from + n), at + done);
      done += n;
    }
  }
}
