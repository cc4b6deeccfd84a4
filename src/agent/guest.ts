// Commands and files in the guest, by its agent: what guest-exec and guest-file-* do, and for the rest a
// POSIX shell in the guest.
import type { Signal } from "../base/abort.ts";
import { decodeBase64, encodeBase64 } from "../base/base64.ts";
import type { SetTimer } from "../base/clock.ts";
import { runtimeGlobals } from "../base/runtime-globals.ts";
import { decodeUtf8, encodeUtf8, quoted } from "../base/text.ts";
import type { Agent, AgentOptions } from "./agent-client.ts";
import { AgentError, abortedError, pause } from "./agent-error.ts";
import {
  checkSize,
  HAS_TERMINALS,
  KILL_SESSION,
  onTerminal,
  RESIZE,
  type TerminalSize,
} from "./guest-terminal.ts";

/** How a command is run. */
export interface ExecOptions {
  readonly args?: readonly string[] | undefined;
  /** Working directory in the guest. Default: the agent's, `/`. */
  readonly cwd?: string | undefined;
  /** Variables in addition to the agent's own. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Standard input: text (UTF-8) or bytes. Default: none. */
  readonly input?: string | Uint8Array | undefined;
  /** Ends the command (SIGKILL) and rejects with `agent.aborted`. */
  readonly signal?: Signal | undefined;
  /** After this many ms the command is ended (SIGKILL), with `agent.exec-timeout`. Default: no limit. */
  readonly timeoutMs?: number | undefined;
  /** How long to wait for an agent that has not started yet, in ms. Default: 60,000. */
  readonly waitMs?: number | undefined;
  /** Called with output as it comes. Without either, a stream is kept up to 16 MiB. */
  readonly onStdout?: ((bytes: Uint8Array<ArrayBuffer>) => unknown) | undefined;
  readonly onStderr?: ((bytes: Uint8Array<ArrayBuffer>) => unknown) | undefined;
}

/** How a command is started. */
export interface SpawnOptions extends ExecOptions {
  /**
   * The command gets a terminal of this size: its standard streams are the terminal, its output is all on
   * `stdout`, and `TERM` is `xterm-256color` unless `env` has it. The guest needs `script` of util-linux.
   */
  readonly pty?: TerminalSize | undefined;
}

/** How a command has ended. */
export interface ExecResult {
  /** 128 + n after signal n; 127 if there is no such program, 126 if it cannot be executed. */
  readonly exitCode: number;
  /** As text; malformed UTF-8 becomes U+FFFD. Empty if a listener took the output. */
  readonly stdout: string;
  readonly stderr: string;
  readonly stdoutBytes: Uint8Array<ArrayBuffer>;
  readonly stderrBytes: Uint8Array<ArrayBuffer>;
  /** A stream was longer than the 16 MiB that the agent keeps: use `onStdout` and `onStderr`, or `spawn`. */
  readonly isTruncated: boolean;
}

/** A file or directory in the guest. */
export interface GuestStat {
  readonly kind: "file" | "directory" | "symlink" | "other";
  /** In bytes. */
  readonly size: number;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970. */
  readonly mtime: number;
}

/** An entry of a directory in the guest. */
export interface GuestEntry {
  readonly name: string;
  readonly kind: GuestStat["kind"];
}

/** A network interface of the guest. */
export interface GuestInterface {
  readonly name: string;
  /** Such as 52:54:00:12:34:56. */
  readonly mac: string | undefined;
  /** IPv4 and IPv6 addresses with the bits of their networks, such as 10.0.2.15/24. */
  readonly addresses: readonly string[];
}

/** How a process has ended, and what the agent kept of its output. */
interface Ended {
  readonly exitCode: number;
  readonly stdout: Uint8Array<ArrayBuffer>;
  readonly stderr: Uint8Array<ArrayBuffer>;
  readonly isTruncated: boolean;
}

