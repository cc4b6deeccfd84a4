// The root file system's tree while packages are unpacked into it: paths through symbolic links (as a merged
// /usr has them), and dpkg's rules for what is there already. File contents go to the image at once.
import { type Attributes, type Directory, directory, type Node } from "../ext4/ext4-tree.ts";
import type { Ext4Writer } from "../ext4/ext4-writer.ts";
import type { DebEntry } from "./deb-package.ts";
import { GuestError } from "./guest-error.ts";

const MAX_LINKS = 40;
const XATTR = "SCHILY.xattr.";

export class RootFiles {
  readonly root: Directory;
  readonly #writer: Ext4Writer;
  readonly #time: number;

  /** `time`: of files that no package brings, in seconds since 1970. */
  constructor(writer: Ext4Writer, time: number) {
    this.#writer = writer;
    this.#time = time;
    this.root = directory(this.#plain(0o755));
  }

  #plain(mode: number): Attributes {
    return { mode, uid: 0, gid: 0, mtime: this.#time };
  }

  /**
   * The directories on the way to `path` from the last of `from`, made where they are missing; a symbolic
   * link in the path is followed.
   */
  #walk(path: string, from: readonly Directory[] = [this.root], links = 0): readonly Directory[] {
    const at = path.startsWith("/") ? [this.root] : [...from];
    for (const name of path.split("/")) {
      const here = at.at(-1) as Directory;
      if (name === "" || name === ".") continue;
      if (name === "..") {
        if (at.length > 1) at.pop();
        continue;
      }
      const found = here.entries.get(name) ?? directory(this.#plain(0o755));
      here.entries.set(name, found);
      if (found.kind === "symlink") {
        if (links === MAX_LINKS) throw new GuestError("guest.deb", `/${path}: too many symbolic links`);
        at.splice(0, at.length, ...this.#walk(found.target, at, links + 1));
      } else if (found.kind === "directory") at.push(found);
      else throw new GuestError("guest.deb", `/${path}: '${name}' is a file, not a directory`);
    }
    return at;
  }

  #directory(path: string): Directory {
    return this.#walk(path).at(-1) as Directory;
  }

  #place(path: string): { readonly parent: Directory; readonly name: string } {
    const slash = path.lastIndexOf("/");
    return { parent: this.#directory(path.slice(0, Math.max(0, slash))), name: path.slice(slash + 1) };
  }

  /** The node at a path whose last component is not followed. */
  find(path: string): Node | undefined {
    const { parent, name } = this.#place(path);
    return parent.entries.get(name);
  }

  #put(path: string, node: Node): void {
    const { parent, name } = this.#place(path);
    parent.entries.set(name, node);
  }

  /** A file that no package brings; replaces another. */
  async write(path: string, contents: string | Uint8Array, mode = 0o644): Promise<void> {
    const bytes = typeof contents === "string" ? Buffer.from(contents) : contents;
    this.#put(path, { ...this.#plain(mode), kind: "file", data: await this.#writer.store(bytes) });
  }

  /** Changes the owner and mode of what is there. */
  own(path: string, uid: number, gid: number, mode: number): void {
    Object.assign(this.find(path) as Node, { uid, gid, mode });
  }

  link(path: string, target: string): void {
    this.#put(path, { ...this.#plain(0o777), kind: "symlink", target });
  }

  device(path: string, major: number, minor: number, mode: number): void {
    this.#put(path, { ...this.#plain(mode), kind: "character", major, minor });
  }

  makeDirectory(path: string, mode = 0o755): void {
    const found = this.#directory(path);
    found.mode = mode;
  }

  /** Adds an entry of a package. Returns a regular file's contents. */
  async unpack({ name, header, read }: DebEntry): Promise<Uint8Array | undefined> {
    const own: Attributes = {
      mode: (header.mode ?? 0) & 0o7777,
      uid: header.uid ?? 0,
      gid: header.gid ?? 0,
      mtime: Math.floor((header.mtime?.getTime() ?? 0) / 1000),
      xattrs: xattrsOf(header.pax),
    };
    const device = { ...own, major: header.devmajor ?? 0, minor: header.devminor ?? 0 };
    switch (header.type) {
      case "directory": {
        if (name === "") {
          Object.assign(this.root, own);
          return undefined;
        }
        // One that is there keeps its owner and mode, and a link to a directory stays one.
        if (this.find(name) === undefined) this.#put(name, directory(own));
        return undefined;
      }
      case "file": {
        const bytes = await read();
        this.#put(name, { ...own, kind: "file", data: await this.#writer.store(bytes) });
        return bytes;
      }
      case "symlink":
        if (this.find(name)?.kind !== "directory")
          this.#put(name, { ...own, kind: "symlink", target: header.linkname ?? "" });
        return undefined;
      case "link": {
        const target = this.find((header.linkname ?? "").replace(/^\.?\//, ""));
        if (target === undefined || target.kind === "directory")
          throw new GuestError(
            "guest.deb",
            `/${name} is a hard link to a file that does not exist: ${header.linkname}`,
          );
        this.#put(name, target);
        return undefined;
      }
      case "character-device":
        this.#put(name, { ...device, kind: "character" });
        return undefined;
      case "block-device":
        this.#put(name, { ...device, kind: "block" });
        return undefined;
      case "fifo":
        this.#put(name, { ...own, kind: "fifo" });
        return undefined;
      default:
        throw new GuestError("guest.deb", `/${name}: a package cannot have an entry of type ${header.type}`);
    }
  }
}

function xattrsOf(pax: unknown): ReadonlyMap<string, Uint8Array> | undefined {
  if (typeof pax !== "object" || pax === null) return undefined;
  const found = Object.entries(pax).filter(([key]) => key.startsWith(XATTR));
  if (found.length === 0) return undefined;
  return new Map(found.map(([key, value]) => [key.slice(XATTR.length), Buffer.from(String(value))]));
}
