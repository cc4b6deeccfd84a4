// The package's version, read from package.json, its only place.
import { readFileSync } from "node:fs";

/** The package's directory. `dist` or `src` is in it, whether a module of the bundle asks or another one. */
export function packageOf(module: string): string {
  return module.replace(/^(.*\/)(?:dist|src)\/.*$/, "$1");
}

const manifest = new URL("package.json", packageOf(import.meta.url));
export const VERSION: string = (JSON.parse(readFileSync(manifest, "utf8")) as { version: string }).version;
