// The list of RAM blocks at the start of section "ram" (record MEM_SIZE): name and size of each block, and what some
// capabilities add. Which of the additions are there is not said at the list: ignore-shared and mapped-ram are known from
// the configuration, page sizes come only after POSTCOPY_ADVISE, for blocks whose pages are not the host's.
import { ByteReader } from "../base/bytes.ts";
import { decodeMappedRamHeader, type MappedRamHeader } from "./mapped-ram.ts";

/** What was seen before the list. */
export interface RamListContext {
  /** Capability `x-ignore-shared`. */
  readonly ignoreShared: boolean;
  /** Command POSTCOPY_ADVISE. */
  readonly postcopyAdvised: boolean;
  /** Capability `mapped-ram`. */
  readonly mappedRam: boolean;
}

export interface RamListEntry {
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** Of the source's memory, where it differs from the host's pages. */
  readonly pageSize?: number;
  /** With ignore-shared: where the guest sees the block. */
  readonly guestPhys?: number;
  /** With mapped-ram: the list goes on after this block's pages in the file. */
  readonly mapped?: MappedRamHeader;
}

/** One entry. Throws EndOfBytes, also where the 8 bytes after the entry are needed and missing. */
export function decodeRamListEntry(reader: ByteReader, context: RamListContext): RamListEntry {
  const name = reader.countedString();
  const size = Number(reader.u64());
  // No name is empty, and no page is as small as the numbers of the records that follow the list.
  let pageSize: number | undefined;
  if (context.postcopyAdvised) {
    const ahead = Number(new ByteReader(reader.peek(0, 8) ?? reader.bytes(8)).u64());
    if (ahead >= 4096 && ahead < 2 ** 56 && Number.isInteger(Math.log2(ahead))) {
      pageSize = ahead;
      reader.bytes(8);
    }
  }
  const guestPhys = context.ignoreShared ? Number(reader.u64()) : undefined;
  const mapped = context.mappedRam ? decodeMappedRamHeader(reader) : undefined;
  return {
    name,
    size,
    ...(pageSize === undefined ? {} : { pageSize }),
    ...(guestPhys === undefined ? {} : { guestPhys }),
    ...(mapped === undefined ? {} : { mapped }),
  };
}
