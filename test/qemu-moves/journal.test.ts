// Tests of the judge: a good journey passes, and each planted damage is named.
import { describe, expect, test } from "vitest";
import { type Chunk, checksum, judge, type Leg, readJournal } from "./journal.ts";

const LINE_MS = 100;
const HOST_EPOCH = 1_700_000_000_000;
const MOVED_AT = 30;
const LINES = 70;
const DOWN_MS = 400;

interface Plant {
  /** Guest time gained in the move, ms. */
  readonly jump?: number;
  /** Speed of guest time after the move. */
  readonly speed?: number;
  /** A hart without ticks after the move. */
  readonly deadHart?: number;
  readonly deadDisk?: boolean;
  readonly extra?: Readonly<Record<number, string>>;
  readonly verdict?: string;
  readonly words?: string;
  /** Two may be, of two harts. */
  readonly lost?: number;
}

function numbered(number: number, text: string): string {
  const line = `@${number} ${text}`;
  return `${line} ~${checksum(line)}\n`;
}

/** Two sides with the output of a guest that moved once, 20 ms after its 30th report. */
function journey(plant: Plant = {}): Leg[] {
  const legs: Chunk[][] = [[{ at: HOST_EPOCH, text: "OpenSBI\r\nsays hello\r\n" }], []];
  let number = 1;
  const say = (leg: number, at: number, text: string): void => {
    legs[leg]?.push({ at, text: numbered(number++, text) });
  };
  say(0, HOST_EPOCH, "START harts=2 disk=1 wire=1 entropy=1 rtc=1");
  for (let i = 0; i < LINES; i++) {
    const after = Math.max(0, i - MOVED_AT);
    const moved = after > 0;
    const mono =
      5000 + i * LINE_MS + (moved ? (plant.jump ?? 0) + after * LINE_MS * ((plant.speed ?? 1) - 1) : 0);
    const at = HOST_EPOCH + i * LINE_MS + (moved ? DOWN_MS : 0);
    const ticks = [i * 5, moved && plant.deadHart === 1 ? MOVED_AT * 5 : i * 5];
    const extra = plant.extra?.[i];
    if (extra !== undefined) say(moved ? 1 : 0, at, extra);
    const micros = Math.round(mono * 1000);
    say(
      moved ? 1 : 0,
      at,
      `T mono=${micros} real=${HOST_EPOCH * 1000 + micros} rtc=${Math.floor((HOST_EPOCH + mono) / 1000)} ticks=${ticks} ` +
        `chains=${i} pages=${i} blocks=${moved && plant.deadDisk ? MOVED_AT : i} tokens=${i} draws=${i} sent=${i} back=${i} words=${i} lost=${moved ? (plant.lost ?? 2) : 0} busy=1`,
    );
  }
  const leftAt = HOST_EPOCH + MOVED_AT * LINE_MS + 20;
  say(1, HOST_EPOCH + LINES * LINE_MS + DOWN_MS, plant.verdict ?? "PASS failures=0");
  return [
    { name: "a", chunks: legs[0] ?? [], words: "0\n1\n2\n3", resumedAt: undefined, stoppedAt: leftAt },
    {
      name: "b",
      chunks: legs[1] ?? [],
      words: plant.words ?? "\n4\n5\n",
      resumedAt: leftAt + DOWN_MS,
      stoppedAt: undefined,
    },
  ];
}

function complaints(legs: readonly Leg[]): string[] {
  return [...judge(legs, readJournal(legs)).complaints];
}

/** The journey with the text of one side changed. */
function damaged(leg: number, change: (text: string) => string): Leg[] {
  return journey().map((each, i) =>
    i === leg ? { ...each, chunks: each.chunks.map(({ at, text }) => ({ at, text: change(text) })) } : each,
  );
}

describe("a journey", () => {
  test("without faults passes", () => {
    expect(complaints(journey())).toEqual([]);
  });

  test("a line may start on one side and end on the next", () => {
    const [a, b] = journey() as [Leg, Leg];
    const last = a.chunks.at(-1) as Chunk;
    const first = b.chunks[0] as Chunk;
    const legs = [
      { ...a, chunks: [...a.chunks.slice(0, -1), { ...last, text: last.text.slice(0, 9) }] },
      { ...b, chunks: [{ ...first, text: last.text.slice(9) + first.text }, ...b.chunks.slice(1)] },
    ];
    expect(complaints(legs)).toEqual([]);
  });

  test.each<[string, Plant, RegExp]>([
    ["a clock that jumps", { jump: 5000 }, /^b: the guest's clock is 5000 ms off after the move$/],
    ["a clock that lost the stop's time", { jump: -2000 }, /^monotonic time|clock is -2000 ms off/],
    ["a clock that freezes", { speed: 0.02 }, /^b: guest time passes 0.02 times as fast/],
    ["a clock that runs away", { speed: 3 }, /^b: guest time passes 3.00 times as fast/],
    ["a hart without timer interrupts", { deadHart: 1 }, /^b: hart 1 made 0 ticks in 3800 ms/],
    ["a dead disk", { deadDisk: true }, /^b: disk blocks stand at 30$/],
    [
      "a kernel that complains",
      { extra: { 40: "KMSG rcu: INFO: rcu_sched detected stalls" } },
      /^kernel log: rcu: INFO/,
    ],
    [
      "a guest that found something",
      { extra: { 40: "FAIL hart 1: floats" } },
      /^the guest: FAIL hart 1: floats$/,
    ],
    ["a word lost on the virtio console", { words: "\n5\n" }, /^virtio console: expected 4, found "5"$/],
    ["exception flags lost without end", { lost: 3 }, /^3 times an exception flag was lost$/],
    ["a guest without a verdict", { verdict: "FAILED failures=1" }, /^the guest/],
  ])("%s", (_, plant, expected) => {
    expect(complaints(journey(plant))).toContainEqual(expect.stringMatching(expected));
  });

  test("a guest that was restored reseeds its random numbers, one that moved live does not", () => {
    const legs = journey({ extra: { 40: "KMSG random: crng reseeded due to virtual machine fork" } });
    const journal = readJournal(legs);
    expect(judge(legs, journal, 1).complaints).toEqual([]);
    for (const expected of [0, 2]) {
      expect(judge(legs, journal, expected).complaints).toEqual([
        `the guest reseeded its random numbers 1 times, expected ${expected}`,
      ]);
    }
  });

  test("kernel messages that a slow host explains are counted, but are no complaints", () => {
    const legs = journey({ extra: { 40: "KMSG hrtimer: interrupt took 236749400 ns" } });
    expect(judge(legs, readJournal(legs))).toEqual({ complaints: [], forgiven: 1 });
  });

  test("bytes lost, repeated or changed on the console", () => {
    const wrong = [expect.stringMatching(/^console of b: expected line 50, found/)];
    const line = (text: string): boolean => text.startsWith("@50 ");
    for (const change of [
      (text: string) => (line(text) ? "" : text),
      (text: string) => (line(text) ? text.slice(1) : text),
      (text: string) => (line(text) ? text.replace("busy=1", "busy=0") : text),
    ])
      expect(complaints(damaged(1, change))).toEqual(expect.arrayContaining(wrong));
    expect(complaints(damaged(1, (text) => (line(text) ? text + text : text)))).toContainEqual(
      expect.stringMatching(/^console of b: expected line 51, found "@50/),
    );
  });
});
