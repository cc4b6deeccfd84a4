// The frame of a guest check: options, a line and a time limit for each case, the closing line, and an exit
// that leaves no child process and no temporary file.
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { within } from "./wait.ts";

export type Values = Readonly<Record<string, number | boolean | string>>;

/** Reads `--name value` for each default; a default of false makes a flag. `--seed` always exists. */
export function options<T extends Values>(defaults: T): T & { readonly seed: number } {
  const all: Values = { seed: Date.now() % 1_000_000, ...defaults };
  const known = Object.fromEntries(
    Object.entries(all).map(([name, value]) => [
      name,
      { type: typeof value === "boolean" ? ("boolean" as const) : ("string" as const) },
    ]),
  );
  try {
    const given = parseArgs({ options: known }).values;
    const values = Object.entries(all).map(([name, value]) => {
      const text = given[name];
      if (text === undefined || typeof value !== "number") return [name, text ?? value];
      if (!/^\d+$/.test(String(text))) throw new Error(`--${name} is a number`);
      return [name, Number(text)];
    });
    return Object.fromEntries(values) as T & { seed: number };
  } catch (error) {
    console.error(`${(error as Error).message}\noptions: --${Object.keys(all).join(" --")}`);
    process.exit(2);
  }
}

/** A directory that is removed when the process ends. */
export const directory: string = mkdtempSync(join(tmpdir(), "wherry-check-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => process.exit(128 + constants.signals[signal]));
}

export class Cases {
  #passed = 0;
  #failed = 0;
  readonly #total: number;

  constructor(title: string, total: number) {
    this.#total = total;
    console.log(title);
  }

  get failed(): number {
    return this.#failed;
  }

  /** Runs a case and prints its text or error. Returns whether it passed. */
  async run(name: string, limitMs: number, work: () => Promise<string>): Promise<boolean> {
    const began = performance.now();
    const say = (word: string, text: string): void => {
      const at = `${this.#passed + this.#failed}/${this.#total}`;
      console.log(`${at} ${name}: ${word}, ${((performance.now() - began) / 1000).toFixed(1)} s: ${text}`);
    };
    try {
      const text = await within(limitMs, name, work());
      this.#passed++;
      say("ok", text);
      return true;
    } catch (error) {
      this.#failed++;
      say("FAILED", error instanceof Error ? error.message : String(error));
      return false;
    }
  }

  /** Prints the closing line and ends the process with the exit code. */
  end(): never {
    console.log(`${this.#passed} passed, ${this.#failed} failed`);
    process.exit(this.#failed === 0 && this.#passed > 0 ? 0 : 1);
  }
}
