// The frame of a guest check: its options, a line for each case, a time limit for each, the closing line, and
// a way out on which no child process and no temporary file stays behind.
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { within } from "../support/wait.ts";

export type Values = Readonly<Record<string, number | boolean | string>>;

/** Reads `--name value` for each default; a default of false makes a flag. `--seed` is always there. */
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

/** A directory that goes when the process does. */
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

  /** Runs a case; its text, or its error, ends the line. Gives whether it passed. */
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

  /** The closing line and the exit code; ends the process. */
  end(): never {
    console.log(`${this.#passed} passed, ${this.#failed} failed`);
    process.exit(this.#failed === 0 && this.#passed > 0 ? 0 : 1);
  }
}
