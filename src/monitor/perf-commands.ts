// QMP commands for profiling. They are Wherry's own: QEMU has no equivalent.
import { hex } from "../base/hex.ts";
import type { PerfControl, PerfReport } from "../accelerator/perf-report.ts";
import { any, bool, int, list, optional, QmpError, str, struct } from "./qapi.ts";
import { action, command, type QmpCommand } from "./qmp-command.ts";

/** A report in QMP's form, with times in ns. */
export type PerfInfo = {
  readonly "elapsed-ns": number;
  readonly harts: {
    readonly "cpu-index": number;
    readonly instructions: number;
    readonly "translated-instructions": number;
    readonly "tlb-refills": number;
    /** Absent if the host does not report it. */
    readonly "steal-ns"?: number;
    /** Samples by address; the activity `slice` of `activities` has their total. */
    readonly hot: { readonly address: string; readonly count: number }[];
    readonly activities: { readonly name: string; readonly count: number; readonly ns: number }[];
  }[];
  readonly translation: Readonly<Record<string, number>>;
};

const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

export function perfInfo(report: PerfReport): PerfInfo {
  return {
    "elapsed-ns": Math.round(report.elapsedNs),
    harts: report.harts.map(({ instructions, translated, refills, stealNs, hot, activities }, hart) => ({
      "cpu-index": hart,
      instructions,
      "translated-instructions": translated,
      "tlb-refills": refills,
      ...(stealNs === undefined ? {} : { "steal-ns": Math.round(stealNs) }),
      hot: hot.map(({ address, count }) => ({ address: hex(address), count })),
      activities: Object.entries(activities).map(([name, { count, ns }]) => ({
        name,
        count,
        ns: Math.round(ns),
      })),
    })),
    translation: Object.fromEntries(
      Object.entries(report.translation).map(([name, value]) => [kebab(name), value]),
    ),
  };
}

const perfType = struct({
  "elapsed-ns": int,
  harts: list(
    struct({
      "cpu-index": int,
      instructions: int,
      "translated-instructions": int,
      "tlb-refills": int,
      "steal-ns": optional(int),
      hot: list(struct({ address: str, count: int })),
      activities: list(struct({ name: str, count: int, ns: int })),
    }),
  ),
  // Counters by name.
  translation: any,
});

export function perfCommands(perf: PerfControl): QmpCommand[] {
  return [
    action("x-wherry-perf", { enable: bool }, ({ enable }) => {
      if (enable) perf.start();
      else perf.stop();
    }),
    command("x-wherry-query-perf", {}, perfType, () => {
      if (!perf.counting) throw new QmpError("Profiling is off: enable it with x-wherry-perf");
      return perfInfo(perf.read());
    }),
  ];
}
