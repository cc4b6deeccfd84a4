// What a saved machine knows of a share: the guest's fids, with the path, identity and open flags of each,
// its extended attributes under way and its locks. A section of its own beside the device's, named by the
// share's tag: QEMU has none, and does not move a machine whose guest has a share mounted. A loaded fid opens
// its file anew; if that is gone, or another, each use of it fails with ESTALE.
import {
  bool,
  defineState,
  i32,
  type StateDefinition,
  type StateOf,
  u32,
  u64,
  u8,
  varBuffer,
  varStructArray,
} from "../state/schema.ts";
import { type Section, sectionOf } from "../state/section.ts";
import { WherryError } from "../base/errors.ts";
import { encodeUtf8 } from "../base/text.ts";
import type { ByteLock } from "./byte-locks.ts";
import { byteString, bytesOf, readable } from "./byte-string.ts";
import { type FileTree, type OpenFile, OWNER_MODELS } from "./file-tree.ts";
import { errorName } from "./linux-errno.ts";
import type { PathEntry } from "./path-entry.ts";
import { PathLock } from "./path-lock.ts";
import { type Fid, qidOf, QUOTAS, ShareServer } from "./share-server.ts";
import { MAX_MSIZE, MIN_MSIZE, NAME_MAX, OPEN_ACCESS, OPEN_TRUNC, PATH_MAX } from "./wire-9p.ts";

/** The share cannot be used, or is not the one that the guest has mounted. */
export class ShareError extends WherryError {}

const fidState = defineState(
  "wherry/9p/fid",
  { version: 1 },
  {
    number: u32,
    uid: u32,
    pathLength: u32,
    path: varBuffer("pathLength", PATH_MAX),
    /** The guest has removed it. */
    isGone: bool,
    qidType: u8,
    qidVersion: u32,
    qidPath: u64,
    isOpen: bool,
    flags: u32,
    hasXattr: bool,
    xattrNameLength: u32,
    xattrName: varBuffer("xattrNameLength", NAME_MAX),
    xattrLength: u32,
    xattr: varBuffer("xattrLength", QUOTAS.xattr),
    /** −1: it is read. */
    xattrFlags: i32.range(-1, 3),
    xattrWritten: u32.check((written, { xattrLength }) =>
      written <= xattrLength ? undefined : `at most ${xattrLength}`,
    ),
  },
);

const lockState = defineState(
  "wherry/9p/lock",
  { version: 1 },
  {
    file: u64,
    fid: u32,
    type: u8.range(0, 1),
    start: u64,
    /** All ones: to the end. */
    last: u64.check((last, { start }) => (last >= start ? undefined : `at least ${start}`)),
    process: u32,
    clientLength: u32,
    client: varBuffer("clientLength", NAME_MAX),
  },
);

export const shareState: StateDefinition<ShareState> = defineState(
  "wherry/9p",
  { version: 1 },
  {
    msize: u32.init(MAX_MSIZE).range(MIN_MSIZE, MAX_MSIZE),
    readonly: bool,
    model: u8.range(0, OWNER_MODELS.length - 1),
    fidCount: u32,
    fids: varStructArray(fidState, "fidCount", QUOTAS.fids),
    lockCount: u32,
    locks: varStructArray(lockState, "lockCount", 2 * QUOTAS.locks),
  },
);

type FidState = StateOf<typeof fidState>;
type LockState = StateOf<typeof lockState>;
export interface ShareState {
  msize: number;
  readonly: boolean;
  model: number;
  fidCount: number;
  fids: FidState[];
  lockCount: number;
  locks: LockState[];
}

/** Files of a list in a message. */
const MAX_NAMED = 8;
/** The owner may read, write, and enter a directory. */
const OWNER_ALL = 0o700;
/** Files that are opened at the same time. */
const AT_ONCE = 32;

/** A share as a part of a machine: saved, loaded, and active while the machine is here. */
export class SavedShare {
  readonly server: ShareServer;
  readonly section: Section;
  readonly #onWarning: (message: string) => void;
  /** Set by the machine: hears of files that were lost on the way, with the reasons. */
  onStale?: (tag: string, files: readonly string[]) => void;
  /** Loaded, and not yet opened. */
  #arriving: ShareState | undefined;

