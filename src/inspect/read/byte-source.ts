// The source of a stream's bytes: a file or an array with random access, or a pipe, which is read forwards
// only.

/** The source of a stream: a file, a pipe, bytes. */
export interface ByteSource {
  /** Length in bytes; undefined for a pipe, which is read at consecutive offsets only. */
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

/**
 * A stream that arrives in pieces, such as a pipe or the body of a response. Nothing else may read `pieces`.
 */
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
