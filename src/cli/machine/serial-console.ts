// The guest's serial console on this host: the terminal, a file, a socket that is served, or nothing.
import { createWriteStream } from "node:fs";
import type { Socket } from "node:net";
import { CharPipe } from "../../devices/char-backend.ts";
import { hostReason } from "../../node/host-reason.ts";
import { listen } from "../../node/socket-server.ts";
import { openTerminal } from "../../node/terminal.ts";
import { CliError } from "../output/cli-error.ts";
import type { SerialSpec } from "../options/option-values.ts";

export interface Console {
  readonly backend: CharPipe;
  /** Ends it: the terminal is put back, the file is complete, the socket is gone. */
  close(): Promise<void>;
}

/** Input that the guest has not taken: above this we stop reading its source until the guest has caught up. */
const MAX_PENDING_INPUT = 4096;
/** A client of a console socket that does not read for this long a text is dropped. */
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

/** A guest prints byte by byte, and a host's write costs more than the guest's: these are joined. */
const BATCH_BYTES = 4096;

interface Batch {
  write(bytes: Uint8Array): void;
  /** Hands over what has come so far, in this turn of the event loop; after it that happens by itself. */
  flush(): void;
}

/** Joins what is written within one turn of the event loop. The sink may keep the bytes. */
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
    // A pipe that has ended is only no more input; the guest runs on.
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
      reject(new CliError(`--serial file:${path}: ${hostReason(cause)}`, { cause })),
    );
  });
  file.on("error", (error) => process.stderr.write(`wherry: --serial file:${path}: ${hostReason(error)}\n`));
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
