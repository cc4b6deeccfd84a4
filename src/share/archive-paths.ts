// Names in an archive, which may be anything, as paths of a tree.
import type { MemoryTree } from "./memory-tree.ts";
import { FileError } from "./linux-errno.ts";

/** Without "." and ".." and a leading slash; undefined if it would leave the tree. */
export function safePath(name: string): string | undefined {
  const names = name.split("/").filter((part) => part !== "" && part !== ".");
  return names.includes("..") || names.some((part) => part.includes("\0")) ? undefined : names.join("/");
}

export async function makeParents(tree: MemoryTree, path: string): Promise<void> {
  for (let slash = path.indexOf("/"); slash >= 0; slash = path.indexOf("/", slash + 1)) {
    const parent = path.slice(0, slash);
    await tree.makeDirectory(parent, 0o755, { uid: 0, gid: 0 }).catch(ignoreRefusal);
  }
}

/** A later member of the archive has replaced the file, or it is there already. */
export function ignoreRefusal(error: unknown): void {
  if (!(error instanceof FileError)) throw error;
}
