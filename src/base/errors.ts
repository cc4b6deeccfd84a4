// The root of all errors that Wherry throws for the host's and the user's faults. A guest's mistake
// never throws: it becomes a trap, an error status or DEVICE_NEEDS_RESET (design 06).
// Each layer has one subclass (StateError, StreamError, MigrationError, …).

/** Base class. `code` is a stable machine-readable word such as `"state.range"`. */
export class WherryError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
