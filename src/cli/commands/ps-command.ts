// `wherry ps`: the user's machines that have a name (`--name`).
import { machines } from "../../node/names/machine-registry.ts";
import type { Options, ValuesOf } from "../options/command-line.ts";
import { QmpClient } from "../machine/qmp-client.ts";
import { bytesText, durationText } from "../output/progress-bar.ts";

export const psOptions = { json: { help: "one JSON array, for programs" } } satisfies Options;

/** A machine that hangs must not keep the list back. */
const ANSWER_MS = 2_000;

export async function ps({ json }: ValuesOf<typeof psOptions>): Promise<void> {
  const rows = await Promise.all(
    machines().map(async ({ qmp, ...rest }) => ({
      ...rest,
      qmp: `unix:${qmp}`,
      status: await statusOf(qmp),
    })),
  );
  if (json) {
    const shown = rows.map(({ name, pid, status, harts, memoryBytes, qmp, started }) => ({
      ...{ name, pid, status, harts, memoryBytes, qmp },
      started: new Date(started).toISOString(),
    }));
    process.stdout.write(`${JSON.stringify(shown)}\n`);
    return;
  }
  const table = [
    ["NAME", "PID", "STATUS", "HARTS", "MEMORY", "UP"],
    ...rows.map(({ name, pid, status, harts, memoryBytes, started }) => [
      ...[name, String(pid), status, String(harts), bytesText(memoryBytes)],
      durationText(Date.now() - started),
    ]),
  ];
  const widths = (table[0] ?? []).map((_, i) => Math.max(...table.map((row) => row[i]?.length ?? 0)));
  for (const row of table)
    process.stdout.write(
      `${row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join("  ")
        .trimEnd()}\n`,
    );
}

async function statusOf(path: string): Promise<string> {
  try {
    const client = await QmpClient.connect({ kind: "unix", path }, ANSWER_MS);
    try {
      return ((await client.execute("query-status")) as { status: string }).status;
    } finally {
      client.close();
    }
  } catch {
    return "not answering";
  }
}
