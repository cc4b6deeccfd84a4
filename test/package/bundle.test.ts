// What the build has made beforehand is what the modules would make.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildEngine } from "../../src/hypervisor/interpreter/engine-module.ts";
import { ENGINE_KINDS } from "../../src/hypervisor/shared/engine-kind.ts";
import { engineFiles } from "../../src/node/built-engine.ts";
import { isOf } from "../../src/node/bundle.ts";
import { pathToFileURL } from "node:url";

const DIST = join(import.meta.dirname, "../../dist");
const BUNDLE = join(DIST, "bundle");

test("each engine of the bundle is the one that the sources build", ({ skip }) => {
  // Sources were edited since: then it does not run either.
  if (!isOf(pathToFileURL(`${BUNDLE}/`))) skip("run npm run build: dist/bundle is of other modules");
  for (const kind of ENGINE_KINDS) {
    for (const hasTotalStoreOrder of [false, true]) {
      const files = engineFiles(kind, hasTotalStoreOrder);
      const parts = buildEngine(kind, hasTotalStoreOrder);
      for (const part of ["module", "tables"] as const) {
        expect(readFileSync(join(BUNDLE, files[part])).equals(parts[part]), files[part]).toBe(true);
      }
    }
  }
});

test("the bundle's command line says the same as the modules'", () => {
  const run = (directory: string, ...args: string[]): string => {
    const program = `
      const { wherry } = await import(${JSON.stringify(join(DIST, directory, "wherry.js"))});
      process.exitCode = await wherry(process.argv.slice(1));`;
    const node = ["--input-type=module", "--eval", program, "--", ...args];
    return execFileSync(process.execPath, node, { encoding: "utf8" });
  };
  for (const args of [["--version"], ["--help"], ["restore", "--help"]]) {
    expect(run("bundle", ...args)).toBe(run("cli", ...args));
  }
});
