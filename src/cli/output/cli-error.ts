// Failures of the command line: message and exit code. docs/cli.md has the table of codes.
import { WherryError } from "../../base/errors.ts";

export const EXIT = {
  OK: 0,
  /** A failure on the host's side: a file, a socket, a move, a process. */
  FAILURE: 1,
  /** A mistake in the command line: an unknown option, an invalid value. */
  USAGE: 2,
  /** The guest failed: it panicked, a hart crashed, or its own check failed. */
  GUEST: 3,
  /** 128 + n: ended by signal n. */
  SIGNAL: 128,
} as const;

/** Printed as `wherry: message`; the process ends with `exitCode`. */
export class CliError extends WherryError {
  exitCode: number;

  constructor(message: string, options?: { exitCode?: number; cause?: unknown }) {
    super("cli", message, options);
    this.exitCode = options?.exitCode ?? EXIT.FAILURE;
  }
}

/** The command line cannot be understood. */
export class UsageError extends CliError {
  constructor(message: string) {
    super(message, { exitCode: EXIT.USAGE });
  }
}
