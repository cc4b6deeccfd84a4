// Gates that no off-the-shelf linter has: the callers that may synchronise vCPU state, no Node below the
// platforms, file length, a comment at the top, no names of package registries or mirrors, each fact of the
// architecture and of the stream in one place, links, prose.
// `npx node tools/gates.ts` prints each violation and fails; gates.test.ts plants one of each.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { argv, env } from "node:process";
import { pathToFileURL } from "node:url";
import { linksGate } from "./links-gate.ts";
import { onePlaceGate } from "./one-place-gate.ts";
import { columnsGate, referencesGate } from "./prose-gates.ts";
import { isProduct, withoutComments } from "./source-text.ts";
import { wireGate } from "./wire-gate.ts";

export interface SourceFile {
  /** From the repository's root, with slashes. */
  readonly path: string;
  readonly text: string;
}

/** A gate returns one line for each violation. */
export type Gate = (files: readonly SourceFile[]) => string[];

const MAX_LINES = 800;

/** The hooks and their only callers (docs/architecture.md). The machine base and Cpus declare them all. */
const DECLARE = ["src/vmm/machine.ts", "src/vmm/cpus.ts"];
const SYNCHRONIZE_CALLERS: Readonly<Record<string, readonly string[]>> = {
  synchronizeAllStates: ["src/migration/save/", "src/migration/snapshot/"],
  synchronizeAllPreLoad: ["src/migration/load/"],
  synchronizeAllPostInit: ["src/migration/load/"],
  synchronizeAllPostReset: [],
  synchronizeState: ["src/monitor/"],
};

/** Only these may fetch or write back a vCPU's state; no device, loader or reset handler does. */
export const synchronizeGate: Gate = (files) =>
  files
    .filter(({ path }) => isProduct(path) && !DECLARE.includes(path))
    .flatMap(({ path, text }) =>
      [...withoutComments(text).matchAll(/\bsynchronize\w+/g)]
        .map(([name]) => name)
        .filter((name) => !(SYNCHRONIZE_CALLERS[name] ?? []).some((allowed) => path.startsWith(allowed)))
        .map(
          (name) =>
            `${path}: may not use ${name} (allowed: ${[...DECLARE, ...(SYNCHRONIZE_CALLERS[name] ?? [])].join(", ")})`,
        ),
    );

/**
 * The compiler keeps Node's and the DOM's types out of the lower layers; this reports an import of Node
 * clearly.
 */
export const platformGate: Gate = (files) =>
  files
    .filter(({ path }) => isProduct(path) && !/^src\/(node|cli|guest)\//.test(path))
    .flatMap(({ path, text }) =>
      [...withoutComments(text).matchAll(/["'`](node:\w+)/g)].map(
        ([, name]) =>
          `${path}: imports ${name}; only src/node, src/guest and src/cli may: take it as a parameter`,
      ),
    );

/** The globals that every platform has are declared once. */
export const globalsGate: Gate = (files) =>
  files
    .filter(({ path, text }) => isProduct(path) && /\bglobalThis\b/.test(withoutComments(text)))
    .filter(({ path }) => path !== "src/base/runtime-globals.ts")
    .map(({ path }) => `${path}: uses globalThis; take the global from src/base/runtime-globals.ts`);

/** A file's name alone tells which file is meant; entry points are `index.ts`. */
export const namesGate: Gate = (files) => {
  const places = Map.groupBy(
    files.filter(({ path }) => isProduct(path) && !path.endsWith("/index.ts")),
    ({ path }) => path.slice(path.lastIndexOf("/") + 1),
  );
  return [...places.values()].flatMap(([first, ...others]) =>
    others.map(({ path }) => `${path}: has the name of ${first?.path}: name it by its room and content`),
  );
};

export const linesGate: Gate = (files) =>
  files
    .filter(({ path }) => /\.(ts|js|mjs|sh|css|html|md)$/.test(path) && !path.startsWith("docs/api/"))
    .map(({ path, text }) => ({ path, lines: text.split("\n").length - 1 }))
    .filter(({ lines }) => lines > MAX_LINES)
    .map(({ path, lines }) => `${path}: ${lines} lines, at most ${MAX_LINES}: split it by topic`);

export const headerGate: Gate = (files) =>
  files
    .filter(({ path, text }) => isProduct(path) && !/^(#!.*\n)?(\/\/|\/\*)/.test(text))
    .map(
      ({ path }) =>
        `${path}: starts with no comment: say what it is, the spec it follows, what it leaves out`,
    );

/** A machine's configuration names its registry and mirror; the repository must not. */
export function hostsGate(hosts: readonly string[]): Gate {
  const words = hosts.map((host) => host.replaceAll(".", String.raw`\.`));
  const pattern = new RegExp(
    [...words, String.raw`https?:\/\/[\w.-]*(?:mirror|registry|artifactory|nexus)[\w.-]*`].join("|"),
    "gi",
  );
  return (files) =>
    files.flatMap(({ path, text }) =>
      [...text.matchAll(pattern)].map(
        ([name]) => `${path}: names the host ${name}: take it from the machine's configuration`,
      ),
    );
}

/** The hosts of npm's registry and apt's sources on this machine. */
export function configuredHosts(): string[] {
  const texts = [env["npm_config_registry"] ?? run("npm", ["config", "get", "registry"])];
  for (const place of ["/etc/apt/sources.list", "/etc/apt/sources.list.d"]) {
    for (const file of listFiles(place)) texts.push(readFileSync(file, "utf8"));
  }
  const hosts = texts.flatMap((text) =>
    [...text.matchAll(/https?:\/\/(?:[^@/\s]*@)?([\w.-]+\.\w+)/g)].map(([, host]) => host ?? ""),
  );
  return [...new Set(hosts)];
}

function run(command: string, args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return "";
  }
}

function listFiles(place: string): string[] {
  const stat = statSync(place, { throwIfNoEntry: false });
  if (stat === undefined) return [];
  if (stat.isFile()) return [place];
  // Opening a FIFO would block.
  if (!stat.isDirectory()) return [];
  return readdirSync(place).flatMap((name) =>
    /^(node_modules|dist|coverage|\.git)$/.test(name) ? [] : listFiles(join(place, name)),
  );
}

/**
 * Text files of the repository at `root`, also untracked ones, so that a violation shows before the commit.
 */
export function readSources(root: string): SourceFile[] {
  return listFiles(root)
    .filter((file) => /\.(ts|js|mjs|json|md|sh|s|c|h|html|css|yml|pml|toml)$|\/\.ci\/|Dockerfile/.test(file))
    .map((file) => ({ path: relative(root, file), text: readFileSync(file, "utf8") }));
}

export function violations(root: string, hosts: readonly string[]): string[] {
  const files = readSources(root);
  return [
    synchronizeGate,
    platformGate,
    globalsGate,
    namesGate,
    linesGate,
    headerGate,
    hostsGate(hosts),
    linksGate(root),
    onePlaceGate,
    wireGate,
    referencesGate,
    columnsGate,
  ].flatMap((gate) => gate(files));
}

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  const found = violations(join(import.meta.dirname, ".."), configuredHosts());
  for (const line of found) console.error(line);
  console.log(`gates: ${found.length} violations`);
  process.exitCode = found.length === 0 ? 0 : 1;
}
