// The figures measured by the bench, their medians and ratios, and their text.

import type { PerfInfo } from "../src/monitor/perf-commands.ts";

export interface ProgramFigures {
  readonly name: string;
  readonly harts: number;
  /** Nanoseconds by column. A column without samples has failed, or lacks the program. */
  readonly samples: Record<string, number[]>;
  /** Processor time of the processes in nanoseconds, by column. */
  readonly cpu: Record<string, number[]>;
  /** The profile of one more run under Wherry, if requested. */
  perf?: PerfInfo;
  /** Reasons of failures, by column. */
  readonly failures: Record<string, string>;
}

export interface BootFigures {
  readonly harts: number;
  /** Seconds by column. */
  readonly samples: Record<string, number[]>;
  /** Processor time of the processes in seconds. */
  readonly cpu: Record<string, number[]>;
}

export interface MemoryFigures {
  readonly column: string;
  readonly harts: number;
  readonly guestMib: number;
  /** The process's peak resident memory after all programs. */
  readonly peakMib: number;
}

export interface Figures {
  readonly host: string;
  readonly guest: string;
  readonly engine: string;
  /** The quantity compared: the programs' own clock, or the processor time of the processes. */
  readonly clock: "guest" | "cpu";
  readonly rounds: number;
  /** The monitors: Wherry last, before it the QEMU to compare with. */
  readonly columns: readonly string[];
  readonly programs: readonly ProgramFigures[];
  readonly boots: readonly BootFigures[];
  readonly memory: readonly MemoryFigures[];
}

export const NATIVE = "native";
export const WHERRY = "Wherry";

/** Median with the lowest and highest of several samples. */
export interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export function spread(samples: readonly number[]): Spread {
  const sorted = samples.toSorted((a, b) => a - b);
  const [below, above] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  const median = ((below ?? Number.NaN) + (above ?? Number.NaN)) / 2;
  return { median, low: sorted[0] ?? Number.NaN, high: sorted.at(-1) ?? Number.NaN };
}

export function show({ median, low, high }: Spread, digits: number, unit: string): string {
  const range = low === high ? "" : ` (${low.toFixed(digits)}–${high.toFixed(digits)})`;
  return `${median.toFixed(digits)} ${unit}${range}`;
}

/** The samples of the selected clock. */
export const taken = (
  { clock }: Figures,
  { samples, cpu }: ProgramFigures | BootFigures,
): Record<string, number[]> => (clock === "cpu" ? cpu : samples);

/** The QEMU to compare with, if any ran. */
export const rival = (figures: Figures): string | undefined =>
  figures.columns.filter((column) => column !== WHERRY).at(-1);

/** The ratio of the speed of `column` to that of `other`; undefined if either has no samples. */
export function speedOf(
  samples: Record<string, readonly number[]>,
  column: string,
  other: string,
): number | undefined {
  const [mine, theirs] = [samples[column] ?? [], samples[other] ?? []];
  if (mine.length === 0 || theirs.length === 0) return undefined;
  return spread(theirs).median / spread(mine).median;
}

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);

/**
 * The geometric mean of the ratio of Wherry's speed to `other`'s, over the programs for `harts` harts, and
 * their number.
 */
export function meanSpeed(figures: Figures, harts: number, other: string): { mean: number; count: number } {
  const speeds = figures.programs
    .filter((program) => program.harts === harts)
    .map((program) => speedOf(taken(figures, program), WHERRY, other))
    .filter((speed) => speed !== undefined);
  return { mean: geometricMean(speeds), count: speeds.length };
}

