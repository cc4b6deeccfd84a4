// Dumps every state schema to test/schema-dump.json, the committed record of the format of saved states.
//   npx node tools/schema-dump.ts --check   the dump is up to date, and states of the last release load
// (schema-rule.ts)
//   npx node tools/schema-dump.ts --write   updates the dump; refuses if existing saved states would not load
// A text search finds the modules that define a state, so that none is missing. Before the first release, a
// change that breaks the rule is made by deleting the dump and writing it again.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { argv } from "node:process";
import { pathToFileURL } from "node:url";
import { registeredSchemas } from "../src/state/definition.ts";
import type { StateSchema } from "../src/state/schema.ts";
import { VIRTIO_DEVICES, virtioSubject } from "../test/support/virtio-devices.ts";
import { schemaViolations } from "./schema-rule.ts";

const ROOT = join(import.meta.dirname, "..");
const DUMP = "test/schema-dump.json";

/** Definitions that the virtio core makes for each device: the dump has them as parts of the devices. */
const MADE_FOR_DEVICES = ["virtio", "virtio_mmio"];
/** A layout of shared memory, never saved: a stream holds a hart's state in the section `cpu`. */
const NEVER_SAVED = ["riscv_hart"];

/**
 * The schemas of all definitions under src, sorted by name; a virtio device's schema has the device's name.
 * Throws if two schemas of one name differ, or if a definition or virtio device in the sources was not
 * loaded.
 */
export async function allSchemas(): Promise<StateSchema[]> {
  const src = join(ROOT, "src");
  const wanted = new Set<string>();
  const files = readdirSync(src, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts") && !file.startsWith("state/"))
    .map((file) => ({ path: join(src, file), text: readFileSync(join(src, file), "utf8") }))
    .filter(({ text }) => /\bdefineState\(|\bextends VirtioDevice\b/.test(text));
  for (const { path, text } of files) {
    await import(pathToFileURL(path).href);
    for (const [, name] of text.matchAll(/\bdefineState\(\s*"([^"]+)"/g)) wanted.add(name ?? "");
    const [, device] = /\bextends VirtioDevice\b[\s\S]*?\bname: "(virtio-\w+)"/.exec(text) ?? [];
    if (device !== undefined) wanted.add(device);
  }
  const left = [...MADE_FOR_DEVICES, ...NEVER_SAVED];
  for (const name of left) wanted.delete(name);

  const schemas = registeredSchemas().filter(({ name }) => !left.includes(name));
  for (const make of Object.values(VIRTIO_DEVICES)) {
    const { kind, stateDefinition } = virtioSubject(make, false).device;
    if (schemas.some(({ name }) => name === kind.name)) continue;
    schemas.push({ ...stateDefinition.schema(), name: kind.name });
  }
  const names = schemas.map(({ name }) => name);
  for (const name of wanted)
    if (!names.includes(name)) throw new Error(`${name} is defined, but by no module as it loads`);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new Error(`two different definitions are named ${twice}: give each its own name`);
  return schemas.sort((a, b) => (a.name < b.name ? -1 : 1));
}

const parse = (text: string): StateSchema[] => JSON.parse(text) as StateSchema[];
const print = (schemas: readonly StateSchema[]): string =>
  `[\n${schemas.map((schema) => JSON.stringify(schema)).join(",\n")}\n]\n`;

/** The dump of the last release (git tag v…); [] before the first release. */
function released(): StateSchema[] {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  try {
    const tag = git("describe", "--tags", "--abbrev=0", "--match", "v*").trim();
    return parse(git("show", `${tag}:${DUMP}`));
  } catch {
    return [];
  }
}

/** The problems of `schemas`, one line each; `committed` is the dump in the work tree. */
export function dumpProblems(schemas: readonly StateSchema[], committed: readonly StateSchema[]): string[] {
  const broken = [...schemaViolations(committed, schemas), ...schemaViolations(released(), schemas)];
  if (broken.length > 0) return [...new Set(broken)];
  return print(schemas) === print(committed)
    ? []
    : [`${DUMP} is out of date: run npx node tools/schema-dump.ts --write and commit it`];
}

export function committedDump(): StateSchema[] {
  const path = join(ROOT, DUMP);
  return existsSync(path) ? parse(readFileSync(path, "utf8")) : [];
}

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  const schemas = await allSchemas();
  const write = argv[2] === "--write";
  let problems = dumpProblems(schemas, committedDump());
  const broken = schemaViolations(committedDump(), schemas);
  if (write && broken.length === 0) {
    writeFileSync(join(ROOT, DUMP), print(schemas));
    problems = dumpProblems(schemas, schemas);
  }
  for (const line of problems) console.error(line);
  console.log(`schemas: ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
