// All imports that a browser loads from `dist` are relative: no module reachable from an entry for browsers
// or for any platform imports from Node or from a package.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));

const IMPORTS = [
  /^\s*(?:import|export)\s[^;]*?\bfrom\s*["']([^"']+)["']/gm,
  /^\s*import\s*["']([^"']+)["']/gm,
  /\bimport\(\s*["']([^"']+)["']/g,
  /\bnew URL\(\s*["'](\.[^"']+\.js)["']\s*,\s*import\.meta\.url\s*\)/g,
];

/** Specifiers that a module of this text loads, workers included. */
function importsOf(text: string): string[] {
  return IMPORTS.flatMap((pattern) => [...text.matchAll(pattern)].map(([, specifier]) => specifier ?? ""));
}

/** All that is reachable from `entry`, as `importer → specifier` where it is not a file of `dist`. */
function strangers(entry: string): { modules: number; strangers: string[] } {
  const seen = new Set<string>();
  const found: string[] = [];
  const visit = (file: string) => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const specifier of importsOf(readFileSync(file, "utf8"))) {
      const target = join(dirname(file), specifier);
      if (specifier.startsWith(".") && existsSync(target)) visit(target);
      else found.push(`${file.slice(DIST.length)} → ${specifier}`);
    }
  };
  visit(join(DIST, entry));
  return { modules: seen.size, strangers: found };
}

test.each([
  ["browser/index.js", 5],
  ["browser/page/demo-page.js", 5],
  ["index.js", 50],
  ["stream.js", 10],
])("%s reaches only relative modules", (entry, atLeast) => {
  const { modules, strangers: found } = strangers(entry);
  expect(found).toEqual([]);
  expect(modules).toBeGreaterThan(atLeast);
});

test("the check sees through workers to the engine, and finds Node where it is", () => {
  expect(strangers("browser/index.js").modules).toBeGreaterThan(60);
  expect(strangers("node/index.js").strangers).toContain("node/node-thread.js → node:worker_threads");
  expect(importsOf('import {\n  a,\n} from "x";\nexport * from "y";\nimport "z";')).toEqual(["x", "y", "z"]);
});
