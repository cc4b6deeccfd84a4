// The package's version, read from package.json, its only place.
import { readFileSync } from "node:fs";

/** The package's directory. `dist` or `src` is in it, whether a module of the bundle asks or another one. */
export function packageOf(module: string): string {
  return module.replace(/^(.*\/)(?:dist|src)\/.*$/, "$1");
}

/** The version; `unknown` in a program's bundle, whose package.json is another's, or none. */
export function packageVersion(): string {
  try {
    const manifest = new URL("package.json", packageOf(import.meta.url));
    const { name, version } = JSON.parse(readFileSync(manifest, "utf8")) as Record<string, string>;
    return name === "wherry" && version !== undefined ? version : "unknown";
  } catch {
    return "unknown";
  }
}
