// A program that was bundled: with wherry left out it runs, with wherry inside the error names the cause,
// also in a process that has nothing else to do. Runs the output of `tsc -b`.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";
import { afterAll, beforeAll, expect, test } from "vitest";
import { echoKernel } from "../support/life-cycle.ts";

const PROGRAM = `
import { createMachine } from "wherry/node";
const kernel = Uint8Array.of(${echoKernel()});
try {
  const machine = await createMachine({ harts: 1, memoryBytes: 8 << 20, kernel, onConsole: (b) => console.log(b[0]) });
  await machine.start();
  machine.write("Aq");
  console.log((await machine.ended).message);
  await machine.close();
} catch (error) {
  console.log(error.code, error.message);
}
`;
let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "wherry-bundlers-"));
  mkdirSync(join(directory, "node_modules"));
  symlinkSync(join(import.meta.dirname, "../.."), join(directory, "node_modules/wherry"));
  writeFileSync(join(directory, "program.js"), PROGRAM);
});
afterAll(() => rmSync(directory, { recursive: true }));

test.each([
  { where: "outside", external: /^wherry/, prints: /^65\nguest-shutdown\n$/ },
  {
    where: "inside",
    external: /^node:/,
    prints: /^host\.thread .* found no file:.*: if wherry was bundled, leave it out of the bundle: .*\n$/,
  },
])("with wherry $where of the bundle", { timeout: 120_000 }, async ({ where, external, prints }) => {
  const dir = join(directory, where);
  const bundle = await rolldown({ input: join(directory, "program.js"), platform: "node", external });
  await bundle.write({ dir, format: "esm", entryFileNames: "program.mjs" });
  await bundle.close();
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [join(dir, "program.mjs")]);
  expect(stderr).toBe("");
  expect(stdout).toMatch(prints);
});