const SHELL = "/bin/sh";
/**
 * Working directory, variables, `--`, command. A session of its own lets a signal reach all that the command
 * starts.
 */
const RUN = `[ -z "$1" ] || cd -- "$1" || exit 126
shift
while [ "$1" != -- ]; do export "$1"; shift; done
shift
command -v -- "$1" >/dev/null || { echo "$1: not found" >&2; exit 127; }
if command -v setsid >/dev/null; then exec setsid "$@"; else exec "$@"; fi`;
/** The same with its streams in a directory, as files that are read while they grow. */
const RUN_IN = `d=$1; shift
exec <"$d/in" >>"$d/out" 2>>"$d/err"
: >"$d/up"
${RUN}`;
/** busybox's kill signals the session and fails all the same, for the `--`. One that has ended is fine. */
const KILL = `kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2" 2>/dev/null || ! kill -0 "$2" 2>/dev/null`;
const MAKE_STREAMS = 'umask 077; mkdir "$1" && mkfifo "$1/in" && : >"$1/out" && : >"$1/err"';
/** Ends when the shell of RUN_IN has opened its streams, or has ended. */
const WAIT_UP =
  'until [ -e "$1/up" ] || ! kill -0 "$2" 2>/dev/null; do sleep 0.05 2>/dev/null || sleep 1; done';
const FEED = 'exec cat >"$1/in"';
/** Gives back the room of output that was read; a guest whose fallocate cannot goes without. */
const PUNCH = 'fallocate -p -o 0 -l "$2" "$1" 2>/dev/null || true';
const LIST = `cd -- "$1" || exit 1
for f in * .[!.]* ..?*; do
if [ -L "$f" ]; then k=l; elif [ -d "$f" ]; then k=d; elif [ -f "$f" ]; then k=f; elif [ -e "$f" ]; then k=o
else continue; fi
printf '%s%s\\0' "$k" "$f"; done`;
const KINDS: Readonly<Record<string, GuestStat["kind"]>> = { d: "directory", f: "file", l: "symlink" };
const FORMATS: Readonly<Record<number, GuestStat["kind"]>> = {
  0o04: "directory",
  0o10: "file",
  0o12: "symlink",
};

const MIN_POLL_MS = 5;
const MAX_POLL_MS = 200;
/** Somebody sits at a terminal. */
const MAX_TERMINAL_POLL_MS = 40;
/** For the agent to tell the end of a command that was killed. */
const KILLED_MS = 5_000;
/** Input for a command goes with guest-exec up to this size; more goes through a pipe. */
const MAX_INLINE_INPUT = 1 << 20;
/** A write into a pipe that is whole or fails: PIPE_BUF. */
const MAX_ATOMIC_BYTES = 4096;
/** Output that was read takes this much room in the guest at most. */
const MAX_READ_OUTPUT = 8 << 20;
/** As much as the agent keeps. */
const MAX_KEPT_OUTPUT = 16 << 20;
/** A file of the guest that is read into memory: it may be endless. */
const MAX_FILE_BYTES = 1 << 30;
/** The size of a read or write of a file. */
const PIECE_BYTES = 256 * 1024;

const SIGNAL_NAME = /^(SIG)?([A-Z][A-Z0-9]*|[0-9]+)$/;
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

function signalName(signal: string): string {
  const name = SIGNAL_NAME.exec(signal)?.[2];
  if (name !== undefined) return name;
  throw new AgentError("agent.argument", `signal: expected a name such as TERM, found ${quoted(signal)}`);
}

