// The commands by which a stream is recognised as postcopy: what they say, for the inspector and for the refusal. A
// postcopy stream cannot be kept: its pages are asked for over the return path, so Wherry reads none to the end.
import { ByteReader, EndOfBytes } from "../base/bytes.ts";
import { decodeUtf8 } from "../base/text.ts";
import { MigrationError } from "./migration-error.ts";

/** POSTCOPY_ADVISE. Both undefined: only dirty bitmaps are to follow. */
export interface PostcopyAdvise {
  /** Page sizes of the source's memory, in bytes, smallest first. */
  readonly pageSizes?: readonly number[];
  readonly targetPageSize?: number;
}

/** Throws MigrationError. */
export function decodePostcopyAdvise(data: Uint8Array): PostcopyAdvise {
  if (data.length === 0) return {};
  if (data.length !== 16) {
    throw new MigrationError(
      "migration.postcopy",
      `POSTCOPY_ADVISE has ${data.length} bytes, expected 0 or 16`,
    );
  }
  const reader = new ByteReader(data);
  const sizes = reader.u64();
  const pageSizes: number[] = [];
  for (let bit = 0n; bit < 64n; bit++) {
    if (((sizes >> bit) & 1n) === 1n) pageSizes.push(2 ** Number(bit));
  }
  return { pageSizes, targetPageSize: Number(reader.u64()) };
}

/** POSTCOPY_RAM_DISCARD: pages that came and are old. */
export interface RamDiscard {
  readonly block: string;
  /** In bytes. */
  readonly ranges: readonly { readonly start: number; readonly length: number }[];
}

/** Throws MigrationError. */
export function decodeRamDiscard(data: Uint8Array): RamDiscard {
  try {
    const reader = new ByteReader(data);
    const version = reader.u8();
    const name = reader.bytes(reader.u8());
    const end = reader.u8();
    if (version !== 0 || end !== 0 || reader.remaining % 16 !== 0) {
      throw new MigrationError(
        "migration.postcopy",
        `POSTCOPY_RAM_DISCARD of ${data.length} bytes is not of version 0 with ranges of 16 bytes (version ${version})`,
      );
    }
    const ranges: { start: number; length: number }[] = [];
    while (reader.remaining > 0) ranges.push({ start: Number(reader.u64()), length: Number(reader.u64()) });
    return { block: decodeUtf8(name), ranges };
  } catch (error) {
    if (!(error instanceof EndOfBytes)) throw error;
    throw new MigrationError("migration.postcopy", `POSTCOPY_RAM_DISCARD of ${data.length} bytes is cut`);
  }
}
