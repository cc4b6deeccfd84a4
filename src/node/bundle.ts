// What the build has made of the modules in `dist` so that a process starts in a fraction of the time
// (tools/bundle.ts): the command line and the workers, a file each instead of hundreds of modules, and the
// engine. A clone's build lists the modules that it was made of: once one of them has changed, the modules
// run and the bundle does not. The published package has no list, and nothing changes in it.
import { readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** In the bundle: the modules it was made of, by path in `dist`, with size and time of modification. */
export const BUNDLE_INPUTS = "inputs.json";
export type BundleInputs = Readonly<Record<string, readonly [size: number, mtimeMs: number]>>;

/** Undefined in a bundle of the CommonJS format, which is not ours. */
const HERE = import.meta.url as string | undefined;

let directory: URL | undefined;
let isKnown = false;

/** The URL of a file of the bundle; undefined if the modules must run. */
export function bundled(file: string): URL | undefined {
  if (!isKnown) directory = find(HERE);
  isKnown = true;
  return directory && new URL(file, directory);
}

function find(here: string | undefined): URL | undefined {
  const place = /\/dist\/(bundle|node)\/[^/]+\.js$/.exec(here ?? "")?.[1];
  if (place === "bundle") return new URL("./", here);
  if (place === undefined) return undefined;
  const found = new URL("../bundle/", here);
  return isOf(found) ? found : undefined;
}

/** Whether the bundle is of the modules as they are. */
export function isOf(bundle: URL): boolean {
  try {
    statSync(new URL("wherry.js", bundle));
  } catch {
    return false;
  }
  let inputs: BundleInputs;
  try {
    inputs = JSON.parse(readFileSync(new URL(BUNDLE_INPUTS, bundle), "utf8")) as BundleInputs;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
  const dist = fileURLToPath(new URL("..", bundle));
  return Object.entries(inputs).every(([path, [size, mtimeMs]]) => {
    const now = statSync(dist + path, { throwIfNoEntry: false });
    // A copy's time can be rounded.
    return now !== undefined && now.size === size && Math.abs(now.mtimeMs - mtimeMs) < 1;
  });
}
