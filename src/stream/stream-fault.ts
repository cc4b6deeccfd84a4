// A fault in a stream's bytes, as data. The grammar finds it; the reader decides the consequence: the loader
// refuses the stream with a MigrationError, the inspector adds a Problem to its report.

/** The kind of a fault. The inspector's report uses the same codes. */
export type FaultCode =
  | "stream.magic"
  | "stream.version"
  | "stream.configuration"
  | "stream.footer"
  | "stream.command"
  | "stream.limit"
  | "stream.trailing"
  | "ram.list"
  | "ram.block"
  | "ram.range"
  | "ram.flags";

/** Bytes of a stream that break its grammar. */
export interface StreamFault {
  readonly code: FaultCode;
  /** Stream offset of the wrong bytes. */
  readonly offset: number;
  /** Complete the message "expected …, found …". */
  readonly expected: string;
  readonly found: string;
  /** The part of the stream; default: the part being read. */
  readonly where?: string;
  /** What produces such streams, and the remedy, if more is known than the code says. */
  readonly cause?: string;
  readonly cure?: string;
}
