// The litmus tests: the classical shapes, each bare and with fences, dependencies, acquire and release, AMOs
// and LR/SC. The allowed outcomes are not listed here: rvwmo.ts derives them.
import { addr, AMO, ctrl, data, F, type LitmusTest, LRSC, type Operation, R, W } from "./program.ts";

type Middle = readonly Operation[];
const NONE: Middle = [];
const FULL: Middle = [F("rw")];

/** A shape, and what is between its accesses. */
const two = (
  name: string,
  first: readonly [Operation, Middle, Operation],
  second: readonly [Operation, Middle, Operation],
  last?: LitmusTest["last"],
): LitmusTest => ({
  name,
  harts: [first, second].map(([a, middle, b]) => [a, ...middle, b]),
  ...(last === undefined ? {} : { last }),
});

const mp = (name: string, writer: Middle, reader: Middle): LitmusTest =>
  two(`MP${name}`, [W("x", 1), writer, W("y", 1)], [R("y", "a"), reader, R("x", "b")]);
const sb = (name: string, middle: Middle): LitmusTest =>
  two(`SB${name}`, [W("x", 1), middle, R("y", "a")], [W("y", 1), middle, R("x", "b")]);
const lb = (name: string, middle: Middle): LitmusTest =>
  two(`LB${name}`, [R("x", "a"), middle, W("y", 1)], [R("y", "b"), middle, W("x", 1)]);
const s = (name: string, writer: Middle, reader: Middle): LitmusTest =>
  two(`S${name}`, [W("x", 2), writer, W("y", 1)], [R("y", "a"), reader, W("x", 1)], ["x"]);
const r = (name: string, first: Middle, second: Middle): LitmusTest =>
  two(`R${name}`, [W("x", 1), first, W("y", 1)], [W("y", 2), second, R("x", "a")], ["y"]);
const twoTwo = (name: string, middle: Middle): LitmusTest =>
  two(`2+2W${name}`, [W("x", 1), middle, W("y", 2)], [W("y", 1), middle, W("x", 2)], ["x", "y"]);
const iriw = (name: string, middle: Middle, firstAfter?: boolean): LitmusTest => ({
  name: `IRIW${name}`,
  harts: [
    [W("x", 1)],
    [W("y", 1)],
    [R("x", "a"), ...middle, R("y", "b", firstAfter ? addr("a") : undefined)],
    [R("y", "c"), ...middle, R("x", "d", firstAfter ? addr("c") : undefined)],
  ],
});

export const litmusTests: readonly LitmusTest[] = [
  mp("", NONE, NONE),
  mp("+fence.rw.rw", FULL, FULL),
  mp("+fence.w.w+fence.r.r", [F("w")], [F("r")]),
  mp("+fence.tso", [F("tso")], [F("tso")]),
  mp("+fence.w.w+po", [F("w")], NONE),
  {
    name: "MP+fence.w.w+addr",
    harts: [
      [W("x", 1), F("w"), W("y", 1)],
      [R("y", "a"), R("x", "b", addr("a"))],
    ],
  },
  {
    name: "MP+fence.w.w+ctrl",
    harts: [
      [W("x", 1), F("w"), W("y", 1)],
      [R("y", "a"), R("x", "b", ctrl("a"))],
    ],
  },
  {
    name: "MP+swap.rl+or.aq",
    harts: [
      [W("x", 1), AMO("swap", "y", 1, "c", ".rl")],
      [AMO("or", "y", 0, "a", ".aq"), R("x", "b")],
    ],
  },
  {
    name: "MP+lrsc.rl+lrsc.aq",
    harts: [
      [W("x", 1), LRSC("y", 1, "c", "", ".rl")],
      [LRSC("y", 0, "a", ".aq", ""), R("x", "b")],
    ],
  },
  sb("", NONE),
  sb("+fence.rw.rw", FULL),
  sb("+fence.w.r", [F("w", "r")]),
  sb("+fence.tso", [F("tso")]),
  {
    name: "SB+swap.aqrl+or.aqrl",
    harts: [
      [AMO("swap", "x", 1, "c", ".aqrl"), AMO("or", "y", 0, "a", ".aqrl")],
      [AMO("swap", "y", 1, "d", ".aqrl"), AMO("or", "x", 0, "b", ".aqrl")],
    ],
  },
  {
    name: "SB+swap.aq",
    harts: [
      [AMO("swap", "x", 1, "c", ".aq"), R("y", "a")],
      [AMO("swap", "y", 1, "d", ".aq"), R("x", "b")],
    ],
  },
  {
    name: "SB+lrsc.aq",
    harts: [
      [LRSC("x", 1, "c", ".aq", ".aqrl"), R("y", "a")],
      [LRSC("y", 1, "d", ".aq", ".aqrl"), R("x", "b")],
    ],
  },
  lb("", NONE),
  lb("+fence.r.w", [F("r", "w")]),
  {
    name: "LB+datas",
    harts: [
      [R("x", "a"), W("y", 1, data("a"))],
      [R("y", "b"), W("x", 1, data("b"))],
    ],
  },
  {
    name: "LB+ctrls",
    harts: [
      [R("x", "a"), W("y", 1, ctrl("a"))],
      [R("y", "b"), W("x", 1, ctrl("b"))],
    ],
  },
  s("", NONE, NONE),
  s("+fence.w.w+fence.r.w", [F("w")], [F("r", "w")]),
  r("", NONE, NONE),
  r("+fence.rw.rw", FULL, FULL),
  twoTwo("", NONE),
  twoTwo("+fence.w.w", [F("w")]),
  { name: "CoRR", harts: [[W("x", 1)], [R("x", "a"), R("x", "b")]] },
  { name: "CoRR of two writers", harts: [[W("x", 1)], [W("x", 2)], [R("x", "a"), R("x", "b"), R("x", "c")]] },
  { name: "CoWR", harts: [[W("x", 1), R("x", "a")], [W("x", 2)]], last: ["x"] },
  { name: "CoRW", harts: [[R("x", "a"), W("x", 1)], [W("x", 2)]], last: ["x"] },
  {
    name: "CoRR of AMOs",
    harts: [
      [AMO("add", "x", 1, "a"), AMO("add", "x", 1, "b")],
      [R("x", "c"), R("x", "d")],
    ],
    last: ["x"],
  },
  iriw("", NONE),
  iriw("+fence.rw.rw", FULL),
  iriw("+fence.r.r", [F("r")]),
  iriw("+addrs", NONE, true),
  {
    name: "WRC+fences",
    harts: [[W("x", 1)], [R("x", "a"), F("rw"), W("y", 1)], [R("y", "b"), F("rw"), R("x", "c")]],
  },
  {
    name: "ISA2+fences",
    harts: [
      [W("x", 1), F("rw"), W("y", 1)],
      [R("y", "a"), F("rw"), W("z", 1)],
      [R("z", "b"), F("rw"), R("x", "c")],
    ],
  },
  {
    name: "two adds and an exchange",
    harts: [[AMO("add", "x", 1, "a")], [AMO("add", "x", 4, "b")], [LRSC("x", 16, "c")]],
    last: ["x"],
  },
  {
    name: "store and exchange",
    harts: [[W("x", 2)], [LRSC("x", 4, "a")]],
    last: ["x"],
  },
];
