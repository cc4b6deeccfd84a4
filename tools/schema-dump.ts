// Dumps every state schema to test/schema-dump.json, which is committed: what saved states look like.
//   node tools/schema-dump.ts --check   the dump is up to date, and its last change in git keeps old states loadable
//   node tools/schema-dump.ts --write   bring it up to date; refused if that breaks states saved before (schema-rule.ts)
// A module that defines a state is found by its text, so none is forgotten.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { argv } from "node:process";
import { pathToFileURL } from "node:url";
import { registeredSchemas } from "../src/state/definition.ts";
import type { StateSchema } from "../src/state/schema.ts";
import { schemaViolations } from "./schema-rule.ts";

const ROOT = join(import.meta.dirname, "..");
const DUMP = "test/schema-dump.json";

/**
 * Schemas of all definitions under src, sorted by name. Definitions that one function makes for several
 * devices share a name: the structs in them tell them apart. Throws if two are still of one name.
 */
export async function allSchemas(): Promise<StateSchema[]> {
  const src = join(ROOT, "src");
  const files = readdirSync(src, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts") && !file.startsWith("state/"))
    .filter((file) => /\bdefineState\(/.test(readFileSync(join(src, file), "utf8")));
  for (const file of files.sort()) await import(pathToFileURL(join(src, file)).href);
  const registered = registeredSchemas();
  const schemas = registered.map((schema) =>
    registered.filter(({ name }) => name === schema.name).length === 1
      ? schema
      : { ...schema, name: `${schema.name}(${schema.fields.flatMap(({ struct }) => struct?.name ?? [])})` },
  );
  const names = schemas.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new Error(`two different definitions are named ${twice}: give each its own name`);
  return schemas;
}

const parse = (text: string): StateSchema[] => JSON.parse(text) as StateSchema[];
const print = (schemas: readonly StateSchema[]): string =>
  `[\n${schemas.map((schema) => JSON.stringify(schema)).join(",\n")}\n]\n`;

/** The dump as the last two commits that changed it left it, the older first; [] where there is no such history. */
function history(): StateSchema[][] {
  const git = (...args: string[]): string => execFileSync("git", args, { cwd: ROOT, encoding: "utf8" });
  try {
    const commits = git("log", "-2", "--format=%H", "--", DUMP).trim().split("\n");
    return commits.length < 2
      ? []
      : commits.reverse().map((commit) => parse(git("show", `${commit}:${DUMP}`)));
  } catch {
    return [];
  }
}

async function main(mode: string | undefined): Promise<string[]> {
  const path = join(ROOT, DUMP);
  const committed = existsSync(path) ? parse(readFileSync(path, "utf8")) : [];
  const schemas = await allSchemas();
  const broken = schemaViolations(committed, schemas);
  if (broken.length > 0) return broken;
  if (mode === "--write") {
    writeFileSync(path, print(schemas));
    return [];
  }
  const [older, newer] = history();
  if (older !== undefined && newer !== undefined) broken.push(...schemaViolations(older, newer));
  if (print(schemas) !== print(committed))
    broken.push(`${DUMP} is out of date: run node tools/schema-dump.ts --write and commit it`);
  return broken;
}

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  const problems = await main(argv[2]);
  for (const line of problems) console.error(line);
  console.log(`schemas: ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
