// `wherry check`: whether a stream loads in a given QEMU, whether one QEMU reads another's streams, and what
// an error message of QEMU means.
import { open } from "node:fs/promises";
import { checkStream, type CheckTarget } from "../../inspect/check/check-stream.ts";
import { checkDumps } from "../../inspect/check/check-dumps.ts";
import { checkQueues } from "../../inspect/check/check-virtio.ts";
import { type Explained, explainComplaint } from "../../inspect/explain/complaints.ts";
import { parseDump, type VmstateDump } from "../../inspect/check/dump-vmstate.ts";
import type { Problem, StreamReport } from "../../inspect/model/stream-report.ts";
import { InspectError } from "../../inspect/model/problems.ts";
import { readStream } from "../../inspect/read/read-stream.ts";
import { printable, problemLines } from "../../inspect/show/report-text.ts";
import { parseVirtioStatus } from "../../inspect/check/virtio-status.ts";
import { systemReason } from "../../node/channels/system-reason.ts";
import { QEMU_VM_FILE_MAGIC } from "../../stream/wire.ts";
import { CliError, UsageError } from "../output/cli-error.ts";
import { type Options, text, type ValuesOf } from "../options/command-line.ts";
import { writeJson } from "../output/standard-output.ts";
import { withStreamFile } from "./stream-file.ts";

/** The exit code for "no" or "unknown", as with diff and grep. */
const NO = 1;
const TROUBLE = 2;

export const checkOptions = {
  target: {
    value: "FILE",
    parse: text,
    many: true,
    help: "the QEMU that loads: its -dump-vmstate, a stream that it wrote, its replies to x-query-virtio-status; best all three",
  },
  from: { value: "DUMP", parse: text, help: "-dump-vmstate of the QEMU that writes; with --to" },
  to: { value: "DUMP", parse: text, help: "-dump-vmstate of the QEMU that loads" },
  type: {
    value: "NAME",
    parse: text,
    many: true,
    help: "with --from: compare only this device type; may be given several times",
  },
  message: {
    value: "TEXT",
    parse: text,
    help: "QEMU's error message when it did not load (--message=- reads standard input)",
  },
  strict: { help: "warnings count as well: exit code 1" },
  json: { help: "print the result as JSON" },
} satisfies Options;

interface Result {
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
  readonly unchecked: readonly string[];
}

/** Returns the exit code: 0 loads, 1 does not. */
export async function check(values: ValuesOf<typeof checkOptions>, stream?: string): Promise<number> {
  const { target, from, to, message } = values;
  const ways = [stream !== undefined, from !== undefined || to !== undefined, message !== undefined];
  if (ways.filter(Boolean).length !== 1) {
    throw new UsageError("give one of: STREAM [--target FILE]; --from DUMP --to DUMP; --message TEXT");
  }
  if (message !== undefined) return explain(message, values.json);
  if (stream !== undefined) {
    const result = await checkFile(stream, target);
    const yes =
      target.length === 0
        ? "the stream itself is valid"
        : result.unchecked.length === 0
          ? "it loads"
          : "it loads, as far as was checked";
    return print(result, values, yes, "it does not load");
  }
  if (from === undefined || to === undefined) throw new UsageError("--from and --to need each other");
  const result = checkDumps(await dumpFile(from), await dumpFile(to), values.type);
  const { missing, unmigratable, compared, ...found } = result;
  const unchecked: string[] = [];
  if (missing.length > 0) unchecked.push(`what ${to} does not have: ${missing.join(", ")}`);
  if (unmigratable.length > 0) unchecked.push(`what ${from} cannot migrate: ${unmigratable.join(", ")}`);
  const words = `${compared} device types compared`;
  return print({ ...found, unchecked }, values, `${words}: all load`, `${words}: not all load`);
}

async function checkFile(stream: string, targets: readonly string[]): Promise<Result> {
  const known: CheckTarget[] = [];
  for (const name of targets) {
    if (await isStream(name)) {
      const report = await withStreamFile(name, TROUBLE, (source) => readStream(source));
      known.push({ kind: "stream", name, report: whole(name, report) });
    } else known.push(await jsonTarget(name));
  }
  return withStreamFile(stream, TROUBLE, async (source) => {
    const report = await readStream(source);
    const result = checkStream(report, known);
    if (source.size === undefined) {
      return {
        ...result,
        unchecked: [...result.unchecked, "virtio's queues, which needs a file, not a pipe"],
      };
    }
    const queues = await checkQueues(report, source);
    return {
      ...result,
      problems: [...result.problems, ...queues.problems],
      warnings: [...result.warnings, ...queues.warnings],
    };
  });
}

