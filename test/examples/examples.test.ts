// Each example runs with pulse as its own comment says, on the output of `tsc -b`, and imports only the
// package's entries.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildPulse } from "../../src/guest/pulse-guest.ts";
import { hasChromium, withChromium } from "../support/chromium.ts";

const EXAMPLES = join(import.meta.dirname, "../../examples");
const DONE = /pulse: done .* faults=\d+ .*OK$/m;

const directory = mkdtempSync(join(tmpdir(), "wherry-examples-"));
const kernel = join(directory, "pulse.bin");
const state = join(directory, "pulse.state");
beforeAll(async () => writeFileSync(kernel, await buildPulse()));
afterAll(() => rmSync(directory, { recursive: true }));

/** An example's output; rejects if it fails. */
async function run(name: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [join(EXAMPLES, name), ...args]);
  return stdout.replaceAll("\r", "");
}

test("boot: the guest checks itself and powers off at a key", async () => {
  const out = await run("boot.ts", kernel);
  expect(out).toMatch(DONE);
  expect(out).toContain("kind: 'shutdown'");
});

test("snapshot, stream: a saved machine resumes, and opens as data", async () => {
  const out = await run("snapshot.ts", kernel, state);
  const [before, after] = out.split(`saved to ${state}`);
  expect(before).toContain("pulse: harts=2");
  expect(after).not.toContain("pulse: harts=2");
  expect(after).toMatch(DONE);

  const report = await run("stream.ts", state);
  expect(report).toMatch(/^machine +virt$/m);
  expect(report).toMatch(/^program counter of hart 0: 0x[0-9a-f]+$/m);
  expect(report).toMatch(/^the first 999 bytes alone: section ram\/0 .*whole copy/m);
});

test("move: the guest continues in the second process", async () => {
  const out = await run("move.ts", kernel);
  expect(out).toContain("source: pulse: harts=2");
  expect(out).toMatch(/^moved; the guest stood still for \d+ ms$/m);
  expect(out).toMatch(/^destination: pulse: done .* faults=\d+ .*OK$/m);
  expect(out).toContain("destination ended with 0");
});

test.skipIf(!hasChromium())("page: the guest runs in a page, checks itself and powers off", async () => {
  const server = spawn(process.execPath, [join(EXAMPLES, "page/serve.ts"), kernel, "0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const [url] = (await once(createInterface(server.stdout), "line")) as [string];
    const text = await withChromium(async (browser) => {
      const page = await browser.newPage();
      await page.goto(url);
      const shows = (pattern: string) =>
        page.waitForFunction(
          (source) => new RegExp(source).test(document.getElementById("console")?.textContent ?? ""),
          pattern,
          { timeout: 100_000 },
        );
      await shows(" OK\n");
      await page.click("#quit");
      await shows("shutdown$");
      return page.textContent("#console");
    });
    expect(text?.replaceAll("\r", "")).toMatch(DONE);
  } finally {
    server.kill();
  }
});

test("examples import the package's entries and Node's modules alone", () => {
  const names = readdirSync(EXAMPLES, { recursive: true }) as string[];
  const sources = names.filter((name) => /\.(ts|js)$/.test(name));
  expect(sources.length).toBeGreaterThan(4);
  for (const name of sources) {
    const text = readFileSync(join(EXAMPLES, name), "utf8");
    const imports = [...text.matchAll(/(?:from|import\(|import\.meta\.resolve\() *"([^"]+)"/g)].map(
      ([, module]) => module,
    );
    expect(
      imports.filter((module) => !/^(node:|wherry\/)/.test(module ?? "")),
      name,
    ).toEqual([]);
  }
});
