// The server of a share: 9P2000.L over a FileTree, for one guest. The guest is hostile: names are single
// components, paths never leave the tree's root, and fids, open files, locks, extended attributes and
// listings have quotas. Requests run at the same time; a Tflush is answered after the request that it
// flushes, which is never interrupted. Left out: authentication (Tauth), 9P2000 and 9P2000.u, as in QEMU.
import { type AttributeChanges, type Attributes, type FileTree, type OpenFile } from "./file-tree.ts";
import { ByteLocks, lockEnd, lockLength, LOCK_NONE, type ByteLock } from "./byte-locks.ts";
import { bytesOf } from "./byte-string.ts";
import { indexAfter, type ListedName, listing } from "./directory-listing.ts";
import { FileHandle9p } from "./file-handle.ts";
import { ERRNO, errorName, FileError } from "./linux-errno.ts";
import { PathEntry } from "./path-entry.ts";
import { PathLock } from "./path-lock.ts";
import * as wire from "./wire-9p.ts";
import { MessageReader, MessageWriter, type Qid, T } from "./wire-9p.ts";

/** What a guest can make the server keep. */
export const QUOTAS = {
  fids: 1 << 18,
  openFiles: 4096,
  locks: 1 << 14,
  /** Bytes of an extended attribute, and of all that fids hold. */
  xattr: 1 << 16,
  xattrs: 1 << 24,
  /** Listings that are kept; others are read again. */
  listings: 8,
} as const;

/** Reply of a read or readdir without its data: header and count. */
const DATA_OVERHEAD = wire.HEADER_BYTES + 4;
const ERROR_BYTES = wire.HEADER_BYTES + 4;
/** A directory entry in a reply, without its name: qid, offset, type, length. */
const ENTRY_BYTES = 13 + 8 + 1 + 2;
const OPEN_KEPT =
  wire.OPEN_ACCESS |
  wire.OPEN_TRUNC |
  wire.OPEN_APPEND |
  wire.OPEN_DSYNC |
  wire.OPEN_SYNC |
  wire.OPEN_DIRECTORY;
const AT_REMOVEDIR = 0x200;
const NO_USER = 0xffff_ffff;
/** V9FS_MAGIC, what statfs tells in the guest. */
const FILE_SYSTEM_TYPE = 0x0102_1997;
/** P9_GETATTR_BASIC: all that stat needs. */
const VALID_ATTRIBUTES = 0x7ffn;
const SET = { MODE: 1, UID: 2, GID: 4, SIZE: 8, ATIME: 0x10, MTIME: 0x20, ATIME_SET: 0x80, MTIME_SET: 0x100 };
const LOCK_STATUS = { SUCCESS: 0, BLOCKED: 1, ERROR: 2 } as const;
const NS = 1_000_000_000n;

export interface XattrFid {
  readonly name: string;
  /** What was read, or as far as it is `written`. */
  readonly value: Uint8Array;
  /** Undefined for a fid that reads. */
  readonly flags: number | undefined;
  written: number;
}

export interface OpenFid {
  readonly flags: number;
  readonly handle: FileHandle9p;
}

export interface Fid {
  readonly number: number;
  /** Who attached: the guest's user. */
  readonly uid: number;
  entry: PathEntry;
  qid: Qid;
  open?: OpenFid;
  xattr?: XattrFid;
  isOpening?: boolean;
}

export interface ShareOptions {
  /** The name under which the guest mounts it. */
  readonly tag: string;
  readonly tree: FileTree;
}

type Handler = (request: MessageReader, reply: MessageWriter, room: number) => Promise<unknown>;

export class ShareServer {
  readonly tag: string;
  readonly tree: FileTree;
  readonly fids = new Map<number, Fid>();
  readonly locks = new ByteLocks();
  readonly root: PathEntry = new PathEntry().keep();
  /** The longest message, as negotiated. */
  msize: number = wire.MAX_MSIZE;
  readonly #paths = new PathLock();
  /** The last request of each tag that has not been answered. */
  readonly #pending = new Map<number, Promise<void>>();
  readonly #listings = new Map<Fid, ListedName[]>();
  #openFiles = 0;
  #xattrBytes = 0;

