// How the command line fails: what is printed, and the exit code. docs/cli.md has the table of codes.
import { WherryError } from "../../base/errors.ts";

export const EXIT = {
  OK: 0,
  /** Something on the host's side failed: a file, a socket, a move, a process. */
  FAILURE: 1,
  /** The command line itself: an unknown option, a value that makes no sense. */
  USAGE: 2,
  /** The guest failed: it panicked, its hart cannot go on, or its own check did not hold. */
  GUEST: 3,
  /** 128 + n: ended by signal n. */
  SIGNAL: 128,
} as const;

/** Printed as `wherry: message`; the process ends with `exitCode`. */
export class CliError extends WherryError {
  readonly exitCode: number;

  constructor(message: string, options?: { exitCode?: number; cause?: unknown }) {
    super("cli", message, options);
    this.exitCode = options?.exitCode ?? EXIT.FAILURE;
  }
}

/** What the user typed cannot be understood. */
export class UsageError extends CliError {
  constructor(message: string) {
    super(message, { exitCode: EXIT.USAGE });
  }
}
