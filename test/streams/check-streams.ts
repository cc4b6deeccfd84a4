// Streams of every architecture and form, made by QEMU now (or found in the cache): the inspector reads each
// completely, with no byte unaccounted for and no field unknown; its output agrees with QEMU's
// analyze-migration script and its monitor.
//   node test/streams/check-streams.ts [--all] [--only REGEX] [FOLDER]
// The script is fetched by apt, or found where WHERRY_ANALYZE_MIGRATION says; without it the monitor alone
// judges.
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { RamExtract } from "../../src/cli/commands/ram-extract.ts";
import type { Field, StreamReport } from "../../src/inspect/model/stream-report.ts";
import { bytesSource } from "../../src/inspect/read/byte-source.ts";
import { readStream } from "../../src/inspect/read/read-stream.ts";
import { analyzeScript } from "./analyze-script.ts";
import { analyzed, compareAnalyzed, compareMonitor } from "./judges.ts";
import { SPECS } from "./machines.ts";
import { type MadeStream, makeStreams, streamsFolder } from "./make.ts";

/** Streams in which no description names the fields. */
const UNDESCRIBED = /-(bare|no-vmdesc|no-configuration|postcopy)$/;
/** Streams that the script does not read. */
const BEYOND_THE_SCRIPT =
  /^loop-[^-]+-(xbzrle|ignore-shared|multifd|multifd-zstd|postcopy|bare|no-vmdesc|no-configuration|return-path)$/;
/** Streams whose pages are sent over other connections, or not at all. */
const PAGES_ELSEWHERE = /^loop-[^-]+-(ignore-shared|multifd|multifd-zstd|postcopy)$/;
const RAM_BLOCK = "riscv_virt_board.ram";
/** The guest continued after the stream was written. */
const WENT_ON = /-background-snapshot$/;

function unknown(fields: readonly Field[], path: string): string[] {
  return fields.flatMap(({ name, type, children, size }) => [
    ...(type === "unknown" ? [`${path}.${name}: ${size} bytes unknown`] : []),
    ...unknown(children ?? [], `${path}.${name}`),
  ]);
}

function complaints(name: string, report: StreamReport, size: number): string[] {
  const { problem } = report;
  const found =
    problem === undefined ? [] : [`${problem.where}: expected ${problem.expected}, found ${problem.found}`];
  if (report.size !== size) found.push(`${report.size} of ${size} bytes were read`);
  if (UNDESCRIBED.test(name)) return found;
  for (const { idstr, instanceId, unaccounted, fields } of report.sections) {
    if (unaccounted > 0) found.push(`${idstr}/${instanceId}: ${unaccounted} bytes unaccounted`);
    found.push(...unknown(fields, idstr));
  }
  return found;
}

/** SHA-256 of the RAM that the stream's pages give, in any encoding. */
async function memoryOf(bytes: Uint8Array): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "wherry-ram-"));
  try {
    const path = join(folder, "ram");
    const extract = new RamExtract({ block: RAM_BLOCK, path });
    await readStream(bytesSource(bytes), { onPage: extract.visit });
    extract.close();
    return createHash("sha256")
      .update(await readFile(path))
      .digest("hex");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Result {
  readonly wrong: readonly string[];
  readonly line: string;
}

async function check(
  { name, files, spec, answers }: MadeStream,
  script: string | undefined,
): Promise<Result> {
  const path = files[0] ?? "";
  const bytes = await readFile(path);
  const report = await readStream(bytesSource(bytes));
  const wrong = complaints(name, report, bytes.length);
  const judged: string[] = [];
  if (script !== undefined && !BEYOND_THE_SCRIPT.test(name)) {
    const theirs = analyzed(script, path);
    if (typeof theirs === "string") wrong.push(`the script cannot read it: ${theirs}`);
    else {
      const verdict = compareAnalyzed(theirs, report, bytes);
      wrong.push(...verdict.wrong);
      judged.push(`${verdict.compared} values as the script's`);
    }
  }
  if (!UNDESCRIBED.test(name) && !WENT_ON.test(name)) {
    const verdict = compareMonitor(spec.target, answers, report);
    wrong.push(...verdict.wrong);
    judged.push(`${verdict.compared} as the monitor's`);
  }
  if (answers.memory !== undefined && !PAGES_ELSEWHERE.test(name) && !WENT_ON.test(name)) {
    const memory = await memoryOf(bytes);
    if (memory !== answers.memory) wrong.push(`RAM: SHA-256 ${memory}, the monitor's ${answers.memory}`);
    judged.push("RAM as the monitor's");
  }
  return {
    wrong,
    line: `${name}: ${report.sections.length} sections, ${judged.join(", ") || "not judged by others"}`,
  };
}

const { values, positionals } = parseArgs({
  options: { only: { type: "string" }, all: { type: "boolean" } },
  allowPositionals: true,
});
const wanted = SPECS.filter(
  ({ name, extra }) =>
    (values.all === true || extra !== true) &&
    (values.only === undefined || new RegExp(values.only).test(name)),
);
const { streams, failed } = await makeStreams(wanted, positionals[0] ?? streamsFolder);
const script = await analyzeScript().catch((error: unknown) => {
  const why = /^E: .*/m.exec(String(error))?.[0] ?? String(error);
  console.log(`QEMU's script is not to be had, its monitor judges alone: ${why}`);
  return undefined;
});
const wrong = failed.map((what) => `not made: ${what}`);
for (const stream of streams) {
  const result = await check(stream, script);
  console.log(result.line);
  for (const what of result.wrong.slice(0, 10)) console.log(`  WRONG ${what}`);
  wrong.push(...result.wrong.map((what) => `${stream.name}: ${what}`));
}
console.log(`${streams.length} streams, ${wrong.length} disagreements`);
if (wrong.length > 0 || streams.length === 0) process.exitCode = 1;
