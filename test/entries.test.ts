// The package as another one has it: every entry of package.json can be imported and typed, and gives what docs name.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");

const PROGRAM = `
import { HostedMachine, type HostPlatform } from "wherry";
import { createMachine } from "wherry/node";
import type { BrowserMachine } from "wherry/browser";
import { StreamReader, bytesSource, pieceChannel, readStream, schema, type StreamReport, wire } from "wherry/stream";

export type Parts = [HostPlatform, HostedMachine, BrowserMachine];
const reader = new StreamReader(pieceChannel([Uint8Array.of(0x51, 0x45, 0x56, 0x4d)]));
await reader.need(4);
const state = schema.defineState("x", { version: 1 }, { a: schema.u8 }).create();
const refused = await createMachine({ harts: 1, memoryBytes: 2 ** 21 }).catch((error: unknown) => error);
const report: StreamReport = await readStream(bytesSource(Uint8Array.of(0x51, 0x45)));
console.log(reader.u32() === wire.QEMU_VM_FILE_MAGIC, state, refused instanceof Error, report.problem?.code);
`;

test("a package that depends on this one compiles strictly, and runs", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wherry-entries-"));
  try {
    await mkdir(join(directory, "node_modules"));
    symlinkSync(ROOT, join(directory, "node_modules/wherry"));
    writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
    writeFileSync(join(directory, "main.ts"), PROGRAM);
    const options = ["--strict", "--skipLibCheck", "false", "--module", "nodenext", "--target", "es2024"];
    const libraries = ["--lib", "es2024,dom", "--types", ""];
    const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
    execFileSync(process.execPath, [tsc, ...options, ...libraries, "main.ts"], {
      cwd: directory,
      stdio: "pipe",
    });
    const out = execFileSync(process.execPath, ["main.js"], { cwd: directory, encoding: "utf8" });
    expect(out).toBe("true { a: 0 } true stream.cut\n");
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("every entry has code and types", () => {
  const { exports } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    exports: Record<string, string>;
  };
  expect(Object.keys(exports)).toEqual([".", "./node", "./browser", "./stream"]);
  for (const file of Object.values(exports)) {
    expect(readFileSync(join(ROOT, file), "utf8")).toContain("export");
    expect(readFileSync(join(ROOT, file.replace(/\.js$/, ".d.ts")), "utf8")).toContain("export");
  }
});
