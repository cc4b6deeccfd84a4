// The guest's serial console on this host: the terminal, a file, a socket, or nothing.
import { createWriteStream } from "node:fs";
import type { Socket } from "node:net";
import { CharPipe } from "../../devices/char-backend.ts";
import { systemReason } from "../../node/system-reason.ts";
import { listen } from "../../node/socket-server.ts";
import { openTerminal } from "../../node/terminal.ts";
import { CliError } from "../output/cli-error.ts";
import type { SerialSpec } from "../options/option-values.ts";

export interface Console {
  readonly backend: CharPipe;
  /** Ends it: restores the terminal, completes the file, or removes the socket. */
  close(): Promise<void>;
}

/** Above this many unread bytes, we stop reading the input until the guest has caught up. */
const MAX_PENDING_INPUT = 4096;
/** A client of a console socket with more unread bytes than this is disconnected. */
const MAX_UNREAD_BYTES = 8 << 20;

/** Opens it. `onQuit` is called for Ctrl-A x. Rejects with CliError or SocketServerError. */
export async function openConsole(spec: SerialSpec, onQuit: () => void): Promise<Console> {
  switch (spec.kind) {
    case "none":
      return { backend: new CharPipe(() => {}), close: async () => {} };
    case "stdio":
      return terminalConsole(onQuit);
    case "file":
      return fileConsole(spec.path);
    case "socket":
      return socketConsole(spec.address);
  }
}

/**
 * A guest prints byte by byte, and a write on the host costs more than one in the guest: bytes are collected.
 */
const BATCH_BYTES = 4096;

interface Batch {
  write(bytes: Uint8Array): void;
  /** Writes the collected bytes in this turn of the event loop; otherwise that happens automatically. */
  flush(): void;
}

/** Collects the bytes written within one turn of the event loop. The sink may keep them. */
function batched(sink: (bytes: Uint8Array) => void): Batch {
  let pending = new Uint8Array(BATCH_BYTES);
  let used = 0;
  const flush = () => {
    if (used === 0) return;
    const whole = pending.subarray(0, used);
    pending = new Uint8Array(BATCH_BYTES);
    used = 0;
    sink(whole);
  };
  return {
    flush,
    write(bytes) {
      for (let rest = bytes; rest.length > 0; ) {
        if (used === 0) setImmediate(flush);
        const part = rest.subarray(0, BATCH_BYTES - used);
        pending.set(part, used);
        used += part.length;
        rest = rest.subarray(part.length);
        if (used === BATCH_BYTES) flush();
      }
    },
  };
}

function terminalConsole(onQuit: () => void): Console {
  const output = batched((bytes) => terminal.write(bytes));
  const backend = new CharPipe(output.write);
  const terminal = openTerminal({
    input: (bytes) => {
      backend.push(bytes);
      if (backend.pending > MAX_PENDING_INPUT) terminal.pauseInput();
    },
    quit: onQuit,
    // The end of a pipe means no more input; the guest keeps running.
    end: () => {},
  });
  backend.onDrained(() => terminal.resumeInput());
  const close = async () => {
    output.flush();
    terminal.restore();
  };
  return { backend, close };
}

async function fileConsole(path: string): Promise<Console> {
  const file = createWriteStream(path);
  await new Promise<void>((resolve, reject) => {
    file.once("open", () => resolve());
    file.once("error", (cause) =>
      reject(new CliError(`--serial file:${path}: ${systemReason(cause)}`, { cause })),
    );
  });
  file.on("error", (error) =>
    process.stderr.write(`wherry: --serial file:${path}: ${systemReason(error)}\n`),
  );
  const output = batched((bytes) => void file.write(bytes));
  const close = () => {
    output.flush();
    return new Promise<void>((resolve) => file.end(() => resolve()));
  };
  return { backend: new CharPipe(output.write), close };
}

async function socketConsole(address: Extract<SerialSpec, { kind: "socket" }>["address"]): Promise<Console> {
  const clients = new Set<Socket>();
  const output = batched((bytes) => {
    for (const socket of clients) {
      socket.write(bytes);
      if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
    }
  });
  const backend = new CharPipe(output.write);
  backend.onDrained(() => {
    for (const socket of clients) socket.resume();
  });
  const server = await listen(address, (socket) => {
    clients.add(socket);
    socket.on("close", () => clients.delete(socket));
    socket.on("data", (bytes: Buffer) => {
      backend.push(bytes);
      if (backend.pending > MAX_PENDING_INPUT) socket.pause();
    });
  });
  const close = () => {
    output.flush();
    return server.close();
  };
  return { backend, close };
}
