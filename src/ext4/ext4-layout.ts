// Where the metadata of an ext4 file system lies: block groups of 128 MiB, each with its own bitmaps and
// inode table (no flex_bg); copies of the superblock and group descriptors in groups 0, 1 and powers of 3, 5
// and 7 (sparse_super), followed by blocks into which the descriptors can grow (resize_inode).
// Documentation/filesystems/ext4 of Linux describes the format.
import { Ext4Error } from "./ext4-tree.ts";

export const BLOCK = 4096;
export const INODE = 256;
export const GROUP_BLOCKS = BLOCK * 8;
export const DESCRIPTOR = 64;
const INODES_PER_GROUP = 8192;
export const INODE_TABLE_BLOCKS = (INODES_PER_GROUP * INODE) / BLOCK;
/** Numbers in a block of pointers. */
export const POINTERS = BLOCK / 4;
/** A last group with less room than this is left out. */
const MIN_GROUP_DATA = 64;
/** Block numbers are written in 32 bits. */
const MAX_BLOCKS = 2 ** 32 - 1;
const MIN_BYTES = 32 * 2 ** 20;
/** A resized file system can have this many times as many groups. */
const GROWTH = 64;

export interface Layout {
  readonly blocks: number;
  readonly groups: number;
  readonly inodesPerGroup: number;
  readonly descriptorBlocks: number;
  /** Blocks after the descriptors, into which they can grow. */
  readonly reservedBlocks: number;
  readonly journalBlocks: number;
  hasCopy(group: number): boolean;
  /** Number of the block bitmap's block; the inode bitmap and the inode table follow. */
  bitmap(group: number): number;
  /** Number of blocks in the group. */
  length(group: number): number;
}

const isPower = (value: number, base: number): boolean => {
  let power = base;
  while (power < value) power *= base;
  return power === value;
};

const hasCopy = (group: number): boolean => group <= 1 || [3, 5, 7].some((base) => isPower(group, base));

/** The layout of an image of at most `bytes`. Throws Ext4Error "extfs.size". */
export function layoutOf(bytes: number): Layout {
  let blocks = Math.floor(bytes / BLOCK);
  if (bytes < MIN_BYTES || blocks > MAX_BLOCKS)
    throw new Ext4Error("extfs.size", `an ext4 image has 32 MiB to 16 TiB, not ${bytes} bytes`);
  const overhead = (group: number, copies: number): number =>
    (hasCopy(group) ? 1 + copies : 0) + 2 + INODE_TABLE_BLOCKS;
  const sizes = () => {
    const groups = Math.ceil(blocks / GROUP_BLOCKS);
    const descriptorBlocks = Math.ceil((groups * DESCRIPTOR) / BLOCK);
    const wanted = Math.ceil((groups * GROWTH * DESCRIPTOR) / BLOCK) - descriptorBlocks;
    return { groups, descriptorBlocks, reservedBlocks: Math.min(wanted, POINTERS - descriptorBlocks) };
  };
  let found = sizes();
  const last = found.groups - 1;
  const rest = blocks - last * GROUP_BLOCKS;
  if (last > 0 && rest < overhead(last, found.descriptorBlocks + found.reservedBlocks) + MIN_GROUP_DATA) {
    blocks -= rest;
    found = sizes();
  }
  const copies = found.descriptorBlocks + Math.max(0, found.reservedBlocks);
  return {
    ...found,
    reservedBlocks: Math.max(0, found.reservedBlocks),
    blocks,
    inodesPerGroup: INODES_PER_GROUP,
    journalBlocks: blocks < 2 ** 15 ? 1024 : blocks < 2 ** 19 ? 4096 : 16384,
    hasCopy,
    bitmap: (group) => group * GROUP_BLOCKS + (hasCopy(group) ? 1 + copies : 0),
    length: (group) => Math.min(GROUP_BLOCKS, blocks - group * GROUP_BLOCKS),
  };
}
