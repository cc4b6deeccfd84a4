// The public API: each exported name is documented, the documents match the declarations, and the API
// mentions no type that it does not export.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  apiDocuments,
  ENTRIES,
  type EntryName,
  exportedNames,
  hiddenTypes,
  uncommented,
} from "../../tools/api-docs.ts";

const ROOT = join(import.meta.dirname, "../..");
const entries = Object.keys(ENTRIES) as EntryName[];

test.each(entries)("%s: types that its declarations mention are exported", (entry) => {
  expect(hiddenTypes(entry)).toEqual([]);
});

test.each(entries)("%s: each export has a comment", (entry) => {
  expect(exportedNames(entry).length).toBeGreaterThan(3);
  expect(uncommented(entry)).toEqual([]);
});

test("docs/api says what the declarations say (`npm run api` writes it)", () => {
  const documents = new Map(entries.flatMap((entry) => [...apiDocuments(entry)]));
  for (const [path, text] of documents) expect(readFileSync(join(ROOT, path), "utf8"), path).toBe(text);
  const files = readdirSync(join(ROOT, "docs/api")).map((name) => `docs/api/${name}`);
  expect(files.sort()).toEqual([...documents.keys()].sort());
});
