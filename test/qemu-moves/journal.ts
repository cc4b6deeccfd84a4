// Judges the output of a travelling guest on each side: every line once and complete, its own proofs, time
// that neither jumps nor freezes, timers that continue, a silent kernel. Pure: no clock, no process.

/** Bytes of a console, as received. */
export interface Chunk {
  /** Host time, ms. */
  readonly at: number;
  readonly text: string;
}

/** Output of the guest on one side. */
export interface Leg {
  readonly name: string;
  readonly chunks: readonly Chunk[];
  /** Output on its virtio console. */
  readonly words: string;
  /**
   * Host times in ms: when the guest started to run there (undefined: it booted there), and when it was
   * stopped to leave.
   */
  readonly resumedAt: number | undefined;
  readonly stoppedAt: number | undefined;
}

/** A line `T …` of traveller.c. */
export interface Report {
  readonly leg: number;
  /** Host time of its last byte, in ms. */
  readonly at: number;
  /** Guest times in ms. */
  readonly mono: number;
  readonly real: number;
  readonly rtc: number;
  readonly ticks: readonly number[];
  readonly chains: number;
  readonly pages: number;
  readonly blocks: number;
  readonly tokens: number;
  readonly draws: number;
  readonly back: number;
  readonly words: number;
  /** Number of lost floating-point exception flags. */
  readonly lost: number;
  readonly busy: boolean;
}

export interface Journal {
  readonly reports: readonly Report[];
  /** Lines of the kernel's log. */
  readonly kernel: readonly string[];
  /** The guest's verdict. */
  readonly passed: boolean;
  /** Faults of the lines themselves, or reported by the guest. */
  readonly complaints: readonly string[];
}

/** Limits for clocks: how much a noisy host may delay a line, and slow down the guest. */
const JUMP_MS = 500;
const RTC_MS = 3000;
const SLOWEST = 0.5;
const FASTEST = 2;
/** Timer interrupts that each hart must receive on each side. */
export const LEAST_TICKS = 10;

/** Kernel messages of a slow host, with or without moves. */
const SLOW_HOST = /hrtimer: interrupt took|workqueue: \S+ hogged CPU/;
/** A guest that Wherry started is told when it is restored from a stream that others may load too. */
const RESEEDED = /random: crng reseeded due to virtual machine fork/;

/** FNV-1a of the bytes, as in traveller.c. */
export function checksum(text: string): string {
  let sum = 2166136261;
  for (let i = 0; i < text.length; i++) sum = Math.imul(sum ^ text.charCodeAt(i), 16777619);
  return (sum >>> 0).toString(16).padStart(8, "0");
}

interface Line {
  readonly leg: number;
  readonly at: number;
  readonly text: string;
}

/** Complete lines from the guest program's first one on. A line may start on one side and end on the next. */
function linesOf(legs: readonly Leg[]): Line[] {
  const lines: Line[] = [];
  let kept = "";
  for (const [leg, { chunks }] of legs.entries()) {
    for (const { at, text } of chunks) {
      const parts = (kept + text).split("\n");
      kept = parts.pop() as string;
      for (const part of parts) lines.push({ leg, at, text: part });
    }
  }
  const first = lines.findIndex(({ text }) => text.startsWith("@1 START"));
  return first < 0 ? [] : lines.slice(first);
}

function reportOf({ leg, at }: Line, text: string): Report {
  const fields = new Map(text.split(" ").map((word) => word.split("=") as [string, string]));
  const value = (name: string): number => Number(fields.get(name));
  return {
    leg,
    at,
    mono: value("mono") / 1000,
    real: value("real") / 1000,
    rtc: value("rtc") * 1000,
    ticks: (fields.get("ticks") ?? "").split(",").map(Number),
    chains: value("chains"),
    pages: value("pages"),
    blocks: value("blocks"),
    tokens: value("tokens"),
    draws: value("draws"),
    back: value("back"),
    words: value("words"),
    lost: value("lost"),
    busy: value("busy") === 1,
  };
}

