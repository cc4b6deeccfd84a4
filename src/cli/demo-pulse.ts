// Pulse as the demo's guest: it works from its first moment and reports about once a second (guests/pulse).
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildPulse } from "../guest/pulse.ts";
import type { ConsoleClient } from "./console-client.ts";
import type { DemoGuest, GuestProof } from "./demo-guest.ts";

const BOOT_TIMEOUT_MS = 60_000;
const REPORT_TIMEOUT_MS = 60_000;
const REPORT = /^pulse: t=(\d+) .*gap=(\d+) OK\r?$/m;
const FAIL = /^pulse: FAIL .*$/m;
const END = new RegExp(`${REPORT.source}|${FAIL.source}`, "m");
const DISK_BYTES = 16 << 20;

/** Builds pulse and its disk in `directory`. */
export async function pulseGuest(directory: string, harts: number): Promise<DemoGuest> {
  const kernel = join(directory, "pulse.bin");
  const disk = join(directory, "pulse.disk");
  await writeFile(kernel, await buildPulse());
  await writeFile(disk, new Uint8Array(DISK_BYTES));
  return {
    title: `pulse on ${harts} harts`,
    machineArgs: [
      "--smp",
      String(harts),
      "--memory",
      "128M",
      "--drive",
      `file=${disk.replaceAll(",", ",,")}`,
    ],
    bootArgs: ["--kernel", kernel],
    async boot(console, progress) {
      await console.waitFor(/^pulse: harts=/m, BOOT_TIMEOUT_MS, 0);
      progress(0.5);
      await report(console, 0);
      progress(1);
    },
    startWork: async (console) => void (await report(console)),
    async prove(console, before) {
      // The first report after the move covers the downtime; the second shows that all harts go on.
      const from = console.position;
      const first = await report(console, 0);
      const last = first.ok ? await report(console, from) : first;
      const gaps = [...`${before}${console.textFrom(0)}`.matchAll(new RegExp(REPORT, "gm"))].map((m) =>
        Number(m[2]),
      );
      return { ...last, downtimeMs: Math.max(0, ...gaps) / 1000 };
    },
    settle: async () => {},
  };
}

/** Waits for the next report line, or for the word that something was lost. */
async function report(console: ConsoleClient, from = console.position): Promise<GuestProof> {
  const [line] = await console.waitFor(END, REPORT_TIMEOUT_MS, from);
  const ok = REPORT.test(line);
  const what =
    "every hart's counter, ticks and IPIs, registers, memory, page tables and disk are as they must be";
  return { ok, downtimeMs: 0, detail: ok ? what : line.trim() };
}
