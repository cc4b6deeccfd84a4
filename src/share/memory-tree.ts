// A tree of files in memory: for pages, for tests, and what a tar archive is read into. It has all that a
// host's directory has, owners and extended attributes included, and a limit on its size.
import { byteString, bytesOf } from "./byte-string.ts";
import type { AttributeChanges, Attributes, FileTree, OpenFile, Owner, TreeSpace } from "./file-tree.ts";
import { FileError } from "./linux-errno.ts";
import {
  OPEN_APPEND,
  OPEN_DIRECTORY,
  OPEN_EXCL,
  OPEN_TRUNC,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "./wire-9p.ts";

const BLOCK = 4096;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const DEFAULT_MAX_BYTES = 256 << 20;
/** What a file costs besides its contents. */
const NODE_BYTES = 512;

interface Node {
  readonly id: bigint;
  mode: number;
  uid: number;
  gid: number;
  /** Names, and separately open files: a file is freed when it has neither. */
  links: number;
  opens: number;
  readonly device: number;
  /** A regular file's contents are `size` bytes of it; a symlink's target. */
  bytes: Uint8Array;
  size: number;
  readonly children: Map<string, Node> | undefined;
  readonly xattrs: Map<string, Uint8Array>;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
}

export interface MemoryTreeOptions {
  /** The guest cannot change it. Default: false. */
  readonly readonly?: boolean;
  /** See FileTree. Default: false. */
  readonly isArchive?: boolean;
  /** Of all files together, each with 512 more; a write beyond it fails with ENOSPC. Default: 256 MiB. */
  readonly maxBytes?: number;
  /** The time in ns since 1970, for time stamps. Default: always 0. */
  readonly wallNs?: () => bigint;
}

/** An empty tree, whose root is a directory with mode 0755 of root. */
export class MemoryTree implements FileTree {
  readonly model = "passthrough";
  readonly readonly: boolean;
  readonly isArchive: boolean;
  readonly #maxBytes: number;
  readonly #wallNs: () => bigint;
  readonly #root: Node;
  #nextId = 1n;
  #bytes = 0;

  constructor(options: MemoryTreeOptions = {}) {
    const { readonly = false, isArchive = false, maxBytes = DEFAULT_MAX_BYTES, wallNs = () => 0n } = options;
    this.readonly = readonly;
    this.isArchive = isArchive;
    this.#maxBytes = maxBytes;
    this.#wallNs = wallNs;
    this.#root = this.#node(S_IFDIR | 0o755, { uid: 0, gid: 0 });
    this.#root.links = 1;
  }

  #charge(bytes: number): void {
    if (bytes > 0 && this.#bytes + bytes > this.#maxBytes) throw new FileError("ENOSPC");
    this.#bytes += bytes;
  }

  #node(mode: number, { uid, gid }: Owner, bytes: Uint8Array = new Uint8Array(), device = 0): Node {
    this.#charge(NODE_BYTES + bytes.length);
    const now = this.#wallNs();
    const children = (mode & S_IFMT) === S_IFDIR ? new Map<string, Node>() : undefined;
    const times = { atimeNs: now, mtimeNs: now, ctimeNs: now };
    const size = bytes.length;
    return {
      id: this.#nextId++,
      mode,
      uid,
      gid,
      links: 0,
      opens: 0,
      device,
      bytes,
      size,
      children,
      xattrs: new Map(),
      ...times,
    };
  }

  #find(path: string): Node {
    let node = this.#root;
    for (const name of path === "" ? [] : path.split("/")) {
      if (node.children === undefined) throw new FileError("ENOTDIR");
      const next = node.children.get(name);
      if (next === undefined) throw new FileError("ENOENT");
      node = next;
    }
    return node;
  }

  #directory(path: string): {
    readonly node: Node;
    readonly children: Map<string, Node>;
    readonly name: string;
  } {
    const slash = path.lastIndexOf("/");
    const node = this.#find(slash < 0 ? "" : path.slice(0, slash));
    if (node.children === undefined) throw new FileError("ENOTDIR");
    return { node, children: node.children, name: path.slice(slash + 1) };
  }

  #touch(node: Node): void {
    node.mtimeNs = node.ctimeNs = this.#wallNs();
  }

  #add(path: string, make: () => Node): Node {
    const { node, children, name } = this.#directory(path);
    if (children.has(name)) throw new FileError("EEXIST");
    const added = make();
    children.set(name, added);
    added.links++;
    this.#touch(node);
    return added;
  }

  #drop(node: Node, what: "links" | "opens"): void {
    node[what]--;
    if (node.links + node.opens === 0) this.#charge(-NODE_BYTES - node.bytes.length);
  }

  #attributes(node: Node): Attributes {
    const { id, mode, uid, gid, device, children, atimeNs, mtimeNs, ctimeNs } = node;
    const size = BigInt(node.size);
    const links = BigInt(children === undefined ? node.links : 2);
    const blocks = (size + 511n) / 512n;
    const rest = { size, blockSize: BLOCK, blocks, atimeNs, mtimeNs, ctimeNs };
    return { id, mode, uid, gid, links, device: BigInt(device), ...rest };
  }

  #resize(node: Node, size: number): void {
    if (size > node.bytes.length) {
      const capacity = Math.max(size, Math.min(2 * node.bytes.length, node.bytes.length + (1 << 20)));
      this.#charge(capacity - node.bytes.length);
      const bytes = new Uint8Array(capacity);
      bytes.set(node.bytes.subarray(0, node.size));
      node.bytes = bytes;
    } else node.bytes.fill(0, Math.min(size, node.size), Math.max(size, node.size));
    node.size = size;
    this.#touch(node);
  }

  #change(node: Node, { mode, uid, gid, size, atimeNs, mtimeNs }: AttributeChanges): void {
    if (size !== undefined) {
      if ((node.mode & S_IFMT) !== S_IFREG) throw new FileError(node.children ? "EISDIR" : "EINVAL");
      this.#resize(node, size);
    }
    if (mode !== undefined) node.mode = (node.mode & S_IFMT) | mode;
    node.uid = uid ?? node.uid;
    node.gid = gid ?? node.gid;
    const now = this.#wallNs();
    if (atimeNs !== undefined) node.atimeNs = atimeNs === "now" ? now : atimeNs;
    if (mtimeNs !== undefined) node.mtimeNs = mtimeNs === "now" ? now : mtimeNs;
    node.ctimeNs = now;
  }

  #open(node: Node, flags: number): OpenFile {
    const type = node.mode & S_IFMT;
    if (flags & OPEN_DIRECTORY && type !== S_IFDIR) throw new FileError("ENOTDIR");
    if (type === S_IFLNK) throw new FileError("ELOOP");
    if (type !== S_IFREG && type !== S_IFDIR) throw new FileError("ENXIO");
    if (type === S_IFDIR && flags & 3) throw new FileError("EISDIR");
    if (flags & OPEN_TRUNC && type === S_IFREG) this.#resize(node, 0);
    node.opens++;
    return {
      read: async (offset, target) => {
        const piece = node.bytes.subarray(
          Math.min(offset, node.size),
          Math.min(offset + target.length, node.size),
        );
        target.set(piece);
        return piece.length;
      },
      write: async (offset, data) => {
        const at = flags & OPEN_APPEND ? node.size : offset;
        if (at + data.length > node.size) this.#resize(node, at + data.length);
        node.bytes.set(data, at);
        this.#touch(node);
        return data.length;
      },
      names: async () => [...(node.children?.keys() ?? [])],
      attributes: async () => this.#attributes(node),
      change: async (changes) => this.#change(node, changes),
      sync: async () => {},
      close: async () => this.#drop(node, "opens"),
    };
  }

  async attributes(path: string): Promise<Attributes> {
    return this.#attributes(this.#find(path));
  }
  async open(path: string, flags: number): Promise<OpenFile> {
    return this.#open(this.#find(path), flags);
  }
  async create(path: string, flags: number, mode: number, owner: Owner): Promise<OpenFile> {
    const { children, name } = this.#directory(path);
    const existing = children.get(name);
    if (existing !== undefined && flags & OPEN_EXCL) throw new FileError("EEXIST");
    return this.#open(existing ?? this.#add(path, () => this.#node(S_IFREG | mode, owner)), flags);
  }
  async change(path: string, changes: AttributeChanges): Promise<void> {
    this.#change(this.#find(path), changes);
  }
  async makeDirectory(path: string, mode: number, owner: Owner): Promise<void> {
    this.#add(path, () => this.#node(S_IFDIR | mode, owner));
  }
  async makeNode(path: string, mode: number, device: number, owner: Owner): Promise<void> {
    if ((mode & S_IFMT) === S_IFDIR) throw new FileError("EINVAL");
    const type = mode & S_IFMT ? 0 : S_IFREG;
    this.#add(path, () => this.#node(mode | type, owner, undefined, device));
  }
  async makeSymlink(path: string, target: string, owner: Owner): Promise<void> {
    this.#add(path, () => this.#node(S_IFLNK | 0o777, owner, bytesOf(target)));
  }
  async makeLink(path: string, existing: string): Promise<void> {
    const node = this.#find(existing);
    if (node.children !== undefined) throw new FileError("EPERM");
    this.#add(path, () => node);
    node.ctimeNs = this.#wallNs();
  }
  async readSymlink(path: string): Promise<string> {
    const node = this.#find(path);
    if ((node.mode & S_IFMT) !== S_IFLNK) throw new FileError("EINVAL");
    return byteString(node.bytes);
  }

  async rename(from: string, to: string): Promise<void> {
    const [source, target] = [this.#directory(from), this.#directory(to)];
    const node = source.children.get(source.name);
    if (node === undefined) throw new FileError("ENOENT");
    if (`${to}/`.startsWith(`${from}/`) && from !== to) throw new FileError("EINVAL");
    const there = target.children.get(target.name);
    if (there === node) return;
    if (there !== undefined) {
      if (there.children !== undefined && node.children === undefined) throw new FileError("EISDIR");
      if (there.children === undefined && node.children !== undefined) throw new FileError("ENOTDIR");
      if (there.children !== undefined && there.children.size > 0) throw new FileError("ENOTEMPTY");
      this.#drop(there, "links");
    }
    source.children.delete(source.name);
    target.children.set(target.name, node);
    this.#touch(source.node);
    this.#touch(target.node);
    node.ctimeNs = this.#wallNs();
  }

  async remove(path: string, isDirectory: boolean): Promise<void> {
    const { node, children, name } = this.#directory(path);
    const found = children.get(name);
    if (found === undefined) throw new FileError("ENOENT");
    if (isDirectory && found.children === undefined) throw new FileError("ENOTDIR");
    if (!isDirectory && found.children !== undefined) throw new FileError("EISDIR");
    if (found.children !== undefined && found.children.size > 0) throw new FileError("ENOTEMPTY");
    children.delete(name);
    found.ctimeNs = this.#wallNs();
    this.#drop(found, "links");
    this.#touch(node);
  }

  async xattr(path: string, name: string): Promise<Uint8Array> {
    const value = this.#find(path).xattrs.get(name);
    if (value === undefined) throw new FileError("ENODATA");
    return value;
  }
  async xattrNames(path: string): Promise<string[]> {
    return [...this.#find(path).xattrs.keys()];
  }
  async setXattr(path: string, name: string, value: Uint8Array, flags: number): Promise<void> {
    const node = this.#find(path);
    const before = node.xattrs.get(name);
    if (flags & XATTR_CREATE && before !== undefined) throw new FileError("EEXIST");
    if (flags & XATTR_REPLACE && before === undefined) throw new FileError("ENODATA");
    this.#charge(value.length + (before === undefined ? name.length : -before.length));
    node.xattrs.set(name, value.slice());
    node.ctimeNs = this.#wallNs();
  }
  async removeXattr(path: string, name: string): Promise<void> {
    const node = this.#find(path);
    const value = node.xattrs.get(name);
    if (value === undefined) throw new FileError("ENODATA");
    this.#charge(-value.length - name.length);
    node.xattrs.delete(name);
  }

  async space(): Promise<TreeSpace> {
    const freeBlocks = BigInt(Math.floor((this.#maxBytes - this.#bytes) / BLOCK));
    const blocks = BigInt(Math.floor(this.#maxBytes / BLOCK));
    const files = BigInt(Math.floor(this.#maxBytes / NODE_BYTES));
    return {
      blockSize: BLOCK,
      blocks,
      freeBlocks,
      availableBlocks: freeBlocks,
      files,
      freeFiles: files - this.#nextId,
    };
  }
  async close(): Promise<void> {}
}