  constructor(server: ShareServer, onWarning: (message: string) => void = () => {}) {
    this.server = server;
    this.#onWarning = onWarning;
    this.section = {
      ...sectionOf({
        idstr: shareSectionName(server.tag),
        definition: shareState,
        get: () => this.#arriving ?? savedState(server),
        check: (loaded) => this.#check(loaded),
        apply: (loaded) => (this.#arriving = loaded),
      }),
      isOptional: true,
    };
  }

  get mounted(): string | undefined {
    return this.server.isMounted || (this.#arriving?.fidCount ?? 0) > 0 ? this.server.tag : undefined;
  }

  /** The host of a guest that has it mounted keeps what is open: a move may fail. */
  async inactivate(): Promise<void> {
    for (const { open } of this.server.fids.values())
      if (open !== undefined && open.flags & OPEN_ACCESS)
        await open.handle.use((file) => file.sync(true)).catch(() => {});
  }

  /** Opens the files of a loaded machine. */
  async activate(): Promise<void> {
    const state = this.#arriving;
    if (state === undefined) return;
    const lost = await openFids(this.server, state);
    this.#arriving = undefined;
    if (lost.length === 0) return;
    this.onStale?.(this.server.tag, lost);
    const more = lost.length > MAX_NAMED ? `, and ${lost.length - MAX_NAMED} more` : "";
    const what = lost.length === 1 ? "a file of the guest is" : `${lost.length} files of the guest are`;
    this.#onWarning(
      `share ${this.server.tag}: ${what} not there as when it was saved; uses fail with ESTALE: ` +
        lost.slice(0, MAX_NAMED).join(", ") +
        more,
    );
  }

  #check({ model, fids }: ShareState): void {
    const { tag, tree } = this.server;
    const refuse = (what: string, cure: string): never => {
      throw new ShareError("share.other", `share ${tag}: ${what}: ${cure}`);
    };
    if (fids.length === 0) return;
    if (tree.readonly && fids.some(({ isOpen, flags }) => isOpen && flags & OPEN_ACCESS))
      refuse("the guest has files open for writing, and it is read-only here", "give it without readonly=on");
    const [saved, here] = [OWNER_MODELS[model], tree.model];
    if (saved !== here)
      refuse(
        `its files' owners were those of uid=${saved}, here they are uid=${here}'s`,
        `give uid=${saved}`,
      );
  }
}

/** QEMU's limit. */
export const MAX_TAG_BYTES = 31;

/** Rejects with ShareError if the tag is impossible; then the tree is not opened. */
export async function openShareOf(
  tag: string,
  open: () => Promise<FileTree>,
  onWarning?: (message: string) => void,
): Promise<SavedShare> {
  const { length } = encodeUtf8(tag);
  if (length === 0 || length > MAX_TAG_BYTES || tag.includes("\0"))
    throw new ShareError(
      "share.tag",
      `share ${tag}: expected a tag of 1 to ${MAX_TAG_BYTES} bytes, found ${length}`,
    );
  return new SavedShare(new ShareServer({ tag, tree: await open() }), onWarning);
}

/** Names the share: a machine without it says so. */
export function shareSectionName(tag: string): string {
  return `wherry/9p@${tag}`;
}

export function savedState({ msize, tree, fids, locks }: ShareServer): ShareState {
  const saved = [...fids.values()].map(saveFid);
  const held = locks.all.map(saveLock);
  return {
    msize,
    readonly: tree.readonly,
    model: OWNER_MODELS.indexOf(tree.model),
    fidCount: saved.length,
    fids: saved,
    lockCount: held.length,
    locks: held,
  };
}

