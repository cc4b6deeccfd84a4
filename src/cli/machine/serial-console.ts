// The guest's serial console on this host: the terminal, a file, a socket, or nothing. Output that its
// readers have not taken stays with the guest, above a limit; input that the guest has not read stays with
// the host.
import { constants, open } from "node:fs";
import type { Socket } from "node:net";
import type { Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { CharPipe, MAX_UNREAD_OUTPUT } from "../../devices/char-backend.ts";
import { outputStream } from "../../node/output-stream.ts";
import { systemReason } from "../../node/channels/system-reason.ts";
import { listen } from "../../node/channels/socket-server.ts";
import { openTerminal } from "../../node/terminal.ts";
import { CliError } from "../output/cli-error.ts";
import type { SerialSpec } from "../options/option-values.ts";

export interface Console {
  readonly backend: CharPipe;
  /** Ends it: completes the output, restores the terminal, closes the file, or removes the socket. */
  close(): Promise<void>;
}

export interface ConsoleOptions {
  /** Its name in messages. */
  readonly option: "--serial" | "--console";
  readonly spec: SerialSpec;
  /** Ctrl-A x. */
  readonly onQuit: () => void;
  /** Guest time must not depend on the readers (--icount): much more may be unread. */
  readonly isPatient: boolean;
}

/** Above this many unread bytes, we stop reading the input until the guest has caught up. */
const MAX_PENDING_INPUT = 4096;
/** The same for what is typed or pasted at a terminal, which is also where Ctrl-A x comes from. */
const MAX_PENDING_KEYS = 1 << 20;
const MAX_UNREAD_ICOUNT = 8 << 20;
/** At the end, output is given up once no reader has taken any for this long. */
const LINGER_MS = 1000;
/**
 * A guest prints byte by byte, and a write on the host costs more than one in the guest: bytes are collected.
 */
const BATCH_BYTES = 4096;

/** Opens it. Rejects with CliError or SocketServerError. */
export async function openConsole(options: ConsoleOptions): Promise<Console> {
  const { option, spec, onQuit, isPatient } = options;
  const output = new Output(isPatient ? MAX_UNREAD_ICOUNT : MAX_UNREAD_OUTPUT);
  switch (spec.kind) {
    case "none":
      return output;
    case "stdio":
      return terminalConsole(output, onQuit);
    case "file":
      return fileConsole(output, option, spec.path);
    case "socket":
      return socketConsole(output, spec.address);
  }
}

/**
 * The guest's output to any number of streams, at the pace of the slowest. The bytes written within one turn
 * of the event loop are collected.
 */
class Output implements Console {
  readonly backend = new CharPipe((bytes) => this.#collect(bytes));
  readonly #limit: number;
  readonly #streams = new Set<Writable>();
  #batch = new Uint8Array(BATCH_BYTES);
  #used = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(stream: Writable): void {
    const remove = (): void => {
      this.#streams.delete(stream);
      this.#look();
    };
    this.#streams.add(stream);
    stream
      .on("drain", () => this.#look())
      .on("error", remove)
      .on("close", remove);
  }

  #collect(bytes: Uint8Array): void {
    for (let rest = bytes; rest.length > 0; ) {
      if (this.#used === 0) setImmediate(() => this.#flush());
      const part = rest.subarray(0, BATCH_BYTES - this.#used);
      this.#batch.set(part, this.#used);
      this.#used += part.length;
      rest = rest.subarray(part.length);
      if (this.#used === BATCH_BYTES) this.#flush();
    }
  }

  #flush(): void {
    if (this.#used === 0) return;
    const whole = this.#batch.subarray(0, this.#used);
    this.#batch = new Uint8Array(BATCH_BYTES);
    this.#used = 0;
    for (const stream of this.#streams) stream.write(whole);
    this.#look();
  }

  #look(): void {
    this.backend.writable = [...this.#streams].every((stream) => stream.writableLength < this.#limit);
  }

  get #unread(): number {
    return Math.max(0, ...[...this.#streams].map((stream) => stream.writableLength));
  }

  /** Resolves when the readers have everything, or have stopped reading. */
  async close(): Promise<void> {
    this.#flush();
    for (let last = this.#unread, since = performance.now(); last > 0; await sleep(5)) {
      const unread = this.#unread;
      if (unread !== last) since = performance.now();
      else if (performance.now() - since > LINGER_MS) break;
      last = unread;
    }
    const lost = this.#unread;
    if (lost > 0) {
      process.stderr.write(
        `wherry: nobody reads the console: the last ${lost} bytes of the guest's output are lost\n`,
      );
    }
  }
}

function terminalConsole(output: Output, onQuit: () => void): Console {
  const { backend } = output;
  const terminal = openTerminal({
    input: (bytes) => {
      backend.push(bytes);
      if (backend.pending > (terminal.hasKeys ? MAX_PENDING_KEYS : MAX_PENDING_INPUT)) terminal.pauseInput();
    },
    quit: onQuit,
    // The end of a pipe means no more input; the guest keeps running.
    end: () => {},
  });
  backend.onDrained(() => terminal.resumeInput());
  output.add(terminal.output);
  const close = async () => {
    await output.close();
    terminal.restore();
  };
  return { backend, close };
}

async function fileConsole(output: Output, option: string, path: string): Promise<Console> {
  const { O_CREAT, O_NONBLOCK, O_TRUNC, O_WRONLY } = constants;
  const flags = O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK;
  const fd = await promisify(open)(path, flags, 0o666).catch((cause) => {
    const isUnread = (cause as NodeJS.ErrnoException).code === "ENXIO";
    const why = isUnread ? "a pipe that nobody reads: start its reader first" : systemReason(cause);
    throw new CliError(`${option} file:${path}: ${why}`, { cause });
  });
  const file = outputStream(fd);
  file.on("error", (error) =>
    process.stderr.write(`wherry: ${option} file:${path}: ${systemReason(error)}\n`),
  );
  output.add(file);
  const close = async () => {
    await output.close();
    file.destroy();
  };
  return { backend: output.backend, close };
}

async function socketConsole(
  output: Output,
  address: Extract<SerialSpec, { kind: "socket" }>["address"],
): Promise<Console> {
  const { backend } = output;
  const clients = new Set<Socket>();
  backend.onDrained(() => {
    for (const socket of clients) socket.resume();
  });
  const server = await listen(address, (socket) => {
    clients.add(socket);
    output.add(socket);
    socket.on("close", () => clients.delete(socket));
    socket.on("data", (bytes: Buffer) => {
      backend.push(bytes);
      if (backend.pending > MAX_PENDING_INPUT) socket.pause();
    });
  });
  const close = async () => {
    await output.close();
    await server.close();
  };
  return { backend, close };
}
