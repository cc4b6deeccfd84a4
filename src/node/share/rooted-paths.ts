// Paths in a directory that never leave it, whatever links a guest makes and whatever others do in the host's
// tree meanwhile. On Linux every component is opened by its parent's descriptor (/proc/self/fd/N/NAME with
// O_NOFOLLOW, as openat would), so a name is never resolved across a symlink, and a directory that was moved
// out of the tree is noticed. Elsewhere, and without /proc, each component is looked at before the path is
// used: safe against the guest alone, not against a program of the host that swaps a directory for a symlink
// at that moment.
import { close, constants, lstat, open, readlinkSync } from "node:fs";
import { access } from "node:fs/promises";
import { promisify } from "node:util";
import { FileError } from "../../share/linux-errno.ts";

const [openFd, closeFd, stat] = [promisify(open), promisify(close), promisify(lstat)];

/** Linux's O_PATH (asm-generic): a descriptor that only names a file. Node has no constant for it. */
export const O_PATH = 0o10000000;
const DIRECTORY = constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Directories that stay open for the next use. */
const MAX_KEPT = 128;

interface Directory {
  readonly fd: number;
  readonly path: string;
  uses: number;
  isDropped: boolean;
}

/** Where a file is for one system call. */
export interface HostPlace {
  /** Not to be used after the call that it was given to. */
  readonly path: Buffer;
  /** The same for another process; undefined where there is none. */
  readonly foreign: Buffer | undefined;
  /** It is a link of /proc to an open file, which must be followed. */
  readonly isLink?: boolean;
}

export class RootedPaths {
  readonly #root: Directory;
  readonly #rootPath: string;
  readonly hasProc: boolean;
  /** The least recently used first. */
  readonly #kept = new Map<string, Directory>();

  private constructor(fd: number, rootPath: string, hasProc: boolean) {
    this.#root = { fd, path: "", uses: 1, isDropped: false };
    this.#rootPath = Buffer.from(rootPath).toString("latin1");
    this.hasProc = hasProc;
  }

  /** Rejects with the host's error if it is not a directory that can be read. `path` is absolute. */
  static async open(path: string): Promise<RootedPaths> {
    const fd = await openFd(path, constants.O_RDONLY | constants.O_DIRECTORY);
    const hasProc =
      process.platform === "linux" &&
      (await access(`/proc/self/fd/${fd}`).then(
        () => true,
        () => false,
      ));
    return new RootedPaths(fd, path, hasProc);
  }

  get rootFd(): number {
    return this.#root.fd;
  }

  /** Calls `work` with a place of the file, whose last component must not be followed. */
  async at<R>(path: string, work: (place: HostPlace) => Promise<R>): Promise<R> {
    const slash = path.lastIndexOf("/");
    const name = path.slice(slash + 1);
    checkComponent(path, name);
    const directory = await this.#directory(slash < 0 ? "" : path.slice(0, slash));
    try {
      return await work(this.#place(directory, name === "" ? "." : name));
    } finally {
      this.#release(directory);
    }
  }

  #place(directory: Directory, name: string): HostPlace {
    const bytes = (text: string): Buffer => Buffer.from(text, "latin1");
    if (!this.hasProc) {
      const parent = directory.path === "" ? this.#rootPath : `${this.#rootPath}/${directory.path}`;
      return { path: bytes(`${parent}/${name}`), foreign: undefined };
    }
    const of = (process: string | number) => bytes(`/proc/${process}/fd/${directory.fd}/${name}`);
    return { path: of("self"), foreign: of(process.pid) };
  }

  /** Held until `#release`. */
  async #directory(path: string): Promise<Directory> {
    if (path === "") return this.#hold(this.#root);
    if (!this.hasProc) return await this.#looked(path);
    const kept = this.#kept.get(path);
    if (kept !== undefined) {
      this.#kept.delete(path);
      if (this.#isInPlace(kept)) {
        this.#kept.set(path, kept);
        return this.#hold(kept);
      }
      this.#drop(kept);
    }
    const fd = await this.at(path, (place) => openFd(place.path, O_PATH | DIRECTORY));
    const directory: Directory = { fd, path, uses: 1, isDropped: false };
    // Another request may have opened it meanwhile.
    const other = this.#kept.get(path);
    if (other !== undefined) this.#drop(other);
    this.#kept.set(path, directory);
    const [oldest] = this.#kept;
    if (this.#kept.size > MAX_KEPT && oldest !== undefined) {
      this.#kept.delete(oldest[0]);
      this.#drop(oldest[1]);
    }
    return directory;
  }

  /** The kernel says where an open directory is now. */
  #isInPlace({ fd, path }: Directory): boolean {
    try {
      const [here, root] = [fd, this.#root.fd].map((each) => readlinkSync(`/proc/self/fd/${each}`, "latin1"));
      return here === (root === "/" ? `/${path}` : `${root}/${path}`);
    } catch {
      return false;
    }
  }

  /** Without descriptors: no component may be anything but a directory. */
  async #looked(path: string): Promise<Directory> {
    let at = this.#rootPath;
    for (const name of path.split("/")) {
      checkComponent(path, name);
      at += `/${name}`;
      if (!(await stat(Buffer.from(at, "latin1"))).isDirectory()) throw new FileError("ENOTDIR");
    }
    return { fd: -1, path, uses: 1, isDropped: true };
  }

  #hold(directory: Directory): Directory {
    directory.uses++;
    return directory;
  }
  #release(directory: Directory): void {
    directory.uses--;
    if (directory.isDropped) this.#drop(directory);
  }
  #drop(directory: Directory): void {
    directory.isDropped = true;
    if (directory.uses === 0 && directory.fd >= 0) close(directory.fd, () => {});
  }

  async close(): Promise<void> {
    for (const directory of this.#kept.values()) this.#drop(directory);
    this.#kept.clear();
    await closeFd(this.#root.fd);
  }
}

/** The server checks names; a path that leaves the root must not get through even if that had a fault. */
function checkComponent(path: string, name: string): void {
  if (name === "." || name === ".." || name.includes("\0") || (name === "" && path !== ""))
    throw new FileError("ENOENT");
}
