// The properties of a stream that earlier parts set and later parts depend on.
export class StreamFacts {
  /** The machine type, from the configuration. */
  machine: string | undefined;
  /** Those that the configuration lists, and those that are seen in use. */
  readonly capabilities = new Set<string>();
  /** Of the target, in bytes; undefined until the stream says it, or RAM shows it. */
  pageSize: number | undefined;
  /** Command POSTCOPY_ADVISE has come. */
  postcopyAdvised = false;

  /** The stream says the target's page size; the first word counts, and only one that can be. */
  sayPageSize(bytes: number): void {
    if (isPageSize(bytes)) this.pageSize ??= bytes;
  }
}

/** In bytes: a power of two, as small as AVR's or as large as Hexagon's. */
export function isPageSize(bytes: number): boolean {
  return bytes >= 256 && bytes <= 65536 && Number.isInteger(Math.log2(bytes));
}
