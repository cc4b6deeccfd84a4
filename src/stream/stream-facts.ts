// The properties of a stream that earlier parts set and later parts depend on.
export class StreamFacts {
  /** The machine type, from the configuration. */
  machine: string | undefined;
  /** Capabilities that the configuration lists or the stream uses. */
  readonly capabilities = new Set<string>();
  /** Page size of the target, in bytes; undefined until the stream states it or a RAM record shows it. */
  pageSize: number | undefined;
  /** Set by the command POSTCOPY_ADVISE. */
  postcopyAdvised = false;

  /** Records the target's page size. The first valid value counts. */
  recordPageSize(bytes: number): void {
    if (isPageSize(bytes)) this.pageSize ??= bytes;
  }
}

/** True for a power of two between the smallest target page (AVR) and the largest (Hexagon), in bytes. */
export function isPageSize(bytes: number): boolean {
  return bytes >= 256 && bytes <= 65536 && Number.isInteger(Math.log2(bytes));
}
