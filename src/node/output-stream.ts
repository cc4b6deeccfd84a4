// Streams to open descriptors that never block this thread. Node writes to a terminal and to a file on
// standard output synchronously: a terminal that takes nothing (Ctrl-S, a hung connection) would stop the
// VMM.
import { createWriteStream, fstatSync } from "node:fs";
import { Socket } from "node:net";
import type { Writable } from "node:stream";
import { isatty, WriteStream } from "node:tty";

/**
 * Lets a stream to a terminal write in the background: `drain` and `writableLength` tell how far it is. Pipes
 * and sockets do so anyway.
 */
export function unblock<T extends Writable & { readonly isTTY?: boolean }>(stream: T): T {
  // Not documented, but what packages that set the opposite rely on. Node has opened the terminal again, so
  // this is not the mode of other processes that use it.
  const { _handle: handle } = stream as { _handle?: { setBlocking?(on: boolean): unknown } };
  if (stream.isTTY === true) handle?.setBlocking?.(false);
  return stream;
}

/** Standard output as a stream that does not block. */
export function standardOutput(
  stdout: Writable & { readonly isTTY?: boolean; readonly fd?: number },
): Writable {
  if (stdout instanceof Socket || stdout.fd === undefined) return unblock(stdout);
  const file = createWriteStream("", { fd: stdout.fd, autoClose: false });
  return file.on("error", (error) => stdout.emit("error", error));
}

/** A stream to a descriptor, which it closes at its end. */
export function outputStream(fd: number): Writable {
  if (isatty(fd)) return unblock(new WriteStream(fd));
  const stats = fstatSync(fd);
  if (stats.isFIFO() || stats.isSocket()) return new Socket({ fd, readable: false, writable: true });
  return createWriteStream("", { fd });
}
