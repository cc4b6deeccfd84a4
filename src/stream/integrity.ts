// The last section of a stream in Wherry's own format: hashes of everything before it. The stream is divided
// into units without gaps: the configuration, RAM chunks of 1 MiB of stream (from 4 GiB on, a 4096th of the
// offset), and each device section. The table also has the length and hash of the VMDESCRIPTION that follows.
// The section conforms to QEMU's grammar, but QEMU does not know it. It detects damage and cuts; it is no
// protection against an attacker.
import { ByteReader, type ByteWriter, EndOfBytes } from "../base/bytes.ts";
import { hex } from "../base/hex.ts";
import { xxh32 } from "../base/xxh32.ts";
import { GET_ANOTHER_COPY, MigrationError } from "./migration-error.ts";
import { INTEGRITY_IDSTR, RAM_IDSTR } from "./wire.ts";

const MIN_CHUNK_BYTES = 1024 * 1024;
/**
 * The table is padded so that this many bytes follow any device section: a section's decoder can then always
 * look ahead for a subsection (1 + 1 + 255 + 4 bytes) without waiting for bytes that the sender has not
 * written yet.
 */
const MIN_TABLE_BYTES = 288;
export const DECODE_LOOKAHEAD = 1 + 1 + 255 + 4;
const MAX_TABLE_BYTES = 16 * 1024 * 1024;

/**
 * Pages [first, end) of a RAM block, in bytes from its start: the smallest range that holds all pages of a
 * chunk.
 */
export interface UnitRange {
  readonly block: string;
  first: number;
  end: number;
}

/**
 * A part of the stream with a hash of its own: a section, or a chunk of RAM records. `offset` and `length`
 * are in bytes.
 */
export interface Unit {
  readonly name: string;
  readonly instanceId: number;
  readonly offset: number;
  readonly length: number;
  readonly hash: number;
  readonly ranges: readonly UnitRange[];
}

/** Divides a stream into units while it is written or read. */
export class UnitLog {
  readonly units: Unit[] = [];
  #start = 0;
  #ranges: UnitRange[] = [];
  #last: UnitRange | undefined;

  /** Records that [ramOffset, ramOffset + length) of a block is in the open chunk. */
  touch(block: string, ramOffset: number, length: number): void {
    let range = this.#last;
    if (range?.block !== block) {
      range = this.#ranges.find((r) => r.block === block);
      if (range === undefined) {
        range = { block, first: ramOffset, end: ramOffset + length };
        this.#ranges.push(range);
      }
      this.#last = range;
    }
    if (ramOffset < range.first) range.first = ramOffset;
    if (ramOffset + length > range.end) range.end = ramOffset + length;
  }

  /** True if the open chunk, which ends at stream offset `at`, must be closed at this record boundary. */
  full(at: number): boolean {
    return at - this.#start >= Math.max(MIN_CHUNK_BYTES, this.#start / 4096);
  }

