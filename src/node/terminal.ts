// The terminal as a guest's console: raw mode, and QEMU's escape keys (Ctrl-A, then a letter). The terminal
// is restored on every exit, including by a signal or a crash.
import { spawnSync } from "node:child_process";
import type { Writable } from "node:stream";
import type { ReadStream, WriteStream } from "node:tty";
import { standardOutput } from "./output-stream.ts";

export type EscapeAction = "quit" | "help";

const CTRL_A = 0x01;
export const ESCAPE_HELP =
  "\r\nCtrl-A h   this help\r\nCtrl-A x   end the machine\r\nCtrl-A Ctrl-A   send Ctrl-A to the guest\r\n";

/** Separates typed bytes into the guest's and ours. Keeps a Ctrl-A until the next byte. */
export class EscapeFilter {
  #escaped = false;

  feed(typed: Uint8Array): { data: Uint8Array; actions: EscapeAction[] } {
    const data: number[] = [];
    const actions: EscapeAction[] = [];
    for (const byte of typed) {
      if (!this.#escaped) {
        if (byte === CTRL_A) this.#escaped = true;
        else data.push(byte);
        continue;
      }
      this.#escaped = false;
      if (byte === CTRL_A) data.push(CTRL_A);
      else if (byte === 0x78) actions.push("quit");
      else if (byte === 0x68 || byte === 0x3f) actions.push("help");
      // Any other letter is dropped with its Ctrl-A, as in QEMU.
    }
    return { data: Uint8Array.from(data), actions };
  }
}

export interface TerminalEvents {
  /** Bytes for the guest. */
  input(bytes: Uint8Array): void;
  /** Ctrl-A x. */
  quit(): void;
  /** The input has ended (a pipe or a closed terminal). */
  end(): void;
}

export interface Terminal {
  /** The input is a terminal's: while it is not read, our own keys do not reach us either. */
  readonly hasKeys: boolean;
  /** Stops reading input until the guest has caught up. */
  pauseInput(): void;
  resumeInput(): void;
  /** Does not block this thread. */
  readonly output: Writable;
  /** Restores the terminal. May be called more than once. */
  restore(): void;
}

export interface TerminalStreams {
  readonly stdin: ReadStream | NodeJS.ReadStream;
  readonly stdout: WriteStream | NodeJS.WriteStream;
}

/**
 * Keys come as they are typed, and output is left as the guest's terminal has made it: for a process that
 * prints nothing of its own meanwhile.
 */
export function makeRaw(stdin: ReadStream | NodeJS.ReadStream): void {
  stdin.setRawMode(true);
  // Node leaves it to the terminal to add a CR to each LF, which programs that move the cursor do not expect.
  spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"] });
}

/** Uses stdin and stdout as a console. If stdin is not a terminal, every byte goes to the guest unchanged. */
export function openTerminal(events: TerminalEvents, streams: TerminalStreams = process): Terminal {
  const { stdin } = streams;
  const output = standardOutput(streams.stdout);
  const raw = stdin.isTTY === true;
  const filter = new EscapeFilter();
  const onData = (typed: Buffer) => {
    const { data, actions } = raw ? filter.feed(typed) : { data: typed, actions: [] };
    if (data.length > 0) events.input(data);
    for (const action of actions) {
      if (action === "help") output.write(ESCAPE_HELP);
      else events.quit();
    }
  };
  const onEnd = () => events.end();
  let restored = false;
  const restore = () => {
    if (restored) return;
    restored = true;
    process.off("exit", restore);
    stdin.off("data", onData);
    stdin.off("end", onEnd);
    if (raw) stdin.setRawMode(false);
    stdin.pause();
  };
  // `exit` runs for process.exit, for an uncaught error, and after our signal handlers.
  process.on("exit", restore);
  if (raw) stdin.setRawMode(true);
  stdin.on("data", onData);
  stdin.on("end", onEnd);
  // A terminal that was closed fails with EIO, also when it is to be restored: the guest has no more input.
  stdin.on("error", onEnd);
  stdin.resume();
  return {
    hasKeys: raw,
    pauseInput: () => void stdin.pause(),
    resumeInput: () => void (restored || stdin.resume()),
    output,
    restore,
  };
}
