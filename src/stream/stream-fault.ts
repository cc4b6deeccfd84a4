// A fault in a stream's bytes, as data. The grammar finds it; the reader decides the consequence: the loader
// refuses the stream with a MigrationError, the inspector adds a Problem to its report.

/** The kind of a fault. The inspector's report uses the same codes. */
export type FaultCode =
  | "stream.magic"
  | "stream.version"
  | "stream.configuration"
  | "stream.footer"
  | "stream.command"
  | "ram.list"
  | "ram.block"
  | "ram.range"
  | "ram.flags";

/** Bytes of a stream that break its grammar. */
export interface StreamFault {
  readonly code: FaultCode;
  /** Of the bytes that are wrong, from the start of the stream. */
  readonly offset: number;
  /** Both complete "expected …, found …". */
  readonly expected: string;
  readonly found: string;
  /** Default: what is being read. */
  readonly where?: string;
  /** What makes streams like this and what to do about it, where more is known than the code says. */
  readonly cause?: string;
  readonly cure?: string;
}
