// A directory of this host, or a tar or zip archive, as a share: the tree, its server, and what of it is
// saved with the machine.
import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { inflateRaw } from "node:zlib";
import type { FileTree, OwnerModel } from "../../share/file-tree.ts";
import { FileError } from "../../share/linux-errno.ts";
import { openShareOf, type SavedShare, ShareError } from "../../share/share-state.ts";
import { tarTree } from "../../share/tar-tree.ts";
import { isZip, zipTree } from "../../share/zip-tree.ts";
import { DirectoryTree } from "./directory-tree.ts";

/** A directory of this host that the guest can mount, or an archive. */
export interface ShareSpec {
  /**
   * The directory, outside of which the guest reaches nothing; or a tar or zip file, whose files it can read.
   */
  readonly path: string;
  /** The name by which the guest mounts it (`mount -t 9p -o trans=virtio,version=9p2000.L TAG /mnt`). */
  readonly tag: string;
  /** The guest cannot change anything. Default: false. */
  readonly readonly?: boolean | undefined;
  /**
   * Who owns the files. `map` (the default): the guest's user who looks. As QEMU's security models: `none`
   * and `passthrough` show the host's owners, and `passthrough` fails where this process may not set them;
   * `mapped-xattr` keeps the guest's in extended attributes.
   */
  readonly uid?: OwnerModel | undefined;
}

const inflate = promisify<Uint8Array, object, Buffer>(inflateRaw);
const inflated = (packed: Uint8Array, size: number): Promise<Buffer> =>
  inflate(packed, { maxOutputLength: Math.max(size, 1) });

const MAX_ARCHIVE_BYTES = 2 ** 31 - 1;

/** The system's words for its refusal. */
type Reason = (error: unknown) => string;

/** Rejects with ShareError, TarError or ZipError; then nothing is left open. */
export async function openShare(
  spec: ShareSpec,
  reason: Reason,
  onWarning?: (message: string) => void,
): Promise<SavedShare> {
  return await openShareOf(spec.tag, () => openTree(spec, reason), onWarning);
}

async function openTree({ path, readonly = false, uid }: ShareSpec, reason: Reason): Promise<FileTree> {
  const fail = (why: string, cause?: unknown): never => {
    throw new ShareError("share.open", `share ${path}: ${why}`, { cause });
  };
  try {
    const found = await stat(path);
    if (found.isDirectory())
      return await DirectoryTree.open({ path: resolve(path), readonly, model: uid ?? "map" });
    if (uid !== undefined) fail(`its files' owners are the archive's: leave uid=${uid} out`);
    // It is kept in memory.
    if (found.size > MAX_ARCHIVE_BYTES) {
      const most = `${MAX_ARCHIVE_BYTES / 2 ** 20} MiB`;
      fail(`an archive of ${found.size} bytes, expected at most ${most}: unpack it, and share the directory`);
    }
    const archive = await readFile(path);
    return await (isZip(archive) ? zipTree(archive, inflated) : tarTree(archive));
  } catch (cause) {
    if (cause instanceof FileError)
      fail(
        `uid=${uid} needs extended attributes there, and perl (package perl-base): ${cause.code}; use uid=map`,
        cause,
      );
    if ((cause as NodeJS.ErrnoException).syscall !== undefined) fail(reason(cause), cause);
    throw cause;
  }
}
