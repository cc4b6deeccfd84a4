// Commands in a stream (MIG_CMD_* in QEMU's migration/savevm.c): be16 number, be16 length, data. Postcopy's
// commands are decoded for the inspector and for the loader's refusal: a postcopy stream cannot be stored,
// because its pages are requested over the return path. The caller reads the sections in a PACKAGED command's
// payload.
import { ByteReader, EndOfBytes } from "../base/bytes.ts";
import { decodeUtf8 } from "../base/text.ts";
import { MigrationError } from "./migration-error.ts";
import type { StreamCursor } from "./stream-cursor.ts";
import { MIG_CMD } from "./wire.ts";

export type CommandName = keyof typeof MIG_CMD;

/** Data length in bytes; undefined where it varies. */
const DATA_BYTES: Readonly<Record<CommandName, number | undefined>> = {
  OPEN_RETURN_PATH: 0,
  PING: 4,
  POSTCOPY_ADVISE: undefined,
  POSTCOPY_LISTEN: 0,
  POSTCOPY_RUN: 0,
  POSTCOPY_RAM_DISCARD: undefined,
  PACKAGED: 4,
  ENABLE_COLO: 0,
  POSTCOPY_RESUME: 0,
  RECV_BITMAP: undefined,
  SWITCHOVER_START: 0,
};
const NAMES: ReadonlyMap<number, CommandName> = new Map(
  (Object.keys(MIG_CMD) as CommandName[]).map((name) => [MIG_CMD[name], name]),
);
export const MAX_COMMAND = Math.max(...NAMES.keys());

export interface StreamCommand {
  readonly command: number;
  readonly name: CommandName;
  /** A copy. */
  readonly data: Uint8Array<ArrayBuffer>;
}

/**
 * Reads a command after its type byte, which is at `offset`. Refuses unknown commands and wrong lengths, as
 * QEMU does.
 */
export async function readCommand(cursor: StreamCursor, offset: number): Promise<StreamCommand> {
  await cursor.need(4);
  const command = cursor.u16();
  const length = cursor.u16();
  const name = NAMES.get(command);
  const code = "stream.command";
  if (name === undefined) {
    const expected = `a command from 1 to ${MAX_COMMAND}`;
    cursor.refuse({ code, offset, expected, found: `unknown command ${command} with ${length} bytes` });
  }
  const bytes = DATA_BYTES[name];
  if (bytes !== undefined && length !== bytes)
    cursor.refuse({ code, offset, expected: `${name} with ${bytes} bytes`, found: `${length} bytes` });
  await cursor.need(length);
  return { command, name, data: cursor.bytes(length).slice() };
}

/** Data of POSTCOPY_ADVISE. Both fields are undefined if only dirty bitmaps follow. */
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

/** Data of POSTCOPY_RAM_DISCARD: pages that were sent and are dirty again. */
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
