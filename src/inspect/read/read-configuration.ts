// The CONFIGURATION section as fields. The grammar is src/stream/configuration.ts; an unknown subsection is
// read if the VMDESCRIPTION has its size.
import {
  type ConfigurationSubsection,
  readConfiguration as readGrammar,
} from "../../stream/configuration.ts";
import { FieldReader } from "../decode/fields.ts";
import { describedSize } from "../model/description.ts";
import type { Field, StreamReport } from "../model/stream-report.ts";
import type { Scan } from "./scan.ts";

/** Reads the section after its type byte. Records machine, capabilities and page size in the scan's facts. */
export async function readConfiguration(scan: Scan): Promise<NonNullable<StreamReport["configuration"]>> {
  scan.where = "configuration";
  const fields: Field[] = [];
  let machine = "";
  const add = (bytes: Uint8Array, offset: number, read: (reader: FieldReader) => void): void => {
    const reader = new FieldReader(bytes, offset);
    read(reader);
    fields.push(...reader.fields);
  };
  await readGrammar(scan, scan.facts, {
    machine(name, bytes, offset) {
      machine = name;
      add(bytes, offset, (reader) => reader.bytes("name", reader.u32("len")));
    },
    sizeOf(name) {
      const described = scan.configuration?.subsections.find(({ vmsdName }) => vmsdName === name);
      return described === undefined ? undefined : describedSize(described);
    },
    subsection(subsection) {
      if (subsection.kind === "page-bits") scan.facts.pageSize = 2 ** subsection.pageBits;
      add(subsection.bytes, subsection.offset, (reader) =>
        reader.group(subsection.name, "subsection", () => readSubsection(reader, subsection)),
      );
    },
  });
  return { machine, fields };
}

function readSubsection(reader: FieldReader, { kind, headBytes }: ConfigurationSubsection): void {
  reader.bytes("header", headBytes, undefined, "subsection header");
  if (kind === "capabilities") {
    const count = reader.u32("caps_count");
    for (let i = 0; i < count; i++) reader.countedString(`capabilities[${i}]`);
  } else if (kind === "page-bits") {
    reader.u32("target_page_bits", (bits) => `pages of ${2n ** bits} bytes`);
  } else reader.bytes(NAMES[kind], reader.remaining);
}

const NAMES = { uuid: "uuid.data", "move-id": "id", other: "data" } as const;
