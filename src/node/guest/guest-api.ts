/// <reference lib="esnext.disposable" preserve="true" />
// What a program sees of a guest: its files, and commands with web streams. The work is the agent's
// (../../agent/guest.ts).
import type { AgentOptions } from "../../agent/agent-client.ts";
import type { ExecOptions, Guest, GuestEntry, GuestProcess, GuestStat } from "../../agent/guest.ts";
import { decodeUtf8 } from "../../base/text.ts";
import type { ByteReadable, ByteWritable } from "./web-streams.ts";
import { guestToHost, hostToGuest } from "./guest-copy.ts";

// A program gets these from its machine: their constructors are no part of the API.
let makeFiles: (guest: () => Guest) => GuestFiles;
let makeCommand: (process: GuestProcess, options: ExecOptions) => SpawnedCommand;

/** Files of the guest. All calls reject with AgentError. */
export class GuestFiles {
  readonly #guest: () => Guest;

  static {
    makeFiles = (guest) => new GuestFiles(guest);
  }
  private constructor(guest: () => Guest) {
    this.#guest = guest;
  }

  /** The contents; with `encoding`, as text. */
  readFile(path: string, options?: AgentOptions): Promise<Uint8Array<ArrayBuffer>>;
  readFile(path: string, options: AgentOptions & { readonly encoding: "utf8" }): Promise<string>;
  async readFile(
    path: string,
    { encoding, ...options }: AgentOptions & { readonly encoding?: "utf8" } = {},
  ): Promise<Uint8Array<ArrayBuffer> | string> {
    const bytes = await this.#guest().readFile(path, options);
    return encoding === undefined ? bytes : decodeUtf8(bytes);
  }
  /** Replaces the contents; `mode`: permission bits, for a new file and for one that is there. */
  async writeFile(
    path: string,
    contents: string | Uint8Array | AsyncIterable<Uint8Array>,
    options: AgentOptions & { readonly mode?: number | undefined } = {},
  ): Promise<void> {
    await this.#guest().writeFile(path, contents, options);
  }
  /** In the order of names, without `.` and `..`. */
  async readdir(path: string, options: AgentOptions = {}): Promise<GuestEntry[]> {
    return this.#guest().readdir(path, options);
  }
  /** Of the file that a symbolic link leads to. */
  async stat(path: string, options: AgentOptions = {}): Promise<GuestStat> {
    return this.#guest().stat(path, options);
  }
  /** With its parents, unless `recursive` is false. */
  async mkdir(path: string, options: AgentOptions & { readonly recursive?: boolean } = {}): Promise<void> {
    await this.#guest().mkdir(path, options);
  }
  /** A file; with `recursive` a directory and what is in it; with `force` it need not be there. */
  async rm(
    path: string,
    options: AgentOptions & { readonly recursive?: boolean; readonly force?: boolean } = {},
  ): Promise<void> {
    await this.#guest().rm(path, options);
  }
  /** Copies a file or directory of this host to `to` in the guest: contents and permission bits. */
  async copyIn(from: string, to: string, options: AgentOptions = {}): Promise<void> {
    await hostToGuest(this.#guest(), from, to, options);
  }
  /** Copies a file or directory of the guest to `to` on this host. */
  async copyOut(from: string, to: string, options: AgentOptions = {}): Promise<void> {
    await guestToHost(this.#guest(), from, to, options);
  }
}

/** A command that runs in the guest, with its streams. */
export class SpawnedCommand {
  readonly #process: GuestProcess;
  readonly #stopLimits: () => void;
  /** Output as it comes. Cancel a stream that is not read, or read it to its end. */
  readonly stdout: ByteReadable;
  readonly stderr: ByteReadable;
  /** A write resolves when the guest's pipe has taken it; `close` is the end of input. */
  readonly stdin: ByteWritable;

  static {
    makeCommand = (process, options) => new SpawnedCommand(process, options);
  }
  private constructor(process: GuestProcess, { signal, timeoutMs }: ExecOptions) {
    this.#process = process;
    [this.stdout, this.stderr] = [streamOf(process.output("out")), streamOf(process.output("err"))];
    this.stdin = new WritableStream({
      write: (bytes: Uint8Array) => process.write(bytes),
      close: () => process.endInput(),
      abort: () => process.endInput(),
    });
    const kill = (): void => void process.kill("KILL").catch(() => {});
    const timer = timeoutMs === undefined ? undefined : setTimeout(kill, timeoutMs);
    signal?.addEventListener("abort", kill);
    this.#stopLimits = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", kill);
    };
    if (signal?.aborted === true) kill();
    process.exitCode.then(this.#stopLimits, this.#stopLimits);
  }

  /** Its process id in the guest. */
  get pid(): number {
    return this.#process.pid;
  }
  /** Resolves when it has ended: 128 + n after signal n, also after its `signal` or `timeoutMs` (137). */
  get exitCode(): Promise<number> {
    return this.#process.exitCode;
  }
  /** Sends a signal, such as `TERM` (the default), to it and to what it has started. */
  kill(signal?: string): Promise<void> {
    return this.#process.kill(signal);
  }
  /** Gives its terminal (`pty`) another size; programs in it get SIGWINCH. Rejects with AgentError. */
  resize(cols: number, rows: number): Promise<void> {
    return this.#process.resize(cols, rows);
  }
  /** Ends it if it runs, and removes what it needed in the guest. */
  async close(): Promise<void> {
    this.#stopLimits();
    await this.#process.close();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export const guestFiles = (guest: () => Guest): GuestFiles => makeFiles(guest);

export const spawnedCommand = (process: GuestProcess, options: ExecOptions): SpawnedCommand =>
  makeCommand(process, options);

function streamOf(pieces: AsyncGenerator<Uint8Array<ArrayBuffer>>): ByteReadable {
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        const next = await pieces.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      },
      cancel: async () => void (await pieces.return(undefined)),
    },
    { highWaterMark: 0 },
  );
}
