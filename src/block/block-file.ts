// What a disk image is stored in: a file of the host, memory, an object behind HTTP. All offsets and lengths
// are in bytes.
import { WherryError } from "../base/errors.ts";

/** A disk image, or the file that holds it, cannot be used or is damaged. */
export class BlockError extends WherryError {}

/** Bytes at offsets. Calls may overlap in time; those to disjoint ranges do not affect each other. */
export interface BlockFile {
  /** For messages. */
  readonly name: string;
  /** The length, including all writes that have begun. */
  readonly size: number;
  readonly readonly: boolean;
  /** Fills `target` with what is there; bytes beyond the end are zero. Rejects on an I/O error. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Resolves when later reads see the data. Extends the file; a gap reads as zeros. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** As `read`, before it returns. False if that might take long, or fails: then `read` does it. */
  readNow?(offset: number, target: Uint8Array): boolean;
  /** As `write`, before it returns, within the file. False as for `readNow`. */
  writeNow?(offset: number, data: Uint8Array): boolean;
  /** Makes all writes durable that resolved before this call. */
  flush(): Promise<void>;
  truncate(size: number): Promise<void>;
  /** The range reads as zeros afterwards, and takes no space. Resolves with false if that cannot be had. */
  punch?(offset: number, length: number): Promise<boolean>;
  /** The range reads as zeros afterwards, and its space stays reserved. As `punch` otherwise. */
  zero?(offset: number, length: number): Promise<boolean>;
  close(): Promise<void>;
}

const PIECE = 1 << 14;

/** A file in memory: pieces of 16 KiB that exist once they are written. */
export class MemoryFile implements BlockFile {
  readonly name: string;
  readonly readonly: boolean = false;
  readonly #pieces = new Map<number, Uint8Array>();
  /** What there was at the start, where no piece is. */
  #initial: Uint8Array;
  #size: number;

  /** `bytes`, which must not change any more, are not copied. */
  constructor(name = "memory", bytes: Uint8Array = new Uint8Array(0)) {
    this.name = name;
    this.#initial = bytes;
    this.#size = bytes.length;
  }

  get size(): number {
    return this.#size;
  }

  /** Bytes that are held. */
  get heldBytes(): number {
    return this.#initial.length + this.#pieces.size * PIECE;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const at = (offset + done) % PIECE;
      const part = target.subarray(done, done + PIECE - at);
      const piece = this.#pieces.get((offset + done - at) / PIECE);
      if (piece === undefined) this.#readInitial(offset + done, part);
      else part.set(piece.subarray(at, at + part.length));
      done += part.length;
    }
  }

  #readInitial(offset: number, target: Uint8Array): void {
    const found = this.#initial.subarray(offset, offset + target.length);
    target.set(found);
    target.fill(0, found.length);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#put(offset, data);
  }

  #put(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      const at = (offset + done) % PIECE;
      const part = data.subarray(done, done + PIECE - at);
      const index = (offset + done - at) / PIECE;
      let piece = this.#pieces.get(index);
      if (piece === undefined) {
        this.#pieces.set(index, (piece = new Uint8Array(PIECE)));
        if (part.length < PIECE) this.#readInitial(index * PIECE, piece);
      }
      piece.set(part, at);
      done += part.length;
    }
    this.#size = Math.max(this.#size, offset + data.length);
  }

  async flush(): Promise<void> {}

  async punch(offset: number, length: number): Promise<boolean> {
    const limit = Math.min(offset + length, this.#size);
    for (let at = offset; at < limit; ) {
      const piece = Math.floor(at / PIECE);
      const end = Math.min(limit, (piece + 1) * PIECE);
      if (this.#pieces.has(piece) || at < this.#initial.length) this.#put(at, new Uint8Array(end - at));
      at = end;
    }
    return true;
  }

  async truncate(size: number): Promise<void> {
    if (size < this.#size) {
      this.#initial = this.#initial.subarray(0, size);
      for (const [index, piece] of this.#pieces) {
        if (index * PIECE >= size) this.#pieces.delete(index);
        else if ((index + 1) * PIECE > size) piece.fill(0, size - index * PIECE);
      }
    }
    this.#size = size;
  }

  async close(): Promise<void> {}
}
