// The bundle runs only while it is of the modules as they are.
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeEach, expect, test } from "vitest";
import { BUNDLE_INPUTS, type BundleInputs, bundled, isOf } from "./bundle.ts";

const dist = mkdtempSync(join(tmpdir(), "wherry-bundle-"));
const bundle = pathToFileURL(join(dist, "bundle/"));
const place = (path: string): string => join(dist, path);

beforeEach(() => {
  rmSync(dist, { recursive: true, force: true });
  for (const directory of ["bundle", "base", "cli"]) mkdirSync(place(directory), { recursive: true });
  writeFileSync(place("base/bytes.js"), "export const a = 1;\n");
  writeFileSync(place("cli/wherry.js"), "import '../base/bytes.js';\n");
  writeFileSync(place("bundle/wherry.js"), "const a = 1;\n");
  const inputs: BundleInputs = Object.fromEntries(
    ["base/bytes.js", "cli/wherry.js"].map((path) => {
      const { size, mtimeMs } = statSync(place(path));
      return [path, [size, mtimeMs]];
    }),
  );
  writeFileSync(place(`bundle/${BUNDLE_INPUTS}`), JSON.stringify(inputs));
});
afterAll(() => rmSync(dist, { recursive: true, force: true }));

test("of the modules as they are runs", () => {
  expect(isOf(bundle)).toBe(true);
});

test.each<[string, () => void]>([
  ["was compiled again", () => utimesSync(place("base/bytes.js"), new Date(), new Date(Date.now() + 5000))],
  ["has another size", () => writeFileSync(place("base/bytes.js"), "export const a = 12;\n")],
  ["is gone", () => rmSync(place("base/bytes.js"))],
])("does not run when a module %s", (_, change) => {
  change();
  expect(isOf(bundle)).toBe(false);
});

test("that is not there, or whose list is damaged, does not run", () => {
  writeFileSync(place(`bundle/${BUNDLE_INPUTS}`), "{");
  expect(isOf(bundle)).toBe(false);
  rmSync(place("bundle"), { recursive: true });
  expect(isOf(bundle)).toBe(false);
});

test("without a list, as in the published package, runs", () => {
  rmSync(place(`bundle/${BUNDLE_INPUTS}`));
  expect(isOf(bundle)).toBe(true);
});

test("is not for the sources: they run as they are", () => {
  expect(bundled("wherry.js")).toBeUndefined();
});

test("the modules choose: the bundle while it is theirs, then themselves", async () => {
  const compiled = join(import.meta.dirname, "../../dist/node/bundle.js");
  mkdirSync(place("node"));
  writeFileSync(place("package.json"), '{ "type": "module" }');
  // Below a directory of this name, as in a package.
  const copy = join(dist, "dist");
  mkdirSync(copy);
  for (const name of ["bundle", "base", "cli", "node"]) {
    cpSync(place(name), join(copy, name), { recursive: true, preserveTimestamps: true });
  }
  for (const [name, isStale] of [
    ["fresh", false],
    ["stale", true],
  ] as const) {
    if (isStale) writeFileSync(join(copy, "base/bytes.js"), "export const a = 123;\n");
    const path = join(copy, `node/${name}.js`);
    writeFileSync(path, readFileSync(compiled, "utf8").replace(/^\/\/# sourceMappingURL.*$/m, ""));
    const { bundled: choose } = (await import(/* @vite-ignore */ path)) as { bundled: typeof bundled };
    const expected = isStale ? undefined : pathToFileURL(join(copy, "bundle/x.wasm")).href;
    expect(choose("x.wasm")?.href, name).toBe(expected);
  }
});
