// Targets of the fuzzer, and their invariants for any bytes: the inspector returns a consistent report; the
// loader loads, or refuses with a MigrationError.
import { WherryError } from "../../../src/base/errors.ts";
import type { Field, StreamReport } from "../../../src/inspect/model/stream-report.ts";
import { checkStream } from "../../../src/inspect/check/check-stream.ts";
import { diffStreams } from "../../../src/inspect/diff/diff-streams.ts";
import { reportJson } from "../../../src/inspect/show/report-json.ts";
import { overview, sectionText } from "../../../src/inspect/show/report-text.ts";
import { bytesSource, piecesSource } from "../../../src/inspect/read/byte-source.ts";
import { readStream } from "../../../src/inspect/read/read-stream.ts";
import { MAX_FIELDS } from "../../../src/inspect/decode/walk-section.ts";
import type { Machine } from "../../../src/vmm/machine.ts";
import { loadSnapshot } from "../../../src/migration/snapshot/snapshot.ts";
import { memorySource } from "../../support/fake-network.ts";

/** Thrown by a check: the case is a finding. */
export class Finding extends Error {}

function require(holds: boolean, what: string): void {
  if (!holds) throw new Finding(what);
}

/** Maximum depth of nesting, since printing and comparing are recursive. */
const MAX_DEPTH = 500;
/** Fields of no size take no bytes: the reader's limit for a stream, and some for heads. */
const MOST_FIELDS = MAX_FIELDS + 100_000;
const MOST_WARNINGS = 10_000;

function checkFields(
  fields: readonly Field[],
  from: number,
  to: number,
  where: string,
  depth: number,
): number {
  require(depth < MAX_DEPTH, `${where}: fields nested ${depth} deep`);
  let at = from;
  let count = fields.length;
  for (const { name, offset, size, children, value } of fields) {
    const path = depth > 20 ? where : `${where}.${name.slice(0, 40)}`;
    require(offset >= at, `${path}: at ${offset}, but the one before ends at ${at}`);
    require(size >= 0 && offset + size <= to, `${path}: ends at ${offset + size}, its container at ${to}`);
    require(children === undefined || value === undefined, `${path}: a value and children`);
    if (children !== undefined) count += checkFields(children, offset, offset + size, path, depth + 1);
    at = offset + size;
  }
  return count;
}

/** Checks the invariants of any report. */
export function checkReport(report: StreamReport, length: number): void {
  require(report.size <= length, `read ${report.size} of ${length} bytes`);
  require(report.problem !== undefined || report.size <= length, "neither read whole nor a problem");
  let fields = 0;
  for (const section of report.sections) {
    const { offset, dataOffset, size, unaccounted, idstr } = section;
    require(offset <= dataOffset && dataOffset + size <= length, `section ${idstr}: outside the stream`);
    require(unaccounted >= 0 &&
      unaccounted <= size, `section ${idstr}: ${unaccounted} of ${size} unaccounted`);
    fields += checkFields(section.fields, dataOffset, dataOffset + size, idstr, 0);
  }
  require(fields <= MOST_FIELDS, `${fields} fields of ${length} bytes`);
  require(report.warnings.length <= MOST_WARNINGS, `${report.warnings.length} warnings`);
  for (const problem of [report.problem, ...report.warnings]) {
    if (problem === undefined) continue;
    const { code, where, expected, found, cure } = problem;
    for (const text of [code, where, expected, found, cure]) {
      require(typeof text === "string" && text.length < 20_000, `problem ${code}: a text of ${text.length}`);
    }
  }
  for (const block of report.ram) {
    require(block.pages >= 0 && block.repeated >= 0, `block ${block.name}: pages ${block.pages}`);
  }
}

async function* pieces(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

/**
 * The inspector, on a file or, with `piece`, on a pipe that gives so many bytes at a time. Rejects with a
 * Finding, or with whatever it threw, which is one too.
 */
export async function inspect(bytes: Uint8Array, piece?: number): Promise<StreamReport> {
  const source = piece === undefined ? bytesSource(bytes) : piecesSource(pieces(bytes, piece));
  const report = await readStream(source, { keepBytes: (bytes.length & 1) === 0 });
  checkReport(report, bytes.length);
  return report;
}

// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

/**
 * Everything that is made from a report: its texts (without control characters from the stream), its JSON,
 * its differences from `other`, whether it loads there. Throws a Finding, or any error of these.
 */
export function show(report: StreamReport, other: StreamReport): void {
  for (const line of [...overview(report), ...report.sections.flatMap(sectionText)]) {
    require(!CONTROL.test(line), `a control character is printed: ${JSON.stringify(line).slice(0, 200)}`);
  }
  JSON.parse(reportJson(report));
  diffStreams({ report }, { report: other });
  checkStream(report, []);
  checkStream(report, [{ kind: "stream", name: "other", report: other }]);
  checkStream(other, [{ kind: "stream", name: "damaged", report }]);
}

/** Returns whether `work` refuses its stream properly. Rejects with any other error, which is a finding. */
export async function refused(work: Promise<unknown>): Promise<boolean> {
  try {
    await work;
    return false;
  } catch (error) {
    if (!(error instanceof WherryError)) throw error;
    require(error.message.length < 20_000, `a message of ${error.message.length} characters`);
    // An error that was not a WherryError at its origin is a fault that the loader disguised as a refusal.
    for (let cause = error.cause; cause instanceof Error; { cause } = cause) {
      if (cause instanceof TypeError || cause instanceof RangeError || cause instanceof ReferenceError)
        throw cause;
    }
    return true;
  }
}

/** Loads into a temporary machine, `piece` bytes at a time. Returns whether the stream was accepted. */
export async function load(bytes: Uint8Array, machine: Machine, piece?: number): Promise<boolean> {
  return !(await refused(loadSnapshot(machine, memorySource(bytes, piece))));
}
