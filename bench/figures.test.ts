// The arithmetic and text of the bench's figures, and the contents of its chart and table.
import { describe, expect, it } from "vitest";
import { chart } from "./chart.ts";
import {
  type Figures,
  geometricMean,
  meanSpeed,
  type ProgramFigures,
  report,
  rival,
  speedOf,
  spread,
} from "./figures.ts";
import { guestCommand, hostCommand, parseResult } from "./program-commands.ts";
import { type Program, PROGRAMS } from "./programs.ts";

const figures: Figures = {
  host: "a host",
  guest: "a guest",
  engine: "translator",
  clock: "guest",
  rounds: 3,
  columns: ["QEMU 7.2", "QEMU 11.1", "Wherry"],
  programs: [
    {
      name: "fast",
      harts: 1,
      samples: { native: [1e8], "QEMU 7.2": [2e9], "QEMU 11.1": [2e9, 1e9, 4e9], Wherry: [1e9, 9e8, 2e9] },
      cpu: { native: [1e8], "QEMU 7.2": [1e9], "QEMU 11.1": [1e9], Wherry: [2e9] },
      failures: {},
    },
    {
      name: "slow",
      harts: 1,
      samples: { native: [1e8], "QEMU 7.2": [1e9], "QEMU 11.1": [1e9], Wherry: [2e9] },
      cpu: { native: [1e8], "QEMU 7.2": [1e9], "QEMU 11.1": [1e9], Wherry: [2e9] },
      failures: {},
    },
    {
      name: "broken",
      harts: 2,
      samples: { native: [1e8], "QEMU 7.2": [1e9], "QEMU 11.1": [1e9] },
      cpu: { native: [1e8], "QEMU 7.2": [1e9], "QEMU 11.1": [1e9] },
      failures: { Wherry: "checksum 1, where the first one had 2" },
    },
  ],
  boots: [{ harts: 4, samples: { "QEMU 7.2": [2], "QEMU 11.1": [2, 2.5, 3], Wherry: [5] }, cpu: {} }],
  memory: [{ column: "Wherry", harts: 1, guestMib: 512, peakMib: 600 }],
};

describe("figures", () => {
  it("takes the median, of an even number the middle of the two", () => {
    expect(spread([3, 1, 2])).toEqual({ median: 2, low: 1, high: 3 });
    expect(spread([4, 1, 2, 3]).median).toBe(2.5);
    expect(spread([]).median).toBeNaN();
    expect(geometricMean([0.5, 2, 8])).toBeCloseTo(2);
  });

  it("compares medians with the last QEMU, and omits failures", () => {
    expect(rival(figures)).toBe("QEMU 11.1");
    expect(speedOf({ a: [1, 2, 9], b: [4] }, "a", "b")).toBe(2);
    expect(speedOf({ a: [1] }, "a", "b")).toBeUndefined();
    expect(meanSpeed(figures, 1, "QEMU 11.1")).toEqual({ mean: 1, count: 2 });
    expect(meanSpeed(figures, 2, "QEMU 11.1").count).toBe(0);
    expect(meanSpeed({ ...figures, clock: "cpu" }, 1, "QEMU 11.1")).toEqual({ mean: 0.5, count: 2 });
  });

  it("reports each program with ratios, failures with their reasons, boots and memory", () => {
    const text = report(figures);
    expect(text).toMatch(/\| fast +\|.*2\.000 s \(1\.000–4\.000\).*\| +2\.00× \| +10\.00× \|/);
    expect(text).toMatch(/\| broken .*FAILED/);
    expect(text).toContain("- broken, Wherry: checksum 1, where the first one had 2");
    expect(text).toContain("relative to QEMU 11.1, 2 programs on one hart: **1.00×**");
    expect(text).toMatch(/\| 4 +\|.*2\.50 s \(2\.00–3\.00\).*5\.00 s \| +2\.00× \|/);
    expect(text).toMatch(/600 MiB \| +88 MiB/);
    expect(report({ ...figures, columns: ["Wherry"] })).not.toContain("÷ QEMU");
  });

  it("reports the profile of a counted run", () => {
    const hart = {
      "cpu-index": 0,
      instructions: 2e9,
      "translated-instructions": 1e9,
      "tlb-refills": 1000,
      hot: [],
      activities: [
        { name: "engine", count: 1, ns: 3e9 },
        { name: "mmio-read", count: 5, ns: 1e9 },
        { name: "kick", count: 5, ns: 0 },
      ],
    };
    const perf = { "elapsed-ns": 4e9, harts: [hart], translation: {} };
    const [first, ...rest] = figures.programs;
    const text = report({ ...figures, programs: [{ ...(first as ProgramFigures), perf }, ...rest] });
    expect(text).toMatch(/\| fast +\| +2.00 \| +667 \| +50.0 % \| +0.5 \| 75.0 % \| +mmio-read 25.0 % \|/);
  });

  it("draws a bar for each program that both ran, and the mean", () => {
    const svg = chart(figures);
    expect(svg.match(/<rect/g)).toHaveLength(3);
    expect(svg).toContain(">fast</text>");
    expect(svg).not.toContain("broken");
    expect(() => chart({ ...figures, columns: ["Wherry"] })).toThrow(/QEMU/);
  });
});

describe("programs", () => {
  const program = (name: string): Program => PROGRAMS.find((each) => each.name === name) as Program;

  it("have commands for the guest and for the host", () => {
    expect(guestCommand(program("fib"), 1 / 1000)).toBe("wbench fib 1");
    expect(guestCommand(program("gzip"), 1)).toMatch(/^wbench run gzip chroot \/debian 'gzip' .* \/data$/);
    expect(hostCommand(program("gzip"), 1, { wbench: "w", packages: undefined, data: "d" })).toBeUndefined();
    expect(hostCommand(program("gzip"), 1, { wbench: "w", packages: "/p", data: "d" })?.at(-1)).toBe("d");
  });

  it("print time and checksum, openssl a rate", () => {
    const line = "noise\nfib 1500 00000000000000ff 1400\n";
    const [nanoseconds, checksum] = [1500, "00000000000000ff"];
    expect(parseResult(program("fib"), line)).toEqual({ nanoseconds, checksum, cpuNanoseconds: 1400 });
    expect(parseResult(program("fib"), line, 7).cpuNanoseconds).toBe(7);
    expect(() => parseResult(program("sieve"), line)).toThrow(/no result/);
    const rate = parseResult(program("openssl-aes"), "+H:16384\n+F:25:AES-128-CBC:16777216.00\n", 2e9);
    expect(rate).toEqual({ nanoseconds: 1e9, cpuNanoseconds: 2e9, checksum: undefined });
  });
});