/** Output on the virtio console: numbers from 0, one per line; the last line may be incomplete. */
function wordComplaints(legs: readonly Leg[]): string[] {
  const words = legs
    .map((leg) => leg.words)
    .join("")
    .split("\n")
    .slice(0, -1);
  const wrong = words.findIndex((word, i) => word !== String(i));
  return wrong < 0 ? [] : [`virtio console: expected ${wrong}, found ${JSON.stringify(words[wrong])}`];
}

/** Parses the lines. Stops at the first invalid one. */
export function readJournal(legs: readonly Leg[]): Journal {
  const reports: Report[] = [];
  const kernel: string[] = [];
  const complaints: string[] = [];
  let passed = false;
  let expected = 1;
  for (const line of linesOf(legs)) {
    const [, number, text = "", sum] = /^@(\d+) (.*) ~([0-9a-f]{8})$/s.exec(line.text) ?? [];
    if (number === undefined || checksum(`@${number} ${text}`) !== sum || Number(number) !== expected) {
      const where = legs[line.leg]?.name;
      complaints.push(`console of ${where}: expected line ${expected}, found ${JSON.stringify(line.text)}`);
      break;
    }
    expected++;
    if (text.startsWith("T ")) reports.push(reportOf(line, text));
    else if (text.startsWith("KMSG ")) kernel.push(text.slice(5));
    else if (text.startsWith("FAIL")) complaints.push(`the guest: ${text}`);
    else if (text.startsWith("PASS")) passed = true;
  }
  complaints.push(...wordComplaints(legs));
  return { reports, kernel, passed, complaints };
}

/** Name and value of a counter. */
type Counter = readonly [string, (report: Report) => number];

const ALWAYS: readonly Counter[] = [
  ["entropy", (report) => report.draws],
  ["frames that came back", (report) => report.back],
  ["words that came back", (report) => report.words],
];
const WHILE_BUSY: readonly Counter[] = [
  ["float chains", (report) => report.chains],
  ["pages", (report) => report.pages],
  ["disk blocks", (report) => report.blocks],
  ["tokens", (report) => report.tokens],
];

/** QEMU's streams lack exception flags: in each move, each hart may lose those of one moment. */
function flagComplaints(reports: readonly Report[]): string[] {
  const most = reports.find(({ lost, leg, ticks }) => lost > leg * ticks.length);
  return most === undefined ? [] : [`${most.lost} times an exception flag was lost`];
}

/** True if the guest stayed on a side long enough to be judged. */
export function stayedEnough(journal: Journal, leg: number, leastMs: number): boolean {
  const here = journal.reports.filter((report) => report.leg === leg);
  const [first, last] = [here[0], here.at(-1)];
  if (first === undefined || last === undefined || last.mono - first.mono < leastMs) return false;
  const counters = [...ALWAYS, ...(last.busy && first.busy ? WHILE_BUSY : [])];
  return (
    last.ticks.every((ticks, hart) => ticks - (first.ticks[hart] ?? 0) >= LEAST_TICKS) &&
    counters.every(([, value]) => value(last) > value(first))
  );
}

/** Downtime before the guest reached side `leg`, in ms. */
function stoodMs(legs: readonly Leg[], leg: number): number {
  return legs.reduce((sum, { resumedAt }, i) => {
    const stopped = legs[i - 1]?.stoppedAt;
    return i > leg || resumedAt === undefined || stopped === undefined ? sum : sum + resumedAt - stopped;
  }, 0);
}

function clockComplaints(legs: readonly Leg[], reports: readonly Report[]): string[] {
  const complaints: string[] = [];
  const first = reports[0] as Report;
  for (const [i, report] of reports.entries()) {
    const before = reports[i - 1];
    if (before !== undefined && report.mono <= before.mono)
      complaints.push(`monotonic time ${report.mono} ms after ${before.mono} ms`);
    const drift = report.real - report.mono - (first.real - first.mono);
    if (Math.abs(drift) > JUMP_MS) complaints.push(`real time is ${drift} ms off monotonic time`);
    const rtc = report.rtc - report.real - (first.rtc - first.real);
    // The real-time clock may stop with the guest, as QEMU's does, or follow the host.
    if (rtc < -RTC_MS || rtc > RTC_MS + stoodMs(legs, report.leg))
      complaints.push(`the real-time clock is ${rtc} ms off the guest's time`);
    if (complaints.length > 0) break;
  }
  return complaints;
}

