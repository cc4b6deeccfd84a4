// The host's side of QEMU's guest agent protocol (QEMU's docs/interop/qemu-ga and qga-qapi): one JSON object
// a line each way, one command at a time, over a serial port of the guest. The agent in the guest is not
// trusted: replies are checked, bounded, and end in an error, never in a crash.
import type { Signal } from "../base/abort.ts";
import type { SetTimer } from "../base/clock.ts";
import { runtimeGlobals } from "../base/runtime-globals.ts";
import { quoted, decodeUtf8, encodeUtf8 } from "../base/text.ts";
import { type CharBackend, CharPipe } from "../devices/char-backend.ts";
import { AgentError, abortableByAgent, abortedError, pause } from "./agent-error.ts";

/** The port on which an agent listens unless it is told otherwise. */
export const AGENT_PORT = "org.qemu.guest_agent.0";

/** Limits of one command. */
export interface AgentOptions {
  /** Ends the wait; what was sent may still be done. */
  readonly signal?: Signal | undefined;
  /** How long the agent may take to answer, in ms. Default: 30,000. */
  readonly timeoutMs?: number | undefined;
  /** How long to wait for an agent that has not started yet, in ms. Default: 60,000. */
  readonly waitMs?: number | undefined;
}

/** Whoever sends commands to an agent: a client here, or a monitor's. */
export interface Agent {
  /** Returns the command's result. Rejects with AgentError. */
  execute(command: string, args?: object, options?: AgentOptions): Promise<unknown>;
}

const REPLY_MS = 30_000;
const WAIT_MS = 60_000;
/** How long the answer to one try of a sync may take before the next: the first may have been lost. */
const SYNC_MS = 5_000;
/** The longest reply: two streams of 16 MiB in base64, which is the agent's own limit, and more. */
const MAX_REPLY_BYTES = 64 << 20;
/** In JSON from an agent there is none: it announces the reply to a sync. */
const DELIMITER = 0xff;
const NEWLINE = 10;

interface Waiting {
  resolve(reply: Record<string, unknown>): void;
  reject(error: AgentError): void;
}

/** The input of the guest's port, of which a piece that is not yet read can be taken back. */
class Input extends CharPipe {
  drop(): void {
    while (this.pending > 0) this.read(this.pending);
  }
}

export class AgentClient implements Agent {
  readonly #setTimer: SetTimer;
  readonly #now: () => number;
  readonly #input = new Input((bytes) => this.#receive(bytes));
  /** The port's backend. */
  readonly backend: CharBackend;
  readonly #openListeners = new Set<() => void>();
  #isOpen = false;
  #isSynced = false;
  #closed: AgentError | undefined;
  /** Another one than a predecessor's, whose answer may still come. */
  #syncId = new DataView(runtimeGlobals.crypto.getRandomValues(new Uint8Array(4)).buffer).getUint32(0) >>> 2;
  #line: Uint8Array[] = [];
  #lineBytes = 0;
  #waiting: Waiting | undefined;
  /** The last command; never rejects. */
  #turn: Promise<unknown> = Promise.resolve();

  /** `now`: monotonic time in ms. */
  constructor(setTimer: SetTimer, now = (): number => runtimeGlobals.performance.now()) {
    this.#setTimer = setTimer;
    this.#now = now;
    const input = this.#input;
    this.backend = {
      write: (bytes) => input.write(bytes),
      read: (max) => input.read(max),
      onReadable: (listener) => input.onReadable(listener),
      guestConnected: (isOpen) => this.#guestConnected(isOpen),
    };
  }

  /** An agent has opened its port. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Sends a command in its turn, after a sync if one is needed. See Agent. */
  execute(command: string, args: object = {}, options: AgentOptions = {}): Promise<unknown> {
    const done = this.#turn.then(() => this.#execute(command, args, options));
    this.#turn = done.catch(() => {});
    return abortableByAgent(done, options.signal);
  }

