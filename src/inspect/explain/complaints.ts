// Explains error output of QEMU and of the programs that start it: finds the messages, tells one failure from
// the next, and of each failure explains the message that says the most. The messages are those of QEMU 7.2
// to 11.1 and of some wrappers; check-stream.ts is more precise for one stream and one target.
import type { Problem } from "../model/stream-report.ts";
import { BLOCKED } from "./complaints-blocked.ts";
import { CHANNELS } from "./complaints-channels.ts";
import { CPUS } from "../messages/complaints-cpus.ts";
import { DEVICES } from "../messages/complaints-devices.ts";
import { DISKS } from "./complaints-disks.ts";
import { FRAME } from "../messages/complaints-frame.ts";
import { MANAGERS } from "./complaints-managers.ts";
import { RAM } from "../messages/complaints-ram.ts";
import {
  type Complaint,
  compileFormat,
  fill,
  type Pattern,
  RANKS,
  type Words,
  WORD,
  wordsOf,
} from "../messages/complaint-formats.ts";
import { type LogLine, logLines } from "./complaint-log.ts";

/** A failure explained. */
export interface Explained extends Problem {
  /** When it was printed, as the log has it; once for each time that the same failure was. */
  readonly times?: readonly string[];
}

const COMPLAINTS: Readonly<Record<string, Complaint>> = {
  ...FRAME,
  ...RAM,
  ...DEVICES,
  ...CPUS,
  ...BLOCKED,
  ...CHANNELS,
  ...DISKS,
  ...MANAGERS,
};

/**
 * All formats that are known, with their answers' codes.
 * @fortools
 */
export const complaintFormats = (): readonly (readonly [code: string, format: string])[] =>
  Object.entries(COMPLAINTS).flatMap(([code, { says }]) =>
    [says].flat().map((format) => [code, format] as const),
  );

/**
 * Explains error output: one answer for each failure, in the order of the text. Empty if no message in it is
 * known.
 */
export function explainComplaint(text: string): Explained[] {
  const lines = logLines(text.slice(-MAX_TEXT));
  const answers = explainLines(lines, SPACES);
  if (answers.some(({ rank }) => rank < OUTER) || text.length > MAX_WRAPPED) return answers.map(shown);
  // A terminal may have cut words in two.
  const joined = explainLines([{ text: lines.map((line) => line.text).join("") }], "\\s*");
  const better = Math.min(...joined.map(({ rank }) => rank)) < Math.min(...answers.map(({ rank }) => rank));
  return (better ? joined : answers).map(shown);
}
const SPACES = "\\s+";
/** Of a longer log the end is read. */
const MAX_TEXT = 16 * 1024 * 1024;
const MAX_WRAPPED = 20_000;

interface Answer {
  readonly problem: Problem;
  readonly rank: number;
  readonly stamps: readonly Pick<LogLine, "at" | "time">[];
}
const OUTER = RANKS.indexOf("outer");
const WARNING = RANKS.indexOf("warning");

const shown = ({ problem, stamps }: Answer): Explained => {
  const times = [...new Set(stamps.flatMap(({ time }) => time ?? []))];
  return times.length === 0 ? problem : { ...problem, times };
};

/** A message that was found. */
interface Match {
  readonly code: string;
  readonly complaint: Complaint;
  readonly words: Words;
  readonly rank: number;
  readonly line: number;
}

function explainLines(lines: readonly LogLine[], gap: string): Answer[] {
  const answers: Answer[] = [];
  for (const failure of failures(findMessages(lines, gap), lines)) {
    for (const answer of explainFailure(failure, lines)) {
      const before = answers.findLast((known) => near(known, answer) && !adds(known, answer));
      if (before === undefined) answers.push(answer);
      else if (before.problem.code === answer.problem.code) {
        answers[answers.indexOf(before)] = { ...before, stamps: [...before.stamps, ...answer.stamps] };
      }
    }
  }
  return answers;
}

/** True if the answer says something that the earlier one does not. */
function adds(known: Answer, { problem, rank }: Answer): boolean {
  const same = (["code", "where", "expected", "found"] as const).every(
    (key) => known.problem[key] === problem[key],
  );
  const general = rank > OUTER || (rank === OUTER && [GENERAL, known.problem.where].includes(problem.where));
  return !same && !general;
}

/** True if both may be of one failure, or of one that is repeated. */
function near(known: Answer, answer: Answer): boolean {
  if (known.problem.code === answer.problem.code) return true;
  const [from, to] = [known.stamps.at(-1)?.at, answer.stamps[0]?.at];
  return from === undefined || to === undefined || Math.abs(to - from) < AFTERWARDS_MS;
}
/** How long after QEMU its wrapper may say that it failed. */
const AFTERWARDS_MS = 60_000;
const GENERAL = "stream";

// --- Messages

const COMPILED = new Map<string, readonly (readonly [code: string, complaint: Complaint, Pattern])[]>();

function compiled(gap: string) {
  const known = COMPILED.get(gap);
  if (known !== undefined) return known;
  const all = Object.entries(COMPLAINTS).flatMap(([code, complaint]) =>
    [complaint.says].flat().map((format) => [code, complaint, compileFormat(format, gap)] as const),
  );
  COMPILED.set(gap, all);
  return all;
}

/** More of one message say nothing new. */
const MAX_MATCHES = 5000;