  close(name: string, instanceId: number, at: number, hash: number): void {
    const ranges = this.#ranges;
    this.units.push({ name, instanceId, offset: this.#start, length: at - this.#start, hash, ranges });
    this.#start = at;
    this.#ranges = [];
    this.#last = undefined;
  }

  /** Description of the open RAM chunk, for messages. */
  openChunk(): string {
    const index = this.units.filter((u) => u.name === RAM_IDSTR).length;
    return chunkName(index, this.#ranges);
  }
}

function chunkName(index: number, ranges: readonly UnitRange[]): string {
  const list = ranges.map((r) => `${r.block} ${hex(r.first)}..${hex(r.end)}`).join(", ");
  return `RAM chunk ${index}${list === "" ? "" : ` (${list})`}`;
}

function unitName(units: readonly Unit[], unit: Unit): string {
  if (unit.name === RAM_IDSTR) {
    const index = units.filter((u) => u.name === RAM_IDSTR).indexOf(unit);
    return chunkName(index, unit.ranges);
  }
  return `section ${unit.name}/${unit.instanceId}`;
}

/**
 * The section `wherry/integrity`: a hash (XXH32) of each unit of the stream before it, and of the
 * VMDESCRIPTION.
 */
export interface IntegrityTable {
  readonly units: readonly Unit[];
  readonly vmdescLength: number;
  readonly vmdescHash: number;
}

/** Appends the section's data: be32 length of the rest, the table, zeros, be32 XXH32 of table and zeros. */
export function encodeIntegrity(writer: ByteWriter, body: Uint8Array): void {
  writer.u32(body.length + 4).bytes(body);
  writer.u32(xxh32(body));
}

/**
 * The padded table. Its length does not depend on the VMDESCRIPTION's hash, because the VMDESCRIPTION states
 * that length.
 */
export function integrityBody(writer: ByteWriter, table: IntegrityTable): Uint8Array<ArrayBuffer> {
  writer.u32(table.units.length);
  for (const unit of table.units) {
    writer.countedString(unit.name).u32(unit.instanceId).u64(BigInt(unit.length)).u32(unit.hash);
    writer.u8(unit.ranges.length);
    for (const range of unit.ranges) {
      writer.countedString(range.block).u64(BigInt(range.first)).u64(BigInt(range.end));
    }
  }
  writer.u32(table.vmdescLength).u32(table.vmdescHash);
  while (writer.length < MIN_TABLE_BYTES) writer.u8(0);
  return writer.finish();
}

/** VMDESCRIPTION fields of the section for a body of this length. */
export function describeIntegrity(bodyLength: number): unknown[] {
  return [
    { name: "length", type: "uint32", size: 4 },
    { name: "table", type: "buffer", size: bodyLength },
    { name: "hash", type: "uint32", size: 4 },
  ];
}

/** Checks the section's length field. Throws MigrationError if the length is impossible. */
export function checkIntegrityLength(length: number, offset: number): void {
  if (length >= MIN_TABLE_BYTES + 4 && length <= MAX_TABLE_BYTES) return;
  throw new MigrationError(
    "migration.integrity",
    `expected a table of ${MIN_TABLE_BYTES + 4} to ${MAX_TABLE_BYTES} bytes, found a length of ${length}; ${GET_ANOTHER_COPY}`,
    { where: `section ${INTEGRITY_IDSTR}/0`, offset },
  );
}

/** `data` follows the length field; it begins at stream offset `offset`. */
export function decodeIntegrity(data: Uint8Array, offset: number): IntegrityTable {
  const fail = (what: string): never => {
    throw new MigrationError("migration.integrity", `${what}; ${GET_ANOTHER_COPY}`, {
      where: `section ${INTEGRITY_IDSTR}/0`,
      offset,
    });
  };
  const body = data.subarray(0, data.length - 4);
  const expected = new ByteReader(data, body.length).u32();
  const found = xxh32(body);
  if (expected !== found) fail(`the table of hashes has hash ${hex(found)}, expected ${hex(expected)}`);
  try {
    const reader = new ByteReader(body);
    const units: Unit[] = [];
    let at = 0;
    for (let left = reader.u32(); left > 0; left--) {
      const name = reader.countedString();
      const instanceId = reader.u32();
      const length = Number(reader.u64());
      const hash = reader.u32();
      const ranges: UnitRange[] = [];
      for (let n = reader.u8(); n > 0; n--) {
        ranges.push({
          block: reader.countedString(),
          first: Number(reader.u64()),
          end: Number(reader.u64()),
        });
      }
      units.push({ name, instanceId, offset: at, length, hash, ranges });
      at += length;
    }
    return { units, vmdescLength: reader.u32(), vmdescHash: reader.u32() };
  } catch (error) {
    if (!(error instanceof EndOfBytes)) throw error;
    return fail("the table of hashes ends too early");
  }
}

/**
 * Compares the units read with the units in the sender's table. Throws a MigrationError that names the first
 * difference.
 */
export function verifyUnits(expected: readonly Unit[], found: readonly Unit[]): void {
  const n = Math.max(expected.length, found.length);
  for (let i = 0; i < n; i++) {
    const e = expected[i];
    const f = found[i];
    if (e !== undefined && f?.name === e.name && f.instanceId === e.instanceId && f.length === e.length) {
      if (f.hash === e.hash) continue;
      throw new MigrationError(
        "migration.integrity",
        `its ${e.length} bytes have hash ${hex(f.hash)}, expected ${hex(e.hash)}; ${GET_ANOTHER_COPY}`,
        { where: unitName(expected, e), offset: f.offset },
      );
    }
    const named = e === undefined ? "nothing more" : `${unitName(expected, e)} of ${e.length} bytes`;
    const met = f === undefined ? "nothing more" : `${unitName(found, f)} of ${f.length} bytes`;
    throw new MigrationError("migration.integrity", `expected ${named}, found ${met}; ${GET_ANOTHER_COPY}`, {
      where: e === undefined ? `section ${INTEGRITY_IDSTR}/0` : unitName(expected, e),
      offset: f?.offset ?? e?.offset ?? 0,
    });
  }
}
