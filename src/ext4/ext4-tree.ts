// The files of a file system to be written, as a tree. A hard link is the same node in several places.
import { WherryError } from "../base/errors.ts";

/** Codes: extfs.space, extfs.inodes, extfs.size, extfs.name, extfs.xattr, extfs.extents. */
export class Ext4Error extends WherryError {}

export interface Attributes {
  /** Permissions, set-id and sticky bits. */
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since 1970. */
  mtime: number;
  /** By full name, such as security.capability. */
  xattrs?: ReadonlyMap<string, Uint8Array> | undefined;
}

/** Consecutive blocks of a file. */
export interface Extent {
  /** Number of the first block in the file. */
  readonly logical: number;
  /** Number of the first block in the image. */
  readonly physical: number;
  readonly length: number;
}

/** A file's contents that are in the image already. */
export interface Stored {
  /** In bytes. */
  readonly size: number;
  readonly extents: readonly Extent[];
}

export type Directory = Attributes & { kind: "directory"; entries: Map<string, Node> };
export type Node =
  | Directory
  | (Attributes & { kind: "file"; data: Stored })
  | (Attributes & { kind: "symlink"; target: string })
  | (Attributes & { kind: "character" | "block"; major: number; minor: number })
  | (Attributes & { kind: "fifo" | "socket" });
export type Kind = Node["kind"];

/** An empty directory. */
export const directory = (attributes: Attributes): Directory => ({
  ...attributes,
  kind: "directory",
  entries: new Map(),
});