  constructor({ tag, tree }: ShareOptions) {
    this.tag = tag;
    this.tree = tree;
  }

  /** True while the guest has it mounted. */
  get isMounted(): boolean {
    return this.fids.size > 0;
  }

  /**
   * Serves one request, with at least a header, and calls `answer` once with the reply, of at most `room`
   * bytes. Never throws.
   */
  request(message: Uint8Array, room: number, answer: (reply: Uint8Array) => void): void {
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    const [type, tag] = [view.getUint8(4), view.getUint16(5, true)];
    const earlier = new Map(type === T.FLUSH || type === T.VERSION ? this.#pending : []);
    const answered = this.#reply(type, tag, new MessageReader(message), room, earlier).then((reply) => {
      answer(reply.subarray(0, room));
      if (this.#pending.get(tag) === answered) this.#pending.delete(tag);
    });
    this.#pending.set(tag, answered);
  }

  async #reply(
    type: number,
    tag: number,
    request: MessageReader,
    room: number,
    earlier: ReadonlyMap<number, Promise<void>>,
  ): Promise<Uint8Array> {
    try {
      const reply = new MessageWriter(type + 1, tag);
      if (type === T.FLUSH) await earlier.get(request.u16());
      else if (type === T.VERSION) await this.#version(request, reply, earlier);
      else {
        const handler = this.#handlers[type];
        if (handler === undefined) throw new FileError("EOPNOTSUPP");
        await handler(request, reply, Math.min(room, this.msize));
      }
      if (reply.length <= room) return reply.finish();
      throw new FileError("EINVAL");
    } catch (error) {
      return new MessageWriter(wire.RLERROR, tag, ERROR_BYTES).u32(ERRNO[errorName(error)]).finish();
    }
  }

  /** The guest's driver or its connection starts anew: all fids are gone. */
  reset(): void {
    for (const fid of this.fids.values()) this.#drop(fid).catch(() => {});
    this.locks.clear();
    this.msize = wire.MAX_MSIZE;
  }

  /** Closes all that is open, and the tree. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.fids.values()].map((fid) => this.#drop(fid)));
    await this.tree.close();
  }

  readonly #handlers: Readonly<Record<number, Handler>> = {
    [T.ATTACH]: (request, reply) => this.#attach(request, reply),
    [T.WALK]: (request, reply) => this.#walk(request, reply),
    [T.CLUNK]: (request) => this.#clunk(request),
    [T.LOPEN]: (request, reply) => this.#lopen(request, reply),
    [T.LCREATE]: (request, reply) => this.#lcreate(request, reply),
    [T.READ]: (request, reply, room) => this.#read(request, reply, room),
    [T.WRITE]: (request, reply) => this.#write(request, reply),
    [T.READDIR]: (request, reply, room) => this.#readdir(request, reply, room),
    [T.GETATTR]: (request, reply) => this.#getattr(request, reply),
    [T.SETATTR]: (request) => this.#setattr(request),
    [T.STATFS]: (request, reply) => this.#statfs(request, reply),
    [T.FSYNC]: (request) => this.#fsync(request),
    [T.MKDIR]: (request, reply) => this.#mkdir(request, reply),
    [T.SYMLINK]: (request, reply) => this.#symlink(request, reply),
    [T.MKNOD]: (request, reply) => this.#mknod(request, reply),
    [T.LINK]: (request) => this.#link(request),
    [T.READLINK]: (request, reply) => this.#readlink(request, reply),
    [T.RENAME]: (request) => this.#renameFid(request),
    [T.RENAMEAT]: (request) => this.#renameat(request),
    [T.REMOVE]: (request) => this.#removeFid(request),
    [T.UNLINKAT]: (request) => this.#unlinkat(request),
    [T.XATTRWALK]: (request, reply) => this.#xattrwalk(request, reply),
    [T.XATTRCREATE]: (request) => this.#xattrcreate(request),
    [T.LOCK]: (request, reply) => this.#lock(request, reply),
    [T.GETLOCK]: (request, reply) => this.#getlock(request, reply),
  };

  // ---- fids ----

  #fid(number: number): Fid {
    const fid = this.fids.get(number);
    if (fid === undefined) throw new FileError("EBADF");
    return fid;
  }

  /** A fid that stands for a file. */
  #fileFid(number: number): Fid {
    const fid = this.#fid(number);
    if (fid.xattr !== undefined) throw new FileError("EINVAL");
    return fid;
  }

  #handleOf(fid: Fid): FileHandle9p {
    if (fid.entry.isStale) throw new FileError("ESTALE");
    if (fid.open === undefined) throw new FileError("EBADF");
    return fid.open.handle;
  }

  /** `fid.entry` is held by the caller, who gives it away; if this throws, it is released. */
  add(fid: Fid): void {
    const problem =
      fid.number === wire.NO_FID || this.fids.has(fid.number)
        ? "EINVAL"
        : this.fids.size >= QUOTAS.fids
          ? "ENFILE"
          : undefined;
    if (problem === undefined) this.fids.set(fid.number, fid);
    else {
      fid.entry.release();
      throw new FileError(problem);
    }
  }

  /** Takes it out of the table; resolves when its file is closed. */
  async #drop(fid: Fid): Promise<void> {
    if (this.fids.get(fid.number) !== fid) return;
    this.fids.delete(fid.number);
    this.#listings.delete(fid);
    this.locks.dropFid(fid.number);
    if (fid.xattr !== undefined) this.#xattrBytes -= fid.xattr.value.length;
    fid.entry.release();
    await fid.open?.handle.close();
  }

  async #clunk(request: MessageReader): Promise<void> {
    const fid = this.#fid(request.u32());
    const { xattr, entry } = fid;
    entry.keep();
    try {
      await this.#drop(fid);
      if (xattr?.flags === undefined) return;
      const { name, value, flags, written } = xattr;
      if (written < value.length) throw new FileError("EINVAL");
      await this.#paths.shared(() =>
        value.length === 0
          ? this.tree.removeXattr(entry.path, name)
          : this.tree.setXattr(entry.path, name, value, flags),
      );
    } finally {
      entry.release();
    }
  }

  async #version(
    request: MessageReader,
    reply: MessageWriter,
    earlier: ReadonlyMap<number, Promise<void>>,
  ): Promise<void> {
    const msize = request.u32();
    const version = request.string();
    if (msize < wire.MIN_MSIZE) throw new FileError("EINVAL");
    await Promise.all(earlier.values());
    this.reset();
    this.msize = Math.min(msize, wire.MAX_MSIZE);
    reply.u32(this.msize).string(version === wire.VERSION ? wire.VERSION : "unknown");
  }

  async #attach(request: MessageReader, reply: MessageWriter): Promise<void> {
    const [number, authentication] = [request.u32(), request.u32()];
    request.string();
    request.string();
    const user = request.u32();
    // Linux attaches its mount itself for no user; a file of none could not be written.
    const uid = user === NO_USER ? 0 : user;
    if (authentication !== wire.NO_FID) throw new FileError("EINVAL");
    const qid = qidOf(await this.tree.attributes(""));
    this.add({ number, uid, entry: this.root.keep(), qid });
    reply.qid(qid);
  }

  async #walk(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const number = request.u32();
    const count = request.u16();
    if (count > wire.MAX_WALK) throw new FileError("EINVAL");
    const names = Array.from({ length: count }, () => request.string());
    const isSame = number === fid.number;
    if (isSame ? fid.open !== undefined || fid.isOpening === true : this.fids.has(number))
      throw new FileError("EINVAL");
    const { entry, qids } = await this.#paths.shared(() => this.#walkTo(fid.entry, names));
    if (qids.length < names.length) entry.release();
    else if (isSame) {
      if (this.fids.get(number) === fid)
        [fid.entry, fid.qid] = [swap(fid.entry, entry), qids.at(-1) ?? fid.qid];
      else entry.release();
    } else this.add({ number, uid: fid.uid, entry, qid: qids.at(-1) ?? fid.qid });
    reply.u16(qids.length);
    for (const qid of qids) reply.qid(qid);
  }

  /** As far as there are files; rejects if not even the first name is there. The result's entry is held. */
  async #walkTo(from: PathEntry, names: readonly string[]): Promise<{ entry: PathEntry; qids: Qid[] }> {
    const qids: Qid[] = [];
    let entry = from.keep();
    for (const name of names) {
      let next: PathEntry | undefined;
      try {
        if (name === "..") next = (entry.parent ?? entry).keep();
        else if (isName(name)) next = entry.hold(name);
        else throw new FileError(name.length > wire.NAME_MAX ? "ENAMETOOLONG" : "ENOENT");
        qids.push(qidOf(await this.tree.attributes(next.path)));
      } catch (error) {
        next?.release();
        if (qids.length > 0) break;
        entry.release();
        throw error;
      }
      entry.release();
      entry = next;
    }
    return { entry, qids };
  }

  // ---- open files ----

  /** Opens a file for a fid, in whose place another request may clunk it meanwhile. */
  async #open(fid: Fid, flags: number, open: () => Promise<OpenFile>): Promise<OpenFid> {
    if (fid.open !== undefined || fid.isOpening === true) throw new FileError("EINVAL");
    if ((flags & wire.OPEN_ACCESS) === wire.OPEN_ACCESS) throw new FileError("EINVAL");
    const kept = flags & OPEN_KEPT;
    if ((kept & wire.OPEN_ACCESS) !== 0 || (kept & wire.OPEN_TRUNC) !== 0) this.#writable();
    fid.isOpening = true;
    try {
      const handle = await this.openHandle(open);
      if (this.fids.get(fid.number) === fid) return { flags: kept & ~wire.OPEN_TRUNC, handle };
      await handle.close();
      throw new FileError("EBADF");
    } finally {
      delete fid.isOpening;
    }
  }

  /** Opens within the quota. */
  async openHandle(open: () => Promise<OpenFile>): Promise<FileHandle9p> {
    if (this.#openFiles >= QUOTAS.openFiles) throw new FileError("ENFILE");
    this.#openFiles++;
    try {
      return new FileHandle9p(await open(), () => this.#openFiles--);
    } catch (error) {
      this.#openFiles--;
      throw error;
    }
  }

  setOpen(fid: Fid, open: OpenFid): void {
    fid.open = open;
    const { handles } = fid.entry;
    handles.add(open.handle);
    open.handle.onClosing = () => handles.delete(open.handle);
  }

  async #lopen(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const flags = request.u32();
    const open = await this.#open(fid, flags, () =>
      this.#paths.shared(async () => this.tree.open(fid.entry.path, flags & OPEN_KEPT)),
    );
    this.setOpen(fid, open);
    fid.qid = qidOf(await open.handle.use((file) => file.attributes()));
    reply.qid(fid.qid).u32(0);
  }

  async #lcreate(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const name = newName(request.string());
    const [flags, mode, gid] = [request.u32(), request.u32(), request.u32()];
    this.#writable();
    const open = await this.#open(fid, flags, () =>
      this.#paths.shared(async () => {
        const kept = (flags & (OPEN_KEPT | wire.OPEN_EXCL)) | wire.OPEN_CREAT;
        return this.tree.create(fid.entry.pathOf(name), kept, mode & 0o7777, { uid: fid.uid, gid });
      }),
    );
    fid.entry = swap(fid.entry, fid.entry.hold(name));
    this.setOpen(fid, open);
    fid.qid = qidOf(await open.handle.use((file) => file.attributes()));
    reply.qid(fid.qid).u32(0);
  }

  async #read(request: MessageReader, reply: MessageWriter, room: number): Promise<void> {
    const fid = this.#fid(request.u32());
    const offset = request.u64();
    const count = Math.min(request.u32(), room - DATA_OVERHEAD);
    if (count < 0) throw new FileError("EINVAL");
    if (fid.xattr !== undefined) {
      const { value } = fid.xattr;
      const from = Number(offset < BigInt(value.length) ? offset : BigInt(value.length));
      const piece = value.subarray(from, from + count);
      reply.u32(piece.length).bytes(piece);
      return;
    }
    if (fid.qid.type & wire.QID_DIRECTORY) throw new FileError("EISDIR");
    const handle = this.#handleOf(fid);
    await reply.data(count, (target) => handle.use((file) => file.read(fileOffset(offset), target)));
  }

  async #write(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fid(request.u32());
    const offset = request.u64();
    const data = request.bytes(request.u32());
    const { xattr } = fid;
    if (xattr === undefined) {
      const handle = this.#handleOf(fid);
      reply.u32(await handle.use((file) => file.write(fileOffset(offset), data)));
      return;
    }
    if (xattr.flags === undefined) throw new FileError("EBADF");
    if (offset !== BigInt(xattr.written) || xattr.written + data.length > xattr.value.length)
      throw new FileError("ENOSPC");
    xattr.value.set(data, xattr.written);
    xattr.written += data.length;
    reply.u32(data.length);
  }

  async #fsync(request: MessageReader): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const isDataOnly = request.u32() !== 0;
    await this.#handleOf(fid).use((file) => file.sync(isDataOnly));
  }

  // ---- directories ----

  async #readdir(request: MessageReader, reply: MessageWriter, room: number): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const offset = request.u64();
    const count = Math.min(request.u32(), room - DATA_OVERHEAD);
    if ((fid.qid.type & wire.QID_DIRECTORY) === 0) throw new FileError("ENOTDIR");
    const list = await this.#list(fid, offset);
    const entries = new MessageWriter(0, 0, Math.min(count, 1 << 16));
    const start = entries.length;
    for (let index = indexAfter(list, offset); index < list.length && entries.length === start; ) {
      const piece: ListedName[] = [];
      let bytes = 0;
      for (; index < list.length; index++) {
        const next = list[index] as ListedName;
        bytes += ENTRY_BYTES + next.name.length;
        if (bytes > count) break;
        piece.push(next);
      }
      if (piece.length === 0) throw new FileError("EINVAL");
      const found = await Promise.all(piece.map(({ name }) => this.#listed(fid, name)));
      for (const [i, { cookie, name }] of piece.entries()) {
        const attributes = found[i];
        // Removed since it was listed.
        if (attributes === undefined) continue;
        entries
          .qid(qidOf(attributes))
          .u64(cookie)
          .u8(attributes.mode >>> 12)
          .string(name);
      }
    }
    if (entries.length === start) this.#listings.delete(fid);
    const data = entries.finish().subarray(start);
    reply.u32(data.length).bytes(data);
  }

  #listed(fid: Fid, name: string): Promise<Attributes | undefined> {
    const { entry } = fid;
    return this.#paths
      .shared(async () => {
        if (name === "..") return await this.tree.attributes((entry.parent ?? entry).path);
        return await this.tree.attributes(name === "." ? entry.path : entry.pathOf(name));
      })
      .catch(() => undefined);
  }

  async #list(fid: Fid, offset: bigint): Promise<ListedName[]> {
    const handle = this.#handleOf(fid);
    let list = offset === 0n ? undefined : this.#listings.get(fid);
    list ??= listing(await handle.use((file) => file.names()));
    this.#listings.delete(fid);
    if (this.fids.get(fid.number) !== fid) throw new FileError("EBADF");
    this.#listings.set(fid, list);
    const [oldest] = this.#listings.keys();
    if (this.#listings.size > QUOTAS.listings && oldest !== undefined) this.#listings.delete(oldest);
    return list;
  }

  /** Makes a file with a new name in a directory; answers with its qid. */
  async #make(
    reply: MessageWriter,
    fid: Fid,
    name: string,
    make: (path: string) => Promise<void>,
  ): Promise<void> {
    newName(name);
    this.#writable();
    await this.#paths.shared(async () => {
      const path = fid.entry.pathOf(name);
      await make(path);
      reply.qid(qidOf(await this.tree.attributes(path)));
    });
  }

  async #mkdir(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const name = request.string();
    const [mode, gid] = [request.u32(), request.u32()];
    const owner = { uid: fid.uid, gid };
    await this.#make(reply, fid, name, (path) => this.tree.makeDirectory(path, mode & 0o7777, owner));
  }

  async #symlink(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const [name, target] = [request.string(), request.string()];
    const owner = { uid: fid.uid, gid: request.u32() };
    if (target === "" || target.includes("\0")) throw new FileError("ENOENT");
    if (target.length >= wire.PATH_MAX) throw new FileError("ENAMETOOLONG");
    await this.#make(reply, fid, name, (path) => this.tree.makeSymlink(path, target, owner));
  }

  async #mknod(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const name = request.string();
    const [mode, major, minor, gid] = [request.u32(), request.u32(), request.u32(), request.u32()];
    if (major > 0xfff || minor > 0xfffff) throw new FileError("EINVAL");
    const device = ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
    const owner = { uid: fid.uid, gid };
    await this.#make(reply, fid, name, (path) => this.tree.makeNode(path, mode & 0o177777, device, owner));
  }

  async #link(request: MessageReader): Promise<void> {
    const [directory, fid] = [this.#fileFid(request.u32()), this.#fileFid(request.u32())];
    const name = newName(request.string());
    this.#writable();
    await this.#paths.shared(async () => this.tree.makeLink(directory.entry.pathOf(name), fid.entry.path));
  }

  async #readlink(request: MessageReader, reply: MessageWriter): Promise<void> {
    const { entry } = this.#fileFid(request.u32());
    reply.string(await this.#paths.shared(async () => this.tree.readSymlink(entry.path)));
  }

  async #renameFid(request: MessageReader): Promise<void> {
    const [fid, directory] = [this.#fileFid(request.u32()), this.#fileFid(request.u32())];
    const name = request.string();
    // Where it is when its turn comes: another request may move it before.
    await this.#rename(() => fid.entry.place, directory.entry, name);
  }

  async #renameat(request: MessageReader): Promise<void> {
    const from = this.#fileFid(request.u32()).entry;
    const name = newName(request.string());
    const to = this.#fileFid(request.u32()).entry;
    await this.#rename(() => [from, name], to, request.string());
  }

  async #rename(source: () => [PathEntry, string], to: PathEntry, toName: string): Promise<void> {
    newName(toName);
    this.#writable();
    await this.#paths.exclusive(async () => {
      const [from, name] = source();
      await this.tree.rename(from.pathOf(name), to.pathOf(toName));
      from.move(name, to, toName);
    });
  }

  async #removeFid(request: MessageReader): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const { entry } = fid;
    entry.keep();
    try {
      await this.#drop(fid);
      await this.#remove(() => entry.place, (fid.qid.type & wire.QID_DIRECTORY) !== 0);
    } finally {
      entry.release();
    }
  }

  async #unlinkat(request: MessageReader): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const name = newName(request.string());
    await this.#remove(() => [fid.entry, name], (request.u32() & AT_REMOVEDIR) !== 0);
  }

  async #remove(place: () => [PathEntry, string], isDirectory: boolean): Promise<void> {
    this.#writable();
    await this.#paths.exclusive(async () => {
      const [directory, name] = place();
      await this.tree.remove(directory.pathOf(name), isDirectory);
      directory.forget(name);
    });
  }

  #writable(): void {
    if (this.tree.readonly) throw new FileError("EROFS");
  }

  // ---- attributes ----

  /** By what is open, if there is something: it is there even if the name is gone. */
  #withFile<R>(
    fid: Fid,
    byHandle: (file: OpenFile) => Promise<R>,
    byPath: (path: string) => Promise<R>,
  ): Promise<R> {
    const { entry } = fid;
    if (entry.isStale) throw new FileError("ESTALE");
    if (fid.open !== undefined) return fid.open.handle.use(byHandle);
    return this.#paths.shared(async () => {
      const path = entry.pathOrGone;
      if (path !== undefined) return await byPath(path);
      const [handle] = entry.handles;
      if (handle === undefined) throw new FileError("ESTALE");
      return await handle.use(byHandle);
    });
  }

  async #getattr(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    request.u64();
    const found = await this.#withFile(
      fid,
      (file) => file.attributes(),
      (path) => this.tree.attributes(path),
    );
    const [uid, gid] = this.tree.model === "map" ? [fid.uid, fid.uid] : [found.uid, found.gid];
    reply.u64(VALID_ATTRIBUTES).qid(qidOf(found)).u32(found.mode).u32(uid).u32(gid).u64(found.links);
    reply.u64(found.device).u64(found.size).u64(BigInt(found.blockSize)).u64(found.blocks);
    for (const time of [found.atimeNs, found.mtimeNs, found.ctimeNs]) {
      const seconds = time >= 0n ? time / NS : -((-time + NS - 1n) / NS);
      reply.u64(BigInt.asUintN(64, seconds)).u64(time - seconds * NS);
    }
    reply.u64(0n).u64(0n).u64(0n).u64(0n);
  }

  async #setattr(request: MessageReader): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const valid = request.u32();
    const [mode, uid, gid, size] = [request.u32(), request.u32(), request.u32(), request.u64()];
    const [atime, mtime] = [readTime(request), readTime(request)];
    this.#writable();
    const isMapped = this.tree.model === "map";
    const has = (bit: number): boolean => (valid & bit) !== 0;
    const changes: AttributeChanges = {
      ...(has(SET.MODE) ? { mode: mode & 0o7777 } : {}),
      ...(has(SET.UID) && !isMapped ? { uid } : {}),
      ...(has(SET.GID) && !isMapped ? { gid } : {}),
      ...(has(SET.SIZE) ? { size: fileOffset(size) } : {}),
      ...(has(SET.ATIME) ? { atimeNs: has(SET.ATIME_SET) ? atime : "now" } : {}),
      ...(has(SET.MTIME) ? { mtimeNs: has(SET.MTIME_SET) ? mtime : "now" } : {}),
    };
    await this.#withFile(
      fid,
      (file) => file.change(changes),
      (path) => this.tree.change(path, changes),
    );
  }

  async #statfs(request: MessageReader, reply: MessageWriter): Promise<void> {
    this.#fileFid(request.u32());
    const space = await this.tree.space();
    reply.u32(FILE_SYSTEM_TYPE).u32(space.blockSize).u64(space.blocks).u64(space.freeBlocks);
    reply.u64(space.availableBlocks).u64(space.files).u64(space.freeFiles).u64(0n).u32(wire.NAME_MAX);
  }

  // ---- extended attributes ----

  async #xattrwalk(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const number = request.u32();
    const name = request.string();
    const value = await this.#paths.shared(async () => {
      const { path } = fid.entry;
      if (name !== "") return await this.tree.xattr(path, name);
      return bytesOf((await this.tree.xattrNames(path)).map((each) => `${each}\0`).join(""));
    });
    if (value.length > QUOTAS.xattr) throw new FileError("ENOSPC");
    this.#addXattrBytes(value.length);
    try {
      const { uid, qid } = fid;
      this.add({
        number,
        uid,
        entry: fid.entry.keep(),
        qid,
        xattr: { name, value, flags: undefined, written: 0 },
      });
    } catch (error) {
      this.#xattrBytes -= value.length;
      throw error;
    }
    reply.u64(BigInt(value.length));
  }

  async #xattrcreate(request: MessageReader): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const name = request.string();
    const [size, flags] = [request.u64(), request.u32()];
    this.#writable();
    if (fid.open !== undefined || fid.isOpening === true || name === "") throw new FileError("EINVAL");
    if (size > BigInt(QUOTAS.xattr)) throw new FileError("ENOSPC");
    // What a saved machine can have.
    if (name.length > wire.NAME_MAX) throw new FileError("ERANGE");
    if (flags > 3) throw new FileError("EINVAL");
    this.setXattr(fid, { name, value: new Uint8Array(Number(size)), flags, written: 0 });
  }

  /** Makes it a fid of an extended attribute, within the quota. */
  setXattr(fid: Fid, xattr: XattrFid): void {
    this.#addXattrBytes(xattr.value.length);
    fid.xattr = xattr;
  }

  #addXattrBytes(bytes: number): void {
    if (this.#xattrBytes + bytes > QUOTAS.xattrs) throw new FileError("ENOMEM");
    this.#xattrBytes += bytes;
  }

  // ---- locks ----

  async #lock(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const type = request.u8();
    // P9_LOCK_FLAGS_BLOCK: the client asks again after a while.
    request.u32();
    const lock = this.#readLock(fid, type, request);
    this.#handleOf(fid);
    // To unlock the middle of a lock leaves two.
    const most = type === LOCK_NONE ? 2 * QUOTAS.locks : QUOTAS.locks;
    const isFull = this.locks.all.length >= most;
    if (isFull) reply.u8(LOCK_STATUS.ERROR);
    else reply.u8(this.locks.set(lock) ? LOCK_STATUS.SUCCESS : LOCK_STATUS.BLOCKED);
  }

  async #getlock(request: MessageReader, reply: MessageWriter): Promise<void> {
    const fid = this.#fileFid(request.u32());
    const type = request.u8();
    const wanted = this.#readLock(fid, type, request);
    const found = type === LOCK_NONE ? undefined : this.locks.conflict(wanted);
    const { start, process, client } = found ?? wanted;
    reply
      .u8(found?.type ?? LOCK_NONE)
      .u64(start)
      .u64(lockLength(found ?? wanted))
      .u32(process)
      .string(client);
  }

  #readLock(fid: Fid, type: number, request: MessageReader): ByteLock {
    const [start, length] = [request.u64(), request.u64()];
    const [process, client] = [request.u32(), request.string()];
    if (type > LOCK_NONE || client.length > wire.NAME_MAX) throw new FileError("EINVAL");
    const { number, qid } = fid;
    return { file: qid.path, fid: number, type, start, end: lockEnd(start, length), process, client };
  }
}

