// A machine in a child process (`wherry run …`), with QMP and console on unix sockets: used by the demo.
import { type ChildProcess, spawn } from "node:child_process";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundled } from "../../node/bundle.ts";
import { CliError } from "../output/cli-error.ts";
import { ConsoleClient } from "./console-client.ts";
import { QmpClient } from "./qmp-client.ts";

// Compiled or from the sources, like this process.
const MAIN = fileURLToPath(
  bundled("../cli/main.js") ?? new URL(`../main${extname(import.meta.url)}`, import.meta.url),
);
const START_TIMEOUT_MS = 60_000;
const RETRY_MS = 50;
/** The time for a machine to end after `quit` before it is killed. */
const QUIT_TIMEOUT_MS = 5_000;

export class MachineProcess {
  readonly name: string;
  readonly qmp: QmpClient;
  readonly console: ConsoleClient;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;

  private constructor(
    name: string,
    child: ChildProcess,
    exited: Promise<void>,
    qmp: QmpClient,
    c: ConsoleClient,
  ) {
    this.name = name;
    this.qmp = qmp;
    this.console = c;
    this.#child = child;
    this.#exited = exited;
  }

  /**
   * Starts `wherry run` with `args`; the sockets are in `directory`. Rejects with CliError if it ends early.
   */
  static async start(name: string, directory: string, args: readonly string[]): Promise<MachineProcess> {
    const qmpPath = join(directory, `${name}.qmp`);
    const consolePath = join(directory, `${name}.serial`);
    const sockets = ["--qmp", `unix:${qmpPath}`, "--serial", `unix:${consolePath}`];
    const child = spawn(process.execPath, [MAIN, "run", ...args, ...sockets], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    live.add(child);
    let complaints = "";
    let isUp = false;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      if (isUp) process.stderr.write(`${name} process: ${text}`);
      else complaints = (complaints + text).slice(-4096);
    });
    const exited = new Promise<void>((resolve) => {
      child.once("close", () => {
        live.delete(child);
        resolve();
      });
    });
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      try {
        const qmp = await QmpClient.connect({ kind: "unix", path: qmpPath });
        isUp = true;
        return new MachineProcess(name, child, exited, qmp, await ConsoleClient.connect(consolePath));
      } catch (error) {
        if (child.exitCode !== null || child.signalCode !== null) {
          await exited;
          throw new CliError(
            `the ${name} process ended at its start: ${complaints.trim() || "no reason given"}`,
          );
        }
        if (performance.now() > deadline) {
          child.kill("SIGKILL");
          throw new CliError(`the ${name} process did not come up within ${START_TIMEOUT_MS / 1000} s`, {
            cause: error,
          });
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves when the process has ended. */
  get exited(): Promise<void> {
    return this.#exited;
  }

  /** Ends the machine: by QMP, and by force if that takes too long. */
  async quit(): Promise<void> {
    await this.qmp.execute("quit").catch(() => {});
    const kill = setTimeout(() => this.#child.kill("SIGKILL"), QUIT_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(kill);
    this.qmp.close();
    this.console.close();
  }
}

const live = new Set<ChildProcess>();
// No machine outlives this process, however it ends.
process.on("exit", () => {
  for (const child of live) child.kill("SIGKILL");
});
