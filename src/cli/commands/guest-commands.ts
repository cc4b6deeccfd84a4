// `wherry exec` and `wherry cp`: commands and files in a running machine's guest, by its agent.
import { stat } from "node:fs/promises";
import { constants } from "node:os";
import { basename, join } from "node:path";
import type { Agent } from "../../agent/agent-client.ts";
import { AgentError, abortableByAgent } from "../../agent/agent-error.ts";
import { Guest } from "../../agent/guest.ts";
import { nodePlatform } from "../../node/node-platform.ts";
import { guestToHost, hostToGuest } from "../../node/guest/guest-copy.ts";
import { CliError, EXIT, UsageError } from "../output/cli-error.ts";
import { type Options, text, type ValuesOf } from "../options/command-line.ts";
import { machineAddress, number } from "../options/option-values.ts";
import { QmpClient } from "../machine/qmp-client.ts";
import { feed, show, terminalSize, useTerminal } from "../machine/exec-streams.ts";

export const execOptions = {
  cwd: { value: "DIRECTORY", parse: text, help: "working directory in the guest (default /)" },
  env: {
    value: "NAME=VALUE",
    parse: text,
    many: true,
    help: "a variable for the command; may be given several times",
  },
  tty: {
    short: "t",
    help: "run it on a terminal in the guest: all keys go to it, and its size follows this terminal's",
  },
  timeout: {
    value: "SECONDS",
    parse: number(1, 1_000_000),
    help: "end the command (SIGKILL) after this time, with exit code 124",
  },
  wait: {
    value: "SECONDS",
    parse: number(0, 86_400),
    help: "how long to wait for an agent that has not started yet (default 60)",
  },
} satisfies Options;

export const copyOptions = { wait: execOptions.wait } satisfies Options;

/** As timeout(1). */
const EXIT_TIMEOUT = 124;

/** The agent behind a machine's QMP socket. */
class QmpAgent implements Agent {
  readonly #client: QmpClient;
  readonly #waitMs: number | undefined;

  constructor(client: QmpClient, waitMs: number | undefined) {
    this.#client = client;
    this.#waitMs = waitMs;
  }

  async execute(command: string, args: object = {}, options: Parameters<Agent["execute"]>[2] = {}) {
    const { signal, timeoutMs, waitMs = this.#waitMs } = options;
    const request = {
      ...{ command, arguments: args },
      ...(timeoutMs === undefined ? {} : { timeout: timeoutMs }),
      ...(waitMs === undefined ? {} : { wait: waitMs }),
    };
    const reply = this.#client.execute("x-wherry-agent", request).catch((error: Error) => {
      const code = error.message.startsWith("the guest agent refuses ") ? "agent.command" : "agent.failed";
      throw new AgentError(code, error.message, { cause: error });
    });
    return abortableByAgent(reply, signal);
  }
}

async function withGuest<T>(
  machine: string,
  wait: number | undefined,
  use: (guest: Guest) => Promise<T>,
): Promise<T> {
  const client = await QmpClient.connect(machineAddress(machine));
  try {
    return await use(
      new Guest(new QmpAgent(client, wait === undefined ? undefined : wait * 1000), nodePlatform.setTimer),
    );
  } catch (error) {
    if (error instanceof AgentError) throw new CliError(error.message, { cause: error });
    throw error;
  } finally {
    client.close();
  }
}

