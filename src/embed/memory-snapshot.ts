// Snapshots in memory: a sink that collects its bytes, and a channel that reads from pieces.
import type { Channel, SnapshotSink } from "../stream/channel.ts";
import { MigrationError } from "../stream/migration-error.ts";

function readOnly(): never {
  throw new MigrationError("migration.channel", "this channel is read-only");
}

/** Keeps the bytes written until the commit; then `bytes` returns them. */
export class MemorySink implements SnapshotSink {
  #chunks: Uint8Array<ArrayBuffer>[] = [];
  #failure: Error | undefined;

  readonly channel: Channel = {
    write: async (bytes) => {
      if (this.#failure !== undefined) throw this.#failure;
      this.#chunks.push(bytes.slice());
    },
    read: async () => 0,
    close: async () => {},
    abort: (reason) => {
      this.#failure ??= reason;
    },
  };

  async commit(): Promise<void> {}
  async discard(): Promise<void> {
    this.#chunks = [];
  }

  /** The pieces of the snapshot in order. */
  get chunks(): readonly Uint8Array<ArrayBuffer>[] {
    return this.#chunks;
  }
}

/** A read-only channel over the pieces of an iterator (a web stream, a list). */
export function pieceChannel(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Channel {
  const pieces = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let piece = new Uint8Array(0) as Uint8Array;
  let failure: Error | undefined;
  return {
    async read(target) {
      for (;;) {
        if (failure !== undefined) throw failure;
        if (piece.length > 0) break;
        const next = await pieces.next();
        if (next.done === true) return 0;
        piece = next.value;
      }
      const taken = piece.subarray(0, target.length);
      target.set(taken);
      piece = piece.subarray(taken.length);
      return taken.length;
    },
    write: async () => readOnly(),
    close: async () => void (await pieces.return?.()),
    abort(reason) {
      failure ??= reason;
      void pieces.return?.();
    },
  };
}
