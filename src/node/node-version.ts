// The oldest supported Node. Node 18's WebAssembly lacks features that the engine uses. package.json's
// `engines` says the same, but npm only warns, so it is checked here too. Bun and Deno name the Node whose
// interfaces they have.
import { WherryError } from "../base/errors.ts";

const OLDEST_MAJOR = 20;

/** Throws WherryError (`node.version`) on a Node that is too old. */
export function requireNode(version = process.versions.node): void {
  if (Number.parseInt(version, 10) >= OLDEST_MAJOR) return;
  throw new WherryError(
    "node.version",
    `this is Node ${version}; Wherry needs Node ${OLDEST_MAJOR} or newer ("npm install node" installs one locally)`,
  );
}
