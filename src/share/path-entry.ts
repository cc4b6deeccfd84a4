// The names that a guest's fids stand for, as a tree of its own: fids of one file share an entry, and when
// the guest renames a directory, all that is below it follows. An entry lives as long as a fid, or an entry
// below, needs it.
import type { FileHandle9p } from "./file-handle.ts";
import { FileError } from "./linux-errno.ts";
import { PATH_MAX } from "./wire-9p.ts";

export class PathEntry {
  #parent: PathEntry | undefined;
  #name: string;
  #uses = 0;
  readonly #children = new Map<string, PathEntry>();
  /** The name was removed, or another file has taken its place. */
  #isRemoved = false;
  /** The file was not there when the machine was loaded. */
  #isStale = false;
  /** The open files of this entry's fids. */
  readonly handles = new Set<FileHandle9p>();

  constructor(parent?: PathEntry, name = "") {
    this.#parent = parent;
    this.#name = name;
  }

  get name(): string {
    return this.#name;
  }
  get parent(): PathEntry | undefined {
    return this.#parent;
  }

  /** The path, or undefined if it is gone: the guest removed it. */
  get pathOrGone(): string | undefined {
    const names: string[] = [];
    let length = 0;
    for (let at: PathEntry = this; at.#parent !== undefined; at = at.#parent) {
      if (at.#isRemoved) return undefined;
      names.push(at.#name);
      length += at.#name.length + 1;
    }
    if (length > PATH_MAX) throw new FileError("ENAMETOOLONG");
    return names.reverse().join("/");
  }

  /** The path as it was when the file was there, for messages and for a saved machine. */
  get lastPath(): string {
    const names: string[] = [];
    for (let at: PathEntry = this; at.#parent !== undefined; at = at.#parent) names.push(at.#name);
    return names.reverse().join("/").slice(0, PATH_MAX);
  }

  /** A file that was removed: held, and no other entry's. */
  orphan(path: string): PathEntry {
    const entry = new PathEntry(this, path);
    this.#uses++;
    entry.#isRemoved = true;
    return entry.keep();
  }

  get isStale(): boolean {
    return this.#isStale;
  }
  /** The file is not there after a load; its name stands for another one, if any. */
  lose(): void {
    this.#isStale = true;
    this.#isRemoved = true;
    const parent = this.#parent;
    if (parent !== undefined && parent.#children.get(this.#name) === this)
      parent.#children.delete(this.#name);
  }

  /** The path. Throws ESTALE if it is gone. */
  get path(): string {
    const path = this.pathOrGone;
    if (path === undefined) throw new FileError("ESTALE");
    return path;
  }

  /** Its directory, and its name there. Throws EBUSY for the root, ESTALE if it is gone. */
  get place(): [PathEntry, string] {
    if (this.#parent === undefined) throw new FileError("EBUSY");
    if (this.#isRemoved) throw new FileError("ESTALE");
    return [this.#parent, this.#name];
  }

  /** The path of a name in this directory. */
  pathOf(name: string): string {
    const { path } = this;
    return path === "" ? name : `${path}/${name}`;
  }

  /** The entry of a name in this directory, held until `release`. */
  hold(name: string): PathEntry {
    let child = this.#children.get(name);
    if (child === undefined) {
      child = new PathEntry(this, name);
      this.#children.set(name, child);
      this.#uses++;
    }
    return child.keep();
  }

  keep(): this {
    this.#uses++;
    return this;
  }

  release(): void {
    if (--this.#uses > 0) return;
    const parent = this.#parent;
    if (parent === undefined) return;
    if (parent.#children.get(this.#name) === this) parent.#children.delete(this.#name);
    parent.release();
  }

  /** The name was removed: whoever still has it open may use what is open. */
  forget(name: string): void {
    const child = this.#children.get(name);
    if (child === undefined) return;
    this.#children.delete(name);
    child.#isRemoved = true;
  }

  /** A file of this directory was renamed; what had the new name is gone. */
  move(name: string, target: PathEntry, targetName: string): void {
    if (this === target && name === targetName) return;
    target.forget(targetName);
    const child = this.#children.get(name);
    if (child === undefined) return;
    this.#children.delete(name);
    child.#name = targetName;
    child.#parent = target;
    target.#children.set(targetName, child);
    target.#uses++;
    this.release();
  }
}
