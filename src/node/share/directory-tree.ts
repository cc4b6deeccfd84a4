// A directory of this host as the tree of a share. Owners as QEMU's security models have them, or the
// caller's; extended attributes in the namespace `user`. Left out: file locks that the host's programs see.
import * as fs from "node:fs";
import { promisify } from "node:util";
import { byteString, bytesOf } from "../../share/byte-string.ts";
import type {
  AttributeChanges,
  Attributes,
  FileTree,
  OpenFile,
  Owner,
  OwnerModel,
  TreeSpace,
} from "../../share/file-tree.ts";
import { FileError } from "../../share/linux-errno.ts";
import * as wire from "../../share/wire-9p.ts";
import { MappedOwners } from "./mapped-owners.ts";
import { PerlCalls } from "./perl-calls.ts";
import { type HostPlace, O_PATH, RootedPaths } from "./rooted-paths.ts";

const call = {
  open: promisify(fs.open),
  close: promisify(fs.close),
  read: promisify(fs.read),
  write: promisify(fs.write),
  fstat: promisify(fs.fstat),
  lstat: promisify(fs.lstat),
  fsync: promisify(fs.fsync),
  fdatasync: promisify(fs.fdatasync),
  ftruncate: promisify(fs.ftruncate),
  chmod: promisify(fs.chmod),
  fchmod: promisify(fs.fchmod),
  fchown: promisify(fs.fchown),
  lchown: promisify(fs.lchown),
  lutimes: promisify(fs.lutimes),
  futimes: promisify(fs.futimes),
  truncate: promisify(fs.truncate),
  readdir: promisify(fs.readdir),
  mkdir: promisify(fs.mkdir),
  symlink: promisify(fs.symlink),
  link: promisify(fs.link),
  readlink: promisify(fs.readlink),
  rename: promisify(fs.rename),
  unlink: promisify(fs.unlink),
  rmdir: promisify(fs.rmdir),
  statfs: promisify(fs.statfs),
};

const { constants } = fs;
const NS = 1_000_000_000n;
const USER_XATTRS = "user.";
/** The access rights that the host's files have while the guest's are in extended attributes. */
const MAPPED_FILE = 0o600;
const MAPPED_DIRECTORY = 0o700;

export interface DirectoryTreeOptions {
  /** The directory, absolute. */
  readonly path: string;
  readonly readonly: boolean;
  readonly model: OwnerModel;
}

export class DirectoryTree implements FileTree {
  readonly model: OwnerModel;
  readonly readonly: boolean;
  readonly #paths: RootedPaths;
  readonly #rootDevice: bigint;
  readonly #perl = new PerlCalls();
  /** With mapped-xattr. */
  readonly #mapped: MappedOwners | undefined;
  /** What this process's umask takes from a new file's mode. */
  readonly #umask = process.umask();

  private constructor(options: DirectoryTreeOptions, paths: RootedPaths, rootDevice: bigint) {
    this.model = options.model;
    this.readonly = options.readonly;
    this.#paths = paths;
    this.#rootDevice = rootDevice;
    if (this.model === "mapped-xattr") this.#mapped = new MappedOwners(this.#perl);
  }

  /** Rejects with the host's error if it cannot be opened, or with `model` has no extended attributes. */
  static async open(options: DirectoryTreeOptions): Promise<DirectoryTree> {
    const paths = await RootedPaths.open(options.path);
    const { dev } = await call.fstat(paths.rootFd, { bigint: true });
    const tree = new DirectoryTree(options, paths, dev);
    try {
      await tree.#mapped?.check((work) => paths.at("", work));
      return tree;
    } catch (error) {
      await tree.close();
      throw error;
    }
  }

  // ---- attributes ----

