// Prints a profiling report (--perf, `wherry perf`) on a terminal.
import { PLACE_SHIFT } from "../../hypervisor/vcpu/hot-code.ts";
import type { PerfInfo } from "../../monitor/perf-commands.ts";

/** Activities entered again after every interruption, so that their counts say nothing. */
const UNCOUNTED = ["engine", "other"];
const HOT_SHOWN = 8;

/** Several lines, each ended. Times are sums over the harts, shares refer to their total time. */
export function perfTable(info: PerfInfo): string {
  const total = info["elapsed-ns"] * info.harts.length;
  const sums = new Map<string, { count: number; ns: number }>();
  for (const { activities } of info.harts) {
    for (const { name, count, ns } of activities) {
      const sum = sums.get(name) ?? { count: 0, ns: 0 };
      sums.set(name, { count: sum.count + count, ns: sum.ns + ns });
    }
  }
  const rows = [...sums]
    .filter(([, { count, ns }]) => count > 0 || ns > 0)
    .map(([name, { count, ns }]) => {
      const counted = !UNCOUNTED.includes(name) && count > 0;
      const time = ns === 0 ? ["", "", ""] : [timeText(ns), percent(ns, total), timeText(ns / count)];
      return [name, time[0], time[1], counted ? String(count) : "", counted ? time[2] : ""];
    });
  const lines = [["", "time", "share", "count", "each"], ...rows].map(([name = "", ...columns]) =>
    `  ${name.padEnd(16)}${columns.map((c = "") => c.padStart(11)).join("")}`.trimEnd(),
  );
  const harts = `${info.harts.length} hart${info.harts.length === 1 ? "" : "s"}`;
  return [
    `perf: ${timeText(info["elapsed-ns"])} of ${harts}`,
    ...lines,
    ...info.harts.map((hart) => hartLine(hart, info["elapsed-ns"])),
    ...translationLines(info.translation),
    ...hotLines(info.harts),
    "",
  ].join("\n");
}

function hartLine(hart: PerfInfo["harts"][number], elapsedNs: number): string {
  const { instructions } = hart;
  const engineNs = hart.activities.find(({ name }) => name === "engine")?.ns ?? 0;
  const mips = (ns: number): string => (ns > 0 ? ((instructions * 1e3) / ns).toFixed(1) : "0");
  const parts = [
    `${countText(instructions)} instructions`,
    `${mips(elapsedNs)} MIPS, ${mips(engineNs)} MIPS in the engine`,
    `${percent(hart["translated-instructions"], instructions)} translated`,
    `${countText(hart["tlb-refills"])} TLB refills`,
  ];
  if (hart["steal-ns"] !== undefined) parts.push(`${timeText(hart["steal-ns"])} stolen by the host`);
  return `  hart ${hart["cpu-index"]}: ${parts.join(", ")}`;
}

function translationLines(translation: PerfInfo["translation"]): string[] {
  const parts = Object.entries(translation)
    .filter(([, value]) => value !== 0)
    .map(([name, value]) =>
      name.endsWith("-ns") ? `${name.slice(0, -3)} ${timeText(value)}` : `${name} ${countText(value)}`,
    );
  return parts.length === 0 ? [] : [`  translation: ${parts.join(", ")}`];
}

/** The addresses of all harts by their share of instructions. */
function hotLines(harts: PerfInfo["harts"]): string[] {
  const places = new Map<bigint, { readonly address: string; count: number }>();
  let samples = 0;
  for (const { hot, activities } of harts) {
    samples += activities.find(({ name }) => name === "slice")?.count ?? 0;
    for (const { address, count } of hot) {
      const place = BigInt(address) >> PLACE_SHIFT;
      const known = places.get(place) ?? { address, count: 0 };
      known.count += count;
      places.set(place, known);
    }
  }
  const most = [...places.values()].filter(({ count }) => count > 0).sort((a, b) => b.count - a.count);
  if (most.length === 0) return [];
  const shown = most.slice(0, HOT_SHOWN).map(({ address, count }) => `${address} ${percent(count, samples)}`);
  return [`  hot: ${shown.join(", ")}`];
}

function percent(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)}%` : "0.0%";
}

function timeText(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(2)} s`;
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(1)} ms`;
  return ns >= 1e3 ? `${(ns / 1e3).toFixed(1)} µs` : `${Math.round(ns)} ns`;
}

function countText(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} G`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} M` : String(count);
}
