// All seeds: the synthesised ones, a snapshot of a toy machine, and the corpus's files (device sections of
// QEMU's streams without RAM, and earlier findings). The inspector finds the spots in a file.
import { readdir, readFile } from "node:fs/promises";
import { saveSnapshot } from "../../../src/migration/snapshot/snapshot.ts";
import type { Field } from "../../../src/inspect/model/stream-report.ts";
import { bytesSource } from "../../../src/inspect/read/byte-source.ts";
import { readStream } from "../../../src/inspect/read/read-stream.ts";
import { memorySink } from "../../support/fake-network.ts";
import { setRings } from "./board.ts";
import { fuzzMachine } from "./machines.ts";
import { type Seed, type Span, synthesised } from "./seed.ts";

const CORPUS = new URL("../corpus/", import.meta.url);

function fieldSpans(fields: readonly Field[], spans: Span[]): void {
  for (const { offset, size, children, type } of fields) {
    if (size === 0) continue;
    if (children === undefined) spans.push({ at: offset, size, kind: size <= 8 ? "int" : "bytes" });
    else {
      spans.push({ at: offset, size, kind: "part" });
      if (type === "subsection") {
        spans.push({ at: offset, size: 1, kind: "int" });
        const [first] = children;
        const head = (first?.offset ?? offset + size) - offset;
        if (head > 6) spans.push({ at: offset + 1, size: head - 5, kind: "name" });
      }
      fieldSpans(children, spans);
    }
  }
}

/** A seed from a complete stream. */
export async function seedOf(name: string, data: Uint8Array): Promise<Seed> {
  // A Buffer's slice() is a view: mutations would change the seed itself.
  const bytes = new Uint8Array(data);
  const report = await readStream(bytesSource(bytes));
  if (name.startsWith("board-")) setRings(report);
  const spans: Span[] = [
    { at: 0, size: 4, kind: "int" },
    { at: 4, size: 4, kind: "int" },
  ];
  fieldSpans(report.configuration?.fields ?? [], spans);
  for (const { offset, dataOffset, size, kind, idstr, fields } of report.sections) {
    spans.push({ at: offset, size: dataOffset + size + 5 - offset, kind: "part" });
    spans.push({ at: offset, size: 1, kind: "int" }, { at: offset + 1, size: 4, kind: "int" });
    if (kind === "full" || kind === "start") {
      spans.push({ at: offset + 5, size: 1 + idstr.length, kind: "name" });
      spans.push({ at: dataOffset - 8, size: 4, kind: "int" }, { at: dataOffset - 4, size: 4, kind: "int" });
    }
    fieldSpans(fields, spans);
    spans.push({ at: dataOffset + size, size: 1, kind: "int" });
    spans.push({ at: dataOffset + size + 1, size: 4, kind: "int" });
  }
  const last = report.sections.at(-1);
  const end = last === undefined ? bytes.length : last.dataOffset + last.size + 5;
  // EOF, then the description.
  if (report.vmDescription !== undefined) {
    spans.push(
      { at: end, size: 1, kind: "int" },
      { at: end + 1, size: bytes.length - end - 1, kind: "json" },
    );
  }
  return {
    name,
    bytes,
    spans: spans.filter(({ at, size }) => at >= 0 && at + size <= bytes.length),
    description: report.vmDescription,
  };
}

async function own(): Promise<Seed> {
  const sink = memorySink();
  await saveSnapshot(fuzzMachine(false), async () => sink);
  return seedOf("own", sink.committed as Uint8Array);
}

export async function corpusFiles(): Promise<{ name: string; bytes: Uint8Array }[]> {
  const names = (await readdir(CORPUS)).filter((name) => name.endsWith(".stream")).toSorted();
  return Promise.all(names.map(async (name) => ({ name, bytes: await readFile(new URL(name, CORPUS)) })));
}

export async function allSeeds(): Promise<Seed[]> {
  const files = await corpusFiles();
  return [
    ...synthesised(),
    await own(),
    ...(await Promise.all(files.map(({ name, bytes }) => seedOf(name, bytes)))),
  ];
}
