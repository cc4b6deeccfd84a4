// The package's version, read from package.json, its only place.
import { readFileSync } from "node:fs";

// `dist` or `src` is in the package's directory, whether this is a module there or a part of the bundle.
const manifest = new URL("package.json", import.meta.url.replace(/(dist|src)\/[\w/.-]+$/, ""));
export const VERSION: string = (JSON.parse(readFileSync(manifest, "utf8")) as { version: string }).version;
