// `wherry perf`: profiles a running machine for some seconds.
import type { PerfInfo } from "../../monitor/perf-commands.ts";
import type { Options, ValuesOf } from "../options/command-line.ts";
import { controlOptions, withClient } from "./control-commands.ts";
import { number } from "../options/option-values.ts";
import { perfTable } from "../output/perf-table.ts";

const DEFAULT_SECONDS = 5;

export const perfOptions = {
  ...controlOptions,
  seconds: {
    value: "N",
    parse: number(0, 1_000_000),
    help: `how long to count (default ${DEFAULT_SECONDS}); 0 shows the counts so far of a machine with --perf`,
  },
} satisfies Options;

/** Turns counting on for that time, unless it is on already. */
export function perf({ qmp, seconds = DEFAULT_SECONDS }: ValuesOf<typeof perfOptions>): Promise<void> {
  return withClient(qmp, async (client) => {
    const query = async (): Promise<PerfInfo> => (await client.execute("x-wherry-query-perf")) as PerfInfo;
    if (seconds === 0) {
      process.stdout.write(perfTable(await query()));
      return;
    }
    const counts = await query().then(
      () => true,
      () => false,
    );
    if (!counts) await client.execute("x-wherry-perf", { enable: true });
    const before = await query();
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    const after = await query();
    if (!counts) await client.execute("x-wherry-perf", { enable: false });
    process.stdout.write(perfTable(difference(after, before)));
  });
}

/** Subtracts the counters of two reports of the same shape. */
export function difference(after: PerfInfo, before: PerfInfo): PerfInfo {
  const subtract = (a: unknown, b: unknown, key = ""): unknown => {
    // Stolen time is already a difference of two clocks, one of which advances in steps.
    if (key === "steal-ns") return Math.max(0, Number(a) - Number(b ?? 0));
    if (typeof a === "number") return key === "cpu-index" || key.startsWith("live-") ? a : a - Number(b ?? 0);
    if (Array.isArray(a)) {
      const before = (b ?? []) as { address?: string }[];
      // Hot addresses are sorted by frequency, all other lists are in a fixed order.
      return a.map((one: { address?: string }, i) =>
        subtract(one, one.address === undefined ? before[i] : before.find((o) => o.address === one.address)),
      );
    }
    if (typeof a !== "object" || a === null) return a;
    return Object.fromEntries(
      Object.entries(a).map(([name, value]) => [
        name,
        subtract(value, (b as Record<string, unknown> | undefined)?.[name], name),
      ]),
    );
  };
  return subtract(after, before) as PerfInfo;
}
