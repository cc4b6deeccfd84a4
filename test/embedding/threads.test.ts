// The death of a machine's thread, in a copy of the sources as a bundler or a broken installation leaves it:
// the error says why, and what to do.
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { buildPulse } from "../../src/guest/pulse-guest.ts";
import { spawnThread } from "../../src/node/node-thread.ts";

const SRC = join(import.meta.dirname, "../../src");
/** Prints for ever. */
const PRINTER = "start:\n li a7, 1\n li a0, 120\n ecall\n j start\n";
const CHILD = `
import { readFileSync } from "node:fs";
import { createMachine } from "./src/node/index.ts";
const kernel = readFileSync(new URL("./kernel", import.meta.url));
const report = (where) => (error) => console.log(JSON.stringify({ where, code: error.code, message: error.message }));
const machine = await createMachine({ harts: 2, memoryBytes: 8 << 20, kernel }).catch(report("createMachine"));
if (machine !== undefined) {
  await machine.start().catch(report("start"));
  const { kind, message } = await machine.ended;
  console.log(JSON.stringify({ where: "ended", code: kind, message }));
  await machine.start().catch(report("start again"));
  await machine.close().catch(report("close"));
}
`;

const PULSE = `
import { readFileSync } from "node:fs";
import { createMachine } from "./src/node/index.ts";
const kernel = readFileSync(new URL("./pulse", import.meta.url));
let machine;
let text = "";
const onConsole = (bytes) => {
  process.stdout.write(bytes);
  text += Buffer.from(bytes).toString();
  if (!text.includes(" OK")) return;
  text = "";
  machine?.write("q");
};
try {
  machine = await createMachine({ harts: 2, memoryBytes: 32 << 20, kernel, append: "pulse.nodisk", onConsole });
  await machine.start();
  console.log((await machine.ended).message);
  await machine.close();
} catch (error) {
  console.log(error.code, error.message);
}
`;

let directory: string;
const worker = (name: string): string => join(directory, `src/node/node-${name}-worker.ts`);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "wherry-threads-"));
  cpSync(SRC, join(directory, "src"), { recursive: true, filter: (path) => !path.endsWith(".test.ts") });
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  writeFileSync(join(directory, "child.ts"), CHILD);
  writeFileSync(
    join(directory, "kernel"),
    flatBinary(assemble([{ name: "printer", text: PRINTER }], { base: 0x80200000n })),
  );
});
afterAll(() => rmSync(directory, { recursive: true }));

interface Report {
  readonly where: string;
  readonly code: string;
  readonly message: string;
}

/** Preloaded into each thread: a clock that is 1000 s behind in workers, as that of another runtime. */
const CLOCK = `
import { isMainThread } from "node:worker_threads";
const { hrtime } = process;
process.hrtime = () => {
  const [s, ns] = hrtime();
  return [s - (isMainThread ? 0 : 1000), ns];
};
`;

async function runWithClock(preload: string): Promise<string> {
  const file = join(directory, "clock.mjs");
  writeFileSync(file, preload);
  const child = join(directory, "pulse.ts");
  writeFileSync(join(directory, "pulse"), await buildPulse());
  writeFileSync(child, PULSE);
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", file, child], {
    timeout: 90_000,
  });
  return stdout;
}

/** Runs the machine with this worker, or without it; the child's reports. */
async function run(name: "vcpu" | "translator", change?: (text: string) => string): Promise<Report[]> {
  const file = worker(name);
  const text = readFileSync(file, "utf8");
  if (change === undefined) rmSync(file);
  else writeFileSync(file, change(text));
  try {
    const args = ["--max-old-space-size=256", join(directory, "child.ts")];
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 90_000 });
    return stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Report);
  } finally {
    writeFileSync(file, text);
  }
}

test("without its file, as in a bundle: createMachine says so, and what to do", async () => {
  const [report, ...more] = await run("vcpu");
  expect(more).toEqual([]);
  expect(report).toMatchObject({ where: "createMachine", code: "host.thread" });
  expect(report?.message).toMatch(
    /^vCPU \d: its thread \(vcpu-\d\) found no file:.*node-vcpu-worker\.ts: if wherry/,
  );
  expect(report?.message).toContain("mark it as external (docs/embedding.md, Bundlers)");
});

test("that fails while it is loaded", async () => {
  const [report] = await run("vcpu", () => "throw new TypeError('planted');\n");
  expect(report).toMatchObject({ where: "createMachine", code: "host.thread" });
  expect(report?.message).toMatch(/^vCPU \d: its thread \(vcpu-\d\) failed: planted$/);
});

test("that exits while it is loaded", async () => {
  const [report] = await run("vcpu", () => "process.exit(7);\n");
  expect(report?.code).toBe("host.thread");
  expect(report?.message).toMatch(
    /^vCPU \d: its thread \(vcpu-\d\) ended with exit code 7 and no error: something/,
  );
});

test("that exits while the guest runs: the machine ends with the cause, and says it again", async () => {
  const change = (text: string) =>
    `let signals = 0;\n${text.replace("postMessage(0)", "postMessage(++signals > 20 ? process.exit(3) : 0)")}`;
  const why = /vCPU \d: its thread \(vcpu-\d\) ended with exit code 3 and no error/;
  const [ended, again, ...more] = await run("vcpu", change);
  expect(ended).toMatchObject({ where: "ended", code: "guest-failed" });
  expect(ended?.message).toMatch(why);
  expect(again).toMatchObject({ where: "start again", code: "machine.dead" });
  expect(again?.message).toMatch(/^the machine cannot run again, create another one: vCPU \d: its thread/);
  expect(more).toEqual([]);
});

test("that runs out of memory", async () => {
  const grow = "const all = [];\nfor (;;) all.push(new Array(1e6).fill(all.length + 0.5));\n";
  const [report] = await run("vcpu", () => grow);
  expect(report?.message).toMatch(/had too little memory: give node more, such as --max-old-space-size/);
});

test("the translation thread's death has its cause too", async () => {
  const reports = await run("translator");
  expect(reports.map(({ message }) => message).join("\n")).toMatch(
    /the translation thread: its thread \(translator\) found no file:.*node-translator-worker\.ts: if wherry was/,
  );
});

test("in a bundle of the CommonJS format, where modules have no URL", () => {
  expect(() => spawnThread("node-vcpu-worker", undefined, {}, "vcpu-0")).toThrow(
    /^thread vcpu-0 cannot be started: Invalid URL; if wherry was bundled, leave it out/,
  );
});

test("threads whose clocks disagree, of a runtime that is not known, are refused", async () => {
  expect(await runWithClock(CLOCK)).toMatch(
    /^host\.thread vCPU \d: its thread \(vcpu-\d\) failed: the clocks of this runtime's threads disagree: expected an age/,
  );
});

test.each([
  "globalThis.Deno = {};",
  'Object.defineProperty(process, "versions", { value: { ...process.versions, bun: "1" } });',
])("with %s the threads have one clock, whatever process.hrtime says", async (runtime) => {
  expect(await runWithClock(`${CLOCK}${runtime}`)).toMatch(/pulse: done .*OK\r?\n.*guest-shutdown/s);
});
