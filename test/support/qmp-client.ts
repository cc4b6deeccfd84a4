// A QMP client for tests and checks, of Wherry's monitor and QEMU's, over a socket or a process's standard
// streams. Independent of the product's client, which it checks. A message is one line; replies come in the
// order of the requests.
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { within } from "./wait.ts";

const ANSWER_MS = 120_000;

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Reply = { return?: Json; error?: Json; id?: Json };

export interface QmpEvent {
  readonly event: string;
  readonly data?: Record<string, unknown>;
  /** Of the host. */
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
}

/** The peer's error message, or that the connection is closed. */
export class QmpFailure extends Error {}

export class QmpClient {
  readonly #output: Writable;
  readonly #why: () => string;
  readonly events: QmpEvent[] = [];
  readonly #waiting: { resolve(reply: Reply): void; reject(error: Error): void }[] = [];
  #closed = false;

  /** `why` gives the reason of a closed connection. */
  constructor(input: Readable, output: Writable, why = () => "the QMP connection is closed") {
    this.#output = output;
    this.#why = why;
    const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
    lines.on("line", (line) => this.#take(JSON.parse(line) as Record<string, Json>));
    // It passes on the errors of its input.
    lines.on("error", () => {});
    input.on("error", () => {});
    output.on("error", () => {});
    input.on("close", () => {
      this.#closed = true;
      for (const { reject } of this.#waiting.splice(0)) reject(new QmpFailure(why()));
    });
  }

  /** A session on a unix socket, negotiated. */
  static async connect(path: string): Promise<QmpClient> {
    const socket = await connectUnix(path);
    const client = new QmpClient(socket, socket);
    await client.execute("qmp_capabilities");
    return client;
  }

  #take(message: Record<string, Json>): void {
    if ("event" in message) this.events.push(message as unknown as QmpEvent);
    else if (!("QMP" in message)) this.#waiting.shift()?.resolve(message);
  }

  /** Sends a request unchanged; returns the whole reply. */
  ask(request: string): Promise<Reply> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new QmpFailure(this.#why()));
      this.#waiting.push({ resolve, reject });
      this.#output.write(`${request}\n`);
    });
  }

  /** Returns the reply's `return`; rejects with QmpFailure and the peer's error message. */
  async execute<T>(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<T> {
    const request = JSON.stringify({ execute: command, arguments: args });
    const reply = await within(ANSWER_MS, `QMP ${command}`, this.ask(request));
    if ("error" in reply) throw new QmpFailure((reply.error as { desc: string }).desc);
    return reply.return as T;
  }

  close(): void {
    this.#output.destroy();
  }
}

export function connectUnix(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
  });
}