/** A member of a reply; the agent is not trusted. */
function member<T extends "number" | "string" | "boolean">(
  reply: unknown,
  name: string,
  type: T,
): { number: number; string: string; boolean: boolean }[T] | undefined {
  const value = (reply as Record<string, unknown> | null | undefined)?.[name];
  // oxlint-disable-next-line valid-typeof
  if (value !== undefined && typeof value !== type) throw nonsense(`${name} is no ${type}`);
  return value as { number: number; string: string; boolean: boolean }[T] | undefined;
}
function required<T extends "number" | "string" | "boolean">(reply: unknown, name: string, type: T) {
  const value = member(reply, name, type);
  if (value === undefined) throw nonsense(`${name} is missing`);
  return value;
}
function bytesOf(reply: unknown, name: string): Uint8Array<ArrayBuffer> {
  const bytes = decodeBase64(member(reply, name, "string") ?? "");
  if (bytes === undefined) throw nonsense(`${name} is no base64`);
  return bytes;
}
function nonsense(what: string): AgentError {
  return new AgentError("agent.protocol", `the guest agent does not keep to its protocol: ${what}`);
}

/** The guest behind an agent. All paths are the guest's. */
export class Guest {
  readonly agent: Agent;
  readonly #setTimer: SetTimer;

  constructor(agent: Agent, setTimer: SetTimer) {
    this.agent = agent;
    this.#setTimer = setTimer;
  }

