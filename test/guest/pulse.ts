// Pulse (guests/pulse) as the judge of the guest checks: reads and compares its reports, and reads its final
// verdict.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildPulse } from "../../src/guest/pulse-guest.ts";
import { directory } from "../support/cases.ts";
import type { Console, Machine } from "../support/machine.ts";

export const REPORT = /^pulse: t=(\d+) (.*) sum=\w+ disk=(\d+) gap=(\d+) OK\r?\n/m;
const FAIL = /^pulse: FAIL .*\n/m;
const DONE = /^pulse: done t=.* OK\r?\n/m;
const REPORT_MS = 60_000;

export interface Report {
  /** Guest time, 10 MHz ticks. */
  readonly time: number;
  readonly harts: readonly { readonly count: number; readonly ticks: number; readonly ipis: number }[];
  readonly disk: number;
  /** Longest time between two iterations of a hart, µs. */
  readonly gapUs: number;
}

/** Path of the kernel. */
export async function pulseKernel(): Promise<string> {
  const path = join(directory, "pulse.bin");
  writeFileSync(path, await buildPulse());
  return path;
}

export function emptyDisk(name: string): string {
  const path = join(directory, name);
  writeFileSync(path, new Uint8Array(4 << 20));
  return path;
}

/** All complete reports in a text, oldest first. */
export function reports(text: string): Report[] {
  return [...text.matchAll(new RegExp(REPORT, "gm"))].map(([, time, harts = "", disk, gap]) => ({
    time: Number(time),
    harts: harts.split(" ").map((hart) => {
      const [count = 0, ticks = 0, ipis = 0] = (hart.split("=")[1] ?? "").split("/").map(Number);
      return { count, ticks, ipis };
    }),
    disk: Number(disk),
    gapUs: Number(gap),
  }));
}

/** The next `count` reports. */
export async function nextReports(console: Console, count = 1): Promise<Report[]> {
  const from = console.text.length;
  const all = new RegExp(`(?:${REPORT.source}[^]*?){${count}}`, "m");
  await console.see(all, count * REPORT_MS, from, { refuse: FAIL });
  return reports(console.text.slice(from));
}

/**
 * Throws unless between the two reports every hart has counted, ticked and received IPIs, and the disk was
 * written.
 */
export function checkProgress(before: Report, after: Report): void {
  const complain = (what: string): never => {
    throw new Error(`${what} between guest times ${before.time} and ${after.time}`);
  };
  if (after.time <= before.time) complain("time did not advance");
  if (after.harts.length !== before.harts.length) complain("harts came or went");
  for (const [i, hart] of after.harts.entries()) {
    const old = before.harts[i] as Report["harts"][number];
    if (hart.count <= old.count) complain(`hart ${i} did not count (${old.count}, ${hart.count})`);
    if (hart.ticks <= old.ticks) complain(`hart ${i} had no tick (${old.ticks}, ${hart.ticks})`);
    if (hart.ipis < old.ipis) complain(`hart ${i} lost IPIs (${old.ipis}, ${hart.ipis})`);
  }
  if (after.disk < before.disk) complain("disk writes went back");
}

/** Ends the guest, which checks itself; returns the line with its verdict. */
export async function proof(machine: Machine): Promise<string> {
  machine.console.type("q");
  const [line] = await machine.console.see(DONE, 2 * REPORT_MS, 0, { refuse: FAIL });
  const { code } = await machine.ends(30_000);
  if (code !== 0) throw new Error(`pulse is done, but the process ended with ${code}: ${machine.complaints}`);
  return line.trim();
}
