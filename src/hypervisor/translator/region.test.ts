// The regions and blocks found for a page's entries, by labels in small pieces of code.
import { expect, test } from "vitest";
import { CODE_PAGE, codePage } from "../../../test/support/code-page.ts";
import { findRegion, findRegions, type Profile, type Region } from "./region.ts";

interface Found {
  entries: string[];
  blocks: string[];
  inner: string[];
  loops: string[];
  instructions: number;
}

interface Options {
  readonly profile?: Partial<Profile>;
  readonly max?: number;
}

const EVERYTHING: Profile = {
  isReached: () => true,
  isTranslated: () => false,
  isCovered: () => false,
};

/** The regions of these entries, described by labels, in the order of the code. */
function regionsOf(text: string, entries: readonly string[], { profile, max }: Options = {}): Found[] {
  const code = codePage(text);
  const names = (blocks: Region["blocks"]): string[] =>
    blocks
      .map((block) => block.start)
      .sort((a, b) => a - b)
      .map(code.labelAt);
  const whole = profile === undefined ? undefined : { ...EVERYTHING, ...profile };
  return findRegions(code.view, CODE_PAGE, entries.map(code.at), whole, max).map((region) => {
    expect(region.page).toBe(CODE_PAGE);
    expect(region.blocks.map((block) => block.order)).toEqual(region.blocks.map((_, i) => i));
    return {
      entries: names(region.entries),
      blocks: names(region.blocks),
      inner: names(region.inner),
      loops: names(region.blocks.filter((block) => block.isLoop)),
      instructions: region.blocks.reduce((sum, block) => sum + block.instructions.length, 0),
    };
  });
}
const entriesOf = (regions: readonly Found[]): string[] =>
  regions.map(({ entries }) => entries.join(" ")).sort();
const times = (count: number, text = "addi a0, a0, 1\n"): string => text.repeat(count);

/** Larger than a function that may be called through a pointer. */
const LARGE = 40;

test("a loop's head is an entry, because slices end there", () => {
  const text = `
    start: li a1, 8
    head: addi a0, a0, 1
    bne a0, a1, head
    after: ret
  `;
  expect(regionsOf(text, ["start"])).toEqual([
    {
      entries: ["start", "head"],
      blocks: ["start", "head", "after"],
      ...{ inner: [], loops: ["head"], instructions: 4 },
    },
  ]);
});

test("functions that do not call each other are separate regions, if they are large", () => {
  const text = `f: ${times(LARGE)} ret\n g: ${times(LARGE)} ret\n h: ${times(LARGE)} ret`;
  const regions = regionsOf(text, ["f", "g", "h"]);
  expect(entriesOf(regions)).toEqual(["f", "g", "h"]);
  expect(regions.map(({ instructions }) => instructions)).toEqual([LARGE + 1, LARGE + 1, LARGE + 1]);
});

test("small functions form one region, whatever calls them", () => {
  const text = `f: ${times(30)} ret\n g: ${times(31)} ret\n h: ${times(32)} ret`;
  expect(entriesOf(regionsOf(text, ["f", "g", "h"]))).toEqual(["f g", "h"]);
});

test("a call connects caller and callee, and the instruction after it is an entry", () => {
  const text = `
    f: ${times(LARGE)} call_: jal g
    back: ${times(3)} ret
    g: ${times(LARGE)} ret
    h: ${times(LARGE)} ret
  `;
  const regions = regionsOf(text, ["f", "g", "h"]);
  expect(entriesOf(regions)).toEqual(["f back g", "h"]);
  // The result does not depend on the order.
  expect(entriesOf(regionsOf(text, ["g", "back", "h"]))).toEqual(["back", "g", "h"]);
});

test("code that a caller shares with its callee's other caller connects them", () => {
  const text = `
    f: ${times(LARGE)} j g
    g: ${times(LARGE)} ret
    h: ${times(LARGE)} beqz a0, g
    rest: ret
  `;
  expect(entriesOf(regionsOf(text, ["f", "h"]))).toEqual(["f g h"]);
});

test("code after a jump or a return is not connected with it", () => {
  const text = `
    f: ${times(LARGE)} j f
    g: ${times(LARGE)} ret
    h: ${times(LARGE)} ret
  `;
  expect(entriesOf(regionsOf(text, ["f", "g", "h"]))).toEqual(["f", "g", "h"]);
});

test("indirect jumps and calls may lead to each other and to small code, not to other large code", () => {
  const text = `
    table: ${times(LARGE)} jr a5
    calls: ${times(LARGE)} jalr a5
    back: ret
    large: ${times(LARGE)} ret
    small: ${times(4)} ret
  `;
  expect(entriesOf(regionsOf(text, ["table", "calls", "large", "small"]))).toEqual([
    "large",
    "table calls back small",
  ]);
});

test("a return is not a table jump", () => {
  const text = `f: ${times(LARGE)} ret\n g: ${times(LARGE)} jr ra`;
  expect(entriesOf(regionsOf(text, ["f", "g"]))).toEqual(["f", "g"]);
});

const STRAIGHT = `
    f: ${times(4)} middle: ${times(4)}
    head: ${times(2)} body: ${times(2)}
    bnez a0, head
    end: ${times(2)} late: ret
  `;

