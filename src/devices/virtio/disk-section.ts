// What a saved machine remembers of a disk's contents, so that it is not continued with a disk that went on
// without it. A section of its own beside the device's: QEMU's streams have none, nor have Wherry's older
// ones. docs/decisions/0015-disk-fingerprint.md gives the reasons.
import { bool, defineState, type StateDefinition, u32, u64, varBuffer } from "../../state/schema.ts";
import { type Section, sectionOf } from "../../state/section.ts";

/** Bytes of a chunk's hash: the first of its SHA-256; all zero if the chunk is. */
export const CHUNK_HASH_BYTES = 16;
const MAX_CHUNKS = 65536;

/** The size of a disk's chunks: a MiB, or what keeps their number in bounds. */
export function chunkBytesOf(sizeBytes: number): number {
  let chunkBytes = 1 << 20;
  while (sizeBytes > chunkBytes * MAX_CHUNKS) chunkBytes *= 2;
  return chunkBytes;
}

/** A saved machine's disk. */
export interface DiskState {
  /** 0: the backend keeps no record. */
  sizeBytes: bigint;
  readonly: boolean;
  /** Device, inode and time of the last change in ns of the image's file; 0: not known. */
  device: bigint;
  inode: bigint;
  changedNs: bigint;
  hashBytes: number;
  /** One for each chunk; none in a live move, where nobody can have written since. */
  hashes: Uint8Array;
}

export const diskState: StateDefinition<DiskState> = defineState(
  "wherry/disk",
  { version: 1 },
  {
    sizeBytes: u64,
    readonly: bool,
    device: u64,
    inode: u64,
    changedNs: u64,
    hashBytes: u32,
    hashes: varBuffer("hashBytes", MAX_CHUNKS * CHUNK_HASH_BYTES).check(({ length }, { sizeBytes }) => {
      const chunks = Math.ceil(Number(sizeBytes) / chunkBytesOf(Number(sizeBytes)));
      return length === 0 || length === chunks * CHUNK_HASH_BYTES ? undefined : `hashes of ${chunks} chunks`;
    }),
  },
);

/** A backend's knowledge of its contents. */
export interface DiskRecord {
  /** As of the last update. */
  readonly state: DiskState;
  /** Throws WherryError if the saved machine cannot continue with this disk, whatever its contents are. */
  check(saved: DiskState): void;
  /** The next activation compares the contents. */
  expect(saved: DiskState): void;
}

/** Any disk will do. */
const unrecorded = (): DiskRecord => ({ state: diskState.create(), check: () => {}, expect: () => {} });

/** Without a record, the section says nothing of the disk. */
export function diskSection(drive: number, record: DiskRecord = unrecorded()): Section {
  return {
    ...sectionOf({
      definition: diskState,
      instanceId: drive,
      get: () => record.state,
      check: (saved) => record.check(saved),
      apply: (saved) => record.expect(saved),
    }),
    isOptional: true,
  };
}
