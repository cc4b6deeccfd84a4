// The figures of `npm run bench:work`, as Markdown and as a chart.
import { geometricMean, perfLines, show, spread, table, WHERRY } from "./figures.ts";
import type { PerfInfo } from "../src/monitor/perf-commands.ts";
import { escape, STYLE } from "./chart.ts";

/**
 * The first time in a boot, without anything that Wherry keeps between runs; the second time in that boot;
 * the first time in a further boot.
 */
export const PHASES = ["cold", "warm", "again"] as const;
export type Phase = (typeof PHASES)[number];

/** One sample for each round. */
export interface Samples {
  /** By the host's clock. */
  readonly seconds: number[];
  readonly guestSeconds: number[];
}

export interface JobFigures {
  readonly name: string;
  readonly harts: number;
  /** By phase, then column. */
  readonly phases: Record<Phase, Record<string, Samples>>;
  /** `cksum` of the output, the same in all runs. */
  checksum?: string;
  readonly perf: Partial<Record<Phase, PerfInfo>>;
  /** Reasons, by column. */
  readonly failures: Record<string, string>;
}

export interface WorkFigures {
  readonly host: string;
  readonly guest: string;
  readonly rounds: number;
  /** The monitors: the one to compare with first, Wherry last. */
  readonly columns: readonly string[];
  readonly jobs: readonly JobFigures[];
  /** From the start of the process to the prompt, by harts. */
  readonly boots: readonly { readonly harts: number; readonly phases: JobFigures["phases"] }[];
}

export const noSamples = (): JobFigures["phases"] => ({ cold: {}, warm: {}, again: {} });

/** Wherry's speed relative to `column`, from the medians; then the lowest and highest of the rounds. */
function speeds(by: Record<string, Samples>, column: string) {
  const [ours, theirs] = [by[WHERRY]?.seconds ?? [], by[column]?.seconds ?? []];
  if (ours.length === 0 || ours.length !== theirs.length) return undefined;
  const rounds = spread(ours.map((seconds, i) => (theirs[i] as number) / seconds));
  return { ...rounds, median: spread(theirs).median / spread(ours).median };
}

const times = (ratio: ReturnType<typeof speeds>): string =>
  ratio === undefined ? "–" : show(ratio, 2, "×").replace(" ×", "×");

const phasesOf = (figures: WorkFigures): Phase[] =>
  PHASES.filter((phase) => figures.jobs.some((job) => Object.keys(job.phases[phase]).length > 0));

function rows(figures: WorkFigures, name: string, phases: JobFigures["phases"]): string[] {
  const seconds = (each: Samples | undefined): string =>
    each === undefined || each.seconds.length === 0 ? "–" : spread(each.seconds).median.toFixed(2);
  return [
    name,
    ...phasesOf(figures).flatMap((phase) => [
      ...figures.columns.map((column) => seconds(phases[phase][column])),
      ...figures.columns.slice(0, -1).map((column) => times(speeds(phases[phase], column))),
    ]),
  ];
}

/** All figures of one number of harts. */
function hartLines(figures: WorkFigures, harts: number): string[] {
  const { columns } = figures;
  const others = columns.slice(0, -1);
  const jobs = figures.jobs.filter((job) => job.harts === harts);
  const boots = figures.boots.filter((boot) => boot.harts === harts);
  const head = phasesOf(figures).flatMap((phase) => [
    ...columns.map((column) => `${phase}: ${column}, s`),
    ...others.map((column) => (others.length > 1 ? `${WHERRY} ÷ ${column}` : "speed")),
  ]);
  const lines = [
    `### ${harts} hart${harts === 1 ? "" : "s"}`,
    "",
    ...table(
      ["job", ...head],
      [
        ...jobs.map(({ name, phases }) => rows(figures, name, phases)),
        ...boots.map(({ phases }) => rows(figures, "boot to the prompt", phases)),
      ],
    ),
  ];
  const means = others.flatMap((column) =>
    phasesOf(figures).flatMap((phase) => {
      const known = jobs.flatMap(({ name, phases }) => {
        const speed = speeds(phases[phase], column)?.median;
        return speed === undefined ? [] : [{ name, speed }];
      });
      if (known.length === 0) return [];
      const sorted = known.toSorted((a, b) => a.speed - b.speed);
      const worst = sorted.slice(0, 3).map(({ name, speed }) => `${name} ${speed.toFixed(2)}×`);
      const mean = geometricMean(known.map(({ speed }) => speed)).toFixed(2);
      return [
        `- ${phase}, relative to ${column}, ${known.length} jobs: **${mean}×**; least: ${worst.join(", ")}`,
      ];
    }),
  );
  if (means.length > 0) lines.push("", `Geometric means of ${WHERRY}'s speed:`, "", ...means);
  const skewed = jobs.flatMap(({ name, phases }) =>
    phasesOf(figures).flatMap((phase) =>
      Object.entries(phases[phase]).flatMap(([column, { seconds, guestSeconds }]) => {
        const ratio = spread(guestSeconds).median / spread(seconds).median;
        return Math.abs(ratio - 1) > 0.05 && spread(seconds).median > 0.2
          ? [`${name} ${phase} ${column} ${ratio.toFixed(2)}`]
          : [];
      }),
    ),
  );
  if (skewed.length > 0)
    lines.push("", `The guest's clock ÷ the host's, where they differ: ${skewed.join(", ")}.`);
  return lines;
}

