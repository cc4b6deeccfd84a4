// The CONFIGURATION section: the machine type's name and, in subsections, what both sides must agree on (vmstate_configuration
// in QEMU's migration/savevm.c), and the move's id in Wherry's own streams. Streams of machine types before 2.4 have none.
import { decodeUtf8 } from "../../base/text.ts";
import { CAPABILITIES_SUBSECTION } from "../../stream/capabilities.ts";
import {
  MOVE_ID_SIZE,
  MOVE_ID_SUBSECTION,
  PAGE_BITS_SUBSECTION,
  QEMU_VM,
  UUID_SUBSECTION,
} from "../../stream/wire.ts";
import { describedSize } from "../model/description.ts";
import { FieldReader } from "../decode/fields.ts";
import type { Field, StreamReport } from "../model/stream-report.ts";
import { stop } from "../model/problems.ts";
import type { Scan } from "./scan.ts";

const MAX_NAME = 4096;
const MAX_CAPABILITIES = 256;
const WHERE = "configuration";

/** After the type byte. Tells `scan` the machine, capabilities and page size. */
export async function readConfiguration(scan: Scan): Promise<NonNullable<StreamReport["configuration"]>> {
  scan.where = WHERE;
  const { cursor } = scan;
  const fields: Field[] = [];
  /** `size` bytes, read by `read`. */
  const part = async (size: number, read: (reader: FieldReader) => void): Promise<void> => {
    await scan.need(size);
    const reader = new FieldReader(cursor.take(size), scan.offset - size);
    read(reader);
    fields.push(...reader.fields);
  };
  await scan.need(4);
  const length = cursor.view.getUint32(cursor.at);
  if (length > MAX_NAME)
    stop(
      "stream.configuration",
      WHERE,
      scan.offset,
      `a machine's name of at most ${MAX_NAME} bytes`,
      `${length} bytes`,
    );
  let machine = "";
  await part(4 + length, (reader) => {
    reader.u32("len");
    machine = decodeUtf8(reader.bytes("name", length));
  });
  scan.machine = machine;
  // A section or command follows, whose type is another.
  while ((await cursor.need(1)) && cursor.bytes[cursor.at] === QEMU_VM.SUBSECTION) {
    const at = scan.offset;
    await scan.need(2);
    const nameLength = cursor.bytes[cursor.at + 1]!;
    await scan.need(2 + nameLength + 4);
    const name = decodeUtf8(cursor.bytes.subarray(cursor.at + 2, cursor.at + 2 + nameLength));
    const body = await bodySize(scan, name, 2 + nameLength + 4);
    if (body === undefined) {
      stop("stream.configuration", WHERE, at, "a known subsection", `subsection ${JSON.stringify(name)}`);
    }
    await part(2 + nameLength + 4 + body, (reader) => {
      reader.group(name, "subsection", () => {
        const headSize = 2 + nameLength + 4;
        reader.bytes("header", headSize, undefined, "subsection header");
        readBody(scan, name, reader, body);
      });
    });
  }
  return { machine, fields };
}

const NAMES = new Map([
  [UUID_SUBSECTION, "uuid.data"],
  [MOVE_ID_SUBSECTION, "id"],
]);

/** Of a subsection whose head, `head` bytes at the cursor, is buffered. */
async function bodySize(scan: Scan, name: string, head: number): Promise<number | undefined> {
  if (name === PAGE_BITS_SUBSECTION) return 4;
  if (name === UUID_SUBSECTION) return 16;
  if (name === MOVE_ID_SUBSECTION) return MOVE_ID_SIZE;
  if (name !== CAPABILITIES_SUBSECTION) {
    const described = scan.configuration?.subsections.find(({ vmsdName }) => vmsdName === name);
    return described === undefined ? undefined : describedSize(described);
  }
  const { cursor } = scan;
  await scan.need(head + 4);
  const count = cursor.view.getUint32(cursor.at + head);
  if (count > MAX_CAPABILITIES) {
    stop("stream.configuration", WHERE, scan.offset, `at most ${MAX_CAPABILITIES} capabilities`, `${count}`);
  }
  let size = 4;
  for (let i = 0; i < count; i++) {
    await scan.need(head + size + 1);
    size += 1 + cursor.bytes[cursor.at + head + size]!;
  }
  return size;
}

function readBody(scan: Scan, name: string, reader: FieldReader, size: number): void {
  if (name === CAPABILITIES_SUBSECTION) {
    const count = reader.u32("caps_count");
    for (let i = 0; i < count; i++) scan.capabilities.add(reader.countedString(`capabilities[${i}]`));
  } else if (name === PAGE_BITS_SUBSECTION) {
    const at = reader.offset;
    const bits = reader.u32("target_page_bits", (value) =>
      value <= 16n ? `pages of ${2n ** value} bytes` : undefined,
    );
    if (bits < 8 || bits > 16) stop("stream.configuration", WHERE, at, "8 to 16 page bits", `${bits}`);
    scan.pageSize = 2 ** bits;
  } else reader.bytes(NAMES.get(name) ?? "data", size);
}