function swap(old: PathEntry, held: PathEntry): PathEntry {
  old.release();
  return held;
}

function isName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && name.length <= wire.NAME_MAX && !/[/\0]/.test(name);
}

/** Throws unless it is a file's name. */
function newName(name: string): string {
  if (isName(name)) return name;
  if (name === "." || name === "..") throw new FileError("EEXIST");
  throw new FileError(name.length > wire.NAME_MAX ? "ENAMETOOLONG" : "ENOENT");
}

function fileOffset(offset: bigint): number {
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) throw new FileError("EFBIG");
  return Number(offset);
}

function readTime(request: MessageReader): bigint {
  const [seconds, ns] = [request.u64(), request.u64()];
  return BigInt.asIntN(64, seconds) * NS + (ns < NS ? ns : NS - 1n);
}

export function qidOf({ mode, id, mtimeNs, size }: Attributes): Qid {
  const kind = mode & wire.S_IFMT;
  const type = kind === wire.S_IFDIR ? wire.QID_DIRECTORY : kind === wire.S_IFLNK ? wire.QID_SYMLINK : 0;
  // Never 0: a client takes that for a file that it must not cache.
  const version = Number(BigInt.asUintN(32, mtimeNs ^ (mtimeNs >> 30n) ^ (size << 8n))) || 1;
  return { type, version, path: id };
}
