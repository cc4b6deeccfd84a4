// Names in an archive, which may be anything, as paths of a tree.
import type { MemoryTree } from "./memory-tree.ts";
import { WherryError } from "../base/errors.ts";
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

/** A member's path costs its archive a byte or two for each directory, and this host much more. */
const MAX_DEPTH = 256;
const MAX_PARENTS = 1 << 18;

/**
 * Makes the directories above a member. `made` remembers them for the next call. Rejects with WherryError if
 * they are too deep or too many.
 */
export async function makeParents(tree: MemoryTree, path: string, made: Set<string>): Promise<void> {
  const missing: string[] = [];
  for (let slash = path.lastIndexOf("/"); slash > 0; slash = path.lastIndexOf("/", slash - 1)) {
    const parent = path.slice(0, slash);
    if (made.has(parent)) break;
    missing.push(parent);
  }
  if (missing.length > 0 && path.split("/").length > MAX_DEPTH + 1)
    throw tooMuch(`${path.slice(0, 60)}… is more than ${MAX_DEPTH} directories deep`);
  for (const parent of missing.reverse()) {
    if (made.size >= MAX_PARENTS) throw tooMuch(`its members are in more than ${MAX_PARENTS} directories`);
    made.add(parent);
    await tree.makeDirectory(parent, 0o755, { uid: 0, gid: 0 }).catch(ignoreRefusal);
  }
}
const tooMuch = (what: string): WherryError =>
  new WherryError(
    "share.archive",
    `the archive cannot be shared: ${what}: unpack it and share the directory`,
  );

/** A later member of the archive has replaced the file, or it is there already. */
export function ignoreRefusal(error: unknown): void {
  if (!(error instanceof FileError)) throw error;
}