  /** Runs a command to its end. Rejects with AgentError. */
  async exec(command: string, options: ExecOptions = {}): Promise<ExecResult> {
    const { input = "", onStdout, onStderr, signal, timeoutMs } = options;
    const bytes = typeof input === "string" ? encodeUtf8(input) : input;
    const limits = new Limits(this.#setTimer, signal, timeoutMs);
    try {
      if (onStdout === undefined && onStderr === undefined && bytes.length <= MAX_INLINE_INPUT) {
        const pid = await this.#start(RUN, commandLine(command, options), bytes, true, options);
        return resultOf(await this.#untilEnded(pid, limits));
      }
      const process = await this.spawn(command, options);
      return await this.#streamed(process, bytes, options, limits);
    } finally {
      limits.end();
    }
  }

  async #streamed(
    process: GuestProcess,
    input: Uint8Array,
    { onStdout, onStderr }: ExecOptions,
    limits: Limits,
  ): Promise<ExecResult> {
    let isTruncated = false;
    const collect = async (stream: "out" | "err", listener: ExecOptions["onStdout"]) => {
      const kept: Uint8Array<ArrayBuffer>[] = [];
      let room = MAX_KEPT_OUTPUT;
      for await (const piece of process.output(stream)) {
        if (listener !== undefined) await listener(piece);
        else if (piece.length > room) isTruncated = true;
        else {
          kept.push(piece);
          room -= piece.length;
        }
      }
      return joined(kept);
    };
    const ended = limits.kills(process.kill.bind(process), process.exitCode);
    ended.catch(() => process.stop());
    const feed = async () => {
      // A command need not read its input.
      await process.write(input).catch(() => {});
      await process.endInput();
    };
    try {
      const [stdout, stderr] = await Promise.all([
        collect("out", onStdout),
        collect("err", onStderr),
        feed(),
      ]);
      return resultOf({ exitCode: await ended, stdout, stderr, isTruncated });
    } catch (error) {
      await ended;
      throw error;
    } finally {
      await process.close();
    }
  }

  /** Starts a command whose streams are used while it runs. `close` it in the end. */
  async spawn(command: string, options: SpawnOptions = {}): Promise<GuestProcess> {
    const random = runtimeGlobals.crypto.getRandomValues(new Uint8Array(12));
    const directory = `/tmp/.wherry-${encodeBase64(random).replace(/[+/]/g, "_")}`;
    let words = commandLine(command, options);
    const { pty } = options;
    if (pty !== undefined) {
      checkSize(pty.cols, pty.rows);
      const [script, ...args] = onTerminal(directory, pty, command, options.args ?? []);
      words = commandLine(script, { ...options, args, env: { TERM: "xterm-256color", ...options.env } });
    }
    await this.shell(
      pty === undefined ? MAKE_STREAMS : `${HAS_TERMINALS}\n${MAKE_STREAMS}`,
      [directory],
      options,
    );
    try {
      // Read and write: it waits for no other end of the pipe, and keeps the command's input open.
      const input = await this.open(`${directory}/in`, "r+");
      const [out, err] = [await this.open(`${directory}/out`, "r"), await this.open(`${directory}/err`, "r")];
      const pid = await this.#start(RUN_IN, [directory, ...words], undefined, false, options);
      const handles = { in: input, out, err };
      return new GuestProcess(this, this.#setTimer, pid, directory, handles, pty !== undefined);
    } catch (error) {
      await this.shell('rm -rf "$1"', [directory]).catch(() => {});
      throw error;
    }
  }

  /** Sends a signal, such as `TERM`, to a process that `spawn` or guest-exec started, and to its session. */
  async kill(pid: number, signal = "TERM"): Promise<void> {
    await this.shell(KILL, [signalName(signal), String(pid)]);
  }

  /** The state of a process of guest-exec: undefined while it runs. The agent tells the end once. */
  async status(pid: number): Promise<Ended | undefined> {
    const reply = await this.agent.execute("guest-exec-status", { pid }).catch((error: unknown) => {
      if (!(error instanceof AgentError) || error.code !== "agent.command") throw error;
      throw new AgentError(
        "agent.process-lost",
        `process ${pid} of the guest: the agent does not know it (any more): it was restarted, or has told its end`,
        { cause: error },
      );
    });
    if (!required(reply, "exited", "boolean")) return undefined;
    const signal = member(reply, "signal", "number");
    return {
      exitCode: signal === undefined ? (member(reply, "exitcode", "number") ?? 0) : 128 + signal,
      stdout: bytesOf(reply, "out-data"),
      stderr: bytesOf(reply, "err-data"),
      isTruncated:
        member(reply, "out-truncated", "boolean") === true ||
        member(reply, "err-truncated", "boolean") === true,
    };
  }

  /** Waits for the end of a process that was started before, here or where the machine came from. */
  async attach(pid: number, options: Pick<ExecOptions, "signal" | "timeoutMs"> = {}): Promise<ExecResult> {
    const limits = new Limits(this.#setTimer, options.signal, options.timeoutMs);
    try {
      return resultOf(await this.#untilEnded(pid, limits));
    } finally {
      limits.end();
    }
  }

  async #start(
    script: string,
    words: readonly string[],
    input: Uint8Array | undefined,
    isCaptured: boolean,
    { signal, waitMs }: Pick<ExecOptions, "signal" | "waitMs">,
  ): Promise<number> {
    const args = {
      path: SHELL,
      arg: ["-c", script, "sh", ...words],
      "capture-output": isCaptured,
      ...(input === undefined || input.length === 0 ? {} : { "input-data": encodeBase64(input) }),
    };
    return required(await this.agent.execute("guest-exec", args, { signal, waitMs }), "pid", "number");
  }

  async #untilEnded(pid: number, limits: Limits): Promise<Ended> {
    const over = new Over();
    try {
      return await limits.kills((signal) => this.kill(pid, signal), this.poll(pid, over));
    } finally {
      over.isOver = true;
    }
  }
  /** The end of a process, asked for more and more rarely, until nobody waits for it. */
  async poll(pid: number, over = new Over()): Promise<Ended> {
    for (let ms = MIN_POLL_MS; ; ms = Math.min(MAX_POLL_MS, ms * 1.5)) {
      if (over.isOver) throw new AgentError("agent.process-lost", `nobody waits for process ${pid}`);
      const ended = await this.status(pid);
      if (ended !== undefined) return ended;
      await pause(this.#setTimer, ms);
    }
  }

  /** Runs a shell script and returns its output. Rejects with `agent.failed` and its stderr if it fails. */
  async shell(script: string, words: readonly string[], options: AgentOptions = {}): Promise<Uint8Array> {
    const limits = new Limits(this.#setTimer, options.signal, options.timeoutMs);
    try {
      const pid = await this.#start(script, words, undefined, true, options);
      const { exitCode, stdout, stderr } = await this.#untilEnded(pid, limits);
      if (exitCode === 0) return stdout;
      const why = decodeUtf8(stderr).trim() || `exit code ${exitCode}`;
      throw new AgentError("agent.failed", `in the guest: ${why}`);
    } finally {
      limits.end();
    }
  }

  // Files.

  /** Returns a handle of the agent. */
  async open(path: string, mode: string, options: AgentOptions = {}): Promise<number> {
    const handle: unknown = await this.agent.execute("guest-file-open", { path, mode }, options);
    if (typeof handle !== "number") throw nonsense("a handle is no number");
    return handle;
  }
  async read(handle: number, count = PIECE_BYTES): Promise<{ bytes: Uint8Array<ArrayBuffer>; eof: boolean }> {
    const reply = await this.agent.execute("guest-file-read", { handle, count });
    const bytes = bytesOf(reply, "buf-b64");
    if (bytes.length > count) throw nonsense(`${bytes.length} bytes, ${count} were asked for`);
    return { bytes, eof: required(reply, "eof", "boolean") };
  }
  async write(handle: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const piece = bytes.subarray(done, done + PIECE_BYTES);
      const args = { handle, "buf-b64": encodeBase64(piece) };
      const count = required(await this.agent.execute("guest-file-write", args), "count", "number");
      if (!(count > 0 && count <= piece.length)) throw nonsense(`${count} of ${piece.length} bytes written`);
      done += count;
    }
  }
  /** Of what was written; the agent does so itself only when a file is closed. */
  async flush(handle: number): Promise<void> {
    await this.agent.execute("guest-file-flush", { handle });
  }
  async close(handle: number): Promise<void> {
    await this.agent.execute("guest-file-close", { handle });
  }

  async readFile(path: string, options: AgentOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    let room = MAX_FILE_BYTES;
    for await (const piece of this.pieces(path, options)) {
      room -= piece.length;
      if (room < 0)
        throw new AgentError(
          "agent.failed",
          `${path}: more than 1 GiB, which is too much for memory: copy it out`,
        );
      pieces.push(piece);
    }
    return joined(pieces);
  }
  /** The file in pieces: only one is in memory at a time. */
  async *pieces(path: string, options: AgentOptions = {}): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    const handle = await this.open(path, "r", options);
    try {
      for (;;) {
        if (options.signal?.aborted === true) throw abortedError(options.signal);
        const { bytes, eof } = await this.read(handle);
        if (bytes.length > 0) yield bytes;
        if (eof || bytes.length === 0) return;
      }
    } finally {
      await this.close(handle).catch(() => {});
    }
  }

  /** Replaces the file's contents by these pieces. */
  async writeFile(
    path: string,
    contents: string | Uint8Array | AsyncIterable<Uint8Array>,
    options: AgentOptions & { readonly mode?: number | undefined } = {},
  ): Promise<void> {
    const { mode, signal } = options;
    const handle = await this.open(path, "w", options);
    try {
      const pieces = typeof contents === "string" ? encodeUtf8(contents) : contents;
      for await (const piece of pieces instanceof Uint8Array ? [pieces] : pieces) {
        if (signal?.aborted === true) throw abortedError(signal);
        await this.write(handle, piece);
      }
    } catch (error) {
      await this.close(handle).catch(() => {});
      throw error;
    }
    // What the agent's stdio still holds is written now: a full disk shows here at the latest.
    await this.close(handle);
    if (mode !== undefined) await this.shell('chmod "$1" -- "$2"', [mode.toString(8), path]);
  }

  /** In the order of the guest's locale, without `.` and `..`. */
  async readdir(path: string, options: AgentOptions = {}): Promise<GuestEntry[]> {
    const text = decodeUtf8(await this.shell(LIST, [path], options));
    return text
      .split("\0")
      .filter((entry) => entry !== "")
      .map((entry) => ({ name: entry.slice(1), kind: KINDS[entry[0] ?? ""] ?? "other" }));
  }
  /** Of the file that a symbolic link leads to. */
  async stat(path: string, options: AgentOptions = {}): Promise<GuestStat> {
    const text = decodeUtf8(await this.shell('stat -L -c "%f %s %u %g %Y" -- "$1"', [path], options)).trim();
    const [, format = "", ...rest] = /^([0-9a-f]+) (\d+) (\d+) (\d+) (-?\d+)$/.exec(text) ?? [];
    if (format === "") throw nonsense(`stat prints ${quoted(text.slice(0, 100))}`);
    const bits = Number.parseInt(format, 16);
    const [size = 0, uid = 0, gid = 0, mtime = 0] = rest.map(Number);
    return { kind: FORMATS[bits >> 12] ?? "other", size, mode: bits & 0o7777, uid, gid, mtime };
  }
  /** With its parents, unless `recursive` is false; it may be there. */
  async mkdir(
    path: string,
    { recursive = true, ...options }: AgentOptions & { readonly recursive?: boolean } = {},
  ) {
    await this.shell(recursive ? 'mkdir -p -- "$1"' : 'mkdir -- "$1"', [path], options);
  }
  /** A file, or with `recursive` a directory and what is in it; with `force`, it need not be there. */
  async rm(
    path: string,
    options: AgentOptions & { readonly recursive?: boolean; readonly force?: boolean } = {},
  ): Promise<void> {
    const flags = `${options.recursive === true ? " -r" : ""}${options.force === true ? " -f" : ""}`;
    await this.shell(`rm${flags} -- "$1"`, [path], options);
  }

  // The machine.

  /** Flushes and freezes the guest's file systems; returns their number. `thaw` releases them. */
  async freeze(options: AgentOptions = {}): Promise<number> {
    const count: unknown = await this.agent.execute("guest-fsfreeze-freeze", {}, options);
    if (typeof count !== "number") throw nonsense("the number of file systems is no number");
    return count;
  }
  async thaw(options: AgentOptions = {}): Promise<void> {
    const status: unknown = await this.agent.execute("guest-fsfreeze-status", {}, options);
    if (status === "frozen") await this.agent.execute("guest-fsfreeze-thaw", {}, options);
  }

  /** Sets the system's clock and the real-time clock, in ms since 1970. */
  async setTime(ms: number, options: AgentOptions = {}): Promise<void> {
    await this.agent.execute("guest-set-time", { time: ms * 1e6 }, options);
  }

  async interfaces(options: AgentOptions = {}): Promise<GuestInterface[]> {
    const reply: unknown = await this.agent.execute("guest-network-get-interfaces", {}, options);
    if (!Array.isArray(reply)) throw nonsense("the interfaces are no list");
    return reply.map((each: unknown) => {
      const { "ip-addresses": addresses = [] } = (each ?? {}) as { "ip-addresses"?: unknown };
      if (!Array.isArray(addresses)) throw nonsense("an interface's addresses are no list");
      return {
        name: required(each, "name", "string"),
        mac: member(each, "hardware-address", "string"),
        addresses: addresses.map(
          (one: unknown) => `${required(one, "ip-address", "string")}/${required(one, "prefix", "number")}`,
        ),
      };
    });
  }
}

/** A wait that has an end. */
class Over {
  isOver = false;
}

/** What ends a command early: its caller's signal, and the time it may take. */
class Limits {
  readonly #signal: Signal | undefined;
  readonly #setTimer: SetTimer;
  readonly #timer: { cancel(): void } | undefined;
  #early: ((error: AgentError) => void) | undefined;
  readonly #abort = (): void => this.#early?.(abortedError(this.#signal as Signal));
  #error: AgentError | undefined;

  constructor(setTimer: SetTimer, signal: Signal | undefined, timeoutMs: number | undefined) {
    this.#signal = signal;
    this.#setTimer = setTimer;
    signal?.addEventListener("abort", this.#abort);
    const late = (): void => {
      this.#error = new AgentError("agent.exec-timeout", `the command was ended after ${timeoutMs} ms`);
      this.#early?.(this.#error);
    };
    this.#timer = timeoutMs === undefined ? undefined : setTimer(timeoutMs, late);
  }

  /** `ended`, or a rejection after the process was killed. */
  kills<T>(kill: (signal: string) => Promise<void>, ended: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#early = (error) => {
        // Its end is awaited, unless it cannot be killed. To the agent a command has not ended while another
        // process, which left its session, has its output.
        kill("KILL")
          .then(() => pause(this.#setTimer, KILLED_MS, ended))
          .then(
            () => reject(error),
            () => reject(error),
          );
      };
      const early = this.#signal?.aborted === true ? abortedError(this.#signal) : this.#error;
      if (early !== undefined) this.#early(early);
      ended.then(
        (value) => {
          if (this.#error === undefined && this.#signal?.aborted !== true) resolve(value);
        },
        (error: unknown) => reject(error as Error),
      );
    });
  }

  end(): void {
    this.#timer?.cancel();
    this.#signal?.removeEventListener("abort", this.#abort);
  }
}

/** A command that runs in the guest. Its output is in files of the guest until it is read. */
export class GuestProcess {
  readonly pid: number;
  /** Resolves when it has ended. */
  readonly exitCode: Promise<number>;
  readonly #guest: Guest;
  readonly #setTimer: SetTimer;
  readonly #directory: string;
  readonly #handles: { readonly in: number; readonly out: number; readonly err: number };
  #hasEnded = false;
  #isStopped = false;
  #isInputOpen = true;
  /** A pipe that was full once is written to by a program that waits. */
  #isPipeFree = true;
  readonly #hasTerminal: boolean;
  /** Of the next look for output. */
  #pollMs = MIN_POLL_MS;

  constructor(
    guest: Guest,
    setTimer: SetTimer,
    pid: number,
    directory: string,
    handles: { readonly in: number; readonly out: number; readonly err: number },
    hasTerminal: boolean,
  ) {
    this.#hasTerminal = hasTerminal;
    this.#guest = guest;
    this.#setTimer = setTimer;
    this.pid = pid;
    this.#directory = directory;
    this.#handles = handles;
    this.exitCode = guest
      .poll(pid)
      .then(({ exitCode }) => exitCode)
      .finally(() => {
        this.#hasEnded = true;
      });
    // It may be awaited later, or not at all.
    this.exitCode.catch(() => {});
  }

  /** Sends a signal, such as `TERM` (the default), to it and to what it has started. */
  async kill(signal = "TERM"): Promise<void> {
    if (!this.#hasTerminal) return this.#guest.kill(this.pid, signal);
    const words = [signalName(signal), String(this.pid), this.#directory];
    await this.#guest.shell(KILL_SESSION, words);
  }

  /** Its terminal has another size; programs in it get SIGWINCH. */
  async resize(cols: number, rows: number): Promise<void> {
    if (!this.#hasTerminal)
      throw new AgentError(
        "agent.argument",
        "resize: the command has no terminal: start it with pty: { cols, rows }",
      );
    checkSize(cols, rows);
    if (this.#hasEnded) return;
    await this.#guest.shell(RESIZE, [this.#directory, String(this.pid), String(cols), String(rows)]);
  }

  /** Output as it comes, to its end: that of the process. Each stream is for one reader. */
  async *output(stream: "out" | "err"): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    // With a terminal, only `script` itself could write there.
    if (this.#hasTerminal && stream === "err") await this.exitCode.catch(() => {});
    const slowest = this.#hasTerminal ? MAX_TERMINAL_POLL_MS : MAX_POLL_MS;
    for (let done = 0, punched = 0; ; ) {
      // Asked before the read: what was written before the end is in the file.
      const isLast = this.#hasEnded;
      if (this.#isStopped) return;
      const { bytes, eof } = await this.#guest.read(this.#handles[stream]);
      if (bytes.length > 0) {
        yield bytes;
        this.#pollMs = MIN_POLL_MS;
        done += bytes.length;
      }
      if (isLast && (eof || bytes.length === 0)) return;
      if (done - punched >= MAX_READ_OUTPUT) {
        punched = done;
        await this.#guest.shell(PUNCH, [`${this.#directory}/${stream}`, String(done)]);
      }
      if (bytes.length === 0) {
        await pause(this.#setTimer, this.#pollMs, this.exitCode);
        this.#pollMs = Math.min(slowest, this.#pollMs * 1.5);
      }
    }
  }

  /** Writes to its standard input; resolves when the guest's pipe has taken it. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#pollMs = MIN_POLL_MS;
    if (bytes.length <= MAX_ATOMIC_BYTES && (await this.#writeAtOnce(bytes))) return;
    for (let done = 0; done < bytes.length && !this.#hasEnded; done += PIECE_BYTES) {
      const args = {
        path: SHELL,
        arg: ["-c", FEED, "sh", this.#directory],
        "input-data": encodeBase64(bytes.subarray(done, done + PIECE_BYTES)),
      };
      const feeder = required(await this.#guest.agent.execute("guest-exec", args), "pid", "number");
      // The command may end and leave the pipe full: then nobody empties it.
      await Promise.race([this.#guest.poll(feeder), this.exitCode]);
    }
  }
  /** Without a program in the guest. False if the pipe is full: nothing of it is written. */
  async #writeAtOnce(bytes: Uint8Array): Promise<boolean> {
    if (!this.#isPipeFree || !this.#isInputOpen || this.#hasEnded) return false;
    try {
      await this.#guest.write(this.#handles.in, bytes);
      await this.#guest.flush(this.#handles.in);
      return true;
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== "agent.command") throw error;
      this.#isPipeFree = false;
      return false;
    }
  }
  /** The end of its standard input. */
  async endInput(): Promise<void> {
    if (!this.#isInputOpen) return;
    this.#isInputOpen = false;
    // A pipe that nobody else has opened would lose what is in it, and its reader would wait for a writer.
    if (!this.#hasEnded)
      await this.#guest.shell(WAIT_UP, [this.#directory, String(this.pid)]).catch(() => {});
    await this.#guest.close(this.#handles.in);
  }

  /** Its output ends now. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Ends it if it runs (SIGKILL), and removes what it needed in the guest. */
  async close(): Promise<void> {
    if (!this.#hasEnded) {
      await this.kill("KILL").catch(() => {});
      await this.exitCode.catch(() => {});
    }
    await this.endInput().catch(() => {});
    for (const handle of [this.#handles.out, this.#handles.err])
      await this.#guest.close(handle).catch(() => {});
    await this.#guest.shell('rm -rf "$1"', [this.#directory]).catch(() => {});
  }
}

/** The words after the script: working directory, variables, `--`, command. */
function commandLine(command: string, { args = [], cwd = "", env = {} }: ExecOptions): string[] {
  const variables = Object.entries(env).map(([name, value]) => {
    if (!VARIABLE.test(name))
      throw new AgentError("agent.argument", `env: expected names of variables, found ${quoted(name)}`);
    return `${name}=${value}`;
  });
  const words = [cwd, ...variables, "--", command, ...args];
  const bad = words.find((word) => word.includes("\0"));
  if (bad !== undefined)
    throw new AgentError("agent.argument", `a command's words cannot have NUL bytes: ${quoted(bad)}`);
  return words;
}

function resultOf({ exitCode, stdout, stderr, isTruncated }: Ended): ExecResult {
  return {
    exitCode,
    stdout: decodeUtf8(stdout),
    stderr: decodeUtf8(stderr),
    stdoutBytes: stdout,
    stderrBytes: stderr,
    isTruncated,
  };
}

function joined(pieces: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