export function workReport(figures: WorkFigures): string {
  const { jobs, rounds: count } = figures;
  const lines = [
    `Medians of ${count} round${count === 1 ? "" : "s"} (the speed's lowest–highest round). The monitors take turns for each job;`,
    "the others' processes are stopped meanwhile.",
    "",
    `Host: ${figures.host}.`,
    `Guest: ${figures.guest}.`,
  ];
  for (const harts of new Set(jobs.map((job) => job.harts))) lines.push("", ...hartLines(figures, harts));
  const perf = jobs.flatMap(({ name, harts, perf }) =>
    PHASES.flatMap((phase) =>
      perf[phase] ? [{ name: `${name}, ${harts}, ${phase}`, perf: perf[phase] }] : [],
    ),
  );
  if (perf.length > 0) lines.push("", "### Where Wherry's time goes", "", ...perfLines(perf));
  const failed = jobs.flatMap(({ name, harts, failures }) =>
    Object.entries(failures).map(([column, why]) => `- ${name}, ${harts} harts, ${column}: ${why}`),
  );
  if (failed.length > 0) lines.push("", "Failed:", "", ...failed);
  return lines.join("\n");
}

const WIDTH = 720;
const LABELS = 150;
const RIGHT = 30;
const ROW = 18;
const TOP = 56;

/** An SVG document: a row for each job, a dot for each phase. Throws without a monitor to compare with. */
export function workChart(figures: WorkFigures, harts: number): string {
  const [column] = figures.columns;
  if (column === undefined || column === WHERRY) throw new Error("a chart needs a QEMU to compare with");
  const named = [
    ...figures.jobs.filter((job) => job.harts === harts),
    ...figures.boots.filter((boot) => boot.harts === harts).map(({ phases }) => ({ name: "boot", phases })),
  ].map(({ name, phases }) => ({
    name,
    dots: PHASES.flatMap((phase) => {
      const speed = speeds(phases[phase], column)?.median;
      return speed === undefined ? [] : [{ phase, speed }];
    }),
  }));
  const logs = named.flatMap(({ dots }) => dots.map(({ speed }) => Math.log2(speed)));
  const [low, high] = [Math.floor(Math.min(-1, ...logs)), Math.ceil(Math.max(1, ...logs))];
  const x = (speed: number): string =>
    (LABELS + ((Math.log2(speed) - low) / (high - low)) * (WIDTH - LABELS - RIGHT)).toFixed(1);
  const height = TOP + named.length * ROW + 34;
  const title = `Everyday jobs: speed of Wherry over ${column}, ${harts} hart${harts === 1 ? "" : "s"}`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">`,
    `<style>${STYLE}\n  .cold { fill: #0969da } .warm { fill: #cf222e } .again { fill: #2da44e }\n</style>`,
    `<text x="8" y="20" class="title">${escape(title)}</text>`,
    `<text x="8" y="38" class="small">${escape(figures.host)}; medians of ${figures.rounds}, log scale</text>`,
  ];
  for (const [i, phase] of phasesOf(figures).entries()) {
    const at = WIDTH - 190 + i * 60;
    parts.push(
      `<circle cx="${at}" cy="34" r="4" class="${phase}"/>`,
      `<text x="${at + 8}" y="38" class="small">${phase}</text>`,
    );
  }
  for (let power = low; power <= high; power++) {
    const at = x(2 ** power);
    const label = power < 0 ? `1/${2 ** -power}` : `${2 ** power}`;
    parts.push(
      `<line x1="${at}" x2="${at}" y1="${TOP - 6}" y2="${height - 28}" class="${power === 0 ? "one" : "grid"}"/>`,
      `<text x="${at}" y="${height - 12}" text-anchor="middle" class="small">${label}×</text>`,
    );
  }
  for (const [i, { name, dots }] of named.entries()) {
    const y = TOP + i * ROW;
    parts.push(`<text x="${LABELS - 8}" y="${y + 12}" text-anchor="end">${escape(name)}</text>`);
    for (const { phase, speed } of dots)
      parts.push(`<circle cx="${x(speed)}" cy="${y + 8}" r="4" class="${phase}"/>`);
  }
  return `${[...parts, "</svg>"].join("\n")}\n`;
}
