// Extended attributes, all in one block of their own per inode (none in the inode's body). POSIX ACLs, which
// have a format of their own on disk, are left out.
import { encodeUtf8 } from "../base/text.ts";
import { crc32c } from "./crc32c.ts";
import { BLOCK } from "./ext4-layout.ts";
import { Ext4Error } from "./ext4-tree.ts";

const MAGIC = 0xea020000;
const HEADER = 32;
const ENTRY = 16;
const NAMESPACES = [
  ["user.", 1],
  ["trusted.", 4],
  ["security.", 6],
] as const;

const padded = (length: number): number => (length + 3) & ~3;
const rotated = (hash: number, by: number): number => ((hash << by) | (hash >>> (32 - by))) >>> 0;

function entryHash(name: Uint8Array, value: DataView): number {
  let hash = 0;
  for (const byte of name) hash = (rotated(hash, 5) ^ byte) >>> 0;
  for (let at = 0; at < value.byteLength; at += 4)
    hash = (rotated(hash, 16) ^ value.getUint32(at, true)) >>> 0;
  return hash;
}

/** The block with these attributes, as number `block` of the image. Throws Ext4Error "extfs.xattr". */
export function xattrBlock(xattrs: ReadonlyMap<string, Uint8Array>, block: number, seed: number): Uint8Array {
  const entries = [...xattrs].map(([full, value]) => {
    const [prefix, index] = NAMESPACES.find(([each]) => full.startsWith(each)) ?? [];
    if (prefix === undefined)
      throw new Ext4Error(
        "extfs.xattr",
        `extended attribute ${full}: only user, trusted and security are supported`,
      );
    return { index: index as number, name: encodeUtf8(full.slice(prefix.length)), value };
  });
  entries.sort((a, b) => a.index - b.index || a.name.length - b.name.length || compareBytes(a.name, b.name));
  const bytes = new Uint8Array(BLOCK);
  const view = new DataView(bytes.buffer);
  let at = HEADER;
  let end = BLOCK;
  let hash = 0;
  for (const { index, name, value } of entries) {
    end -= padded(value.length);
    // Four zero bytes end the list.
    if (name.length > 255 || at + ENTRY + padded(name.length) + 4 > end)
      throw new Ext4Error("extfs.xattr", "the extended attributes of a file do not fit into 4096 bytes");
    bytes.set(value, end);
    const words = new DataView(bytes.buffer, end, padded(value.length));
    const own = entryHash(name, words);
    bytes[at] = name.length;
    bytes[at + 1] = index;
    view.setUint16(at + 2, value.length === 0 ? 0 : end, true);
    view.setUint32(at + 8, value.length, true);
    view.setUint32(at + 12, own, true);
    bytes.set(name, at + ENTRY);
    at += ENTRY + padded(name.length);
    hash = (rotated(hash, 16) ^ own) >>> 0;
  }
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, 1, true);
  view.setUint32(8, 1, true);
  view.setUint32(12, hash, true);
  const number = new Uint8Array(8);
  new DataView(number.buffer).setUint32(0, block, true);
  view.setUint32(16, crc32c(crc32c(seed, number), bytes), true);
  return bytes;
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return (a[i] as number) - (b[i] as number);
  return 0;
}
