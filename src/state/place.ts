// The current position in a state, and the error that reports it. Input may be hostile: every fault in it
// becomes a StateError with section.path, offset, expected and found value.
import type { ByteReader } from "../base/bytes.ts";
import { WherryError } from "../base/errors.ts";

/**
 * `path` is section.field[index].field; `offset` is in bytes from the reader's start, undefined if no bytes
 * are read.
 */
export class StateError extends WherryError {
  readonly path: string;
  readonly offset: number | undefined;
  readonly expected: string;
  readonly found: string;

  constructor(code: string, path: string, offset: number | undefined, expected: string, found: string) {
    const where = offset === undefined ? path : `${path} at offset ${offset}`;
    super(code, `${where}: expected ${expected}, found ${found}`);
    this.path = path;
    this.offset = offset;
    this.expected = expected;
    this.found = found;
  }
}

/** The walker's position. `index` is the current element, or -1. */
export class Place {
  path: string;
  index = -1;
  offset: number | undefined;
  /** Checks that need other fields run after all fields have been read. */
  readonly deferred: (() => void)[] = [];

  constructor(path: string) {
    this.path = path;
  }

  get fullPath(): string {
    return this.index < 0 ? this.path : `${this.path}[${this.index}]`;
  }

  /** Records the start of the next value. */
  at(reader: ByteReader): void {
    this.offset = reader.offset;
  }

  fail(code: string, expected: string, found: string): never {
    throw new StateError(code, this.fullPath, this.offset, expected, found);
  }
}
