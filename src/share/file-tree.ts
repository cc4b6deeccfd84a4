// What a share gives to its guest: the interface between the 9P server and a tree of files. Paths are byte
// strings relative to the root, components separated by "/", the root "". The server passes no component that
// is empty, "." or "..", or that has a "/" or NUL. Every call may reject with a FileError or a platform's
// error; errno's of Linux are told to the guest, all else is EIO. Nothing blocks the thread.

/** A file's inode as the guest sees it. */
export interface Attributes {
  /** Identifies the file as long as it exists: the path of its qid. */
  readonly id: bigint;
  /** Linux's st_mode, with the type. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: bigint;
  /** Linux's encoding of a device number. */
  readonly device: bigint;
  /** In bytes. */
  readonly size: bigint;
  readonly blockSize: number;
  /** Of 512 bytes. */
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** What a change sets; the rest stays. */
export interface AttributeChanges {
  /** Permissions, without the type. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atimeNs?: bigint | "now";
  readonly mtimeNs?: bigint | "now";
}

/** Who creates a file. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The size of the file system. */
export interface TreeSpace {
  readonly blockSize: number;
  readonly blocks: bigint;
  readonly freeBlocks: bigint;
  readonly availableBlocks: bigint;
  readonly files: bigint;
  readonly freeFiles: bigint;
}

/** An open regular file or directory. It stays usable when its name is gone. */
export interface OpenFile {
  /** Returns the bytes read; 0 at the end of the file. */
  read(offset: number, target: Uint8Array): Promise<number>;
  /** Returns the bytes written. */
  write(offset: number, data: Uint8Array): Promise<number>;
  /** The names in a directory, without "." and "..", in any order. */
  names(): Promise<string[]>;
  attributes(): Promise<Attributes>;
  change(changes: AttributeChanges): Promise<void>;
  sync(dataOnly: boolean): Promise<void>;
  close(): Promise<void>;
}

/**
 * Who owns files: `map`: whoever looks; `none`, `passthrough`, `mapped-xattr`: QEMU's security models. All
 * but `map` show the owner that the tree has.
 */
export type OwnerModel = "map" | "none" | "passthrough" | "mapped-xattr";
/** A saved machine has the index: append only. */
export const OWNER_MODELS: readonly OwnerModel[] = ["map", "none", "passthrough", "mapped-xattr"];

export interface FileTree {
  readonly model: OwnerModel;
  readonly readonly: boolean;
  /** An archive's: a file that has another time or size is another one. */
  readonly isArchive?: boolean;
  attributes(path: string): Promise<Attributes>;
  /** `flags`: OPEN_* of wire-9p.ts. Only regular files and directories can be opened; no link is followed. */
  open(path: string, flags: number): Promise<OpenFile>;
  /** Creates a regular file; one that exists is opened, unless OPEN_EXCL is in `flags`. */
  create(path: string, flags: number, mode: number, owner: Owner): Promise<OpenFile>;
  change(path: string, changes: AttributeChanges): Promise<void>;
  makeDirectory(path: string, mode: number, owner: Owner): Promise<void>;
  /** `mode` has the type; `device` is in Linux's encoding. */
  makeNode(path: string, mode: number, device: number, owner: Owner): Promise<void>;
  makeSymlink(path: string, target: string, owner: Owner): Promise<void>;
  makeLink(path: string, existing: string): Promise<void>;
  readSymlink(path: string): Promise<string>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string, isDirectory: boolean): Promise<void>;
  /** Rejects with ENODATA if there is none. */
  xattr(path: string, name: string): Promise<Uint8Array>;
  xattrNames(path: string): Promise<string[]>;
  /** `flags`: 1 to create only, 2 to replace only. */
  setXattr(path: string, name: string, value: Uint8Array, flags: number): Promise<void>;
  removeXattr(path: string, name: string): Promise<void>;
  space(): Promise<TreeSpace>;
  close(): Promise<void>;
}
