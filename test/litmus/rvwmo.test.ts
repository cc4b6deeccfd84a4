// The model compared with the specification's appendix A and the literature for well-known tests.
import { describe, expect, it } from "vitest";
import { allowedOutcomes } from "./rvwmo.ts";
import { litmusTests } from "./tests.ts";

function allowed(name: string, outcome: string): boolean {
  const test = litmusTests.find((candidate) => candidate.name === name);
  if (test === undefined) throw new Error(`no test ${name}`);
  return allowedOutcomes(test).has(outcome);
}

describe("RVWMO", () => {
  it.each([
    ["MP", "a=1 b=0"],
    ["MP+fence.w.w+po", "a=1 b=0"],
    ["MP+fence.w.w+ctrl", "a=1 b=0"],
    ["SB", "a=0 b=0"],
    ["SB+fence.tso", "a=0 b=0"],
    ["LB", "a=1 b=1"],
    ["S", "a=1 x=2"],
    ["R", "a=0 y=2"],
    ["2+2W", "x=1 y=1"],
    ["IRIW", "a=1 b=0 c=1 d=0"],
    ["CoRR", "a=0 b=1"],
    ["CoWR", "a=2 x=2"],
    ["store and exchange", "a=2 x=6"],
    ["store and exchange", "a=0 x=2"],
  ])("%s may show %s", (name, outcome) => {
    expect(allowed(name, outcome)).toBe(true);
  });

  it.each([
    ["MP+fence.rw.rw", "a=1 b=0"],
    ["MP+fence.w.w+fence.r.r", "a=1 b=0"],
    ["MP+fence.tso", "a=1 b=0"],
    ["MP+fence.w.w+addr", "a=1 b=0"],
    ["MP+swap.rl+or.aq", "c=0 a=1 b=0"],
    ["MP+lrsc.rl+lrsc.aq", "c=0 a=1 b=0"],
    ["SB+fence.rw.rw", "a=0 b=0"],
    ["SB+fence.w.r", "a=0 b=0"],
    ["SB+swap.aqrl+or.aqrl", "c=0 a=0 d=0 b=0"],
    ["SB+swap.aq", "c=0 a=0 d=0 b=0"],
    ["LB+fence.r.w", "a=1 b=1"],
    ["LB+datas", "a=1 b=1"],
    ["LB+ctrls", "a=1 b=1"],
    ["S+fence.w.w+fence.r.w", "a=1 x=2"],
    ["R+fence.rw.rw", "a=0 y=2"],
    ["2+2W+fence.w.w", "x=1 y=1"],
    ["IRIW+fence.rw.rw", "a=1 b=0 c=1 d=0"],
    // All other harts see a store at once (other-multi-copy atomicity).
    ["IRIW+fence.r.r", "a=1 b=0 c=1 d=0"],
    ["IRIW+addrs", "a=1 b=0 c=1 d=0"],
    ["WRC+fences", "a=1 b=1 c=0"],
    ["ISA2+fences", "a=1 b=1 c=0"],
    ["CoRR", "a=1 b=0"],
    ["CoWR", "a=0 x=1"],
    ["CoRW", "a=2 x=2"],
    ["two adds and an exchange", "a=0 b=0 c=0 x=16"],
    ["store and exchange", "a=0 x=4"],
  ])("%s never shows %s", (name, outcome) => {
    const test = litmusTests.find((candidate) => candidate.name === name);
    const shown = [...allowedOutcomes(test as NonNullable<typeof test>)].map((o) => o.split(" ").length);
    expect(shown[0]).toBe(outcome.split(" ").length);
    expect(allowed(name, outcome)).toBe(false);
  });
});
