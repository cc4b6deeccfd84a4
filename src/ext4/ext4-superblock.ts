// The superblock, the group descriptors and an empty journal's superblock.
import { encodeUtf8 } from "../base/text.ts";
import { crc32c } from "./crc32c.ts";
import { BLOCK, DESCRIPTOR, GROUP_BLOCKS, INODE, type Layout } from "./ext4-layout.ts";

// has_journal, ext_attr, resize_inode, dir_index
const COMPAT = 0x4 | 0x8 | 0x10 | 0x20;
// filetype, extents, 64bit
const INCOMPAT = 0x2 | 0x40 | 0x80;
// sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum
const RO_COMPAT = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;
export const JOURNAL_INODE = 8;
export const FIRST_INODE = 11;
/** Bytes of an inode after the first 128 that hold fields. */
export const EXTRA_ISIZE = 32;
/** No inode table has old contents. */
const INODE_ZEROED = 4;

export interface Identity {
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  /** 16 bytes. */
  readonly hashSeed: Uint8Array;
  /** At most 16 bytes. */
  readonly label: string;
  /** Seconds since 1970. */
  readonly time: number;
}

export interface GroupUse {
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly directories: number;
  /** Inodes at the end of the table that were never used. */
  readonly unusedInodes: number;
  readonly blockBitmapSum: number;
  readonly inodeBitmapSum: number;
}

/** 1024 bytes; `group` is the one that this copy is in. `journal` is the i_block and size of its inode. */
export function superblock(
  layout: Layout,
  identity: Identity,
  uses: readonly GroupUse[],
  group: number,
  journal: { readonly map: Uint8Array; readonly size: number },
): Uint8Array {
  const bytes = new Uint8Array(1024);
  const view = new DataView(bytes.buffer);
  const u16 = (at: number, value: number): void => view.setUint16(at, value, true);
  const u32 = (at: number, value: number): void => view.setUint32(at, value, true);
  const total = (of: (use: GroupUse) => number): number => uses.reduce((sum, use) => sum + of(use), 0);
  u32(0x00, layout.groups * layout.inodesPerGroup);
  u32(0x04, layout.blocks);
  // Five per cent of the blocks are for root.
  u32(0x08, Math.floor(layout.blocks / 20));
  u32(
    0x0c,
    total((use) => use.freeBlocks),
  );
  u32(
    0x10,
    total((use) => use.freeInodes),
  );
  u32(0x18, Math.log2(BLOCK) - 10);
  u32(0x1c, Math.log2(BLOCK) - 10);
  u32(0x20, GROUP_BLOCKS);
  u32(0x24, GROUP_BLOCKS);
  u32(0x28, layout.inodesPerGroup);
  u32(0x30, identity.time);
  u16(0x36, 0xffff);
  u16(0x38, 0xef53);
  u16(0x3a, 1);
  u16(0x3c, 1);
  u32(0x40, identity.time);
  u32(0x4c, 1);
  u32(0x54, FIRST_INODE);
  u16(0x58, INODE);
  u16(0x5a, group);
  u32(0x5c, COMPAT);
  u32(0x60, INCOMPAT);
  u32(0x64, RO_COMPAT);
  bytes.set(identity.uuid, 0x68);
  bytes.set(encodeUtf8(identity.label).subarray(0, 16), 0x78);
  u16(0xce, layout.reservedBlocks);
  u32(0xe0, JOURNAL_INODE);
  bytes.set(identity.hashSeed, 0xec);
  // Half MD4, signed; a copy of the journal's inode; user xattrs and ACLs by default.
  bytes[0xfc] = 1;
  bytes[0xfd] = 1;
  u16(0xfe, DESCRIPTOR);
  u32(0x100, 0xc);
  u32(0x108, identity.time);
  bytes.set(journal.map, 0x10c);
  u32(0x10c + 64, journal.size);
  u16(0x15c, EXTRA_ISIZE);
  u16(0x15e, EXTRA_ISIZE);
  u32(0x160, 1);
  bytes[0x175] = 1;
  u32(0x3fc, crc32c(0xffffffff, bytes.subarray(0, 0x3fc)));
  return bytes;
}

export function groupDescriptors(layout: Layout, uses: readonly GroupUse[], seed: number): Uint8Array {
  const bytes = new Uint8Array(layout.descriptorBlocks * BLOCK);
  for (const [group, use] of uses.entries()) {
    const own = bytes.subarray(group * DESCRIPTOR, (group + 1) * DESCRIPTOR);
    const view = new DataView(own.buffer, own.byteOffset, own.length);
    const bitmap = layout.bitmap(group);
    for (const n of [0, 1, 2]) view.setUint32(n * 4, bitmap + n, true);
    view.setUint16(0x0c, use.freeBlocks, true);
    view.setUint16(0x0e, use.freeInodes, true);
    view.setUint16(0x10, use.directories, true);
    view.setUint16(0x12, INODE_ZEROED, true);
    view.setUint16(0x18, use.blockBitmapSum, true);
    view.setUint16(0x1a, use.inodeBitmapSum, true);
    view.setUint16(0x1c, use.unusedInodes, true);
    view.setUint16(0x38, use.blockBitmapSum >>> 16, true);
    view.setUint16(0x3a, use.inodeBitmapSum >>> 16, true);
    const number = new Uint8Array(4);
    new DataView(number.buffer).setUint32(0, group, true);
    view.setUint16(0x1e, crc32c(crc32c(seed, number), own), true);
  }
  return bytes;
}

/** The first block of an empty journal (jbd2, big-endian). */
export function journalSuperblock(blocks: number): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  const view = new DataView(bytes.buffer);
  view.setUint32(0x00, 0xc03b3998);
  view.setUint32(0x04, 4);
  view.setUint32(0x0c, BLOCK);
  view.setUint32(0x10, blocks);
  view.setUint32(0x14, 1);
  view.setUint32(0x18, 1);
  // One user; the file system's own journal names none by UUID.
  view.setUint32(0x40, 1);
  return bytes;
}
