// The root of all errors thrown for a fault of the host or the user. A guest's mistake never throws: it
// becomes a trap, an error status or DEVICE_NEEDS_RESET. Each layer has one subclass (StateError,
// StreamError, MigrationError, …).

/** The base class. `code` is a stable, machine-readable word such as `"state.range"`. */
export class WherryError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The message of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
