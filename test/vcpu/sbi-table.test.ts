// The table of docs/sbi.md against the built-in firmware: which functions it answers, and which bits of their
// arguments count.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { HartImage } from "../../src/hypervisor/hart/hart-image.ts";
import { MP_STATE } from "../../src/accelerator/mp-state.ts";
import { CTL_MP_STATE } from "../../src/hypervisor/shared/memory-map.ts";
import { RAM, ScriptedVm } from "../support/scripted-vm.ts";

const NOT_SUPPORTED = -2n;
const text = readFileSync(join(import.meta.dirname, "../../docs/sbi.md"), "utf8");
const rows = [
  ...text.matchAll(/^\| (0x[0-9a-f]+) \| (\w+) \| (\d+) \| (\w+) \| ([\d, ]*) ?\| (yes|no) \|$/gm),
].map(([, eid, extension, fid, name, widths, answered]) => ({
  name: `${extension} ${fid}: ${name}`,
  eid: Number(eid),
  fid: Number(fid),
  widths: widths === "" ? [] : widths!.trim().split(", ").map(Number),
  answered: answered === "yes",
}));

interface Outcome {
  /** undefined: the call does not return. */
  readonly returned: readonly [bigint, bigint] | undefined;
  readonly log: readonly string[];
  readonly mpState: number;
  readonly fwft: readonly bigint[];
}

/** What a call does on a fresh machine, whose other hart is stopped. */
function outcome(eid: number, fid: number, args: readonly bigint[]): Outcome {
  const s = new ScriptedVm({ harts: 2, steal: true });
  s.requests[1]?.store(CTL_MP_STATE, MP_STATE.STOPPED);
  const registers = s.ecall(0, eid, fid, args);
  const hart = s.images[0] as HartImage;
  const fwft = [hart.get("fwft"), hart.get("svade")];
  const mpState = s.requests[0]!.load(CTL_MP_STATE);
  return { returned: mpState === MP_STATE.RUNNABLE ? registers : undefined, log: s.log, mpState, fwft };
}

/** Arguments for a function that is "not supported" for other reasons than that it is missing. */
const ANSWERED: Readonly<Record<string, readonly bigint[]>> = {
  counter_config_matching: [0n, 1n, 0n, 1n, 0n],
};

test("the table has the standard extensions, and each function once", () => {
  expect(new Set(rows.map(({ eid }) => eid)).size).toBe(16);
  expect(new Set(rows.map(({ eid, fid }) => `${eid}/${fid}`)).size).toBe(rows.length);
});

test.each(rows)("$name", ({ name, eid, fid, widths, answered }) => {
  const args = ANSWERED[name.split(" ").at(-1)!] ?? widths.map(() => 0n);
  expect(outcome(eid, fid, args).returned?.[0] === NOT_SUPPORTED).toBe(!answered);
});

test("functions behind the last of an extension are not supported", () => {
  for (const eid of new Set(rows.map((row) => row.eid))) {
    const last = Math.max(...rows.filter((row) => row.eid === eid).map(({ fid }) => fid));
    for (const fid of [last + 1, 0xbad, 0xffffffff])
      expect([eid, fid, outcome(eid, fid, [0n, 0n, 0n]).returned]).toEqual([eid, fid, [NOT_SUPPORTED, 0n]]);
  }
});

describe("the upper bits of a narrow argument change nothing:", () => {
  const narrow = rows.filter(({ answered, widths }) => answered && widths.some((width) => width < 64));
  test("there are six functions with one", () => {
    expect(narrow).toHaveLength(6);
  });
  test.each(narrow)("$name", ({ eid, fid, widths }) => {
    for (const [i, width] of widths.entries()) {
      if (width === 64) continue;
      for (const low of [0n, 1n, 4n, 0x7fn]) {
        const args = widths.map((_, j) => (j === i ? low : j === 1 ? BigInt(RAM) : 0n));
        const wide = args.with(i, low | (((1n << 64n) - 1n) & ~((1n << BigInt(width)) - 1n)));
        expect(outcome(eid, fid, wide)).toEqual(outcome(eid, fid, args));
      }
    }
  });
});

test("the upper bits of a wide argument count: a hart, a mask, an address or flags beyond 32 bits are others", () => {
  const wide = rows.filter(({ name }) =>
    /hart_start|hart_get_status|counter_get_info|fw_read|config_matching/.test(name),
  );
  for (const { name, eid, fid, widths } of wide) {
    const args = widths.map((_, i) => (i === 0 ? 1n << 32n : 0n));
    expect([name, outcome(eid, fid, args).returned![0] < 0n]).toEqual([name, true]);
  }
});