  /** Every command that waits, and every later one, is rejected with `agent.closed`. */
  close(): void {
    this.#closed ??= new AgentError("agent.closed", "the machine of this guest agent is closed or was moved");
    this.#fail(this.#closed);
    for (const listener of this.#openListeners) listener();
  }

  async #execute(command: string, args: object, options: AgentOptions): Promise<unknown> {
    const { signal, timeoutMs = REPLY_MS, waitMs = WAIT_MS } = options;
    this.#refuse(signal);
    if (!this.#isSynced) await this.#sync(waitMs, signal);
    this.#refuse(signal);
    const reply = await this.#ask(`${JSON.stringify({ execute: command, arguments: args })}\n`, timeoutMs);
    if (reply === undefined) {
      this.#isSynced = false;
      throw new AgentError(
        "agent.timeout",
        `the guest agent has not answered ${command} for ${timeoutMs / 1000} s: is the guest paused or very busy? ` +
          "It may still execute the command",
      );
    }
    if ("return" in reply) return reply["return"];
    throw new AgentError("agent.command", `the guest agent refuses ${command}: ${descriptionOf(reply)}`);
  }

  #refuse(signal: Signal | undefined): void {
    if (this.#closed !== undefined) throw this.#closed;
    if (signal?.aborted === true) throw abortedError(signal);
  }

  /** Drops what earlier commands left on both sides (guest-sync-delimited). */
  async #sync(waitMs: number, signal: Signal | undefined): Promise<void> {
    const until = this.#now() + waitMs;
    do {
      await this.#untilOpen(Math.max(0, until - this.#now()));
      this.#refuse(signal);
      if (!this.#isOpen) break;
      const id = this.#syncId++;
      this.#input.drop();
      this.#input.push(Uint8Array.of(DELIMITER));
      const request = JSON.stringify({ execute: "guest-sync-delimited", arguments: { id } });
      const left = Math.max(1, Math.min(SYNC_MS, until - this.#now()));
      const isAnswer = (reply: Record<string, unknown>): boolean => reply["return"] === id;
      const answer = await this.#ask(`${request}\n`, left, isAnswer).catch(() => undefined);
      this.#refuse(signal);
      if (answer !== undefined) {
        this.#isSynced = true;
        return;
      }
    } while (this.#now() < until);
    throw new AgentError(
      "agent.unavailable",
      this.#isOpen
        ? `the guest agent has not answered for ${waitMs / 1000} s`
        : `no guest agent has opened the port ${AGENT_PORT} for ${waitMs / 1000} s: is qemu-guest-agent installed ` +
            "and running in the guest?",
    );
  }

  async #untilOpen(ms: number): Promise<void> {
    if (this.#isOpen || this.#closed !== undefined) return;
    let opened = (): void => {};
    const open = new Promise<void>((resolve) => {
      opened = resolve;
    });
    this.#openListeners.add(opened);
    await pause(this.#setTimer, ms, open);
    this.#openListeners.delete(opened);
  }

  /** The first reply that `isAnswer` takes; undefined after `ms`. Others are dropped. */
  #ask(
    request: string,
    ms: number,
    isAnswer: (reply: Record<string, unknown>) => boolean = () => true,
  ): Promise<Record<string, unknown> | undefined> {
    this.#dropLine();
    return new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        timer.cancel();
        this.#waiting = undefined;
        settle();
      };
      const timer = this.#setTimer(ms, () => end(() => resolve(undefined)));
      this.#waiting = {
        resolve: (reply) => {
          if (isAnswer(reply)) end(() => resolve(reply));
        },
        reject: (error) => end(() => reject(error)),
      };
      this.#input.push(encodeUtf8(request));
    });
  }

  #guestConnected(isOpen: boolean): void {
    this.#isOpen = isOpen;
    if (isOpen) for (const listener of this.#openListeners) listener();
    else {
      this.#isSynced = false;
      this.#input.drop();
      this.#fail(
        new AgentError(
          "agent.restarted",
          "the guest agent has closed its port before it answered: it ended, or the guest was reset",
        ),
      );
    }
  }

  #fail(error: AgentError): void {
    this.#waiting?.reject(error);
  }

  #dropLine(): void {
    this.#line = [];
    this.#lineBytes = 0;
  }

  #receive(bytes: Uint8Array): void {
    let rest = bytes.subarray(bytes.lastIndexOf(DELIMITER) + 1);
    if (rest.length < bytes.length) this.#dropLine();
    while (rest.length > 0) {
      const end = rest.indexOf(NEWLINE);
      const part = end < 0 ? rest : rest.subarray(0, end);
      this.#lineBytes += part.length;
      if (this.#lineBytes > MAX_REPLY_BYTES) this.#protocol(`a reply of more than ${MAX_REPLY_BYTES} bytes`);
      // Nobody waits for it: it is not kept.
      else if (this.#waiting !== undefined) this.#line.push(part.slice());
      if (end < 0) return;
      const line = joined(this.#line);
      this.#dropLine();
      this.#reply(line);
      rest = rest.subarray(end + 1);
    }
  }

  #reply(line: Uint8Array): void {
    if (this.#waiting === undefined || line.length === 0) return;
    const reply = objectIn(decodeUtf8(line));
    if (reply !== undefined && ("return" in reply || "error" in reply)) this.#waiting.resolve(reply);
    else this.#protocol(`expected a reply, found ${quoted(decodeUtf8(line.subarray(0, 100)))}`);
  }

  #protocol(what: string): void {
    // During a sync, anything may come before its answer.
    if (!this.#isSynced) return this.#dropLine();
    this.#isSynced = false;
    this.#dropLine();
    this.#fail(new AgentError("agent.protocol", `the guest agent does not keep to its protocol: ${what}`));
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1 && parts[0] !== undefined) return parts[0];
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function objectIn(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function descriptionOf(reply: Record<string, unknown>): string {
  const { desc } = (reply["error"] ?? {}) as { desc?: unknown };
  return typeof desc === "string" ? desc : "without a reason";
}
