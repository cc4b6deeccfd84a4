// A machine as a user runs it: `wherry run` or `wherry restore` in a child process, with QMP and console on
// unix sockets. No child outlives the check.
import { setTimeout as sleep } from "node:timers/promises";
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { directory } from "./cases.ts";
import { connectUnix, QmpClient, QmpFailure } from "./qmp-client.ts";
import { until, within } from "./wait.ts";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const START_MS = 300_000;

const children = new Set<ChildProcess>();
process.on("exit", killAll);

/** Ends every machine at once. */
export function killAll(): void {
  for (const child of children) child.kill("SIGKILL");
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Command extends Exit {
  readonly out: string;
  readonly err: string;
}

/** Runs `wherry …` to its end. */
export async function wherry(args: readonly string[], limitMs = 60_000): Promise<Command> {
  const { child, exit } = launch(args, []);
  let out = "";
  let err = "";
  child.stdout?.on("data", (text) => (out += text));
  child.stderr?.on("data", (text) => (err += text));
  try {
    return { ...(await within(limitMs, `wherry ${args[0]}`, exit)), out, err };
  } finally {
    child.kill("SIGKILL");
  }
}

function launch(
  args: readonly string[],
  wrap: readonly string[],
): { child: ChildProcess; exit: Promise<Exit> } {
  const [program, ...rest] = [...wrap, process.execPath, MAIN, ...args];
  const child = spawn(program as string, rest, { stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  const exit = new Promise<Exit>((resolve) => {
    child.once("error", () => resolve({ code: null, signal: null }));
    child.once("close", (code, signal) => {
      children.delete(child);
      resolve({ code, signal });
    });
  });
  return { child, exit };
}

export interface See {
  /** Rejects if this matches before the pattern does. */
  readonly refuse?: RegExp;
  /** Converts the output into the text to search. */
  readonly view?: (text: string) => string;
}

/** The guest's console; `text` is its output since the connection. */
export class Console {
  readonly #socket: Socket;
  /** The text's length after each piece of output, and when the piece came. */
  readonly #arrivals: { readonly end: number; readonly at: number }[] = [];
  text = "";
  /** Resolves when the machine has closed the console: no more output follows. */
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      this.text += text;
      this.#arrivals.push({ end: this.text.length, at: performance.now() });
    });
    socket.on("error", () => {});
    this.closed = new Promise((resolve) => {
      socket.once("close", () => resolve());
    });
  }

  static async connect(path: string): Promise<Console> {
    return new Console(await connectUnix(path));
  }

  type(text: string): void {
    this.#socket.write(text);
  }

  /** When the output up to a position had come, as performance.now() counts. */
  arrival(position: number): number {
    return this.#arrivals.find(({ end }) => end >= position)?.at ?? Number.NaN;
  }

  /** The first match from a position on. */
  async see(
    pattern: RegExp,
    limitMs: number,
    from = 0,
    { refuse, view = (text) => text }: See = {},
  ): Promise<RegExpExecArray> {
    try {
      return await until(limitMs, `console: ${pattern}`, () => {
        const text = this.text.slice(from);
        const bad = refuse?.exec(text);
        if (bad) throw new Error(`console: ${bad[0].trim()}`);
        return pattern.exec(view(text)) ?? undefined;
      });
    } catch (error) {
      const last = this.text.trimEnd().split("\n").slice(-3).join(" ⏎ ").replaceAll("\r", "");
      throw new Error(`${(error as Error).message}; last lines: ${last || "none"}`, { cause: error });
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}

let serialNumber = 0;

export interface Start {
  /** A command that runs the machine, such as unshare. */
  readonly wrap?: readonly string[];
  /** Connects the console before the machine starts, so that no output is missed. */
  readonly fromFirstByte?: boolean;
  /** With `fromFirstByte`: called before the machine starts. */
  readonly beforeStart?: (qmp: QmpClient) => Promise<void>;
}

export class Machine {
  readonly name: string;
  readonly child: ChildProcess;
  readonly exit: Promise<Exit>;
  readonly qmpPath: string;
  readonly qmp: QmpClient;
  readonly console: Console;
  readonly #complaints: () => string;

  private constructor(
    name: string,
    { child, exit }: { child: ChildProcess; exit: Promise<Exit> },
    qmpPath: string,
    qmp: QmpClient,
    console: Console,
    complaints: () => string,
  ) {
    this.name = name;
    this.child = child;
    this.exit = exit;
    this.qmpPath = qmpPath;
    this.qmp = qmp;
    this.console = console;
    this.#complaints = complaints;
  }

  /** `args` begin with the command, `run` or `restore`. Rejects with the process's message if it ends. */
  static async start(
    args: readonly string[],
    { wrap = [], fromFirstByte = false, beforeStart }: Start = {},
  ): Promise<Machine> {
    const name = `m${serialNumber++}`;
    const qmpPath = join(directory, `${name}.qmp`);
    const consolePath = join(directory, `${name}.console`);
    const [command, ...rest] = args;
    const sockets = ["--qmp", `unix:${qmpPath}`, "--serial", `unix:${consolePath}`];
    const paused = fromFirstByte ? ["--paused"] : [];
    const launched = launch([command as string, ...rest, ...sockets, ...paused], wrap);
    const { child, exit } = launched;
    let err = "";
    child.stderr?.on("data", (text) => (err += text));
    child.stdout?.resume();
    const end = performance.now() + START_MS;
    for (;;) {
      try {
        const console = await Console.connect(consolePath);
        const qmp = await QmpClient.connect(qmpPath);
        if (fromFirstByte) {
          await until(START_MS, "it is ready to start", async () => {
            const { status } = await qmp.execute<{ status: string }>("query-status");
            return status === "inmigrate" ? undefined : status;
          });
          await beforeStart?.(qmp);
          await qmp.execute("cont");
        }
        return new Machine(name, launched, qmpPath, qmp, console, () => err);
      } catch (error) {
        if (child.exitCode !== null || child.signalCode !== null) {
          await exit;
          throw new Error(
            `wherry ${command} ended with ${child.exitCode ?? child.signalCode}: ${err.trim()}`,
            {
              cause: error,
            },
          );
        }
        if (performance.now() > end) {
          child.kill("SIGKILL");
          throw new Error(`wherry ${command} did not come up`, { cause: error });
        }
      }
      await sleep(30);
    }
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }
  /** The process's output on stderr. */
  get complaints(): string {
    return this.#complaints();
  }

  /** `gone` for a process that has ended. */
  async status(): Promise<string> {
    if (this.ended) return "gone";
    try {
      return (await this.qmp.execute<{ status: string }>("query-status")).status;
    } catch (error) {
      if (!(error instanceof QmpFailure)) throw error;
      return "gone";
    }
  }

  /** The machine's state, for the report of a failure. */
  async doing(): Promise<string> {
    const harts = await this.qmp.execute<unknown[]>("query-cpus-fast");
    const words = harts.map(async (_, cpu) => {
      const hart = await this.qmp.execute<Record<string, string>>("x-wherry-registers", { cpu });
      const names = ["pc", "x1", "mpState", "mie", "mip", "scause", "timerTime", "timerCompare"];
      return `hart ${cpu} ${names.map((name) => `${name}=${hart[name]}`).join(" ")}`;
    });
    return [await this.status(), ...(await Promise.all(words))].join("; ");
  }

  /** Waits for the end of the process. */
  async ends(limitMs: number): Promise<Exit> {
    return within(limitMs, `${this.name} ends`, this.exit);
  }

  /** Ends the process by `quit`, or else by SIGKILL. */
  async quit(): Promise<void> {
    this.qmp.execute("quit").catch(() => {});
    await this.ends(10_000).catch(() => this.child.kill("SIGKILL"));
    await this.kill();
  }

  /** Kills the process. Afterwards the console's text is complete. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exit;
    await this.console.closed;
    this.qmp.close();
    this.console.close();
  }
}
