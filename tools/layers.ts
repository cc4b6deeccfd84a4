// The layers as the compiler enforces them: each room (a directory of src with a tsconfig.json) and the rooms
// that it can import, those that its references reach. Draws them into docs/architecture.md and checks the
// limits of a room. `npx node tools/layers.ts` checks, `--write` draws again. layers.test.ts plants an
// import against every wall.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { argv } from "node:process";
import { pathToFileURL } from "node:url";

/** Lines of a room without those of its sub-rooms and tests. */
const MAX_ROOM_LINES = 3000;
const DOCUMENT = "docs/architecture.md";

export interface Room {
  /** Below src, with slashes; "" is src itself: the entry points. */
  readonly name: string;
  readonly references: readonly string[];
  /** Its sources, below src, without tests. */
  readonly files: readonly string[];
  readonly lines: number;
  /** Patterns of tsconfig.json. */
  readonly include: readonly string[];
}

interface Config {
  readonly include?: readonly string[];
  readonly references?: readonly { readonly path: string }[];
}

/** All rooms below `src`, by name. Throws if a tsconfig.json is no plain JSON. */
export function readRooms(src: string): Room[] {
  const found: (Room & { files: string[]; lines: number })[] = [];
  const visit = (directory: string, owner: (typeof found)[number] | undefined): void => {
    const entries = readdirSync(directory, { withFileTypes: true });
    let room = owner;
    if (entries.some(({ name }) => name === "tsconfig.json")) {
      const config = JSON.parse(readFileSync(join(directory, "tsconfig.json"), "utf8")) as Config;
      const references = (config.references ?? []).map(({ path }) => relative(src, join(directory, path)));
      const name = relative(src, directory);
      room = { name, references, files: [], lines: 0, include: config.include ?? [] };
      found.push(room);
    }
    for (const entry of entries) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) visit(path, room);
      else if (entry.name.endsWith(".ts") && !entry.name.endsWith(".test.ts")) {
        if (room === undefined) throw new Error(`${path}: no tsconfig.json in its directory or above`);
        room.files.push(relative(src, path));
        room.lines += readFileSync(path, "utf8").split("\n").length - 1;
      }
    }
  };
  visit(src, undefined);
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A line for each project that has no sources, or takes those of its sub-rooms. */
export const shapeProblems = (rooms: readonly Room[]): string[] =>
  rooms.flatMap(({ name, files, include }) => {
    if (files.length === 0) return [`src/${name}/tsconfig.json: a project without sources: remove it`];
    const sub = rooms.find((other) => other.name.startsWith(`${name}/`));
    return sub !== undefined && include.some((pattern) => pattern.includes("**"))
      ? [`src/${name}/tsconfig.json: ${include.join(", ")} takes in src/${sub.name}: include ./*.ts`]
      : [];
  });

/** A line for each room that has grown too large. */
export const sizeProblems = (rooms: readonly Room[]): string[] =>
  rooms
    .filter(({ lines }) => lines > MAX_ROOM_LINES)
    .map(
      ({ name, lines }) => `src/${name}: ${lines} lines, at most ${MAX_ROOM_LINES}: cut it into sub-rooms`,
    );

type Graph = ReadonlyMap<string, ReadonlySet<string>>;

export const graphOf = (rooms: readonly Room[]): Graph =>
  new Map(rooms.map(({ name, references }) => [name, new Set(references)]));

/** A line for each import cycle. */
export function cycles(graph: Graph): string[] {
  const done = new Set<string>();
  const problems: string[] = [];
  const visit = (name: string, path: readonly string[]): void => {
    if (path.includes(name)) problems.push([...path.slice(path.indexOf(name)), name].join(" → "));
    if (done.has(name) || path.includes(name)) return;
    for (const next of graph.get(name) ?? []) visit(next, [...path, name]);
    done.add(name);
  };
  for (const name of graph.keys()) visit(name, []);
  return problems;
}

/** What `from` may import: a project sees what its references reference, too. */
export function reachable(graph: Graph, from: string): ReadonlySet<string> {
  const all = new Set<string>();
  const visit = (name: string): void => {
    for (const next of graph.get(name) ?? []) {
      if (all.has(next)) continue;
      all.add(next);
      visit(next);
    }
  };
  visit(from);
  return all;
}

