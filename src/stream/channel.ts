// The byte channel under every stream. Platforms implement it: sockets and files in src/node, message ports
// in a browser. At most one read and one write are pending at a time.
import { WherryError } from "../base/errors.ts";

/**
 * A byte channel that a stream goes through. At most one read and one write are under way at a time. Errors
 * reject.
 */
export interface Channel {
  /** Resolves once the bytes have been taken (back-pressure); until then they must not change. */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Fills the start of `target` with at least one byte; the number of bytes, or 0 at the end of the stream.
   */
  read(target: Uint8Array): Promise<number>;
  /** Of files: where in it the stream begins (default 0). mapped-ram counts from the file's start. */
  readonly base?: number;
  /**
   * Of files: goes forward without reading the bytes, or leaves them to be zeros where the channel is
   * written.
   */
  skip?(bytes: number): Promise<void>;
  /**
   * For files: writes bytes at any offset; `write` continues at its own position. One write of either kind at
   * a time.
   */
  writeAt?(offset: number, bytes: Uint8Array): Promise<void>;
  /** Ends our direction in an orderly way, after what was written; the peer reads to the end. */
  close(): Promise<void>;
  /** Drops the connection now. Reads and writes under way reject with `reason`, and so do later ones. */
  abort(reason: Error): void;
}

/** Reads from a file, writes of a snapshot: a channel whose bytes count only after `commit`. */
export interface SnapshotSink {
  readonly channel: Channel;
  /** Makes the file durable and puts it in its place. */
  commit(): Promise<void>;
  /** Removes what was written; what was at that place before is untouched. Never throws. */
  discard(): Promise<void>;
}

/**
 * Why no connection came about. Neither kind says what became of the peer: a refusal may come from a relay
 * that has died, or from a firewall.
 */
export class ConnectError extends WherryError {
  constructor(kind: "refused" | "unreachable", message: string, cause?: unknown) {
    super(`channel.${kind}`, message, { cause });
  }
}
