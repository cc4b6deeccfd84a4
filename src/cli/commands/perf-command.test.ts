import { expect, test } from "vitest";
import type { PerfInfo } from "../../monitor/perf-commands.ts";
import { difference } from "./perf-command.ts";
import { perfTable } from "../output/perf-table.ts";

const info = (seconds: number): PerfInfo => ({
  "elapsed-ns": seconds * 1e9,
  harts: [0, 1].map((hart) => ({
    "cpu-index": hart,
    instructions: seconds * 100e6,
    "translated-instructions": seconds * 25e6,
    "tlb-refills": seconds * 7,
    ...(hart === 0 ? { "steal-ns": seconds * 2e6 } : {}),
    hot: [
      { address: "0x1000", count: seconds * 2 },
      { address: `0x20${hart}4`, count: seconds },
    ],
    activities: [
      { name: "engine", count: 9, ns: seconds * 0.5e9 },
      { name: "blocked", count: seconds * 10, ns: seconds * 0.5e9 },
      { name: "slice", count: seconds * 3, ns: 0 },
      { name: "sbi-ipi", count: 0, ns: 0 },
    ],
  })),
  translation: { regions: seconds * 11, "live-regions": 5, "compile-ns": seconds * 1e6, evictions: 0 },
});

test("the table has sums over the harts, shares of their total time, and no empty rows", () => {
  expect(perfTable(info(2)).split("\n")).toEqual([
    "perf: 2.00 s of 2 harts",
    "                         time      share      count       each",
    "  engine               2.00 s      50.0%",
    "  blocked              2.00 s      50.0%         40    50.0 ms",
    "  slice                                          12",
    "  hart 0: 200.0 M instructions, 100.0 MIPS, 200.0 MIPS in the engine, 25.0% translated, 14 TLB refills, 4.0 ms stolen by the host",
    "  hart 1: 200.0 M instructions, 100.0 MIPS, 200.0 MIPS in the engine, 25.0% translated, 14 TLB refills",
    "  translation: regions 22, live-regions 5, compile 2.0 ms",
    "  hot: 0x1000 66.7%, 0x2004 33.3%",
    "",
  ]);
});

test("the difference of two reports covers the time between them; live values are kept", () => {
  const between = difference(info(5), info(3));
  expect(between).toEqual({
    ...info(2),
    harts: info(2).harts.map((hart) => ({
      ...hart,
      activities: hart.activities.map((a) => (a.name === "engine" ? { ...a, count: 0 } : a)),
    })),
  });
});