test("entries in the middle of straight-line code are left out if other code leads there", () => {
  const all = regionsOf(STRAIGHT, ["f", "middle", "head", "body", "end", "late"]);
  expect(all).toEqual([
    {
      entries: ["f", "head", "end"],
      blocks: ["f", "head", "end"],
      ...{ inner: [], loops: ["head"], instructions: 16 },
    },
  ]);
  // In any order, and if the first one is such an entry.
  expect(regionsOf(STRAIGHT, ["late", "body", "middle", "f", "head", "end"])).toEqual(all);
});

test("if a loop's head is translated, the middle of its body is not an entry", () => {
  expect(regionsOf(STRAIGHT, ["body", "head"])).toEqual([
    {
      entries: ["head"],
      blocks: ["head", "end"],
      ...{ inner: [], loops: ["head"], instructions: 8 },
    },
  ]);
});

test("a lone entry in the middle of straight-line code still has a region", () => {
  expect(regionsOf(STRAIGHT, ["middle"])[0]?.entries).toEqual(["middle", "head"]);
  // In a loop, code leads back to its start.
  const [region] = regionsOf(STRAIGHT, ["body"]);
  expect(region?.entries).toEqual(["head", "body"]);
  expect(region?.instructions).toBe(8);
  const code = codePage(STRAIGHT);
  const entries = findRegion(code.view, CODE_PAGE, code.at("body")).entries.map(({ start }) => start);
  expect(entries[0]).toBe(code.at("body"));
});

test("entries are left out in each piece of code separately", () => {
  const text = `
    f: ${times(LARGE)} inF: ${times(2)} ret
    ${times(2)} inG: ${times(LARGE)} ret
    h: ${times(LARGE)} inH: ret
  `;
  // No translated code leads to inG.
  expect(entriesOf(regionsOf(text, ["f", "inF", "inG", "h", "inH"]))).toEqual(["f", "h", "inG"]);
});

test("entries remain where a table jump may lead", () => {
  const text = `
    f: ${times(2)} jr a5
    case0: ${times(2)} case1: ${times(2)} case2: j case0
  `;
  // Not connected with the jump, and small: part of the region, but its middle is not a known target.
  expect(entriesOf(regionsOf(text, ["f", "case0", "case1"]))).toEqual(["f case0"]);
  const connected = `
    f: ${times(2)} beqz a0, case0
    go: jr a5
    case0: ${times(2)} case1: ${times(2)} case2: j f
  `;
  expect(entriesOf(regionsOf(connected, ["f", "case0", "case1"]))).toEqual(["f case0 case1"]);
});

test("branch targets that were never reached are left out", () => {
  const text = `
    f: beqz a0, cold
    warm: addi a0, a0, 1
    ret
    cold: addi a0, a0, 2
    ret
  `;
  const code = codePage(text);
  expect(regionsOf(text, ["f"])[0]?.blocks).toEqual(["f", "warm", "cold"]);
  const profile = { isReached: (offset: number): boolean => offset !== code.at("cold") };
  expect(regionsOf(text, ["f"], { profile })[0]?.blocks).toEqual(["f", "warm"]);
  // If it is an entry itself, the branch leads there.
  const [both] = regionsOf(text, ["f", "cold"], { profile });
  expect([both?.entries, both?.blocks]).toEqual([
    ["f", "cold"],
    ["f", "warm", "cold"],
  ]);
});

test("translated code is jumped to, not included; other regions' code up to 48 instructions", () => {
  const text = `f: ${times(10)} beqz a0, g\n ${times(LARGE)} beqz a0, h\n ret\n g: ret\n h: ret`;
  const { at } = codePage(text);
  const translated = { isTranslated: (offset: number): boolean => offset === at("g") };
  expect(regionsOf(text, ["f"], { profile: translated })[0]?.blocks.slice(-1)).toEqual(["h"]);
  const covered = { isCovered: () => true };
  const blocks = regionsOf(text, ["f"], { profile: covered })[0]?.blocks;
  expect([blocks?.includes("g"), blocks?.includes("h")]).toEqual([true, false]);
});

test("the number of a region's instructions is limited, but blocks stay whole", () => {
  const text = `f: ${times(10)} bnez a0, g\n g: ${times(10)} bnez a0, h\n h: ${times(10)} ret`;
  expect(regionsOf(text, ["f"], { max: 100 })[0]?.instructions).toBe(33);
  expect(regionsOf(text, ["f"], { max: 20 })[0]?.blocks).toEqual(["f", "g"]);
  expect(regionsOf(text, ["f"], { max: 5 })[0]?.blocks).toEqual(["f"]);
});

test("a loop that is entered in its middle has an inner entry", () => {
  const text = `
    f: beqz a2, middle
    head: addi a0, a0, 1
    middle: addi a1, a1, 1
    bne a0, a1, head
    end: ret
  `;
  const [region] = regionsOf(text, ["f"]);
  expect([region?.entries, region?.inner, region?.loops]).toEqual([["f", "head"], [], []]);
});

test("code that leaves its page ends at the boundary", () => {
  const [region] = regionsOf(`${times(1023)} last: addi a0, a0, 1`, ["last"]);
  expect([region?.blocks, region?.instructions]).toEqual([["last"], 1]);
  expect(regionsOf("f: j f + 4096", ["f"])[0]?.blocks).toEqual(["f"]);
  // Half of the last instruction is in the next page.
  expect(regionsOf(`c.nop\n ${times(1023)} cut: .half 0x0513`, ["cut"])[0]?.instructions).toBe(1);
});
