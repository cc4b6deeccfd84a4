// docs/errors.md lists the codes of all errors that programs can meet, and no other: compared with the
// strings of the sources.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
/** Rooms whose errors no program of the API meets: the inspector reports problems as data. */
const OTHER = /^(asm|cli|inspect|wasm)\//;
const CODE = "[a-z]+[0-9]?(?:-[a-z]+)*\\.[a-z]+(?:-[a-z]+)*";

const rows = [
  ...readFileSync(join(ROOT, "docs/errors.md"), "utf8").matchAll(/^\| `([\w-]+)` \|.*\| (.*) \|$/gm),
];
const listed = rows.flatMap(([, prefix, codes = ""]) =>
  [...codes.matchAll(/`([\w-]+)`/g)].map(([, name]) => `${prefix}.${name}`),
);

const texts = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts") && !OTHER.test(path))
  .map((path) => readFileSync(join(ROOT, "src", path), "utf8"));

/** A fault of the grammar is refused by the loader under its own name. */
const thrown = (code: string): string =>
  code.startsWith("ram.") ? "migration.ram" : code.replace(/^stream\./, "migration.");

function codesIn(text: string): string[] {
  const prefixes = [...rows.map(([, prefix]) => prefix), "stream", "ram"];
  const quoted = [...text.matchAll(new RegExp(`"(${CODE})"`, "g"))].map(([, code = ""]) => code);
  const known = quoted.filter(
    (code) => prefixes.includes(code.split(".")[0]) && !/\.(json|js|ts|ram)$/.test(code),
  );
  const constructed = [...text.matchAll(new RegExp(`new \\w*Error\\(\\s*"(${CODE})"`, "g"))];
  return [...known, ...constructed.map(([, code = ""]) => code)].map(thrown);
}

test("docs/errors.md lists the codes of the sources, each once", () => {
  expect(listed.length).toBeGreaterThan(100);
  // A code that is put together is not found.
  expect(texts.flatMap((text) => text.match(/Error\(\s*`[a-z0-9-]+\.\$\{/g) ?? [])).toEqual([]);
  expect(listed.toSorted()).toEqual([...new Set(texts.flatMap(codesIn))].sort());
});