/** All messages in the lines, by place. Of two that overlap, the one with the lower rank or the longer. */
function findMessages(lines: readonly LogLine[], gap: string): Match[] {
  const text = lines.map((line) => line.text).join("\n");
  const lower = text.toLowerCase();
  const words = new Set(lower.match(WORD));
  const starts: number[] = [];
  for (let at = 0, i = 0; i < lines.length; i++) {
    starts.push(at);
    at += (lines[i]?.text.length ?? 0) + 1;
  }
  const found: (Match & { readonly at: number; readonly end: number })[] = [];
  for (const [code, complaint, { expression, words: wanted, part }] of compiled(gap)) {
    // Where lines were joined, words may have been as well.
    if (gap === SPACES && !wanted.every((word) => words.has(word))) continue;
    if (!lower.includes(part)) continue;
    let count = 0;
    for (const match of text.matchAll(expression)) {
      if (++count > MAX_MATCHES) break;
      const line = lineAt(starts, match.index);
      const own = RANKS.indexOf(complaint.rank ?? "cause");
      const warns = /\bwarning:/i.test(
        text.slice(Math.max(starts[line] ?? 0, match.index - 200), match.index + 20),
      );
      const rank = warns ? Math.max(own, WARNING) : own;
      const end = match.index + match[0].length;
      found.push({ code, complaint, words: wordsOf(match), rank, line, at: match.index, end });
    }
  }
  found.sort((a, b) => a.at - b.at || a.rank - b.rank || b.end - a.end);
  const kept: typeof found = [];
  for (const match of found) {
    const last = kept.at(-1);
    if (last === undefined || match.at >= last.end) kept.push(match);
    else if (match.at === last.at && match.code === last.code) continue;
    else if (match.end > last.end || match.rank < last.rank) kept.push(match);
  }
  return kept;
}

function lineAt(starts: readonly number[], at: number): number {
  let low = 0;
  for (let high = starts.length; high - low > 1; ) {
    const middle = (low + high) >> 1;
    if ((starts[middle] ?? 0) <= at) low = middle;
    else high = middle;
  }
  return low;
}

// --- Failures

/** A failure's messages follow one another at once. */
const PAUSE_MS = 10_000;
/** After these QEMU ends, or has begun anew. */
const ENDS =
  /load of migration failed|Error -\d+ while loading VM state|shutting down, reason=|starting up libvirt|Starting external device/i;

/** Parts the messages into failures. */
function failures(matches: readonly Match[], lines: readonly LogLine[]): Match[][] {
  const parts: Match[][] = [];
  let last: Match | undefined;
  for (const match of matches) {
    const part = parts.at(-1);
    if (last === undefined || part === undefined || begins(last, match, lines)) parts.push([match]);
    else part.push(match);
    last = match;
  }
  return parts;
}

function begins(last: Match, match: Match, lines: readonly LogLine[]): boolean {
  if (last.line === match.line) return false;
  const [from, to] = [lines[last.line]?.at, lines[match.line]?.at];
  if (from !== undefined && to !== undefined && Math.abs(to - from) > PAUSE_MS) return true;
  if (lines.slice(last.line, match.line).some(({ text }) => ENDS.test(text))) return true;
  // The device is named after the reason: a reason after it is of another failure.
  const device = last.rank === OUTER || last.rank === RANKS.indexOf("code");
  return device && match.rank < RANKS.indexOf("symptom") && !ENDS.test(lines[match.line]?.text ?? "");
}

function explainFailure(matches: readonly Match[], lines: readonly LogLine[]): Answer[] {
  const outer = matches.find(({ words }) => words["device"] !== undefined)?.words;
  // Without it, at least what kind of device it is.
  const device =
    outer?.["device"] ?? matches.findLast(({ words }) => words["vmsd"] !== undefined)?.words["vmsd"];
  const section =
    outer === undefined ? device && `device ${device}` : `section ${device}${instance(outer["instance"])}`;
  const rank = Math.min(...matches.map((match) => match.rank));
  const best = matches.filter((match) => match.rank === rank);
  const code = best[0]?.code;
  const chosen = [
    ...matches.filter((match) => match.code === code),
    ...best.filter((match) => match.code !== code && match.complaint.each === true),
  ];
  return [...new Set(chosen.map((match) => match.code))].map((key) => {
    const all = chosen.filter((match) => match.code === key);
    // A message that names nothing says no more than one that does.
    const telling = all.filter(({ words }) => Object.keys(words).length > 0);
    const same = telling.length > 0 ? telling : all;
    const { line } = same[0]!;
    const { at, time } = lines[line] ?? {};
    return {
      problem: { code: key, ...together(same.map((match) => explain(match, device, section))) },
      rank,
      stamps: time === undefined ? [] : [{ ...(at === undefined ? {} : { at }), time }],
    };
  });
}

const instance = (number: string | undefined) => {
  const value = Number.parseInt(number ?? "0", 16);
  return value === 0 ? "" : `/${value}`;
};

type Told = Omit<Problem, "code">;

function explain({ complaint, words }: Match, device: string | undefined, section: string | undefined): Told {
  const { where = section ?? GENERAL, expected, found, cause, cure } = complaint;
  const told = { where, expected, found, cause, cure };
  const filled = Object.fromEntries(Object.entries(told).map(([key, value]) => [key, fill(value, words)]));
  const more = complaint.explain?.(words, device) ?? {};
  return { ...(filled as typeof told), ...more };
}

const MOST = 8;

/** One answer of several with one code: each of their parts once. */
function together(problems: readonly Told[]): Told {
  const all = (part: "where" | "expected" | "found" | "cause" | "cure", between: string) => {
    const parts = [...new Set(problems.map((problem) => problem[part] ?? ""))];
    const more = parts.length > MOST ? `${between}and ${parts.length - MOST} more` : "";
    return parts.slice(0, MOST).join(between) + more;
  };
  return {
    where: all("where", ", "),
    expected: all("expected", ", "),
    found: all("found", ", "),
    cause: all("cause", "; "),
    cure: all("cure", "; "),
  };
}