/** A truncated stream of the target would be taken for one of a smaller machine. */
function whole(name: string, report: StreamReport): StreamReport {
  if (report.problem === undefined) return report;
  const { where, found, expected } = report.problem;
  throw new CliError(
    printable(`${name}: the target's stream cannot be read: ${where}: expected ${expected}, found ${found}`),
    {
      exitCode: TROUBLE,
    },
  );
}

/** True if the file starts like a stream, false if like JSON. */
async function isStream(path: string): Promise<boolean> {
  return withStreamFile(path, TROUBLE, async (source) => {
    const start = new DataView(new ArrayBuffer(4));
    await source.read(0, new Uint8Array(start.buffer));
    return start.getUint32(0) === QEMU_VM_FILE_MAGIC;
  });
}

/** More than any QEMU prints. */
const MAX_DUMP_BYTES = 256 * 1024 * 1024;

async function jsonTarget(name: string): Promise<CheckTarget> {
  const offers = await jsonFile(name, parseVirtioStatus).catch(() => undefined);
  if (offers !== undefined) return { kind: "virtio", name, offers };
  return { kind: "dump", name, dump: await dumpFile(name) };
}

const dumpFile = (path: string): Promise<VmstateDump> => jsonFile(path, parseDump);

async function jsonFile<T>(path: string, parse: (text: string) => T): Promise<T> {
  const file = await open(path).catch((cause: Error) => {
    throw new CliError(`${path}: ${systemReason(cause)}`, { exitCode: TROUBLE, cause });
  });
  try {
    if ((await file.stat()).size > MAX_DUMP_BYTES)
      throw new CliError(`${path}: too large for a dump`, { exitCode: TROUBLE });
    return parse(await file.readFile("utf8"));
  } catch (error) {
    if (!(error instanceof InspectError || (error instanceof Error && "syscall" in error))) throw error;
    throw new CliError(`${path}: ${systemReason(error)}`, { exitCode: TROUBLE, cause: error });
  } finally {
    await file.close();
  }
}

async function explain(message: string, json: boolean): Promise<number> {
  const said = message === "-" ? await standardInput() : message;
  if (said.trim() === "") {
    throw new CliError(
      "the message is empty: give the error output of QEMU, or of the program that starts it",
      {
        exitCode: TROUBLE,
      },
    );
  }
  const problems = explainComplaint(said);
  if (json) await writeJson(problems);
  else if (problems.length > 0)
    process.stdout.write(problems.map((problem) => linesOf(timesOf(problem), problem)).join(""));
  else {
    process.stdout.write(
      "no message in this text is known: give the whole error output of the QEMU that failed, source and target; or check the stream itself: wherry check STREAM --target DUMP.json\n",
    );
  }
  return problems.length > 0 ? 0 : NO;
}

function timesOf({ times = [] }: Explained): string {
  if (times.length === 0) return "";
  return times.length === 1 ? `${times[0]}: ` : `${times.length} times, ${times[0]} to ${times.at(-1)}: `;
}

async function standardInput(): Promise<string> {
  const pieces: string[] = [];
  let length = 0;
  for await (const piece of process.stdin.setEncoding("utf8") as AsyncIterable<string>) {
    pieces.push(piece);
    for (length += piece.length; length - (pieces[0]?.length ?? 0) > MAX_MESSAGE; )
      length -= pieces.shift()?.length ?? 0;
  }
  return pieces.join("");
}
/** Of a longer log the end is read. */
const MAX_MESSAGE = 16 * 1024 * 1024;

const linesOf = (kind: string, problem: Problem) => {
  const [first = "", ...more] = problemLines(problem);
  return [`${kind}${first}`, ...more].map((line) => `${printable(line)}\n`).join("");
};

async function print(
  result: Result,
  { json, strict }: { json: boolean; strict: boolean },
  yes: string,
  no: string,
): Promise<number> {
  const { problems, warnings, unchecked } = result;
  const fails = problems.length > 0 || (strict && warnings.length > 0);
  if (json) {
    await writeJson({ loads: !fails, problems, warnings, unchecked });
    return fails ? NO : 0;
  }
  const text = [
    ...problems.map((problem) => linesOf("problem: ", problem)),
    ...warnings.map((problem) => linesOf("warning: ", problem)),
    ...unchecked.map((what) => `not checked: ${printable(what)}\n`),
    `${problems.length > 0 ? no : yes}${warnings.length === 0 ? "" : `; ${warnings.length} warning${warnings.length === 1 ? "" : "s"}`}\n`,
  ];
  process.stdout.write(text.join(""));
  return fails ? NO : 0;
}
