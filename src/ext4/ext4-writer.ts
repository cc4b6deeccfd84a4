// Writes an ext4 file system: first the contents of files, as they come, then the tree of their names. The
// rest of the image is never written, so that a sparse file stays one. Features: extents, 64bit, metadata
// checksums, an empty journal, room to be resized to 64 times its size. Left out: directory indexes (large
// directories are linear), flex_bg, inline data, quotas, POSIX ACLs.
import { encodeUtf8 } from "../base/text.ts";
import { BlockMap, type Run } from "./block-map.ts";
import { crc32c } from "./crc32c.ts";
import { DIRECTORY_SUM, directoryBlocks } from "./ext4-directory.ts";
import { BLOCK, GROUP_BLOCKS, INODE, type Layout, layoutOf, POINTERS } from "./ext4-layout.ts";
import {
  EXTRA_ISIZE,
  FIRST_INODE,
  groupDescriptors,
  type GroupUse,
  type Identity,
  JOURNAL_INODE,
  journalSuperblock,
  superblock,
} from "./ext4-superblock.ts";
import {
  type Directory,
  directory,
  Ext4Error,
  type Extent,
  type Kind,
  type Node,
  type Stored,
} from "./ext4-tree.ts";
import { xattrBlock } from "./ext4-xattr.ts";

/** The image; an area that is never written reads as zeros. */
export interface ImageSink {
  write(offset: number, bytes: Uint8Array): Promise<void>;
}

const ROOT_INODE = 2;
const RESIZE_INODE = 7;
const EXTENTS_FLAG = 0x80000;
const MAX_LINKS = 65000;
/** A file's zero blocks become a hole from this many on. */
const MIN_HOLE = 16;
const EXTENT_MAGIC = 0xf30a;
const IN_INODE = 4;
const IN_BLOCK = (BLOCK - 12 - 4) / 12;
const MAX_EXTENT = 32768;
/** A shorter symbolic link is in the inode. */
const FAST_SYMLINK = 60;

const FORMATS: Record<Kind, number> = {
  fifo: 0o10000,
  character: 0o20000,
  directory: 0o40000,
  block: 0o60000,
  file: 0o100000,
  symlink: 0o120000,
  socket: 0o140000,
};

/** What an inode says about the blocks of its file. */
interface Mapped {
  /** i_block, 60 bytes. */
  readonly map: Uint8Array;
  /** Blocks in use, with those of the map itself. */
  readonly blocks: number;
  readonly flags: number;
}

interface Inode extends Mapped {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly links: number;
  readonly size: number;
  readonly xattr: number;
}

const isZero = (bytes: Uint8Array): boolean => {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
};

const le32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};

export class Ext4Writer {
  readonly #sink: ImageSink;
  readonly #layout: Layout;
  readonly #identity: Identity;
  readonly #seed: number;
  readonly #map: BlockMap;
  readonly #journal: Stored;
  /** Inode tables, by group, up to the last inode in use. */
  readonly #tables: Uint8Array[] = [];
  #inodes = FIRST_INODE - 1;
  readonly #directories: number[];

  /** `bytes`: the size of the image, rounded down to whole blocks. Throws Ext4Error "extfs.size". */
  constructor(sink: ImageSink, bytes: number, identity: Identity) {
    this.#sink = sink;
    this.#layout = layoutOf(bytes);
    this.#identity = identity;
    this.#seed = crc32c(0xffffffff, identity.uuid);
    this.#map = new BlockMap(this.#layout);
    this.#directories = Array.from({ length: this.#layout.groups }, () => 0);
    const { journalBlocks } = this.#layout;
    this.#journal = { size: journalBlocks * BLOCK, extents: extentsOf(0, this.#map.take(journalBlocks)) };
  }

  /** The size of the file system in bytes. */
  get size(): number {
    return this.#layout.blocks * BLOCK;
  }

