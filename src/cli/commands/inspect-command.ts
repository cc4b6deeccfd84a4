// `wherry inspect`: the contents of a migration stream of QEMU or Wherry. Reads it once, in constant memory.
import type { Description } from "../../inspect/model/description.ts";
import { hexPieces, reportPieces } from "../../inspect/show/report-json.ts";
import type { SectionReport, StreamReport } from "../../inspect/model/stream-report.ts";
import { isFault, problemText } from "../../inspect/model/problems.ts";
import { fieldAt, namesAt, sectionsNamed } from "../../inspect/model/select.ts";
import { type PageVisitor, type ReadOptions, readStream } from "../../inspect/read/read-stream.ts";
import {
  fieldLines,
  hexdump,
  overview,
  problemLines,
  printable,
  sectionName,
  sectionText,
  valueText,
} from "../../inspect/show/report-text.ts";
import { findDescription } from "../../inspect/read/find-description.ts";
import { CliError, EXIT } from "../output/cli-error.ts";
import { nearest } from "../../base/nearest.ts";
import { type Options, text, type ValuesOf } from "../options/command-line.ts";
import { number, size } from "../options/option-values.ts";
import { writeJson, writeLines, writePieces } from "../output/standard-output.ts";
import { extractSpec, RamExtract } from "./ram-extract.ts";
import { withStreamFile } from "./stream-file.ts";

export const inspectOptions = {
  json: { help: "print all as JSON (or the selection of --section or --field)" },
  section: {
    value: "NAME[/INSTANCE]",
    parse: text,
    many: true,
    help: "the fields of this section; may be given several times; `all` for every one",
  },
  field: {
    value: "SECTION/FIELD",
    parse: text,
    many: true,
    help: "the value of this field, such as cpu/0/env.pc; may be given several times",
  },
  hexdump: { help: "the bytes of the sections as well (without --section: of all that are read as a whole)" },
  "ram-extract": {
    value: "BLOCK=FILE",
    parse: extractSpec,
    many: true,
    help: "write this RAM block to a file; BLOCK:OFFSET+LENGTH=FILE a part of it; may be given several times",
  },
  like: {
    value: "FILE",
    parse: text,
    help: "take field names from this stream of the same machine, if FILE is truncated or has no VMDESCRIPTION",
  },
  zeros: { help: "count the zero pages among those sent in full" },
  offset: { value: "BYTES", parse: size(""), help: "where the stream starts in the file (default 0)" },
  "page-size": {
    value: "BYTES",
    parse: number(256, 65536),
    help: "the target's page size, for a stream that does not say it",
  },
} satisfies Options;

type InspectValues = ValuesOf<typeof inspectOptions>;

/** Prints the requested parts. Returns the exit code: 1 if something is wrong with the stream. */
export async function inspect(path: string, values: InspectValues): Promise<number> {
  const extracts = values["ram-extract"].map((spec) => new RamExtract(spec));
  let report: StreamReport;
  try {
    const options = readOptions(values, extracts);
    const like = values.like === undefined ? {} : { description: await descriptionOf(values.like) };
    report = await withStreamFile(path, EXIT.FAILURE, (source) =>
      readStream(source, { ...options, ...like }),
    );
  } finally {
    for (const extract of extracts) extract.close();
  }
  const printed = await print(report, values);
  for (const extract of extracts) process.stderr.write(`${extract.finish(report)}\n`);
  if (printed === "part") {
    for (const problem of [...report.warnings.filter(isFault), ...(report.problem ? [report.problem] : [])]) {
      process.stderr.write(`${problemLines(problem).join("\n")}\n`);
    }
  }
  return report.problem !== undefined || report.warnings.some(isFault) ? EXIT.FAILURE : EXIT.OK;
}

async function descriptionOf(path: string): Promise<Description> {
  const found = await withStreamFile(path, EXIT.FAILURE, (source) => findDescription(source, 0));
  if (found === undefined) throw new CliError(`${path}: there is no VMDESCRIPTION at its end`);
  return found.description;
}

function readOptions(values: InspectValues, extracts: readonly RamExtract[]): ReadOptions {
  const [first] = extracts;
  const onPage: PageVisitor | undefined =
    extracts.length > 1
      ? (...page) => {
          for (const extract of extracts) extract.visit(...page);
        }
      : first?.visit;
  return {
    keepBytes: values.hexdump,
    lookForZeros: values.zeros,
    ...(onPage === undefined ? {} : { onPage }),
    ...(values.offset === undefined ? {} : { offset: values.offset }),
    ...(values["page-size"] === undefined ? {} : { pageSize: values["page-size"] }),
  };
}

async function print(report: StreamReport, values: InspectValues): Promise<"all" | "part"> {
  const { json, hexdump: dump } = values;
  if (values.field.length > 0) {
    for (const path of values.field) await printField(report, path, json);
    return "part";
  }
  if (values.section.length > 0) {
    const sections = values.section.flatMap((name) => named(report, name));
    if (json) await writeJson(sections);
    else {
      for (const section of sections) {
        await writeLines(sectionText(section));
        if (dump) await writeLines(dumped(section));
      }
    }
    return "part";
  }
  if (json) {
    await writePieces(reportPieces(report));
    await writePieces(["\n"]);
  } else if (values["ram-extract"].length > 0) return "part";
  else {
    await writeLines(overview(report));
    for (const section of dump ? report.sections : []) {
      if (section.bytes === undefined) continue;
      await writeLines([""]);
      await writeLines(dumped(section));
    }
  }
  return "all";
}

function named(report: StreamReport, name: string): SectionReport[] {
  const sections =
    name === "all" ? report.sections.filter(({ fields }) => fields.length > 0) : sectionsNamed(report, name);
  if (sections.length > 0) return sections;
  const names = report.sections.map(sectionName);
  const meant = nearest(name, names);
  const known = names.length === 0 ? "no section at all" : [...new Set(names)].join(", ");
  const hint = meant === undefined ? `it has ${known}` : `did you mean ${meant}?`;
  const stop = report.problem === undefined ? "" : ` up to where it stops (${problemText(report.problem)})`;
  throw new CliError(`the stream has no section ${name}${stop}; ${hint}`);
}

function* dumped(section: SectionReport): Generator<string> {
  const { bytes, dataOffset } = section;
  const head = `bytes of section ${printable(sectionName(section))}:`;
  yield bytes === undefined ? `${head} not kept, the section comes in parts` : head;
  if (bytes !== undefined) yield* hexdump(bytes, dataOffset);
}

/** Longer than any text padded with zeros. */
const LONG_BYTES = 64 * 1024;

async function printField(report: StreamReport, path: string, json: boolean): Promise<void> {
  const field = fieldAt(report, path);
  if (field === undefined) {
    const names = namesAt(report, path);
    const known = names.length > 40 ? [...names.slice(0, 40), "…"] : names;
    throw new CliError(`the stream has no field ${path}; there are ${known.join(", ")}`);
  }
  if (json) await writeJson(field);
  else if (field.value instanceof Uint8Array && field.value.length > LONG_BYTES) {
    await writePieces(hexPieces(field.value));
    await writeLines([""]);
  } else if (field.children === undefined) await writeLines([valueText(field, Number.POSITIVE_INFINITY)]);
  else await writeLines(fieldLines([field]));
}
