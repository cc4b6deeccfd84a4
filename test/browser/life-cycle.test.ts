// The life of a machine in a page: the table of docs/embedding.md, for the states that a page can bring
// about; calls that overlap, ends, and options that are refused. Runs the output of `tsc -b`.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BrowserServer, serveBrowser } from "../../tools/serve-browser.ts";
import { hasChromium, withChromium } from "../support/chromium.ts";
import { echoKernel, lifeCycle } from "../support/life-cycle.ts";

const TIMEOUT_MS = 120_000;
/** Needs a fault inside a thread; a page's load that fails is a `createMachine` that rejects. */
const ONLY_HOSTED = ["crashed", "load failed"];

/** As text: an import in a function would be the test runner's. */
const script = (url: string): string => `(async () => {
  const { createMachine } = await import("${url}browser/index.js");
  const kernel = Uint8Array.of(${echoKernel()});
  const make = (options = {}) =>
    createMachine({ harts: 1, memoryBytes: 8 << 20, kernel, engine: "interpreter", ...options });
  const code = (call) => call.then(() => undefined, (error) => error.code ?? String(error));
  const states = {
    created: () => make(),
    running: async () => { const m = await make(); await m.start(); return m; },
    paused: async () => { const m = await make(); await m.start(); await m.pause(); return m; },
    ended: async () => { const m = await make(); await m.start(); await m.write("q"); await m.ended; return m; },
    closed: async () => { const m = await make(); await m.close(); return m; },
  };
  const calls = {
    start: (m) => m.start(), pause: (m) => m.pause(), reset: (m) => m.reset(), write: (m) => m.write("x"),
    save: (m) => m.save(), close: (m) => m.close(),
  };
  const table = {};
  for (const state of Object.keys(states)) {
    table[state] = [];
    let machine;
    for (const [name, call] of Object.entries(calls)) {
      machine ??= await states[state]();
      const before = machine.runState;
      const refusal = await code(call(machine));
      table[state].push([name, refusal ?? machine.runState]);
      if (machine.runState === before) continue;
      await machine.close();
      machine = undefined;
    }
    await machine?.close();
  }

  const options = {};
  for (const [name, given] of Object.entries({
    text: { harts: "2" }, engine: { engine: "jit" }, hart: { hart: 2 }, kernel: { kernel: "Image" },
    listener: { onConsole: {} }, none: { harts: undefined }, memory: { memoryBytes: 3 << 20 },
    nothing: { kernel: undefined }, clock: { clock: "host" }, state: { state: "file" },
    damaged: { state: new Blob(["no machine at all"]) },
    // Its bytes are somewhere else by now: they cannot be sent to the worker.
    sent: { append: "x", kernel: (() => { const k = kernel.slice(); structuredClone(k, { transfer: [k.buffer] }); return k; })() },
  })) options[name] = await code(make(given));

  const ends = [];
  const states2 = [];
  const m = await make({ onRunState: (state) => states2.push(state) });
  const first = m.ended;
  const overlapping = [m.start(), m.pause(), m.start(), m.write("q")];
  await Promise.all(overlapping);
  ends.push(await first);
  await m.reset();
  ends.push(m.ended === first);
  await m.start();
  const closing = [m.close(), m.close()];
  ends.push(await code(m.start()));
  await Promise.all(closing);
  ends.push(await m.ended, m.runState);
  return { table, options, ends, states: states2 };
})()`;

describe.skipIf(!hasChromium())("in a page", { retry: 1 }, () => {
  let server: BrowserServer;
  beforeAll(async () => {
    server = await serveBrowser();
  });
  afterAll(() => server.close());

  test("a machine's life is that of docs/embedding.md", { timeout: TIMEOUT_MS }, async () => {
    const { table, options, ends, states } = await withChromium(async (browser) => {
      const page = await browser.newPage();
      await page.goto(server.url);
      return page.evaluate<{
        table: Record<string, [string, string][]>;
        options: Record<string, string>;
        ends: unknown[];
        states: string[];
      }>(script(server.url));
    });
    expect(Object.keys(table)).toEqual(lifeCycle.states.filter((state) => !ONLY_HOSTED.includes(state)));
    for (const [state, found] of Object.entries(table))
      expect(found, state).toEqual(lifeCycle.column(state).filter(([call]) => call !== "load"));
    expect(options).toEqual({
      ...{ text: "options.value", engine: "options.value", hart: "options.name", kernel: "options.value" },
      ...{
        listener: "options.value",
        none: "options.missing",
        memory: "boot.memory",
        nothing: "boot.kernel",
      },
      ...{
        clock: "options.value",
        state: "options.value",
        damaged: "migration.magic",
        sent: "options.value",
      },
    });
    expect(ends).toEqual([
      ...[{ kind: "shutdown", message: "guest-shutdown" }, false, "machine.closed"],
      ...[{ kind: "closed", message: "the machine was closed" }, "shutdown"],
    ]);
    expect(states.slice(0, 4)).toEqual(["running", "paused", "running", "shutdown"]);
  });
});
