// The same code in a browser: pulse boots on two harts in headless Chromium, is saved there, and resumes in
// Node from the file; and the other way round. Pulse's own checks are the judge. Runs the output of `tsc -b`.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createMachine } from "../../src/node/index.ts";
import { type BrowserServer, serveBrowser } from "../../tools/serve-browser.ts";
import { hasChromium, withChromium } from "../support/chromium.ts";
import { buildPrinter, checkLines } from "../support/printer.ts";

const MAIN = join(import.meta.dirname, "../../src/cli/main.ts");
const REPORT = /^pulse: t=(\d+) h0=(\d+)\/(\d+)\/(\d+) h1=(\d+)\/(\d+)\/(\d+) .*OK$/gm;
const DONE = /^pulse: done .* faults=\d+ .*OK$/m;
const TIMEOUT_MS = 120_000;

/** Guest time and, for each hart, its counter, ticks and IPIs, as pulse reports them. */
type Report = number[];

function reportsIn(text: string): Report[] {
  return [...text.replaceAll("\r", "").matchAll(REPORT)].map(([, ...numbers]) => numbers.map(Number));
}

/** Expects that no number is less than in the previous report. */
function expectMonotonic(reports: readonly Report[]): void {
  for (const [i, report] of reports.entries()) {
    const before = reports[i - 1] ?? report;
    for (const [j, value] of report.entries()) expect(value).toBeGreaterThanOrEqual(before[j] ?? 0);
  }
}

async function consoleWith(page: Page, count: number): Promise<string> {
  await page.waitForFunction(
    (n) => (document.getElementById("console")?.textContent?.split(/ OK\n/).length ?? 0) > n,
    count,
    { timeout: TIMEOUT_MS },
  );
  return (await page.textContent("#console")) ?? "";
}

/** Opens a blank page of the server; `errors` collects the page's errors. */
async function openPage(page: Page, url: string, errors: string[]): Promise<void> {
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  await page.goto(url);
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
}

