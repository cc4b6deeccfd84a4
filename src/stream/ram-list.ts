// The list of RAM blocks at the start of section "ram" (record MEM_SIZE): the name and size of each block,
// and the additions of some capabilities. The list does not say which additions it has: ignore-shared and
// mapped-ram are known from the configuration; page sizes are present only after POSTCOPY_ADVISE, for blocks
// whose page size is not the host's. Written by ram_save_setup in QEMU's migration/ram.c.
import { ByteReader } from "../base/bytes.ts";
import { hex } from "../base/hex.ts";
import { quoted } from "../base/text.ts";
import {
  decodeMappedRamHeader,
  MAPPED_RAM_HEADER_BYTES,
  mappedRamFault,
  type MappedRamHeader,
} from "./mapped-ram.ts";
import type { StreamCursor } from "./stream-cursor.ts";
import type { StreamFacts } from "./stream-facts.ts";

/** No machine has more; QEMU has no limit. */
export const MAX_RAM_BLOCKS = 65_536;

export interface RamListEntry {
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /** Page size of the source's backend, if it differs from the host's. */
  readonly hostPageSize?: number;
  /** With ignore-shared: the guest-physical address of the block. */
  readonly address?: bigint;
  /** With mapped-ram: the list continues after this block's pages in the file. */
  readonly mapped?: MappedRamHeader;
}

/**
 * Reads the entries of a list whose sizes add up to `total`. `take` gets each entry with its offset and reads
 * the pages between this entry and the next (mapped-ram).
 */
export async function readRamList(
  cursor: StreamCursor,
  facts: StreamFacts,
  total: number,
  take: (entry: RamListEntry, offset: number) => Promise<void> | void,
): Promise<void> {
  const names = new Set<string>();
  for (let left = total; left > 0; ) {
    const { offset } = cursor;
    const name = await cursor.nextString();
    const size = Number(await cursor.nextU64());
    // QEMU's counter would wrap, and it would read the bytes after the list as entries.
    if (name === "" || size > left || names.size === MAX_RAM_BLOCKS) {
      cursor.refuse({
        code: "ram.list",
        offset,
        expected: `at most ${MAX_RAM_BLOCKS} RAM blocks, ${hex(left)} bytes altogether`,
        found: `${quoted(name)} of ${hex(size)}`,
      });
    }
    if (names.has(name)) {
      const found = `${quoted(name)} is listed twice`;
      cursor.refuse({ code: "ram.list", offset, expected: "each RAM block once", found });
    }
    names.add(name);
    left -= size;
    const hostPageSize = facts.postcopyAdvised ? await readHostPageSize(cursor, facts) : undefined;
    const address = facts.capabilities.has("x-ignore-shared") ? await cursor.nextU64() : undefined;
    const mapped = facts.capabilities.has("mapped-ram")
      ? await readMappedRamHeader(cursor, name, size)
      : undefined;
    const entry = {
      name,
      size,
      ...(hostPageSize === undefined ? {} : { hostPageSize }),
      ...(address === undefined ? {} : { address }),
      ...(mapped === undefined ? {} : { mapped }),
    };
    await take(entry, offset);
  }
}

/** Undefined if no page size follows: a name is not empty, a record has flags, and no page is that small. */
async function readHostPageSize(cursor: StreamCursor, facts: StreamFacts): Promise<number | undefined> {
  const wordAt = async (ahead: number): Promise<bigint> => {
    await cursor.need(ahead + 8);
    return cursor.view.getBigUint64(cursor.at + ahead);
  };
  const size = await wordAt(0);
  if (size < 4096n || size >= 1n << 56n || (size & (size - 1n)) !== 0n) return undefined;
  // An address can have a page size's value. It is a page size if another address follows it.
  const next = facts.capabilities.has("x-ignore-shared") ? await wordAt(8) : 0n;
  if (next >= 1n << 56n || (next & 0xfffn) !== 0n) return undefined;
  return Number(cursor.u64());
}

async function readMappedRamHeader(
  cursor: StreamCursor,
  name: string,
  size: number,
): Promise<MappedRamHeader> {
  const { offset } = cursor;
  await cursor.need(MAPPED_RAM_HEADER_BYTES);
  const header = decodeMappedRamHeader(new ByteReader(cursor.bytes(MAPPED_RAM_HEADER_BYTES)));
  const found = mappedRamFault(header, size, cursor.fileOffset);
  if (found !== undefined) {
    const where = `ram block ${name}`;
    cursor.refuse({ code: "ram.list", where, offset, expected: "a mapped-ram header", found });
  }
  return header;
}