  /** Writes the contents of a file. Long runs of zeros become holes. Rejects with Ext4Error "extfs.space". */
  async store(bytes: Uint8Array): Promise<Stored> {
    const count = Math.ceil(bytes.length / BLOCK);
    const block = (n: number): Uint8Array => bytes.subarray(n * BLOCK, (n + 1) * BLOCK);
    const extents: Extent[] = [];
    const write = async (from: number, to: number): Promise<void> => {
      const found = extentsOf(from, this.#map.take(to - from));
      for (const { logical, physical, length } of found) {
        extents.push({ logical, physical, length });
        await this.#write(physical, bytes.subarray(logical * BLOCK, (logical + length) * BLOCK));
      }
    };
    let from = 0;
    let zeros = 0;
    for (let n = 0; n < count; n++) {
      if (isZero(block(n))) {
        zeros++;
        continue;
      }
      if (zeros >= MIN_HOLE) {
        if (n - zeros > from) await write(from, n - zeros);
        from = n;
      }
      zeros = 0;
    }
    const end = zeros >= MIN_HOLE ? count - zeros : count;
    if (end > from) await write(from, end);
    return { size: bytes.length, extents };
  }

  /** Frees the blocks of contents that no file has after all. */
  release(stored: Stored): void {
    for (const { physical, length } of stored.extents) this.#map.free(physical, length);
  }

  /** Writes the tree and all metadata; the image is complete then. Rejects with Ext4Error. */
  async finish(root: Directory): Promise<void> {
    const { time } = this.#identity;
    if (!root.entries.has("lost+found"))
      root.entries.set("lost+found", directory({ mode: 0o700, uid: 0, gid: 0, mtime: time }));
    await this.#tree(root);
    await this.#write(
      (this.#journal.extents[0] as Extent).physical,
      journalSuperblock(this.#layout.journalBlocks),
    );
    const journal = await this.#mapped(JOURNAL_INODE, this.#journal.extents);
    const plain = { uid: 0, gid: 0, mtime: time, links: 1, mode: FORMATS.file | 0o600, xattr: 0 };
    this.#inode(JOURNAL_INODE, { ...plain, ...journal, size: this.#journal.size });
    this.#inode(RESIZE_INODE, {
      ...plain,
      ...(await this.#reserved()),
      size: (POINTERS * POINTERS + POINTERS + 12) * BLOCK,
    });
    await this.#groups({ map: journal.map, size: this.#journal.size });
  }

  async #write(block: number, bytes: Uint8Array): Promise<void> {
    await this.#sink.write(block * BLOCK, bytes);
  }

  /** Numbers all nodes (depth first, a directory's files together), then writes each. */
  async #tree(root: Directory): Promise<void> {
    const numbers = new Map<Node, number>([[root, ROOT_INODE]]);
    const links = new Map<Node, number>();
    const parents = new Map<Directory, number>([[root, ROOT_INODE]]);
    const directories: Directory[] = [root];
    const lost = root.entries.get("lost+found") as Node;
    numbers.set(lost, this.#nextInode());
    for (let at = 0; at < directories.length; at++) {
      const own = directories[at] as Directory;
      links.set(own, (links.get(own) ?? 0) + 2);
      for (const node of own.entries.values()) {
        if (!numbers.has(node)) numbers.set(node, this.#nextInode());
        if (node.kind === "directory") {
          parents.set(node, numbers.get(own) as number);
          links.set(own, (links.get(own) as number) + 1);
          directories.push(node);
        } else links.set(node, (links.get(node) ?? 0) + 1);
      }
    }
    for (const [node, number] of numbers) {
      const count = links.get(node) as number;
      if (count > MAX_LINKS && node.kind !== "directory")
        throw new Ext4Error("extfs.inodes", `a file has ${count} hard links, at most ${MAX_LINKS} fit`);
      if (node.kind === "directory") {
        const group = Math.floor((number - 1) / this.#layout.inodesPerGroup);
        this.#directories[group] = (this.#directories[group] as number) + 1;
      }
      const entries = (own: Directory) => [
        { name: ".", inode: number, kind: "directory" as const },
        { name: "..", inode: parents.get(own) as number, kind: "directory" as const },
        ...[...own.entries].map(([name, each]) => ({
          name,
          inode: numbers.get(each) as number,
          kind: each.kind,
        })),
      ];
      const body = await this.#body(node, number, entries);
      const xattr = node.xattrs === undefined || node.xattrs.size === 0 ? 0 : this.#map.takeOne();
      if (xattr !== 0 && node.xattrs !== undefined)
        await this.#write(xattr, xattrBlock(node.xattrs, xattr, this.#seed));
      this.#inode(number, {
        ...body,
        blocks: body.blocks + (xattr === 0 ? 0 : 1),
        mode: FORMATS[node.kind] | (node.mode & 0o7777),
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        // A directory with more than fits says 1: unknown (dir_nlink).
        links: count > MAX_LINKS ? 1 : count,
        xattr,
      });
    }
  }