/** Runs `wherry restore` with a file until pulse has reported `count` times, then ends pulse. */
async function restoreInNode(file: string, count: number): Promise<{ out: string; code: number | null }> {
  const child = spawn(process.execPath, [MAIN, "restore", file, "--smp", "2", "--memory", "32M"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let out = "";
  let asked = false;
  child.stdout.on("data", (text) => {
    out += text;
    if (asked || reportsIn(out).length < count) return;
    asked = true;
    child.stdin.write("q");
  });
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { out: out.replaceAll("\r", ""), code };
}

// Retried once, in a new browser: on a host with a load of 15, one of these exceeded its time limit.
describe.skipIf(!hasChromium())("in Chromium", { retry: 1 }, () => {
  let directory: string;
  let server: BrowserServer;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "wherry-browser-"));
    server = await serveBrowser();
  });
  afterAll(async () => {
    await server.close();
    await rm(directory, { recursive: true });
  });

  test(
    "pulse boots on two harts, is saved, continues there, and resumes in Node from the file",
    async () => {
      const file = join(directory, "from-browser");
      const errors: string[] = [];
      const inBrowser = await withChromium(async (browser) => {
        const page = await browser.newPage();
        await openPage(page, `${server.url}?harts=2&memory=32&engine=translator`, errors);
        await page.click("#start");
        const before = reportsIn(await consoleWith(page, 3));
        const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
        await download.saveAs(file);
        // The saved machine continues here, and so does its console's input.
        await consoleWith(page, reportsIn((await page.textContent("#console")) ?? "").length + 2);
        await page.focus("#console");
        await page.keyboard.press("q");
        await page.waitForSelector('#state[data-state="none"]', { timeout: TIMEOUT_MS });
        const text = (await page.textContent("#console")) ?? "";
        expect(text).toMatch(/^pulse: harts=2 /m);
        expect(text).toMatch(DONE);
        expect(text).not.toContain("FAIL");
        expectMonotonic(reportsIn(text));
        return before;
      });
      expect(errors).toEqual([]);

      const { out, code } = await restoreInNode(file, 3);
      expect(out).not.toContain("FAIL");
      expect(out).toMatch(DONE);
      expect(code).toBe(0);
      expectMonotonic([...inBrowser, ...reportsIn(out)]);
    },
    TIMEOUT_MS,
  );

  test(
    "a machine saved in Node resumes in the page, which can pause it",
    async () => {
      const file = join(directory, "from-node-2x32M.wherry");
      let text = "";
      const kernel = new Uint8Array(await (await fetch(`${server.url}guests/pulse.bin`)).arrayBuffer());
      const hardware = { harts: 2, memoryBytes: 32 << 20 };
      const machine = await createMachine({
        ...hardware,
        kernel,
        append: "pulse.nodisk",
        onConsole: (bytes) => (text += Buffer.from(bytes).toString("latin1")),
      });
      await machine.start();
      await expect.poll(() => reportsIn(text).length, { timeout: TIMEOUT_MS }).toBeGreaterThan(1);
      const inNode = reportsIn(text);
      await machine.saveTo(file);
      await machine.close();

      const errors: string[] = [];
      await withChromium(async (browser) => {
        const page = await browser.newPage();
        await openPage(page, server.url, errors);
        await page.setInputFiles("#file", file);
        await consoleWith(page, 1);
        await page.click("#pause");
        await page.waitForSelector('#state[data-state="paused"]');
        // Output from before the pause may still arrive on the screen; a running guest reports every second.
        let paused: string | null = null;
        await expect
          .poll(
            async () => {
              const before = paused;
              paused = await page.textContent("#console");
              return paused === before;
            },
            { interval: 2500, timeout: TIMEOUT_MS },
          )
          .toBe(true);
        await page.click("#pause");
        const after = await consoleWith(page, reportsIn(paused ?? "").length + 1);
        expect(after).not.toContain("FAIL");
        expectMonotonic([...inNode, ...reportsIn(after)]);
        // A file that is not a saved machine is refused with a message, and the page remains usable.
        await page.setInputFiles("#file", {
          name: "x",
          mimeType: "",
          buffer: Buffer.from("no machine at all"),
        });
        await page.waitForSelector("#note.error");
        expect(await page.textContent("#note")).toContain("not a saved machine");
        expect(await page.textContent("#state")).toBe("no machine");
      });
      expect(errors).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "a guest that prints without end waits for a page that is busy, and nothing is lost",
    async () => {
      // As text: a dynamic import in a function would be the test runner's.
      const script = `(async () => {
        const { createMachine } = await import("${server.url}browser/index.js");
        let text = "";
        const kernel = Uint8Array.of(${buildPrinter()});
        const onConsole = (bytes) => { text += String.fromCharCode(...bytes); };
        const machine = await createMachine({ harts: 1, memoryBytes: 8 << 20, kernel, onConsole });
        const sees = async (bytes) => {
          while (text.length < bytes) await new Promise((resolve) => setTimeout(resolve, 20));
        };
        await machine.start();
        await sees(300_000);
        for (const end = performance.now() + 3000; performance.now() < end; );
        const { length } = text;
        await machine.pause();
        const busyBytes = text.length - length;
        await machine.start();
        await sees(text.length + 300_000);
        await machine.close();
        return { text, busyBytes };
      })()`;
      const { text, busyBytes } = await withChromium(async (browser) => {
        const page = await browser.newPage();
        await page.goto(server.url);
        return page.evaluate<{ text: string; busyBytes: number }>(script);
      });
      expect(busyBytes).toBeLessThan(200_000);
      expect(checkLines(`\n${text}`).first).toBe(0);
    },
    TIMEOUT_MS,
  );

  test("a page that is not isolated is told which headers it needs", async () => {
    await withChromium(async (browser) => {
      const page = await browser.newPage();
      await page.route("**/*", async (route) => {
        const response = await route.fetch();
        const { "content-type": type = "" } = response.headers();
        await route.fulfill({ body: await response.body(), contentType: type });
      });
      await page.goto(server.url);
      await page.click("#start");
      await page.waitForSelector("#note.error");
      expect(await page.textContent("#note")).toContain("Cross-Origin-Opener-Policy: same-origin");
    });
  });

  test(
    "workers of a page read one clock: what happens later has a later time",
    async () => {
      const least = await withChromium(async (browser) => {
        const page = await browser.newPage();
        await page.goto(server.url);
        return page.evaluate(async (platform) => {
          // Two workers take turns: each passes its time to the other, which compares it with its own.
          const source = `import { monotonicSince } from "${platform}";
          onmessage = ({ data: { buffer, me, originMs } }) => {
            const now = monotonicSince(originMs);
            const turn = new Int32Array(buffer, 0, 1), time = new Float64Array(buffer, 8, 1);
            let least = Infinity;
            for (let i = 0; i < 2000; i++) {
              while (Atomics.load(turn, 0) !== me) Atomics.wait(turn, 0, 1 - me);
              if (time[0] !== 0) least = Math.min(least, now() - time[0]);
              time[0] = now();
              Atomics.store(turn, 0, 1 - me);
              Atomics.notify(turn, 0);
            }
            postMessage(least);
          };`;
          const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
          const buffer = new SharedArrayBuffer(16);
          const originMs = performance.timeOrigin;
          const run = async (me: number): Promise<number> => {
            // The workers start at different times, so that their `performance.now()` differ.
            await new Promise((resolve) => setTimeout(resolve, me * 300));
            const worker = new Worker(url, { type: "module" });
            worker.postMessage({ buffer, me, originMs });
            return new Promise((resolve, reject) => {
              worker.onmessage = ({ data }) => resolve(data);
              worker.onerror = () => reject(new Error("a worker failed"));
            });
          };
          return Math.min(...(await Promise.all([run(0), run(1)])));
        }, `${server.url}base/shared-clock.js`);
      });
      // Browsers round time to 5 µs, each worker's origin too.
      expect(least).toBeGreaterThan(-20_000);
    },
    TIMEOUT_MS,
  );
});