/** Host time minus guest time in ms, from the line with the least delay: lines arrive late, never early. */
function offsetMs(reports: readonly Report[]): number {
  return Math.min(...reports.map(({ at, mono }) => at - mono));
}

/** Guest time per host time, between the lines with the least delay of the first and of the last third. */
function speedOf(reports: readonly Report[]): number {
  const third = Math.ceil(reports.length / 3);
  const quickest = (some: readonly Report[]): Report =>
    some.find(({ at, mono }) => at - mono === offsetMs(some)) as Report;
  const [first, last] = [quickest(reports.slice(0, third)), quickest(reports.slice(-third))];
  return (last.mono - first.mono) / (last.at - first.at);
}

/**
 * Advance of the guest's clock beyond its running time, over the move to side `leg`, in ms; undefined if
 * unknown.
 */
export function jumpMs(legs: readonly Leg[], reports: readonly Report[], leg: number): number | undefined {
  const stopped = legs[leg - 1]?.stoppedAt;
  const resumed = legs[leg]?.resumedAt;
  const on = (wanted: number): Report[] => reports.filter((report) => report.leg === wanted);
  const jump = offsetMs(on(leg - 1)) - offsetMs(on(leg));
  if (!Number.isFinite(jump) || stopped === undefined || resumed === undefined) return undefined;
  return jump + resumed - stopped;
}

function legComplaints(legs: readonly Leg[], reports: readonly Report[], leg: number): string[] {
  const name = legs[leg]?.name;
  const here = reports.filter((report) => report.leg === leg);
  const [first, last] = [here[0], here.at(-1)];
  if (first === undefined || last === undefined || first === last) return [`${name}: the guest is silent`];
  const complaints: string[] = [];
  const jump = jumpMs(legs, reports, leg);
  if (jump === undefined && leg > 0)
    complaints.push(`${name}: it is not known when the guest stopped or resumed`);
  if (jump !== undefined && Math.abs(jump) > JUMP_MS)
    complaints.push(`${name}: the guest's clock is ${Math.round(jump)} ms off after the move`);
  const speed = speedOf(here);
  if (speed < SLOWEST || speed > FASTEST)
    complaints.push(`${name}: guest time passes ${speed.toFixed(2)} times as fast as the host's`);
  for (const [hart, ticks] of last.ticks.entries()) {
    const made = ticks - (first.ticks[hart] as number);
    if (made < LEAST_TICKS) {
      const ms = Math.round(last.mono - first.mono);
      complaints.push(`${name}: hart ${hart} made ${made} ticks in ${ms} ms of guest time`);
    }
  }
  for (const [what, value] of [...ALWAYS, ...(first.busy ? WHILE_BUSY : [])])
    if (value(last) <= value(first)) complaints.push(`${name}: ${what} stand at ${value(last)}`);
  return complaints;
}

export interface Verdict {
  readonly complaints: readonly string[];
  /** Lines of the kernel's log that a slow host explains. */
  readonly forgiven: number;
}

/** All complaints about a completed journey, in which the guest had to reseed its random numbers so often. */
export function judge(legs: readonly Leg[], journal: Journal, reseeds = 0): Verdict {
  const { reports, passed } = journal;
  const complaints = [...journal.complaints];
  const kernel = journal.kernel.filter((line) => !RESEEDED.test(line));
  for (const line of kernel) if (!SLOW_HOST.test(line)) complaints.push(`kernel log: ${line}`);
  const reseeded = journal.kernel.length - kernel.length;
  if (reseeded !== reseeds)
    complaints.push(`the guest reseeded its random numbers ${reseeded} times, expected ${reseeds}`);
  if (reports.length === 0) complaints.push("the guest has reported nothing");
  else complaints.push(...clockComplaints(legs, reports), ...flagComplaints(reports));
  // While the guest boots, the host is busy, and no move has happened yet.
  for (let leg = 1; leg < legs.length; leg++) complaints.push(...legComplaints(legs, reports, leg));
  if (!passed) complaints.push("the guest has not said that all held");
  return { complaints, forgiven: kernel.filter((line) => SLOW_HOST.test(line)).length };
}
