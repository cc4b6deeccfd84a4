// The package as another project uses it: its files, no dependencies, and entries that type-check and run
// with each kind of module resolution.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
const TSC = join(ROOT, "node_modules/typescript/bin/tsc");

interface Manifest {
  readonly dependencies?: Record<string, string>;
  readonly exports: Record<string, string>;
}
const manifest = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;

const PROGRAM = `
import { HostedMachine, type Platform } from "wherry";
import { createMachine } from "wherry/node";
import type { BrowserMachine } from "wherry/browser";
import { StreamReader, bytesSource, pieceChannel, readStream, schema, type StreamReport, wire } from "wherry/stream";

export type Parts = [Platform, HostedMachine, BrowserMachine];
const reader = new StreamReader(pieceChannel([Uint8Array.of(0x51, 0x45, 0x56, 0x4d)]));
await reader.need(4);
const state = schema.defineState("x", { version: 1 }, { a: schema.u8 }).create();
const refused = await createMachine({ harts: 1, memoryBytes: 2 ** 21 }).catch((error: unknown) => error);
const report: StreamReport = await readStream(bytesSource(Uint8Array.of(0x51, 0x45)));
console.log(reader.u32() === wire.QEMU_VM_FILE_MAGIC, state, refused instanceof Error, report.problem?.code);
`;

/** Another project, in which the packed package is installed without a registry. */
let consumer: string;
let packed: readonly string[];
let installed: string;

beforeAll(() => {
  consumer = mkdtempSync(join(tmpdir(), "wherry-package-"));
  installed = join(consumer, "node_modules/wherry");
  const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", consumer];
  const [tarball] = JSON.parse(npm(ROOT, pack)) as [{ filename: string; files: { path: string }[] }];
  packed = tarball.files.map(({ path }) => path);
  writeFileSync(join(consumer, "package.json"), '{ "type": "module" }');
  npm(consumer, ["install", "--offline", "--no-audit", "--no-fund", `./${tarball.filename}`]);
}, 300_000);
afterAll(() => rmSync(consumer, { recursive: true }));

/** With an empty cache: everything must be in the tarball. */
function npm(cwd: string, args: readonly string[]): string {
  const cache = ["--cache", join(consumer, "cache")];
  return execFileSync("npm", [...args, ...cache], {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
}

test("holds what runs, its types, and maps: no tests, no build information", () => {
  const other = packed.filter(
    (path) =>
      !/^(package\.json|README\.md|CHANGELOG\.md|LICENSE|bin\/wherry)$/.test(path) &&
      !/^dist\/[\w/-]+(\.d\.ts|\.js|\.js\.map)$/.test(path) &&
      !/^dist\/bundle\/(decode-tables\.bin|(interpreter|translator)-(tso|weak)\.wasm)$/.test(path) &&
      !/^guests\/(pulse\/\d-\w+\.s|debian\/[\w.-]+)$/.test(path),
  );
  expect(other).toEqual([]);
  expect(packed.filter((path) => /\.test\b|tsbuildinfo|tsconfig/.test(path))).toEqual([]);
  expect(packed).toContain("dist/index.js");
  expect(packed).toContain("dist/bundle/wherry.js");
  expect(packed).toContain("guests/debian/init");
});

test("each map is of a file that is packed, and contains its source", () => {
  const maps = packed.filter((path) => path.endsWith(".map"));
  expect(maps.length).toBeGreaterThan(100);
  for (const map of maps) {
    const { sourcesContent } = JSON.parse(readFileSync(join(installed, map), "utf8")) as {
      sourcesContent: string[];
    };
    expect(packed).toContain(map.replace(/\.map$/, ""));
    expect(sourcesContent[0]?.length, map).toBeGreaterThan(0);
  }
});

test("brings no other package: neither Node nor what only the command line needs", () => {
  expect(manifest.dependencies).toBeUndefined();
  expect(readdirSync(join(consumer, "node_modules")).filter((name) => !name.startsWith("."))).toEqual([
    "wherry",
  ]);
});

test("every entry has code and types", () => {
  const entries = Object.entries(manifest.exports).filter(([name]) => name !== "./package.json");
  expect(entries.map(([name]) => name)).toEqual([".", "./node", "./browser", "./stream"]);
  for (const [, file] of entries) {
    expect(readFileSync(join(installed, file), "utf8")).toContain("export");
    expect(readFileSync(join(installed, file.replace(/\.js$/, ".d.ts")), "utf8")).toContain("export");
  }
});

test.each([
  { module: "nodenext", moduleResolution: "nodenext" },
  { module: "esnext", moduleResolution: "bundler" },
])("a strict program compiles against it with $moduleResolution resolution, and runs", (resolution) => {
  const project = join(consumer, resolution.moduleResolution);
  mkdirSync(project);
  writeFileSync(join(project, "main.ts"), PROGRAM);
  const compilerOptions = {
    ...resolution,
    strict: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    target: "es2024",
    lib: ["es2024", "dom"],
    types: [],
  };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["main.ts"] }));
  expect(tsc(project)).toBe("");
  const out = execFileSync(process.execPath, ["main.js"], { cwd: project, encoding: "utf8" });
  expect(out).toBe("true { a: 0 } true stream.cut\n");
});

test("a Node program compiles against it with neither the DOM's types nor Node's", () => {
  const project = join(consumer, "plain");
  mkdirSync(project);
  const program = `
import type { HostedMachine } from "wherry";
import { createMachine, type MachineOptions, type NodeMachine } from "wherry/node";
import { bytesSource, readStream } from "wherry/stream";
export const start = (options: MachineOptions): Promise<NodeMachine> => createMachine(options);
export const open = (bytes: Uint8Array) => readStream(bytesSource(bytes));
export type Machine = HostedMachine;
`;
  writeFileSync(join(project, "main.ts"), program);
  const compilerOptions = {
    module: "nodenext",
    strict: true,
    skipLibCheck: false,
    target: "es2024",
    lib: ["es2024"],
    types: [],
  };
  writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["main.ts"] }));
  expect(tsc(project)).toBe("");
});

/** The compiler's output. */
function tsc(project: string): string {
  try {
    return execFileSync(process.execPath, [TSC, "-p", project], { encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

test("the command line works where it is all that is installed, and says what fetching Debian needs", () => {
  const wherry = join(consumer, "node_modules/.bin/wherry");
  expect(execFileSync(wherry, ["--version"], { encoding: "utf8" })).toMatch(/^wherry \d/);
  expect(() => execFileSync(wherry, ["guest", "fetch"], { stdio: "pipe" })).toThrow(
    "npm install openpgp tar-stream xz-decompress",
  );
});

test("npm has nothing to change in the lock file, which names no registry", () => {
  const project = join(consumer, "locked");
  mkdirSync(project);
  for (const name of ["package.json", "package-lock.json", ".npmrc"]) {
    writeFileSync(join(project, name), readFileSync(join(ROOT, name)));
  }
  const lock = readFileSync(join(project, "package-lock.json"), "utf8");
  // npm 11 writes `libc`, npm 10 takes it out again; neither minds when it is not there.
  expect(lock).not.toMatch(/"(resolved|libc)"/);
  npm(project, ["install", "--package-lock-only", "--offline", "--ignore-scripts"]);
  expect(readFileSync(join(project, "package-lock.json"), "utf8")).toBe(lock);
});
