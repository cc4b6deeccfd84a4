// A stream through a command, as QEMU's `exec:`: `/bin/sh -c COMMAND` reads the machine from its standard
// input, or writes one to its standard output. A command with an exit status other than 0 has failed,
// whatever it transferred. Its other output goes to our standard error.
import { type ChildProcess, spawn } from "node:child_process";
import { messageOf } from "../../base/errors.ts";
import type { Channel, SnapshotSink } from "../../stream/channel.ts";
import { ChannelError } from "./node-channels.ts";

const nothing = (): void => {};

/** Ends the shell and all processes that it started, which are a process group (`detached`). */
function endAll(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid);
  } catch {
    // All of them have already ended.
  }
}

/** Resolves when the command has exited with status 0. */
function endOf(child: ChildProcess, command: string): Promise<void> {
  const end = new Promise<void>((resolve, reject) => {
    const fail = (how: string) => reject(new ChannelError("channel.exec", `the command ${command} ${how}`));
    child.once("error", (error) => fail(`was not started: ${error.message}`));
    child.once("exit", (status, signal) => {
      if (status === 0) resolve();
      else fail(signal === null ? `ended with status ${status}` : `was ended by ${signal}`);
    });
  });
  end.catch(nothing);
  return end;
}

/** Writes a stream to a command. `commit` ends its input and waits for a successful exit. */
export function openCommandSink(command: string): SnapshotSink {
  const child = spawn("/bin/sh", ["-c", command], {
    stdio: ["pipe", process.stderr, "inherit"],
    detached: true,
  });
  const end = endOf(child, command);
  const input = child.stdin;
  let failure: Error | undefined;
  input.on("error", nothing);
  const abort = (reason: Error) => {
    failure ??= reason;
    input.destroy();
    endAll(child);
  };
  const write = (bytes: Uint8Array) =>
    new Promise<void>((resolve, reject) => {
      if (failure !== undefined) {
        reject(failure);
        return;
      }
      const closed = () =>
        reject(failure ?? new ChannelError("channel.closed", "the command stopped reading"));
      input.once("close", closed);
      input.write(bytes, (error) => {
        input.off("close", closed);
        if (error) reject(failure ?? error);
        else resolve();
      });
    });
  return {
    channel: {
      // The exit status explains best why a command stopped reading.
      write: (bytes) =>
        write(bytes).catch(async (error: unknown) => {
          if (failure === undefined) await Promise.race([end, late()]);
          throw new ChannelError("channel.exec", `the command ${command}: ${messageOf(error)}`, {
            cause: error,
          });
        }),
      read: async () => 0,
      close: async () => void input.end(),
      abort,
    },
    async commit() {
      input.end();
      await end;
    },
    async discard() {
      abort(failure ?? new ChannelError("channel.exec", "aborted"));
    },
  };
}

/** How long a command that closed its input may take to exit and so give the reason. */
const LATE_MS = 1000;
const late = () => new Promise<void>((resolve) => setTimeout(resolve, LATE_MS).unref());

/** Reads a command's output. The end of the output ends the stream only if the command has succeeded. */
export function openCommandSource(command: string): Channel {
  const child = spawn("/bin/sh", ["-c", command], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  const end = endOf(child, command);
  const output = child.stdout;
  const pieces = output[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let piece = new Uint8Array(0);
  let failure: Error | undefined;
  return {
    write: async () => {},
    async read(target) {
      if (piece.length === 0) {
        const next = await pieces.next().catch((error: unknown) => {
          throw failure ?? error;
        });
        if (next.done === true) {
          await end;
          return 0;
        }
        piece = Uint8Array.from(next.value);
      }
      const n = Math.min(target.length, piece.length);
      target.set(piece.subarray(0, n));
      piece = piece.subarray(n);
      return n;
    },
    close: async () => void output.destroy(),
    abort(reason) {
      failure ??= reason;
      output.destroy(reason);
      endAll(child);
    },
  };
}