  #attributes(stat: fs.BigIntStats): Attributes {
    const { dev, ino } = stat;
    // Inode numbers are of one file system; another one that is mounted below has its own.
    const other = BigInt.asUintN(64, (ino & 0xffff_ffff_ffffn) | ((dev & 0xffffn) << 48n) | (1n << 63n));
    return {
      id: dev === this.#rootDevice ? ino : other,
      mode: Number(stat.mode),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      links: stat.nlink,
      device: stat.rdev,
      size: stat.size,
      blockSize: Number(stat.blksize),
      blocks: stat.blocks,
      atimeNs: stat.atimeNs,
      mtimeNs: stat.mtimeNs,
      ctimeNs: stat.ctimeNs,
    };
  }

  async attributes(path: string): Promise<Attributes> {
    return this.#paths.at(path, (place) => this.#attributesAt(place));
  }
  async #attributesAt(place: HostPlace): Promise<Attributes> {
    const found = this.#attributes(await call.lstat(place.path, { bigint: true }));
    return this.#mapped === undefined ? found : await this.#mapped.show(place, found);
  }

  async change(path: string, changes: AttributeChanges): Promise<void> {
    await this.#paths.at(path, (place) => this.#changeAt(place, changes));
  }

  async #changeAt(place: HostPlace, changes: AttributeChanges): Promise<void> {
    const { size, uid, gid, mode, atimeNs, mtimeNs } = changes;
    if (size !== undefined) await this.#byInode(place, [wire.S_IFREG], (inode) => call.truncate(inode, size));
    if (this.#mapped !== undefined)
      await this.#mapped.change(place, changes, (await this.#attributesAt(place)).mode);
    else {
      if (uid !== undefined || gid !== undefined)
        await this.#own(() => call.lchown(place.path, uid ?? KEEP_OWNER, gid ?? KEEP_OWNER));
      if (mode !== undefined) await this.#byInode(place, NOT_LINKS, (inode) => call.chmod(inode, mode));
    }
    if (atimeNs === undefined && mtimeNs === undefined) return;
    if (isNodeTime(atimeNs) && isNodeTime(mtimeNs))
      await call.lutimes(place.path, seconds(atimeNs), seconds(mtimeNs));
    else
      await this.#exactTimes(place, atimeNs, mtimeNs, async () => {
        const now = await call.lstat(place.path, { bigint: true });
        await call.lutimes(place.path, seconds(atimeNs ?? now.atimeNs), seconds(mtimeNs ?? now.mtimeNs));
      });
  }

  /** By perl; without it to the microsecond, what Node can. */
  async #exactTimes(
    place: HostPlace,
    atimeNs: Time,
    mtimeNs: Time,
    rough: () => Promise<void>,
  ): Promise<void> {
    try {
      await this.#perl.setTimes(place, atimeNs, mtimeNs);
    } catch (error) {
      if (place.foreign !== undefined && this.#perl.isAvailable) throw error;
      await rough();
    }
  }

  /**
   * Calls `work` with a path of the inode, if it has one of these types: no call that follows links may get a
   * guest's, and a device is never opened.
   */
  async #byInode<R>(
    place: HostPlace,
    types: readonly number[],
    work: (inode: fs.PathLike) => Promise<R>,
  ): Promise<R> {
    if (!this.#paths.hasProc) {
      this.#checkType(await call.lstat(place.path, { bigint: true }), types);
      return await work(place.path);
    }
    const fd = await call.open(place.path, O_PATH | constants.O_NOFOLLOW);
    try {
      this.#checkType(await call.fstat(fd, { bigint: true }), types);
      return await work(`/proc/self/fd/${fd}`);
    } finally {
      await call.close(fd);
    }
  }

  #checkType({ mode }: fs.BigIntStats, types: readonly number[]): void {
    const type = Number(mode) & wire.S_IFMT;
    if (types.includes(type)) return;
    if (type === wire.S_IFLNK) throw new FileError("ELOOP");
    throw new FileError(
      type === wire.S_IFDIR ? "EISDIR" : types.includes(wire.S_IFREG) ? "ENXIO" : "ENOTDIR",
    );
  }

  /** With `none`, as in QEMU, an owner that this process may not give is not given. */
  async #own(change: () => Promise<void>): Promise<void> {
    if (this.model === "map") return;
    try {
      await change();
    } catch (error) {
      if (this.model === "passthrough") throw error;
    }
  }

  // ---- files ----

  async open(path: string, flags: number): Promise<OpenFile> {
    return this.#paths.at(path, (place) => this.#openAt(place, flags));
  }

  async #openAt(place: HostPlace, flags: number): Promise<OpenFile> {
    const isDirectoryOnly = (flags & wire.OPEN_DIRECTORY) !== 0;
    const types = isDirectoryOnly ? [wire.S_IFDIR] : [wire.S_IFREG, wire.S_IFDIR];
    if (this.#mapped !== undefined && ((await this.#attributesAt(place)).mode & wire.S_IFMT) === wire.S_IFLNK)
      throw new FileError("ELOOP");
    const fd = await this.#byInode(place, types, (inode) => call.open(inode, hostFlags(flags)));
    return this.#file(fd, place);
  }

  async create(path: string, flags: number, mode: number, owner: Owner): Promise<OpenFile> {
    return this.#paths.at(path, async (place) => {
      const exclusive = constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      const created = this.#mapped === undefined ? mode : MAPPED_FILE;
      let fd: number;
      try {
        fd = await call.open(place.path, hostFlags(flags) | exclusive, created & 0o777);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST" || flags & wire.OPEN_EXCL) throw error;
        return await this.#openAt(place, flags);
      }
      try {
        if (this.#mapped !== undefined) await this.#mapped.created(place, wire.S_IFREG | mode, owner);
        else {
          await this.#own(() => call.fchown(fd, owner.uid, owner.gid));
          if (mode & (this.#umask | 0o7000)) await call.fchmod(fd, mode);
        }
      } catch (error) {
        await call.close(fd);
        await call.unlink(place.path).catch(() => {});
        throw error;
      }
      return this.#file(fd, place);
    });
  }

  #file(fd: number, opened: HostPlace): OpenFile {
    const { hasProc } = this.#paths;
    const of = (process: string | number): Buffer => Buffer.from(`/proc/${process}/fd/${fd}`);
    const place: HostPlace = hasProc ? { path: of("self"), foreign: of(process.pid), isLink: true } : opened;
    const listed = hasProc ? `/proc/self/fd/${fd}/.` : Buffer.from(opened.path);
    const attributes = async (): Promise<Attributes> => {
      const found = this.#attributes(await call.fstat(fd, { bigint: true }));
      return this.#mapped === undefined ? found : await this.#mapped.show(place, found);
    };
    return {
      attributes,
      read: async (offset, target) => {
        let done = 0;
        while (done < target.length) {
          const { bytesRead } = await call.read(fd, target, done, target.length - done, offset + done);
          if (bytesRead === 0) break;
          done += bytesRead;
        }
        return done;
      },
      write: async (offset, data) => {
        let done = 0;
        while (done < data.length) {
          try {
            done += (await call.write(fd, data, done, data.length - done, offset + done)).bytesWritten;
          } catch (error) {
            if (done === 0) throw error;
            break;
          }
        }
        return done;
      },
      names: async () => (await call.readdir(listed, { encoding: "buffer" })).map(byteString),
      change: async (changes) => {
        const { size, uid, gid, mode, atimeNs, mtimeNs } = changes;
        if (size !== undefined) await call.ftruncate(fd, size);
        if (this.#mapped !== undefined) await this.#mapped.change(place, changes, (await attributes()).mode);
        else {
          if (uid !== undefined || gid !== undefined)
            await this.#own(() => call.fchown(fd, uid ?? KEEP_OWNER, gid ?? KEEP_OWNER));
          if (mode !== undefined) await call.fchmod(fd, mode);
        }
        if (atimeNs === undefined && mtimeNs === undefined) return;
        await this.#exactTimes(place, atimeNs, mtimeNs, async () => {
          const now = await call.fstat(fd, { bigint: true });
          await call.futimes(fd, seconds(atimeNs ?? now.atimeNs), seconds(mtimeNs ?? now.mtimeNs));
        });
      },
      sync: (dataOnly) => (dataOnly ? call.fdatasync(fd) : call.fsync(fd)),
      close: () => call.close(fd),
    };
  }

  // ---- names ----

  /** Makes something with a name, then gives it its owner. */
  async #make(
    path: string,
    mode: number,
    owner: Owner,
    make: (place: HostPlace) => Promise<unknown>,
  ): Promise<void> {
    await this.#paths.at(path, async (place) => {
      await make(place);
      if (this.#mapped !== undefined) return await this.#mapped.created(place, mode, owner);
      await this.#own(() => call.lchown(place.path, owner.uid, owner.gid));
      const isLink = (mode & wire.S_IFMT) === wire.S_IFLNK;
      if (!isLink && mode & (this.#umask | 0o7000))
        await this.#byInode(place, [mode & wire.S_IFMT], (inode) => call.chmod(inode, mode & 0o7777));
    });
  }

  async makeDirectory(path: string, mode: number, owner: Owner): Promise<void> {
    const created = this.#mapped === undefined ? mode & 0o777 : MAPPED_DIRECTORY;
    await this.#make(path, wire.S_IFDIR | mode, owner, (place) => call.mkdir(place.path, created));
  }

  async makeNode(path: string, mode: number, device: number, owner: Owner): Promise<void> {
    const type = mode & wire.S_IFMT || wire.S_IFREG;
    if (type === wire.S_IFDIR || type === wire.S_IFLNK) throw new FileError("EINVAL");
    if (this.#mapped !== undefined || type === wire.S_IFREG) {
      const file = await this.create(path, wire.OPEN_WRONLY | wire.OPEN_EXCL, mode & 0o7777, owner);
      await file.close();
      if (type === wire.S_IFREG) return;
      await this.#paths.at(path, (place) => this.#mapped?.created(place, mode, owner, device) ?? none());
      return;
    }
    await this.#make(path, mode, owner, (place) => this.#perl.makeNode(place, mode, device));
  }

  async makeSymlink(path: string, target: string, owner: Owner): Promise<void> {
    const mode = wire.S_IFLNK | 0o777;
    if (this.#mapped === undefined)
      return await this.#make(path, mode, owner, (place) =>
        call.symlink(Buffer.from(target, "latin1"), place.path),
      );
    const file = await this.create(path, wire.OPEN_WRONLY | wire.OPEN_EXCL, MAPPED_FILE, owner);
    try {
      await file.write(0, bytesOf(target));
    } finally {
      await file.close();
    }
    await this.#paths.at(path, (place) => this.#mapped?.created(place, mode, owner) ?? none());
  }

  async readSymlink(path: string): Promise<string> {
    return this.#paths.at(path, async (place) => {
      if (this.#mapped === undefined)
        return byteString(await call.readlink(place.path, { encoding: "buffer" }));
      if (((await this.#attributesAt(place)).mode & wire.S_IFMT) !== wire.S_IFLNK)
        throw new FileError("EINVAL");
      const fd = await this.#byInode(place, [wire.S_IFREG], (inode) => call.open(inode, constants.O_RDONLY));
      const target = new Uint8Array(wire.PATH_MAX);
      const file = this.#file(fd, place);
      try {
        return byteString(target.subarray(0, await file.read(0, target)));
      } finally {
        await file.close();
      }
    });
  }

  async makeLink(path: string, existing: string): Promise<void> {
    await this.#paths.at(existing, (from) => this.#paths.at(path, (to) => call.link(from.path, to.path)));
  }
  async rename(from: string, to: string): Promise<void> {
    await this.#paths.at(from, (old) => this.#paths.at(to, (place) => call.rename(old.path, place.path)));
  }
  async remove(path: string, isDirectory: boolean): Promise<void> {
    await this.#paths.at(path, ({ path: name }) => (isDirectory ? call.rmdir(name) : call.unlink(name)));
  }

  // ---- extended attributes, space ----

  async xattr(path: string, name: string): Promise<Uint8Array> {
    return this.#withXattr(path, name, (place) => this.#perl.getXattr(place, name));
  }
  async setXattr(path: string, name: string, value: Uint8Array, flags: number): Promise<void> {
    await this.#withXattr(path, name, (place) => this.#perl.setXattr(place, name, value, flags));
  }
  async removeXattr(path: string, name: string): Promise<void> {
    await this.#withXattr(path, name, (place) => this.#perl.removeXattr(place, name));
  }
  async xattrNames(path: string): Promise<string[]> {
    const list = await this.#withXattr(path, USER_XATTRS, (place) => this.#perl.listXattrs(place));
    const names = byteString(list).split("\0");
    return names.filter((name) => name.startsWith(USER_XATTRS) && !this.#isHidden(name));
  }

  #isHidden(name: string): boolean {
    return this.#mapped?.owns(name) ?? false;
  }

  /**
   * Other namespaces are not the guest's: `trusted` and `security` are the host's, and a kernel asks for
   * `security` all the time.
   */
  #withXattr<R>(path: string, name: string, work: (place: HostPlace) => Promise<R>): Promise<R> {
    if (!name.startsWith(USER_XATTRS)) throw new FileError("EOPNOTSUPP");
    if (name.length > wire.NAME_MAX) throw new FileError("ERANGE");
    if (name.includes("\0")) throw new FileError("EINVAL");
    if (this.#isHidden(name)) throw new FileError("EACCES");
    return this.#paths.at(path, work);
  }

  async space(): Promise<TreeSpace> {
    const found = await this.#paths.at("", (place) => call.statfs(place.path, { bigint: true }));
    return {
      blockSize: Number(found.bsize),
      blocks: found.blocks,
      freeBlocks: found.bfree,
      availableBlocks: found.bavail,
      files: found.files,
      freeFiles: found.ffree,
    };
  }

  async close(): Promise<void> {
    this.#perl.close();
    await this.#paths.close();
  }
}

type Time = bigint | "now" | undefined;

/** chown's "as it was". */
const KEEP_OWNER = 0xffff_ffff;
/** Regular files, directories, FIFOs, devices, sockets. */
const NOT_LINKS = [wire.S_IFREG, wire.S_IFDIR, 0o010000, 0o020000, 0o060000, 0o140000];

const none = (): Promise<void> => Promise.resolve();

/** Node takes seconds as a double: whole ones are exact. */
function isNodeTime(time: Time): time is bigint | "now" {
  return time !== undefined && (time === "now" || time % NS === 0n);
}
function seconds(time: bigint | "now"): number {
  return time === "now" ? Date.now() / 1000 : Number(time / 1000n) / 1e6;
}

/** Linux's numbers on the wire to this host's. */
function hostFlags(flags: number): number {
  const access = [constants.O_RDONLY, constants.O_WRONLY, constants.O_RDWR][flags & wire.OPEN_ACCESS] ?? 0;
  let host = access | constants.O_NONBLOCK | constants.O_NOCTTY;
  if (flags & wire.OPEN_TRUNC) host |= constants.O_TRUNC;
  if (flags & wire.OPEN_APPEND) host |= constants.O_APPEND;
  if (flags & wire.OPEN_DIRECTORY) host |= constants.O_DIRECTORY;
  if ((flags & wire.OPEN_SYNC) === wire.OPEN_SYNC) host |= constants.O_SYNC;
  else if (flags & wire.OPEN_DSYNC) host |= constants.O_DSYNC ?? constants.O_SYNC;
  return host;
}
