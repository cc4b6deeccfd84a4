// `wherry diff`: the differences of two streams, as lines for a person or a program.
import { diffStreams, type Difference, type StreamDifferences } from "../../inspect/diff/diff-streams.ts";
import { type RamDifference, readWithRam } from "../../inspect/diff/diff-ram.ts";
import type { Problem } from "../../inspect/model/stream-report.ts";
import { problemText } from "../../inspect/model/problems.ts";
import { readStream } from "../../inspect/read/read-stream.ts";
import { printable } from "../../inspect/show/report-text.ts";
import { CliError, UsageError } from "../output/cli-error.ts";
import { type Options, text, type ValuesOf } from "../options/command-line.ts";
import { writeJson, writeLines } from "../output/standard-output.ts";
import { withStreamFile } from "./stream-file.ts";

const DIFFER = 1;
const TROUBLE = 2;

const RAM = ["none", "summary", "pages"] as const;
type Ram = (typeof RAM)[number];

function ramOption(value: string): Ram {
  const found = RAM.find((word) => word === value);
  if (found === undefined) throw new Error(`expected ${RAM.join(", ")}`);
  return found;
}

export const diffOptions = {
  ram: {
    value: "HOW",
    parse: ramOption,
    help: "pages (ranges of pages that differ; the default), summary (how many in each block), none",
  },
  ignore: {
    value: "PATH",
    parse: text,
    many: true,
    help: "leave out this section, field or block (ram/NAME) and all below; * stands for any characters",
  },
  json: { help: "print the result as JSON" },
} satisfies Options;

/** Returns the exit code: 0 same, 1 different, 2 trouble. */
export async function diff(values: ValuesOf<typeof diffOptions>, a: string, b: string): Promise<number> {
  if (a === "-" && b === "-") throw new UsageError("only one stream can come from standard input");
  const ram = values.ram ?? "pages";
  const read = (path: string) =>
    withStreamFile(path, TROUBLE, async (source) => {
      const opened = ram === "none" ? { report: await readStream(source) } : await readWithRam(source);
      const { problem, streamVersion } = opened.report;
      if (problem !== undefined && streamVersion === 0) throw notAStream(path, problem);
      return opened;
    });
  const [first, second] = [await read(a), await read(b)];
  const found = diffStreams(first, second, { ignore: values.ignore });
  if (values.json) {
    const problems = [first.report.problem ?? null, second.report.problem ?? null];
    await writeJson({ ...found, problems });
  } else await writeLines(textOf(found, ram));
  let trouble = false;
  for (const [path, problem] of [
    [a, first.report.problem],
    [b, second.report.problem],
  ] as const) {
    if (problem !== undefined) trouble = true;
    if (problem !== undefined) warn(path, problem);
  }
  if (trouble) return TROUBLE;
  return found.state.length + found.ram.length > 0 ? DIFFER : 0;
}

/** There is nothing to compare: the whole other stream would be reported as differences. */
const notAStream = (path: string, problem: Problem) =>
  new CliError(`${path}: ${printable(problemText(problem))}`, { exitCode: TROUBLE });

function warn(path: string, problem: Problem): void {
  process.stderr.write(
    `wherry: ${path}: compared only up to where it can be read: ${printable(problemText(problem))}\n`,
  );
}

function* textOf({ state, ram }: StreamDifferences, how: Ram): Generator<string> {
  for (const difference of state) yield printable(lineOf(difference));
  for (const block of ram) yield* ramLines(block, how).map(printable);
}

function lineOf({ path, kind, first, second, meaning }: Difference): string {
  const note = meaning === undefined ? "" : `  (${meaning})`;
  if (kind === "only in first") return `${path}: only in the first: ${first}`;
  if (kind === "only in second") return `${path}: only in the second: ${second}`;
  const layout = kind === "layout" ? "other layout: " : "";
  return `${path}: ${layout}${first ?? "nothing"} → ${second ?? "nothing"}${note}`;
}

function ramLines({ block, ranges, reason }: RamDifference, how: Ram): string[] {
  if (reason !== undefined) return [`ram/${block}: not compared: ${reason}`];
  const pages = ranges.reduce((sum, range) => sum + range.pages, 0);
  const summary = `ram/${block}: ${pages} page${pages === 1 ? " differs" : "s differ"} in ${ranges.length} range${ranges.length === 1 ? "" : "s"}`;
  if (how === "summary") return [summary];
  const hex = (value: number) => `0x${value.toString(16)}`;
  return [
    summary,
    ...ranges.map(({ start, end, pages: count, kind }) => `  ${hex(start)}..${hex(end)}: ${count} ${kind}`),
  ];
}
