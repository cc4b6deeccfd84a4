// QEMU's security model mapped-xattr: the guest's owners, modes and device numbers of files are in extended
// attributes (user.virtfs.uid, gid, mode, rdev, little-endian), so that no privilege is needed; on the host,
// every file is this user's, and the guest's symlinks and device nodes are regular files. A tree can be
// shared by QEMU and by Wherry.
import type { AttributeChanges, Attributes, Owner } from "../../share/file-tree.ts";
import { FileError } from "../../share/linux-errno.ts";
import { S_IFMT } from "../../share/wire-9p.ts";
import type { PerlCalls } from "./perl-calls.ts";
import type { HostPlace } from "./rooted-paths.ts";

const PREFIX = "user.virtfs.";
type Key = "uid" | "gid" | "mode" | "rdev";

export class MappedOwners {
  readonly #perl: PerlCalls;

  constructor(perl: PerlCalls) {
    this.#perl = perl;
  }

  /** These attributes are not the guest's. */
  owns(name: string): boolean {
    return name.startsWith(PREFIX);
  }

  /** Rejects if the file system has no such attributes. */
  async check(at: (work: (place: HostPlace) => Promise<unknown>) => Promise<unknown>): Promise<void> {
    await at((place) => this.#get(place, "uid"));
  }

  async #get(place: HostPlace, key: Key): Promise<number | undefined> {
    try {
      const value = await this.#perl.getXattr(place, PREFIX + key);
      const bytes = Buffer.from(value);
      return value.length >= 4 ? bytes.readUInt32LE(0) : undefined;
    } catch (error) {
      if (error instanceof FileError && error.code === "ENODATA") return undefined;
      throw error;
    }
  }

  async #set(place: HostPlace, key: Key, value: number): Promise<void> {
    const bytes = Buffer.alloc(key === "rdev" ? 8 : 4);
    bytes.writeUInt32LE(value, 0);
    await this.#perl.setXattr(place, PREFIX + key, bytes, 0);
  }

  /** The file as the guest sees it. */
  async show(place: HostPlace, found: Attributes): Promise<Attributes> {
    // The host's own symlinks have no attributes.
    if ((found.mode & S_IFMT) === 0o120000) return found;
    const keys = ["uid", "gid", "mode", "rdev"] as const;
    const [uid, gid, mode, rdev] = await Promise.all(keys.map((key) => this.#get(place, key)));
    return {
      ...found,
      uid: uid ?? found.uid,
      gid: gid ?? found.gid,
      mode: mode ?? found.mode,
      device: rdev === undefined ? found.device : BigInt(rdev),
    };
  }

  async created(place: HostPlace, mode: number, { uid, gid }: Owner, device?: number): Promise<void> {
    await this.#set(place, "uid", uid);
    await this.#set(place, "gid", gid);
    await this.#set(place, "mode", mode);
    if (device !== undefined) await this.#set(place, "rdev", device);
  }

  async change(place: HostPlace, { uid, gid, mode }: AttributeChanges, before: number): Promise<void> {
    if (uid !== undefined) await this.#set(place, "uid", uid);
    if (gid !== undefined) await this.#set(place, "gid", gid);
    if (mode !== undefined) await this.#set(place, "mode", (before & S_IFMT) | mode);
  }
}
