// Pulse as the demo's guest: it works from the start and reports about once a second (guests/pulse).
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildPulse } from "../../guest/pulse-guest.ts";
import type { ConsoleClient } from "../machine/console-client.ts";
import type { DemoGuest } from "./demo-guest.ts";

const TIMEOUT_MS = 60_000;
const REPORT = /^pulse: t=\d+ .*gap=(\d+) OK\r?$/m;
// Up to the end of the line, since the text may be incomplete.
const FAIL = /^pulse: FAIL [^\n]*\n/m;
const REPORT_OR_FAIL = new RegExp(`${REPORT.source}|${FAIL.source}`, "m");
const REPORTS_BEFORE = 3;
const DISK_BYTES = 16 << 20;

/** Builds pulse and its disk in `directory`. */
export async function pulseGuest(directory: string, harts: number): Promise<DemoGuest> {
  const kernel = join(directory, "pulse.bin");
  const disk = join(directory, "pulse.disk");
  await writeFile(kernel, await buildPulse());
  await writeFile(disk, new Uint8Array(DISK_BYTES));
  const drive = `file=${disk.replaceAll(",", ",,")}`;
  return {
    title: `pulse on ${harts} ${harts === 1 ? "hart" : "harts"}`,
    machineArgs: ["--smp", String(harts), "--memory", "128M", "--drive", drive],
    bootArgs: ["--kernel", kernel],
    async boot(console, progress) {
      await console.waitFor(/^pulse: harts=/m, TIMEOUT_MS, 0);
      progress(0.5);
      await report(console, 0);
      progress(1);
    },
    async startWork(console) {
      const from = console.position;
      for (let i = 0; i < REPORTS_BEFORE; i++) await report(console);
      return worstGapMs(console.textFrom(from));
    },
    async prove(console, before) {
      // The first report covers the time of the move; the second shows that all harts run.
      const complaint = (await report(console, 0)) ?? (await report(console));
      const gapMs = worstGapMs(`${before}${console.textFrom(0)}`);
      const what =
        "counter, ticks, IPIs, registers, page tables and memory of every hart, and the disk, are as they must be";
      return { ok: complaint === undefined, gapMs, detail: complaint ?? what };
    },
    greet: () => {},
  };
}

/** Waits for a report. Returns pulse's error message if it found a fault. */
async function report(console: ConsoleClient, from?: number): Promise<string | undefined> {
  const [line] = await console.waitFor(REPORT_OR_FAIL, TIMEOUT_MS, from);
  return FAIL.exec(line)?.[0].trim();
}

function worstGapMs(output: string): number {
  const gaps = [...output.matchAll(new RegExp(REPORT.source, "gm"))].map(([, us]) => Number(us) / 1000);
  return Math.max(0, ...gaps);
}
