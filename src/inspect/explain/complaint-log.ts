// The lines of a log with their times, whatever wrote them: QEMU's own output, libvirt's logs, the journal,
// syslog, containers' and KubeVirt's JSON, QMP, and what was copied out of a terminal or a mail.

/** A line of a log. `at` is its time in ms since some epoch, `time` the time as it is written. */
export interface LogLine {
  readonly text: string;
  readonly at?: number;
  readonly time?: string;
}

const MAX_LINE = 65_536;
/** Nesting of JSON in JSON. */
const MAX_DEPTH = 4;

/** Splits a log. Quotes of all kinds become apostrophes. */
export function logLines(text: string): LogLine[] {
  const lines: LogLine[] = [];
  add(text, undefined, MAX_DEPTH);
  return lines;

  function add(part: string, stamp: Stamp | undefined, depth: number): void {
    for (const whole of part.split(/\r?\n|\r/)) {
      const line = whole.slice(0, MAX_LINE);
      const json = depth > 0 ? jsonIn(line) : undefined;
      const own = stampOf(json?.before ?? line) ?? json?.stamp ?? stamp;
      if (json !== undefined) for (const value of json.values) add(value, own, depth - 1);
      // A log of strings has its line ends as escapes.
      else for (const piece of line.split(/(?:\\r)?\\n/)) lines.push({ text: plain(piece), ...own });
    }
  }
}

/** Without colours and marks of quotation, and with one kind of quotes. */
function plain(line: string): string {
  return line
    .replace(/\p{Cc}\[[0-9;?]*[A-Za-z]/gu, "")
    .replace(/^(?:\s*[>|])+ ?/, "")
    .replace(/&(?:quot|apos|#39|#x27|#34);/g, "'")
    .replace(/&lt;/g, "<")
    .replace(/&gt;/g, ">")
    .replace(/\\+["']/g, "'")
    .replace(/["`´‘’‚‛“”„‟«»‹›]/g, "'")
    .replace(/[\u00a0\t]/g, " ");
}

// --- Times

type Stamp = Pick<LogLine, "at" | "time">;

const ISO = /\b(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?/;
const SYSLOG = /^\s*\[?((?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d{1,2}) (\d\d:\d\d:\d\d)\b/;
const CLOCK = /^\s*\[?(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\b/;

/** The time at the start of a line. */
function stampOf(line: string): Stamp | undefined {
  const head = line.slice(0, 200);
  const iso = ISO.exec(head);
  if (iso !== null) {
    const [time, date = "", clock = "", fraction = "0", zone = "Z"] = iso;
    const at = Date.parse(`${date}T${clock}.${fraction.padEnd(3, "0").slice(0, 3)}${colon(zone)}`);
    return Number.isNaN(at) ? undefined : { at, time: time.trim() };
  }
  const syslog = SYSLOG.exec(head);
  // A leap year, as the line does not say which.
  if (syslog !== null) return stampAt(`${syslog[1]} 2000 ${syslog[2]} UTC`, `${syslog[1]} ${syslog[2]}`);
  const clock = CLOCK.exec(head);
  return clock === null ? undefined : stampAt(`1 Jan 1970 ${clock[1]} UTC`, clock[1] ?? "");
}
const colon = (zone: string) => zone.replace(/^([+-]\d\d):?(\d\d)$/, "$1:$2");
function stampAt(date: string, time: string): Stamp | undefined {
  const at = Date.parse(date);
  return Number.isNaN(at) ? undefined : { at, time };
}

// --- JSON

interface JsonLine {
  readonly before: string;
  readonly values: readonly string[];
  readonly stamp: Stamp | undefined;
}

const STAMP_KEYS = new Set(["timestamp", "time", "ts", "@timestamp", "date", "__REALTIME_TIMESTAMP"]);
const TEXT_KEY =
  /"(?:msg|message|MESSAGE|log|desc|error-desc|reason|error|err|failureReason)"\s*:\s*"((?:[^"\\]|\\.)*)/g;

/**
 * The texts of an object that ends a line; of one that is cut off as well, if it has the usual names. An
 * option in JSON, which stands within a message, is no such object.
 */
function jsonIn(line: string): JsonLine | undefined {
  const start = line.search(/\{\s*"/);
  if (start < 0) return undefined;
  const [before, text] = [line.slice(0, start), line.slice(start).trimEnd()];
  try {
    const values: string[] = [];
    const times: string[] = [];
    collect(JSON.parse(text), "", values, times);
    const stamp = times.map(stampOfValue).find((found) => found !== undefined);
    return { before, values: [before, ...values], stamp };
  } catch {
    const values = [...text.matchAll(TEXT_KEY)].map(([, value = ""]) => unescape(value));
    if (values.length === 0) return undefined;
    const time = /"(?:timestamp|time|ts|@timestamp)"\s*:\s*"?([^",}]+)/.exec(text)?.[1];
    return {
      before,
      values: [before, ...values],
      stamp: time === undefined ? undefined : stampOfValue(time),
    };
  }
}

function collect(value: unknown, key: string, texts: string[], times: string[]): void {
  if (value !== null && typeof value === "object") {
    if ("seconds" in value) times.push(String(value.seconds));
    for (const [name, member] of Object.entries(value)) collect(member, name, texts, times);
  } else if (STAMP_KEYS.has(key)) times.push(String(value));
  else if (typeof value === "string") texts.push(value);
}

/** A time in words, or in s, ms, µs or ns since 1970. */
function stampOfValue(value: string): Stamp | undefined {
  if (!/^\d{9,19}(?:\.\d+)?$/.test(value)) return stampOf(value);
  const digits = value.split(".")[0]?.length ?? 0;
  const at = Number(value) * 1000 ** (1 - Math.max(0, Math.floor((digits - 9) / 3)));
  return Number.isFinite(at) && at < 8e15 ? { at, time: new Date(at).toISOString() } : undefined;
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "", t: " ", b: "", f: "" };
const unescape = (text: string) =>
  text.replace(/\\(u[0-9a-f]{4}|.)/gi, (_, code: string) =>
    code.length === 5 ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : (ESCAPES[code] ?? code),
  );