  async #body(
    node: Node,
    number: number,
    entries: (own: Directory) => Parameters<typeof directoryBlocks>[0],
  ): Promise<Mapped & { readonly size: number }> {
    const map = new Uint8Array(60);
    const none = { map, blocks: 0, flags: 0, size: 0 };
    switch (node.kind) {
      case "file":
        return { ...(await this.#mapped(number, node.data.extents)), size: node.data.size };
      case "directory": {
        const blocks = directoryBlocks(entries(node));
        const extents = extentsOf(0, this.#map.take(blocks.length));
        for (const { logical, physical, length } of extents)
          for (let n = 0; n < length; n++) {
            const bytes = blocks[logical + n] as Uint8Array;
            const sum = crc32c(this.#inodeSeed(number), bytes.subarray(0, DIRECTORY_SUM.covers));
            bytes.set(le32(sum), DIRECTORY_SUM.at);
            await this.#write(physical + n, bytes);
          }
        return { ...(await this.#mapped(number, extents)), size: blocks.length * BLOCK };
      }
      case "symlink": {
        const target = encodeUtf8(node.target);
        if (target.length === 0 || target.length >= BLOCK)
          throw new Ext4Error(
            "extfs.name",
            `a symbolic link's target has 1 to ${BLOCK - 1} bytes: '${node.target}'`,
          );
        if (target.length < FAST_SYMLINK) {
          map.set(target);
          return { ...none, size: target.length };
        }
        const { extents } = await this.store(target);
        return { ...(await this.#mapped(number, extents)), size: target.length };
      }
      case "character":
      case "block": {
        const { major, minor } = node;
        const isOld = major < 256 && minor < 256;
        const packed = isOld ? (major << 8) | minor : (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
        map.set(le32(packed), isOld ? 0 : 4);
        return none;
      }
      default:
        return none;
    }
  }

  #nextInode(): number {
    const { groups, inodesPerGroup } = this.#layout;
    if (this.#inodes === groups * inodesPerGroup)
      throw new Ext4Error(
        "extfs.inodes",
        `more than ${this.#inodes} files: choose a larger size of the image`,
      );
    return ++this.#inodes;
  }

  /** Where checksums of an inode's blocks start from; all generations are 0. */
  #inodeSeed(number: number): number {
    return crc32c(crc32c(this.#seed, le32(number)), le32(0));
  }

  /** The extent tree: up to four extents in the inode, else one level of blocks. */
  async #mapped(number: number, extents: readonly Extent[]): Promise<Mapped> {
    const cut = extents.flatMap(({ logical, physical, length }) =>
      Array.from({ length: Math.ceil(length / MAX_EXTENT) }, (_, n) => ({
        logical: logical + n * MAX_EXTENT,
        physical: physical + n * MAX_EXTENT,
        length: Math.min(MAX_EXTENT, length - n * MAX_EXTENT),
      })),
    );
    const blocks = cut.reduce((sum, { length }) => sum + length, 0);
    const map = new Uint8Array(60);
    if (cut.length <= IN_INODE) {
      putExtents(map, IN_INODE, cut);
      return { map, blocks, flags: EXTENTS_FLAG };
    }
    const leaves: { logical: number; physical: number }[] = [];
    for (let at = 0; at < cut.length; at += IN_BLOCK) {
      const bytes = new Uint8Array(BLOCK);
      const part = cut.slice(at, at + IN_BLOCK);
      putExtents(bytes, IN_BLOCK, part);
      bytes.set(le32(crc32c(this.#inodeSeed(number), bytes.subarray(0, BLOCK - 4))), BLOCK - 4);
      const physical = this.#map.takeOne();
      await this.#write(physical, bytes);
      leaves.push({ logical: (part[0] as Extent).logical, physical });
    }
    if (leaves.length > IN_INODE)
      throw new Ext4Error(
        "extfs.extents",
        `a file has ${cut.length} pieces, at most ${IN_INODE * IN_BLOCK} fit`,
      );
    const view = new DataView(map.buffer);
    putHeader(view, IN_INODE, leaves.length, 1);
    for (const [n, { logical, physical }] of leaves.entries()) {
      view.setUint32(12 + n * 12, logical, true);
      view.setUint32(16 + n * 12, physical, true);
    }
    return { map, blocks: blocks + leaves.length, flags: EXTENTS_FLAG };
  }

  /**
   * The resize inode's blocks: its double indirect block names the reserved blocks of group 0, each of which
   * names those of the copies.
   */
  async #reserved(): Promise<Mapped> {
    const { groups, hasCopy, descriptorBlocks, reservedBlocks } = this.#layout;
    const copies = Array.from({ length: groups }, (_, group) => group).filter(
      (group) => group > 0 && hasCopy(group),
    );
    const indirect = new Uint32Array(POINTERS);
    for (let n = 0; n < reservedBlocks; n++) {
      const block = 1 + descriptorBlocks + n;
      indirect[descriptorBlocks + n] = block;
      const own = new Uint32Array(POINTERS);
      for (const [k, group] of copies.entries()) own[k] = block + group * GROUP_BLOCKS;
      await this.#write(block, littleEndian(own));
    }
    const at = this.#map.takeOne();
    await this.#write(at, littleEndian(indirect));
    const map = new Uint8Array(60);
    map.set(le32(at), 13 * 4);
    return { map, blocks: 1 + reservedBlocks * (1 + copies.length), flags: 0 };
  }

  #inode(number: number, inode: Inode): void {
    const { inodesPerGroup } = this.#layout;
    const group = Math.floor((number - 1) / inodesPerGroup);
    this.#tables[group] ??= new Uint8Array(inodesPerGroup * INODE);
    const at = ((number - 1) % inodesPerGroup) * INODE;
    const bytes = (this.#tables[group] as Uint8Array).subarray(at, at + INODE);
    const view = new DataView(bytes.buffer, bytes.byteOffset, INODE);
    const u16 = (offset: number, value: number): void => view.setUint16(offset, value, true);
    const u32 = (offset: number, value: number): void => view.setUint32(offset, value, true);
    u16(0x00, inode.mode);
    u16(0x02, inode.uid);
    u32(0x04, inode.size);
    for (const time of [0x08, 0x0c, 0x10, 0x90]) u32(time, inode.mtime);
    // Bits 32 and 33 of each time.
    const epoch = Math.floor((inode.mtime + 2 ** 31) / 2 ** 32) & 3;
    for (const extra of [0x84, 0x88, 0x8c, 0x94]) u32(extra, epoch);
    u16(0x18, inode.gid);
    u16(0x1a, inode.links);
    // In units of 512 bytes.
    u32(0x1c, inode.blocks * 8);
    u16(0x74, Math.floor((inode.blocks * 8) / 2 ** 32));
    u32(0x20, inode.flags);
    bytes.set(inode.map, 0x28);
    u32(0x68, inode.xattr);
    u32(0x6c, Math.floor(inode.size / 2 ** 32));
    u16(0x78, inode.uid >>> 16);
    u16(0x7a, inode.gid >>> 16);
    u16(0x80, EXTRA_ISIZE);
    const sum = crc32c(this.#inodeSeed(number), bytes);
    u16(0x7c, sum);
    u16(0x82, sum >>> 16);
  }

  async #groups(journal: Parameters<typeof superblock>[4]): Promise<void> {
    const layout = this.#layout;
    const uses: GroupUse[] = [];
    for (let group = 0; group < layout.groups; group++) {
      const first = group * layout.inodesPerGroup;
      const used = Math.min(layout.inodesPerGroup, Math.max(0, this.#inodes - first));
      const inodeBitmap = new Uint8Array(BLOCK).fill(0xff);
      const covered = inodeBitmap.subarray(0, layout.inodesPerGroup / 8).fill(0);
      for (let n = 0; n < used; n++) covered[n >>> 3] = (covered[n >>> 3] as number) | (1 << (n & 7));
      const blockBitmap = this.#map.bits.subarray(group * BLOCK, (group + 1) * BLOCK);
      const at = layout.bitmap(group);
      await this.#write(at, blockBitmap);
      await this.#write(at + 1, inodeBitmap);
      if (used > 0) await this.#write(at + 2, (this.#tables[group] as Uint8Array).subarray(0, used * INODE));
      uses.push({
        freeBlocks: this.#map.freeIn(group),
        freeInodes: layout.inodesPerGroup - used,
        directories: this.#directories[group] as number,
        unusedInodes: layout.inodesPerGroup - used,
        blockBitmapSum: crc32c(this.#seed, blockBitmap),
        inodeBitmapSum: crc32c(this.#seed, covered),
      });
    }
    const descriptors = groupDescriptors(layout, uses, this.#seed);
    for (let group = layout.groups - 1; group >= 0; group--) {
      if (!layout.hasCopy(group)) continue;
      const start = group * GROUP_BLOCKS;
      await this.#write(start + 1, descriptors);
      const bytes = superblock(layout, this.#identity, uses, group, journal);
      // The first 1024 bytes of the image are for a boot loader.
      await this.#sink.write(start * BLOCK + (group === 0 ? 1024 : 0), bytes);
    }
  }
}

function extentsOf(first: number, runs: readonly Run[]): Extent[] {
  let logical = first;
  return runs.map(({ start, length }) => {
    const extent = { logical, physical: start, length };
    logical += length;
    return extent;
  });
}

function putHeader(view: DataView, capacity: number, count: number, depth: number): void {
  view.setUint16(0, EXTENT_MAGIC, true);
  view.setUint16(2, count, true);
  view.setUint16(4, capacity, true);
  view.setUint16(6, depth, true);
}

function putExtents(bytes: Uint8Array, capacity: number, extents: readonly Extent[]): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  putHeader(view, capacity, extents.length, 0);
  for (const [n, { logical, physical, length }] of extents.entries()) {
    view.setUint32(12 + n * 12, logical, true);
    view.setUint16(16 + n * 12, length, true);
    view.setUint32(20 + n * 12, physical, true);
  }
}

function littleEndian(words: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(words.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [n, word] of words.entries()) view.setUint32(n * 4, word, true);
  return bytes;
}
