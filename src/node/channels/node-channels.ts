// Channels in Node: tcp:HOST:PORT and unix:PATH sockets, and files. A snapshot is written to a
// temporary file in the same directory and renamed once it is on the disk, so that an existing file survives
// any failure.
import { randomBytes } from "node:crypto";
import { constants, open, realpath, rename, stat, type FileHandle, unlink } from "node:fs/promises";
import { connect as netConnect, createServer, type Server, type Socket } from "node:net";
import { basename, dirname, join, resolve as resolvePath } from "node:path";
import { WherryError } from "../../base/errors.ts";
import { type Channel, ConnectError, type SnapshotSink } from "../../stream/channel.ts";
import { systemReason, listenReason, unixPathFault } from "./system-reason.ts";

export class ChannelError extends WherryError {}

export type ChannelAddress =
  | { readonly transport: "tcp"; readonly host: string; readonly port: number }
  | { readonly transport: "unix"; readonly path: string }
  | { readonly transport: "file"; readonly path: string };

export function formatAddress(address: ChannelAddress): string {
  if (address.transport !== "tcp") return `${address.transport}:${address.path}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `tcp:${host}:${address.port}`;
}

function refuseLongPath(path: string): void {
  const fault = unixPathFault(path);
  if (fault !== undefined) throw new ChannelError("channel.address", `unix:${path}: ${fault}`);
}

type SocketAddress = Exclude<ChannelAddress, { transport: "file" }>;

/** The socket is paused when this many bytes wait to be read. */
const READ_AHEAD_BYTES = 2 * 1024 * 1024;

/** A connected socket as a channel. */
export function socketChannel(socket: Socket): Channel {
  const chunks: Uint8Array[] = [];
  let buffered = 0;
  let ended = false;
  let failure: Error | undefined;
  let wake: (() => void) | undefined;
  const notify = () => {
    wake?.();
    wake = undefined;
  };
  const fail = (error: Error) => {
    failure ??= error;
    notify();
  };
  socket.setNoDelay?.(true);
  socket.setKeepAlive?.(true, 5000);
  socket.on("data", (chunk: Uint8Array) => {
    chunks.push(chunk);
    buffered += chunk.length;
    if (buffered >= READ_AHEAD_BYTES) socket.pause();
    notify();
  });
  socket.on("end", () => {
    ended = true;
    notify();
  });
  socket.on("error", fail);
  socket.on("close", () => fail(new ChannelError("channel.closed", "the connection is closed")));
  return {
    write: (bytes) =>
      new Promise((resolve, reject) => {
        if (failure !== undefined) {
          reject(failure);
          return;
        }
        // A socket that closes drops its queue without a callback.
        const closed = () =>
          reject(failure ?? new ChannelError("channel.closed", "the connection is closed"));
        socket.once("close", closed);
        socket.write(bytes, (error) => {
          socket.off("close", closed);
          if (error) reject(failure ?? error);
          else resolve();
        });
      }),
    async read(target) {
      for (;;) {
        const chunk = chunks[0];
        if (chunk !== undefined) {
          const n = Math.min(chunk.length, target.length);
          target.set(n === chunk.length ? chunk : chunk.subarray(0, n));
          if (n === chunk.length) chunks.shift();
          else chunks[0] = chunk.subarray(n);
          buffered -= n;
          if (socket.isPaused() && buffered < READ_AHEAD_BYTES / 2) socket.resume();
          return n;
        }
        if (ended) return 0;
        if (failure !== undefined) throw failure;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    close: () =>
      new Promise((resolve) => {
        if (failure !== undefined) resolve();
        else socket.end(resolve);
        socket.once("close", () => resolve());
      }),
    abort(reason) {
      failure ??= reason;
      chunks.length = 0;
      ended = false;
      socket.destroy();
      notify();
    },
  };
}

/** Connects; rejects with ConnectError. */
export function connectTo(address: SocketAddress, timeoutMs = 10_000): Promise<Channel> {
  return new Promise((resolve, reject) => {
    const name = formatAddress(address);
    if (address.transport === "unix") refuseLongPath(address.path);
    const socket =
      address.transport === "tcp"
        ? netConnect({ host: address.host, port: address.port, allowHalfOpen: true })
        : netConnect({ path: address.path, allowHalfOpen: true });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new ConnectError("unreachable", `${name}: no answer within ${timeoutMs} ms`));
    }, timeoutMs);
    const failed = (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const refused =
        error.code === "ECONNREFUSED" || (address.transport === "unix" && error.code === "ENOENT");
      const kind = refused ? "refused" : "unreachable";
      reject(
        new ConnectError(
          kind,
          `${name}: ${refused ? "no process listens there" : systemReason(error)}`,
          error,
        ),
      );
    };
    socket.once("error", failed);
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.off("error", failed);
      resolve(socketChannel(socket));
    });
  });
}

export interface Listener {
  /** The address it listens on, with the actual port. */
  readonly address: SocketAddress;
  /** Stops accepting. Connections stay open. */
  close(): Promise<void>;
  /** Lets the process exit while this is open. */
  unref(): void;
}

/** Listens; replaces a unix socket that a dead process left. Rejects with ChannelError. */
export async function listenAt(
  address: SocketAddress,
  onChannel: (channel: Channel) => void,
): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true }, (socket) => onChannel(socketChannel(socket)));
  const path = address.transport === "unix" ? address.path : undefined;
  const reason = (error: unknown) => listenReason(error, path);
  if (path !== undefined) {
    refuseLongPath(path);
    await removeStale(path);
  }
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) =>
      reject(
        new ChannelError("channel.listen", `cannot listen at ${formatAddress(address)}: ${reason(error)}`, {
          cause: error,
        }),
      ),
    );
    if (address.transport === "tcp") {
      server.listen(address.port, address.host, resolve);
      return;
    }
    // A client may place a machine here: the socket must be accessible to its owner only, from its creation
    // on.
    const mask = process.umask(0o177);
    server.listen(address.path, resolve);
    process.umask(mask);
  });
  return {
    address: address.transport === "tcp" ? { ...address, port: portOf(server) } : address,
    // Node would call back only after the last connection has ended.
    close: async () => void server.close(),
    unref: () => server.unref(),
  };
}

function portOf(server: Server): number {
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

async function removeStale(path: string): Promise<void> {
  try {
    const channel = await connectTo({ transport: "unix", path }, 1000);
    channel.abort(new Error("probe only"));
  } catch (error) {
    if (error instanceof ConnectError && error.code === "channel.refused") await unlink(path).catch(() => {});
  }
}

const FILE_READ_BYTES = 512 * 1024;

/** Reads a file from `offset`, one piece ahead of the reader. Call `close` when done. */
export async function openFileSource(path: string, offset = 0): Promise<Channel> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    throw new ChannelError("channel.file", `cannot open ${path}: ${systemReason(error)}`, { cause: error });
  }
  const stats = await file.stat();
  if (stats.isDirectory()) {
    await file.close();
    throw new ChannelError("channel.file", `${path} is a directory, expected a saved machine`);
  }
  // A pipe has no positions.
  const isSeekable = stats.isFile();
  if (!isSeekable && offset !== 0) {
    await file.close();
    throw new ChannelError("channel.file", `${path} is not a file: only a file has an offset ${offset}`);
  }
  /** File position after the bytes requested so far. */
  let position = offset;
  const readInto = (buffer: Uint8Array) => {
    const reading = file.read(buffer, 0, buffer.length, isSeekable ? position : null);
    position += buffer.length;
    reading.catch(() => {});
    return reading;
  };
  let spare = new Uint8Array(FILE_READ_BYTES);
  let current = new Uint8Array(FILE_READ_BYTES);
  let at = 0;
  let end = 0;
  let ahead: ReturnType<typeof readInto> | undefined;
  const skip = async (bytes: number) => {
    const n = Math.min(bytes, end - at);
    at += n;
    if (n === bytes) return;
    if (ahead !== undefined) {
      // Back to the start of the read-ahead.
      position -= spare.length;
      await ahead.catch(() => {});
      ahead = undefined;
    }
    position += bytes - n;
  };
  const { write, close, abort } = fileChannel(file, path);
  return {
    base: offset,
    write,
    close,
    abort,
    async read(target) {
      if (at === end) {
        try {
          const { bytesRead } = await (ahead ?? readInto(spare));
          [current, spare] = [spare, current];
          at = 0;
          end = bytesRead;
          position += bytesRead - current.length;
          ahead = bytesRead === 0 ? undefined : readInto(spare);
        } catch (error) {
          throw fileError("read", path, error);
        }
      }
      const n = Math.min(target.length, end - at);
      target.set(current.subarray(at, at + n));
      at += n;
      return n;
    },
    ...(isSeekable ? { skip } : {}),
  };
}

/**
 * Writes to a temporary file in the directory of `path`; `commit` makes it durable and renames it to `path`.
 */
export async function openFileSink(path: string): Promise<SnapshotSink> {
  await refuseToReplace(path);
  // For a symbolic link, the target is replaced, not the link.
  const place = await realpath(path).catch(() => resolvePath(path));
  const temporary = join(dirname(place), `.${basename(place)}.${randomBytes(6).toString("hex")}.tmp`);
  let file: FileHandle;
  try {
    file = await open(temporary, "wx", 0o600);
  } catch (error) {
    throw new ChannelError("channel.file", `cannot create ${path}: ${systemReason(error)}`, {
      cause: error,
    });
  }
  const channel = fileChannel(file, temporary);
  return {
    channel,
    async commit() {
      try {
        await file.sync();
        await file.close();
        await rename(temporary, place);
        await syncDirectory(dirname(place));
      } catch (error) {
        throw fileError("complete", path, error);
      }
    },
    async discard() {
      await file.close().catch(() => {});
      await unlink(temporary).catch(() => {});
    },
  };
}

/** A machine is saved only to a regular or new file: a device or pipe is not replaced. */
async function refuseToReplace(path: string): Promise<void> {
  const there = path === "" ? undefined : await stat(path).catch(() => undefined);
  if (path !== "" && (there === undefined || there.isFile())) return;
  const what =
    path === ""
      ? "an empty name: name a file"
      : there?.isDirectory()
        ? `${path}, which is a directory: name a file`
        : `${path}, which is not a regular file: name one, or migrate to "exec:cat > ${path}"`;
  throw new ChannelError("channel.file", `cannot save to ${what}`);
}

/** Writes to a file from `offset` on and keeps what is before it. Creates a missing file. */
export async function openFileSinkAt(path: string, offset: number): Promise<SnapshotSink> {
  await refuseToReplace(path);
  let file: FileHandle;
  try {
    file = await open(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
  } catch (error) {
    throw new ChannelError("channel.file", `cannot open ${path}: ${systemReason(error)}`, { cause: error });
  }
  return {
    channel: fileChannel(file, path, offset),
    async commit() {
      try {
        await file.sync();
        await file.close();
      } catch (error) {
        throw fileError("complete", path, error);
      }
    },
    discard: () => file.close().catch(() => {}),
  };
}

/** Makes a rename durable. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function fileError(what: string, path: string, error: unknown): ChannelError {
  const code = (error as NodeJS.ErrnoException).code;
  const isFull = code === "ENOSPC" || code === "EDQUOT";
  const why = isFull ? `${code}, the disk is full; free some space or choose another` : systemReason(error);
  return new ChannelError("channel.file", `cannot ${what} ${path}: ${why}`, { cause: error });
}

function fileChannel(file: FileHandle, path: string, offset = 0): Channel {
  let failure: Error | undefined;
  let position = offset;
  const writeAll = async (place: number, bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length; ) {
      if (failure !== undefined) throw failure;
      try {
        const { bytesWritten } = await file.write(bytes, at, bytes.length - at, place + at);
        at += bytesWritten;
      } catch (error) {
        throw fileError("write", path, error);
      }
    }
  };
  return {
    async write(bytes) {
      await writeAll(position, bytes);
      position += bytes.length;
    },
    base: offset,
    async skip(bytes) {
      position += bytes;
    },
    writeAt: (place, bytes) => writeAll(offset + place, bytes),
    read: async () => 0,
    close: () => file.close(),
    abort(reason) {
      failure ??= reason;
      file.close().catch(() => {});
    },
  };
}