/** Runs a command with this process's streams. Returns its exit code. */
export function exec(
  machine: string,
  words: readonly string[],
  values: ValuesOf<typeof execOptions>,
): Promise<number> {
  const [command, ...args] = words;
  if (command === undefined) throw new UsageError("the command is missing: wherry exec VM -- COMMAND");
  const env = Object.fromEntries(
    values.env.map((variable) => {
      const at = variable.indexOf("=");
      if (at < 1) throw new UsageError(`--env: expected NAME=VALUE, found '${variable}'`);
      return [variable.slice(0, at), variable.slice(at + 1)];
    }),
  );
  const { TERM } = process.env;
  if (values.tty && TERM !== undefined && TERM !== "") env["TERM"] ??= TERM;
  return withGuest(machine, values.wait, async (guest) => {
    const pty = values.tty ? terminalSize() : undefined;
    const process_ = await guest.spawn(command, { args, cwd: values.cwd, env, pty });
    const leaveTerminal = values.tty ? useTerminal(process_) : () => {};
    let isLate = false;
    const late = () => {
      isLate = true;
      void process_.kill("KILL").catch(() => {});
    };
    const timer = values.timeout === undefined ? undefined : setTimeout(late, values.timeout * 1000);
    const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
    let signalled: number | undefined;
    const pass = (signal: NodeJS.Signals) => {
      // The second one does not wait for the guest.
      if (signalled !== undefined) process.exit(EXIT.SIGNAL + signalled);
      signalled = constants.signals[signal];
      void process_.kill(signal.slice(3)).catch(() => {});
    };
    for (const signal of signals) process.on(signal, pass);
    // Whoever reads our output has gone: `close` ends the command, which would fill the guest's disk.
    const unread = new Promise<number>((resolve, reject) => {
      for (const output of [process.stdout, process.stderr]) {
        output.removeAllListeners("error").on("error", (error: NodeJS.ErrnoException) => {
          if (error.code === "EPIPE") resolve(EXIT.SIGNAL + constants.signals.SIGPIPE);
          else reject(new CliError(`standard output: ${error.message}`, { cause: error }));
        });
      }
    });
    const shown = async (): Promise<number> => {
      await Promise.all([show(process_, "out", process.stdout), show(process_, "err", process.stderr)]);
      const code = await process_.exitCode;
      return isLate ? EXIT_TIMEOUT : code;
    };
    try {
      void feed(process_, values.tty).catch(() => {});
      return await Promise.race([unread, shown()]);
    } finally {
      clearTimeout(timer);
      leaveTerminal();
      process.stdin.destroy();
      await process_.close();
      for (const signal of signals) process.off(signal, pass);
    }
  });
}

/** `VM:PATH`, as scp has it; a path of this host has a slash before any colon. */
function place(word: string): { machine: string; path: string } | undefined {
  const [, machine, path] = /^((?:unix:|tcp:[^:]*:)?[^:]+):(.+)$/s.exec(word) ?? [];
  if (machine === undefined || path === undefined || /^[./]/.test(word)) return undefined;
  return { machine, path };
}

/** Copies a file or directory between this host and a guest. */
export async function copy(from: string, to: string, { wait }: ValuesOf<typeof copyOptions>): Promise<void> {
  const [source, target] = [place(from), place(to)];
  if ((source === undefined) === (target === undefined))
    throw new UsageError("one of the two is VM:PATH, the other a path of this host: wherry cp VM:FROM TO");
  if (source !== undefined) await withGuest(source.machine, wait, (guest) => copyOut(guest, source.path, to));
  else if (target !== undefined)
    await withGuest(target.machine, wait, (guest) => copyIn(guest, from, target.path));
}

/** The name that a copy gets in a directory; none for `/`, `.` and `..`, which would lead elsewhere. */
function nameOf(path: string): string {
  const name = basename(path);
  return name === "." || name === ".." ? "" : name;
}

/** Into the directory, if the target is one, as cp does. */
async function copyIn(guest: Guest, from: string, to: string): Promise<void> {
  const inside = await guest.stat(to).then(
    ({ kind }) => kind === "directory",
    () => false,
  );
  await hostToGuest(guest, from, inside ? `${to.replace(/\/$/, "")}/${nameOf(from)}` : to);
}

async function copyOut(guest: Guest, from: string, to: string): Promise<void> {
  const inside = await stat(to).then(
    (there) => there.isDirectory(),
    () => false,
  );
  await guestToHost(guest, from, inside ? join(to, nameOf(from)) : to);
}