/** Without the edges that a longer path implies. */
function reduced(graph: Graph): Graph {
  return new Map(
    [...graph].map(([name, next]) => {
      const implied = new Set([...next].flatMap((other) => [...reachable(graph, other)]));
      return [name, new Set([...next].filter((other) => !implied.has(other)))];
    }),
  );
}

const topOf = (name: string): string => name.split("/")[0] || "entry points";

/** Top-level rooms, sub-rooms folded into them. */
function folded(rooms: readonly Room[]): Graph {
  const graph = new Map<string, Set<string>>();
  for (const { name, references } of rooms) {
    const next = graph.get(topOf(name)) ?? new Set();
    graph.set(topOf(name), next);
    for (const reference of references) if (topOf(reference) !== topOf(name)) next.add(topOf(reference));
  }
  return graph;
}

const within = (rooms: readonly Room[], top: string): Graph =>
  new Map(
    rooms
      .filter(({ name }) => topOf(name) === top)
      .map(({ name, references }) => [name, new Set(references.filter((other) => topOf(other) === top))]),
  );

const id = (name: string): string => name.replaceAll(/\W/g, "_");

const HALVES: readonly (readonly [title: string, rooms: readonly string[]])[] = [
  ["Platforms", ["entry points", "cli", "node", "browser", "guest"]],
  ["VMM half: what QEMU is", ["embed", "monitor", "migration", "machines", "devices", "vmm"]],
  ["The interface: KVM's shape", ["accelerator"]],
  ["Hypervisor half: what KVM is", ["hypervisor"]],
];

function drawTop(rooms: readonly Room[]): string {
  const graph = reduced(folded(rooms));
  const lines = ["flowchart TD"];
  for (const [title, names] of HALVES) {
    lines.push(`  subgraph ${id(title)}["${title}"]`);
    for (const name of names.filter((each) => graph.has(each))) lines.push(`    ${id(name)}["${name}"]`);
    lines.push("  end");
  }
  for (const [name, next] of graph) {
    if (!HALVES.some(([, names]) => names.includes(name))) lines.push(`  ${id(name)}["${name}"]`);
    for (const other of next) lines.push(`  ${id(name)} --> ${id(other)}`);
  }
  return mermaid(lines);
}

function drawWithin(rooms: readonly Room[], top: string): string {
  const lines = ["flowchart TD"];
  for (const [name, next] of reduced(within(rooms, top))) {
    lines.push(`  ${id(name)}["${name.slice(top.length + 1) || top}"]`);
    for (const other of next) lines.push(`  ${id(name)} --> ${id(other)}`);
  }
  return mermaid(lines);
}

const mermaid = (lines: readonly string[]): string => ["```mermaid", ...lines, "```"].join("\n");

/**
 * The document with each `<!-- layers: NAME -->` … `<!-- end -->` drawn from the rooms; NAME is `all` or a
 * top-level room.
 */
export const draw = (text: string, rooms: readonly Room[]): string =>
  text.replaceAll(
    /(<!-- layers: (\w+) -->)[\s\S]*?(<!-- end -->)/g,
    (_all, begin: string, name: string, end: string) =>
      `${begin}\n\n${name === "all" ? drawTop(rooms) : drawWithin(rooms, name)}\n\n${end}`,
  );

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  const root = dirname(import.meta.dirname);
  const rooms = readRooms(join(root, "src"));
  const path = join(root, DOCUMENT);
  const before = readFileSync(path, "utf8");
  const after = draw(before, rooms);
  const problems = [
    ...sizeProblems(rooms),
    ...cycles(folded(rooms)).map((path) => `a cycle of rooms: ${path}`),
  ];
  if (argv.includes("--write")) writeFileSync(path, after);
  else if (after !== before) {
    problems.push(
      `${DOCUMENT} shows other layers than the tsconfig.json files: npx node tools/layers.ts --write`,
    );
  }
  for (const problem of problems) console.error(problem);
  console.log(`layers: ${rooms.length} rooms, ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
