// --icount: two runs of a machine without external input are identical to the byte, console and memory at the
// end; and so are the engines, although the time of translation varies.
import { expect, test } from "vitest";
import { encodeUtf8 } from "../../src/base/text.ts";
import { buildPulse } from "../../src/guest/pulse-guest.ts";
import { createMachine } from "../../src/embed/create-machine.ts";
import { createVm } from "../../src/embed/create-vm.ts";
import type { EngineKind } from "../../src/hypervisor/shared/engine-kind.ts";
import type { VirtMachine } from "../../src/machines/virt.ts";
import { createMachine as createNodeMachine } from "../../src/node/index.ts";
import { nodePlatform } from "../../src/node/node-platform.ts";
import { type Run, runToEnd } from "../support/repeatable-run.ts";

const REPORTS = 3;

/** Runs pulse for some reports, then types its `q`. `disturb` is called at each report. */
async function runPulse(
  engine: EngineKind,
  sleep: boolean,
  options: string,
  disturb: (machine: VirtMachine) => void = () => {},
): Promise<Run> {
  const kernel = await buildPulse();
  const append = `pulse.nodisk pulse.report=200 ${options}`;
  const icount = { shift: 3, sleep };
  const config = { harts: 1, memoryBytes: 16 << 20, kernel, append, icount, engine, translateAfter: 8 };
  let reports = 0;
  return runToEnd(config, (line, serial, machine) => {
    if (!/ OK\r?\n$/.test(line)) return;
    disturb(machine);
    if (++reports === REPORTS) serial.push(encodeUtf8("q"));
  });
}

test.each([
  ["sleep=on", true, ""],
  ["sleep=on, idling", true, "pulse.idle=1"],
  ["sleep=off, idling", false, "pulse.idle=1"],
  ["sleep=off, suspending, timer by SBI", false, "pulse.suspend=2 pulse.sbitimer"],
])("%s: all runs are the same", async (_, sleep, options) => {
  const first = await runPulse("interpreter", sleep, options);
  expect(first.console).toMatch(/^pulse: done .* OK\r?$/m);
  for (const engine of ["interpreter", "translator"] as const) {
    expect(await runPulse(engine, sleep, options)).toEqual(first);
  }
});

test("pauses have no effect", async () => {
  const first = await runPulse("translator", true, "pulse.idle=1");
  let pauses = 0;
  const paused = await runPulse("translator", true, "pulse.idle=1", (machine) => {
    void (async () => {
      await machine.stop();
      await new Promise((resolve) => setTimeout(resolve, 20));
      pauses++;
      // The last pause may come when the guest has ended.
      await machine.start().catch(() => {});
    })();
  });
  expect(paused).toEqual(first);
  expect(pauses).toBeGreaterThanOrEqual(REPORTS);
});

test("sleep=off: an idle guest uses no host time", async () => {
  const started = performance.now();
  // Ten reports with a period of one second on the guest's clock.
  let text = "";
  const { console } = await runToEnd(
    {
      harts: 1,
      memoryBytes: 16 << 20,
      kernel: await buildPulse(),
      append: "pulse.nodisk pulse.idle=1 pulse.period=100000 pulse.report=60000",
      icount: { shift: 0, sleep: false },
    },
    (line, serial) => {
      text += line;
      if (/ OK\r?\n$/.test(text)) serial.push(encodeUtf8("q"));
    },
  );
  const [, ticks = "0"] = /^pulse: done t=(\d+) /m.exec(console) ?? [];
  expect(Number(ticks) / 10_000).toBeGreaterThan(60_000);
  expect(performance.now() - started).toBeLessThan(Number(ticks) / 10_000);
});

test("guest time continues in a restored machine, there and back without --icount and under the other engine", async () => {
  const hardware = { harts: 1, memoryBytes: 16 << 20 };
  const icount = { shift: 2, sleep: false };
  let state: Uint8Array | undefined;
  let times: number[] = [];
  // Created, restored without it, restored with it again.
  for (const [i, mode] of [icount, undefined, icount].entries()) {
    let text = "";
    const machine = await createNodeMachine({
      ...hardware,
      icount: mode,
      engine: i === 1 ? "interpreter" : "translator",
      ...(state === undefined
        ? { kernel: await buildPulse(), append: "pulse.nodisk pulse.idle=1 pulse.report=300" }
        : { state }),
      onConsole: (bytes) => (text += Buffer.from(bytes).toString("latin1")),
    });
    await machine.start();
    // Whole lines: the first line of a restored machine may have begun in the saved one.
    const reports = (): number => text.match(/^pulse: t=.* OK\r?$/gm)?.length ?? 0;
    await expect.poll(reports, { timeout: 30_000 }).toBeGreaterThan(1);
    await machine.pause();
    state = await machine.save();
    await machine.close();
    expect(text).not.toContain("FAIL");
    const seen = [...text.matchAll(/^pulse: t=(\d+) /gm)].map(([, t]) => Number(t));
    expect(seen.length, `machine ${i}`).toBeGreaterThan(1);
    times = [...times, ...seen];
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  }
});

test("only one hart's instructions can be guest time", async () => {
  const config = { vcpuCount: 2, blocks: [], builtinFirmware: true, icount: { shift: 3, sleep: true } };
  await expect(createVm(config, nodePlatform)).rejects.toThrow("one hart");
  const two = { harts: 2, memoryBytes: 16 << 20, kernel: await buildPulse(), icount: config.icount };
  const serial = { write: () => {}, read: () => new Uint8Array(0), onReadable: () => {} };
  await expect(createMachine(two, { serial }, nodePlatform)).rejects.toMatchObject({ code: "vm.icount" });
});
