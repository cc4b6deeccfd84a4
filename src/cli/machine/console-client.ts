// A client of a guest's console on its unix socket: waits for text, types text, or connects the terminal.
import { connect, type Socket } from "node:net";
import { openTerminal } from "../../node/terminal.ts";
import { CliError } from "../output/cli-error.ts";

/** The amount of output kept for `waitFor`; more than a boot prints. */
const MAX_KEPT = 1 << 20;

export class ConsoleClient {
  readonly #socket: Socket;
  readonly #listeners = new Set<() => void>();
  #text = "";
  /** The number of bytes before those that `#text` holds. */
  #dropped = 0;
  #sink: ((bytes: Buffer) => void) | undefined;
  #closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    // latin1 keeps every byte; the patterns are ASCII.
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

  /** The number of bytes the guest has printed, used as a position for `waitFor` and `textFrom`. */
  get position(): number {
    return this.#dropped + this.#text.length;
  }

  /** The output from a position on, as far as it is kept. */
  textFrom(position: number): string {
    return this.#text.slice(Math.max(0, position - this.#dropped));
  }

  /** Calls `listener` after each piece of output. Returns a function that removes it. */
  onOutput(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  type(text: string): void {
    this.#socket.write(text);
  }

  /**
   * Resolves with the first match in the output from a position on (default: from now on), or in the text
   * that `view` makes of it.
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

  /** Connects our terminal to the console until Ctrl-A x, or until the console ends. */
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
      const goOn = () => this.#socket.resume();
      const finish = (how: "quit" | "ended") => {
        this.#sink = undefined;
        stop();
        terminal.output.off("drain", goOn);
        goOn();
        terminal.restore();
        resolve(how);
      };
      terminal.output.on("drain", goOn);
      this.#sink = (bytes) => {
        if (!terminal.output.write(bytes)) this.#socket.pause();
      };
    });
  }

  close(): void {
    this.#socket.destroy();
  }
}