/** A Markdown table whose columns are aligned as plain text too. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((cell, i) => Math.max(...[head, ...rows].map((row) => (row[i] ?? cell).length)));
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(" | ")} |`;
  return [
    line(head),
    `|${widths.map((width, i) => (i === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`)).join("|")}|`,
    ...rows.map(line),
  ];
}

const seconds = (nanoseconds: readonly number[] | undefined): string =>
  nanoseconds === undefined || nanoseconds.length === 0
    ? "–"
    : show(spread(nanoseconds.map((ns) => ns / 1e9)), 3, "s");

const times = (ratio: number | undefined): string =>
  ratio === undefined || Number.isNaN(ratio) ? "–" : `${ratio.toFixed(2)}×`;

function programLines(figures: Figures): string[] {
  const { columns, programs } = figures;
  const qemu = rival(figures);
  const rows = programs.map((program) => {
    const { name, failures } = program;
    const samples = taken(figures, program);
    return [
      name,
      ...[NATIVE, ...columns].map((column) =>
        failures[column] === undefined ? seconds(samples[column]) : "FAILED",
      ),
      ...(qemu === undefined ? [] : [times(speedOf(samples, WHERRY, qemu))]),
      times(speedOf(samples, NATIVE, WHERRY)),
    ];
  });
  const head = [
    ...["program", NATIVE, ...columns],
    ...(qemu === undefined ? [] : [`${WHERRY} ÷ ${qemu}`]),
    `${NATIVE} ÷ ${WHERRY}`,
  ];
  const lines = table(head, rows);
  const means = columns
    .filter((column) => column !== WHERRY)
    .concat(NATIVE)
    .flatMap((other) =>
      [1, 2].flatMap((harts) => {
        const { mean, count } = meanSpeed(figures, harts, other);
        const what = harts === 1 ? "programs on one hart" : "two-threaded programs on two harts";
        return count === 0
          ? []
          : [`- relative to ${other}, ${count} ${what}: **${mean.toFixed(mean < 0.1 ? 3 : 2)}×**`];
      }),
    );
  if (means.length > 0) lines.push("", `Geometric means of ${WHERRY}'s speed:`, "", ...means);
  const scaling = [NATIVE, ...columns].flatMap((column) => {
    const [one, two] = ["scale-1", "scale-2"].map(
      (name) => programs.find((program) => program.name === name)?.samples[column] ?? [],
    );
    if (!one?.length || !two?.length) return [];
    return [`${column} ${((2 * spread(one).median) / spread(two).median).toFixed(2)}×`];
  });
  // Processor time does not show how much work was concurrent.
  if (scaling.length > 0 && figures.clock === "guest")
    lines.push("", `Throughput of two busy harts, relative to one: ${scaling.join(", ")}.`);
  const failed = programs.flatMap(({ name, failures }) =>
    Object.entries(failures).map(([column, why]) => `- ${name}, ${column}: ${why}`),
  );
  if (failed.length > 0) lines.push("", "Failed:", "", ...failed);
  return lines;
}

/** One line for each program: the harts' time by activity, largest first. */
export function perfLines(
  programs: readonly { readonly name: string; readonly perf?: PerfInfo }[],
): string[] {
  const rows = programs.flatMap(({ name, perf }) => {
    if (perf === undefined) return [];
    const sum = (pick: (hart: PerfInfo["harts"][number]) => number): number =>
      perf.harts.reduce((total, hart) => total + pick(hart), 0);
    const instructions = sum((hart) => hart.instructions);
    const share = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(1)} %`;
    const spent = (activity: string): number =>
      sum((hart) => hart.activities.find((each) => each.name === activity)?.ns ?? 0);
    const names = [...new Set(perf.harts.flatMap((hart) => hart.activities.map((each) => each.name)))];
    const total = names.reduce((all, each) => all + spent(each), 0);
    const others = names
      .filter((each) => each !== "engine" && spent(each) > total / 200)
      .toSorted((a, b) => spent(b) - spent(a))
      .map((each) => `${each} ${share(spent(each), total)}`);
    return [
      [
        name,
        (instructions / 1e9).toFixed(2),
        ((instructions * 1e3) / spent("engine")).toFixed(0),
        share(
          sum((hart) => hart["translated-instructions"]),
          instructions,
        ),
        ((1e6 * sum((hart) => hart["tlb-refills"])) / instructions).toFixed(1),
        share(spent("engine"), total),
        others.join(", "),
      ],
    ];
  });
  return table(
    ["program", "10⁹ instructions", "MIPS", "translated", "TLB refills, 10⁻⁶", "engine", "other activities"],
    rows,
  );
}

function bootLines(figures: Figures): string[] {
  const qemu = rival(figures);
  const rows = figures.boots.map((boot) => {
    const samples = taken(figures, boot);
    return [
      String(boot.harts),
      ...figures.columns.map((column) => (samples[column] ? show(spread(samples[column]), 2, "s") : "–")),
      ...(qemu === undefined ? [] : [times(speedOf(samples, qemu, WHERRY))]),
    ];
  });
  return table(
    ["harts", ...figures.columns, ...(qemu === undefined ? [] : [`${WHERRY}'s time ÷ ${qemu}'s`])],
    rows,
  );
}

function memoryLines({ memory }: Figures): string[] {
  return table(
    ["", "harts", "guest RAM", "peak of the process", "beyond guest RAM"],
    memory.map(({ column, harts, guestMib, peakMib }) => [
      column,
      String(harts),
      `${guestMib} MiB`,
      `${peakMib.toFixed(0)} MiB`,
      `${(peakMib - guestMib).toFixed(0)} MiB`,
    ]),
  );
}

/** All figures, as Markdown that is readable as text. */
export function report(figures: Figures): string {
  const lines = [
    `Medians of ${figures.rounds} round${figures.rounds === 1 ? "" : "s"} (lowest–highest). The monitors take turns for each program;`,
    "all others are stopped meanwhile.",
    "",
    `Host: ${figures.host}.`,
    `Guest: ${figures.guest}. Wherry's engine: ${figures.engine}.${figures.clock === "cpu" ? " Processor time of the processes." : ""}`,
    "",
  ];
  if (figures.programs.length > 0) lines.push("### Programs", "", ...programLines(figures), "");
  if (figures.programs.some(({ perf }) => perf !== undefined))
    lines.push("### Where Wherry's time goes", "", ...perfLines(figures.programs), "");
  if (figures.boots.length > 0)
    lines.push("### Boot, from the start of the process to the shell prompt", "", ...bootLines(figures), "");
  if (figures.memory.length > 0) lines.push("### Memory after all programs", "", ...memoryLines(figures), "");
  return lines.join("\n").trimEnd();
}
