// Verifies a stream in Wherry's own format against the hashes in its last section (src/stream/integrity.ts).
// This takes a second pass, so the source must be readable twice.
import { messageOf } from "../../base/errors.ts";
import { hex } from "../../base/hex.ts";
import { Xxh32 } from "../../base/xxh32.ts";
import { decodeIntegrity } from "../../stream/integrity.ts";
import { VMDESCRIPTION_HEAD_BYTES } from "../../stream/vm-description.ts";
import type { StreamReport } from "../model/stream-report.ts";
import { problem } from "../model/problems.ts";
import type { Scan } from "./scan.ts";
import type { ByteSource } from "./byte-source.ts";

const PIECE = 1024 * 1024;

/**
 * `section` has the data of the integrity section and its offset. Differences are added to the scan's
 * warnings.
 */
export async function checkIntegrity(
  scan: Scan,
  section: { readonly data: Uint8Array; readonly offset: number },
  {
    start,
    descriptionAt,
    skip,
  }: {
    /** Offset of the stream in its source. */
    readonly start: number;
    readonly descriptionAt: number | undefined;
    readonly skip: boolean;
  },
): Promise<NonNullable<StreamReport["integrity"]>> {
  const { source } = scan;
  if (source.size === undefined || skip) return "not checked";
  const differs = (where: string, offset: number, expected: string, found: string) => {
    scan.warnings.push(problem("integrity.differs", where, offset, expected, found));
    return "differs" as const;
  };
  try {
    const table = decodeIntegrity(section.data.subarray(4), section.offset + 4);
    const parts = table.units.map(({ name, instanceId, offset, length, hash, ranges }) => {
      const pages = ranges.map(({ block, first, end }) => `${block} ${hex(first)}..${hex(end)}`).join(", ");
      const where = pages === "" ? `section ${name}/${instanceId}` : `RAM chunk (${pages})`;
      return { where, offset: start + offset, length, hash };
    });
    if (descriptionAt !== undefined) {
      const { vmdescLength: length, vmdescHash: hash } = table;
      parts.push({ where: "vmdescription", offset: descriptionAt + VMDESCRIPTION_HEAD_BYTES, length, hash });
    }
    const piece = new Uint8Array(PIECE);
    for (const { where, offset, length, hash } of parts) {
      const found = await hashOf(source, offset, length, piece);
      if (found !== hash) return differs(where, offset, `hash ${hex(hash)} of ${length} bytes`, hex(found));
    }
    return "agrees";
  } catch (error) {
    return differs("section wherry/integrity/0", section.offset, "a table of hashes", messageOf(error));
  }
}

async function hashOf(
  source: ByteSource,
  offset: number,
  length: number,
  piece: Uint8Array,
): Promise<number> {
  const hash = new Xxh32();
  for (let at = 0; at < length; ) {
    const got = await source.read(offset + at, piece.subarray(0, Math.min(piece.length, length - at)));
    if (got === 0) break;
    hash.update(piece, 0, got);
    at += got;
  }
  return hash.digest();
}
