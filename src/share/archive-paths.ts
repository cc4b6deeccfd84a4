// Names in an archive, which may be anything, as paths of a tree.
import type { MemoryTree } from "./memory-tree.ts";
import { FileError } from "./linux-errno.ts";
import { NAME_MAX, PATH_MAX } from "./wire-9p.ts";

/** Without "." and a leading slash; undefined if it would leave the tree, or a guest could not name it. */
export function safePath(name: string): string | undefined {
  const names = name.split("/").filter((part) => part !== "" && part !== ".");
  const isPossible = (part: string): boolean =>
    part !== ".." && !part.includes("\0") && part.length <= NAME_MAX;
  const path = names.join("/");
  return names.every(isPossible) && path.length < PATH_MAX ? path : undefined;
}

/** `made` remembers the directories that hold members, for the next call. */
export async function makeParents(tree: MemoryTree, path: string, made: Set<string>): Promise<void> {
  const directory = path.slice(0, Math.max(0, path.lastIndexOf("/")));
  if (made.has(directory)) return;
  made.add(directory);
  for (let slash = path.indexOf("/"); slash >= 0; slash = path.indexOf("/", slash + 1)) {
    const parent = path.slice(0, slash);
    await tree.makeDirectory(parent, 0o755, { uid: 0, gid: 0 }).catch(ignoreRefusal);
  }
}

/** A later member of the archive has replaced the file, or it is there already. */
export function ignoreRefusal(error: unknown): void {
  if (!(error instanceof FileError)) throw error;
}
