// The byte channel under every stream. Platforms implement it: sockets and files in src/node, message ports
// in a browser. At most one read and one write are pending at a time.
import { WherryError } from "../base/errors.ts";

/** The byte channel under a stream. At most one read and one write are pending at a time. Errors reject. */
export interface Channel {
  /**
   * Resolves once the channel has accepted the bytes (back-pressure). The caller must not change them before.
   */
  write(bytes: Uint8Array): Promise<void>;
  /**
   * Fills the start of `target` with at least one byte. Resolves to the number of bytes, 0 at the end of the
   * stream.
   */
  read(target: Uint8Array): Promise<number>;
  /**
   * Files only: the file offset of the stream's first byte (default 0). mapped-ram counts from the file's
   * start.
   */
  readonly base?: number;
  /** Files only: advances by `bytes` without reading them; in a file being written they stay zero. */
  skip?(bytes: number): Promise<void>;
  /**
   * Files only: writes at any file offset. Does not move the position of `write`. At most one write of either
   * kind is pending.
   */
  writeAt?(offset: number, bytes: Uint8Array): Promise<void>;
  /** Ends the writing direction after all earlier writes. The peer can read to the end. */
  close(): Promise<void>;
  /** Closes the connection immediately. Pending and later reads and writes reject with `reason`. */
  abort(reason: Error): void;
}

/** The file of a snapshot that is being written. Its bytes count only after `commit`. */
export interface SnapshotSink {
  readonly channel: Channel;
  /** Makes the file durable and moves it to its final name. */
  commit(): Promise<void>;
  /** Removes the written bytes. A file that already had the final name stays unchanged. Never throws. */
  discard(): Promise<void>;
}

/**
 * A connection attempt that failed. Neither kind tells the state of the peer: a refusal may come from a dead
 * relay or from a firewall.
 */
export class ConnectError extends WherryError {
  constructor(kind: "refused" | "unreachable", message: string, cause?: unknown) {
    super(`channel.${kind}`, message, { cause });
  }
}