function saveFid({ number, uid, entry, qid, open, xattr }: Fid): FidState {
  const path = savedPath(entry);
  const bytes = bytesOf(path ?? entry.lastPath);
  const name = bytesOf(xattr?.name ?? "");
  const value = xattr?.value ?? new Uint8Array();
  return {
    number,
    uid,
    pathLength: bytes.length,
    path: bytes,
    isGone: path === undefined,
    qidType: qid.type,
    qidVersion: qid.version,
    qidPath: qid.path,
    isOpen: open !== undefined,
    flags: open?.flags ?? 0,
    hasXattr: xattr !== undefined,
    xattrNameLength: name.length,
    xattrName: name,
    xattrLength: value.length,
    xattr: value,
    xattrFlags: xattr?.flags ?? -1,
    xattrWritten: xattr?.written ?? 0,
  };
}

/** A path that renames have made too long is as good as gone. */
function savedPath(entry: PathEntry): string | undefined {
  try {
    return entry.pathOrGone;
  } catch {
    return undefined;
  }
}

function saveLock({ file, fid, type, start, end, process, client }: ByteLock): LockState {
  const name = bytesOf(client);
  return { file, fid, type, start, last: end - 1n, process, clientLength: name.length, client: name };
}

/** Returns the paths of files that are gone, each with the reason. */
async function openFids(server: ShareServer, state: ShareState): Promise<string[]> {
  server.reset();
  server.msize = state.msize;
  const lost = new Set<string>();
  const modes = new PathLock();
  const lose = (entry: PathEntry, why: string): void => {
    lost.add(`${readable(entry.lastPath) || "/"} (${why})`);
    entry.lose();
  };
  const loadFid = async (saved: FidState): Promise<void> => {
    const { number, uid, isGone, qidType, qidVersion, qidPath, isOpen } = saved;
    const flags = saved.flags & ~OPEN_TRUNC;
    const entry = entryOf(server.root, byteString(saved.path), isGone);
    const fid: Fid = { number, uid, entry, qid: { type: qidType, version: qidVersion, path: qidPath } };
    server.add(fid);
    if (saved.hasXattr) {
      const { xattrFlags, xattrWritten: written } = saved;
      const flagsOf = xattrFlags < 0 ? undefined : xattrFlags;
      server.setXattr(fid, {
        name: byteString(saved.xattrName),
        value: saved.xattr.slice(),
        flags: flagsOf,
        written,
      });
    }
    if (isGone) return lose(entry, "the guest had removed it");
    try {
      const { path } = entry;
      const found = await server.tree.attributes(path);
      const { type, path: id, version } = qidOf(found);
      // The root is the share itself, whatever directory that is here.
      const isOther =
        type !== qidType || id !== qidPath || (server.tree.isArchive === true && version !== qidVersion);
      if (path !== "" && isOther) return lose(entry, "another file has its name");
      if (isOpen)
        server.setOpen(fid, {
          flags,
          handle: await server.openHandle(() => openAnew(server.tree, path, flags, modes)),
        });
    } catch (error) {
      lose(entry, errorName(error));
    }
  };
  const next = state.fids.values();
  const work = async (): Promise<void> => {
    for (const saved of next) await loadFid(saved);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  for (const { file, fid, type, start, last, process, client } of state.locks)
    server.locks.set({ file, fid, type, start, end: last + 1n, process, client: byteString(client) });
  return [...lost];
}

/**
 * What was opened before its mode forbade it (as git writes its objects) is opened for a moment with more:
 * one after the other, since several fids, and names, may be of one file.
 */
async function openAnew(tree: FileTree, path: string, flags: number, modes: PathLock): Promise<OpenFile> {
  try {
    return await tree.open(path, flags);
  } catch (error) {
    if (errorName(error) !== "EACCES" || tree.readonly) throw error;
    return await modes.exclusive(async () => {
      const permissions = (await tree.attributes(path)).mode & 0o7777;
      await tree.change(path, { mode: permissions | OWNER_ALL });
      try {
        return await tree.open(path, flags);
      } finally {
        await tree.change(path, { mode: permissions });
      }
    });
  }
}

/** Held. Of a file that is gone: one that no other fid shares. */
function entryOf(root: PathEntry, path: string, isGone: boolean): PathEntry {
  if (path === "") return isGone ? root.orphan("") : root.keep();
  if (isGone) return root.orphan(path);
  let entry = root.keep();
  for (const name of path.split("/")) {
    const child = entry.hold(name);
    entry.release();
    entry = child;
  }
  return entry;
}
