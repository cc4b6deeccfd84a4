// A guest's console over its unix socket: text to wait for, text to type, and a terminal that is joined to it.
import { connect, type Socket } from "node:net";
import { openTerminal } from "../../node/terminal.ts";
import { CliError } from "../output/cli-error.ts";

/** What is kept of the output for `waitFor`; a boot's text is shorter. */
const MAX_KEPT = 1 << 20;

export class ConsoleClient {
  readonly #socket: Socket;
  readonly #listeners = new Set<() => void>();
  #text = "";
  /** How much output came before what `#text` still holds. */
  #dropped = 0;
  #sink: ((bytes: Buffer) => void) | undefined;
  #closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    // latin1 keeps every byte; what we look for is ASCII.
    socket.on("data", (bytes: Buffer) => {
      this.#text += bytes.toString("latin1");
      const excess = Math.max(0, this.#text.length - MAX_KEPT);
      this.#text = this.#text.slice(excess);
      this.#dropped += excess;
      this.#sink?.(bytes);
      for (const listener of [...this.#listeners]) listener();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#closed = true;
      for (const listener of [...this.#listeners]) listener();
    });
  }

  static connect(path: string): Promise<ConsoleClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path });
      socket.once("connect", () => resolve(new ConsoleClient(socket)));
      socket.once("error", (cause) => reject(new CliError(`cannot reach the console at ${path}`, { cause })));
    });
  }

  /** How many bytes the guest has printed: a place for `waitFor` and `textFrom`. */
  get position(): number {
    return this.#dropped + this.#text.length;
  }

  /** The output from a position on, as far as it is still kept. */
  textFrom(position: number): string {
    return this.#text.slice(Math.max(0, position - this.#dropped));
  }

  /** Called after each piece of output. Gives what takes the listener away. */
  onOutput(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  type(text: string): void {
    this.#socket.write(text);
  }

  /**
   * Resolves with the first match in the output from a position on (from now on, if none is given), or in what `view`
   * makes of it.
   */
  waitFor(
    pattern: RegExp,
    timeoutMs: number,
    from: number = this.position,
    view: (text: string) => string = (text) => text,
  ): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        clearTimeout(timer);
        stop();
        settle();
      };
      const look = () => {
        const match = pattern.exec(view(this.textFrom(from)));
        if (match !== null) done(() => resolve(match));
        else if (this.#closed) done(() => reject(new CliError(`the console ended before ${pattern} came`)));
      };
      const timer = setTimeout(() => {
        const last = this.textFrom(from).trimEnd().split("\n").slice(-5).join("\n  ");
        const waited = `${Math.round(timeoutMs / 1000)} s`;
        done(() =>
          reject(
            new CliError(`the guest did not print ${pattern} within ${waited}; its last lines:\n  ${last}`),
          ),
        );
      }, timeoutMs);
      const stop = this.onOutput(look);
      look();
    });
  }

  /** Joins our terminal to the console until Ctrl-A x, or until the console ends. */
  async attach(): Promise<"quit" | "ended"> {
    if (this.#closed) return "ended";
    return new Promise((resolve) => {
      const terminal = openTerminal({
        input: (bytes) => void this.#socket.write(bytes),
        quit: () => finish("quit"),
        end: () => {},
      });
      const stop = this.onOutput(() => {
        if (this.#closed) finish("ended");
      });
      const finish = (how: "quit" | "ended") => {
        this.#sink = undefined;
        stop();
        terminal.restore();
        resolve(how);
      };
      this.#sink = (bytes) => terminal.write(bytes);
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}
