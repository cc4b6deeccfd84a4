// A QMP client for the commands and the demo: one connection, replies in order, events to a listener.
import { connect, type Socket } from "node:net";
import { systemReason } from "../../node/channels/system-reason.ts";
import { connectOptions, type SocketAddress, socketAddressText } from "../../node/channels/socket-server.ts";
import { CliError } from "../output/cli-error.ts";

export interface QmpEvent {
  readonly event: string;
  readonly data?: Record<string, unknown>;
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** A machine greets once it has started, which takes a busy host some time. */
const GREETING_MS = 30_000;

export class QmpClient {
  readonly #socket: Socket;
  readonly #name: string;
  readonly #waiting: Waiting[] = [];
  readonly #listeners: ((event: QmpEvent) => void)[] = [];
  #greeted: (() => void) | undefined;
  #buffer = "";
  #closed = false;
  /** Why no more replies come. */
  #gone = () => new CliError(`the machine at ${this.#name} has closed the connection`);

  private constructor(socket: Socket, name: string) {
    this.#socket = socket;
    this.#name = name;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", () => {});
    socket.on("close", () => this.#fail());
  }

  /** Connects and negotiates. Rejects with CliError if no machine listens there, or none says anything. */
  static async connect(address: SocketAddress, greetingMs = GREETING_MS): Promise<QmpClient> {
    const name = socketAddressText(address);
    const socket = connect(connectOptions(address));
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", (cause: NodeJS.ErrnoException) => {
        const why = ["ENOENT", "ECONNREFUSED"].includes(cause.code ?? "")
          ? "no machine listens there"
          : systemReason(cause);
        reject(new CliError(`cannot reach ${name}: ${why}`, { cause }));
      });
    });
    const client = new QmpClient(socket, name);
    const silent = setTimeout(() => {
      client.#gone = () =>
        new CliError(
          `${name} accepts connections and says nothing for ${greetingMs / 1000} s: its process is stopped or hangs, ` +
            "or it is not the address of --qmp",
        );
      socket.destroy();
    }, greetingMs);
    await client
      .#wait((entry) => {
        client.#greeted = () => entry.resolve(undefined);
        client.#waiting.push(entry);
      })
      .finally(() => clearTimeout(silent));
    await client.execute("qmp_capabilities");
    return client;
  }

  onEvent(listener: (event: QmpEvent) => void): void {
    this.#listeners.push(listener);
  }

  /** Returns the command's `return`. Rejects with CliError and the machine's error message. */
  execute(command: string, args?: Record<string, unknown>): Promise<unknown> {
    const request = { execute: command, ...(args === undefined ? {} : { arguments: args }) };
    return this.#wait((entry) => {
      this.#waiting.push(entry);
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  #wait(begin: (entry: Waiting) => void): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closed) reject(this.#gone());
      else begin({ resolve, reject });
    });
  }

  #receive(text: string): void {
    const lines = (this.#buffer + text).split("\n");
    this.#buffer = lines.pop() ?? "";
    for (const line of lines) {
      if (line.trim() === "") continue;
      const message = messageIn(line);
      if (message === undefined) {
        this.#gone = () =>
          new CliError(`${this.#name} does not speak QMP: is it another socket of the machine?`);
        this.#socket.destroy();
        return;
      }
      this.#message(message);
    }
  }

  #message(message: Record<string, unknown>): void {
    if ("event" in message) {
      for (const listener of this.#listeners) listener(message as unknown as QmpEvent);
    } else if ("QMP" in message) {
      this.#waiting.shift();
      this.#greeted?.();
    } else {
      const waiting = this.#waiting.shift();
      if ("return" in message) waiting?.resolve(message["return"]);
      else waiting?.reject(new CliError((message["error"] as { desc: string }).desc));
    }
  }

  #fail(): void {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#gone());
  }
}

/** QMP messages are JSON objects, one on each line. */
function messageIn(line: string): Record<string, unknown> | undefined {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === "object" && message !== null ? (message as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
