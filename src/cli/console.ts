// The guest's serial console on this host: the terminal, a file, a socket that is served, or nothing.
import { createWriteStream } from "node:fs";
import type { Socket } from "node:net";
import { CharPipe } from "../devices/char-backend.ts";
import { listen } from "../node/socket-server.ts";
import { openTerminal } from "../node/terminal.ts";
import { CliError } from "./cli-error.ts";
import type { SerialSpec } from "./option-values.ts";

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

function terminalConsole(onQuit: () => void): Console {
  const backend = new CharPipe((bytes) => terminal.write(bytes.slice()));
  const terminal = openTerminal({
    input: (bytes) => backend.push(bytes),
    quit: onQuit,
    // A pipe that has ended is only no more input; the guest runs on.
    end: () => {},
  });
  return { backend, close: async () => terminal.restore() };
}

async function fileConsole(path: string): Promise<Console> {
  const file = createWriteStream(path);
  await new Promise<void>((resolve, reject) => {
    file.once("open", () => resolve());
    file.once("error", (cause) => reject(new CliError(`--serial file:${path}: ${cause.message}`, { cause })));
  });
  file.on("error", (error) => process.stderr.write(`wherry: --serial file:${path}: ${error.message}\n`));
  const backend = new CharPipe((bytes) => void file.write(bytes.slice()));
  return { backend, close: () => new Promise((resolve) => file.end(() => resolve())) };
}

async function socketConsole(address: Extract<SerialSpec, { kind: "socket" }>["address"]): Promise<Console> {
  const clients = new Set<Socket>();
  const backend = new CharPipe((bytes) => {
    const copy = bytes.slice();
    for (const socket of clients) {
      socket.write(copy);
      if (socket.writableLength > MAX_UNREAD_BYTES) socket.destroy();
    }
  });
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
  return { backend, close: () => server.close() };
}
