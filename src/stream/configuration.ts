// The start of a stream: magic and version, then the CONFIGURATION section with the name of the machine type
// and, in subsections, the properties that both sides must share (vmstate_configuration in QEMU's
// migration/savevm.c). Wherry's own streams add the move's id. Streams of machine types before 2.4 have no
// configuration.
import { ByteReader, type ByteWriter } from "../base/bytes.ts";
import { hex } from "../base/hex.ts";
import { decodeUtf8, encodeUtf8, quoted } from "../base/text.ts";
import type { StreamCursor } from "./stream-cursor.ts";
import type { StreamFacts } from "./stream-facts.ts";
import type { StreamFault } from "./stream-fault.ts";
import { CONFIGURATION, MOVE_ID_SIZE, QEMU_VM, QEMU_VM_FILE_MAGIC, QEMU_VM_FILE_VERSION } from "./wire.ts";

/**
 * Lists the capabilities that source and destination must both enable: x-ignore-shared and, since 9.0,
 * mapped-ram. It never lists any other.
 */
const CAPABILITIES_SUBSECTION = "configuration/capabilities";
const PAGE_BITS_SUBSECTION = "configuration/target-page-bits";
const UUID_SUBSECTION = "configuration/uuid";
export const MOVE_ID_SUBSECTION = "configuration/wherry-move";
/** Limits of this reader; QEMU has none. */
const MAX_NAME = 4096;
const MAX_CAPABILITIES = 256;
const MAX_SUBSECTIONS = 64;
const UUID_BYTES = 16;
/** The smallest page size (AVR) and the largest (Hexagon). */
const MIN_PAGE_BITS = 8;
const MAX_PAGE_BITS = 16;

type Known =
  | { readonly kind: "capabilities"; readonly capabilities: readonly string[] }
  | { readonly kind: "page-bits"; readonly pageBits: number }
  | { readonly kind: "uuid"; readonly uuid: Uint8Array }
  | { readonly kind: "move-id"; readonly moveId: Uint8Array }
  /** A subsection that only a VMDESCRIPTION describes. */
  | { readonly kind: "other" };

export type ConfigurationSubsection = Known & {
  readonly name: string;
  readonly version: number;
  /** Stream offset of the subsection's type byte. */
  readonly offset: number;
  /** Length of type, name and version, in bytes. */
  readonly headBytes: number;
  /** A copy of the whole subsection. */
  readonly bytes: Uint8Array;
};

export interface ConfigurationSink {
  /**
   * Called with the machine's name. `bytes` is a copy of length and name, found at stream offset `offset`.
   */
  machine(name: string, bytes: Uint8Array, offset: number): void;
  /**
   * Data length of a subsection that this grammar does not know; undefined if it is not described anywhere.
   */
  sizeOf?(name: string): number | undefined;
  subsection(subsection: ConfigurationSubsection): void;
}

/** Reads magic and version. `known` adds details to the error for another file format. */
export async function readFileHeader(
  cursor: StreamCursor,
  known: Pick<StreamFault, "cause" | "cure"> & { readonly found?: string } = {},
): Promise<void> {
  const { offset } = cursor;
  await cursor.need(8);
  const magic = cursor.u32();
  if (magic !== QEMU_VM_FILE_MAGIC) {
    const expected = `${hex(QEMU_VM_FILE_MAGIC)} ("QEVM")`;
    cursor.refuse({ code: "stream.magic", where: "header", offset, expected, found: hex(magic), ...known });
  }
  const version = cursor.u32();
  if (version === QEMU_VM_FILE_VERSION) return;
  cursor.refuse({
    code: "stream.version",
    where: "header",
    offset: offset + 4,
    expected: `stream version ${QEMU_VM_FILE_VERSION}`,
    found: `${version}`,
  });
}

/** Reads the section after its type byte, to the end of its last subsection. */
export async function readConfiguration(
  cursor: StreamCursor,
  facts: StreamFacts,
  sink: ConfigurationSink,
): Promise<void> {
  const { offset } = cursor;
  await cursor.need(4);
  const length = cursor.peekU32();
  if (length > MAX_NAME) {
    const expected = `a machine's name of at most ${MAX_NAME} bytes`;
    cursor.refuse({ code: "stream.configuration", offset, expected, found: `${length} bytes` });
  }
  await cursor.need(4 + length);
  const bytes = cursor.bytes(4 + length).slice();
  facts.machine = decodeUtf8(bytes.subarray(4));
  sink.machine(facts.machine, bytes, offset);
  const seen = new Set<string>();
  // The next section or command has another type byte.
  while ((await cursor.ahead(1)) && cursor.buffer[cursor.at] === QEMU_VM.SUBSECTION)
    await readSubsection(cursor, facts, sink, seen);
}

async function readSubsection(
  cursor: StreamCursor,
  facts: StreamFacts,
  sink: ConfigurationSink,
  seen: Set<string>,
): Promise<void> {
  const { offset } = cursor;
  const wrong = (expected: string, found: string): StreamFault => ({
    code: "stream.configuration",
    offset,
    expected,
    found,
  });
  const nameBytes = await peekName(cursor);
  const headBytes = 2 + nameBytes + 4;
  const name = decodeUtf8(cursor.buffer.subarray(cursor.at + 2, cursor.at + 2 + nameBytes));
  const version = cursor.peekU32(2 + nameBytes);
  const found = `${quoted(name)} version ${version}`;
  const isKnown = KNOWN.has(name);
  // QEMU refuses versions that it does not know; of a repeated subsection the last one counts.
  if (isKnown && version !== 1) cursor.refuse(wrong(`subsection ${name} version 1`, found));
  if (seen.has(name)) cursor.report(wrong(`subsection ${name} once`, `${found} again`));
  if (seen.size === MAX_SUBSECTIONS)
    cursor.refuse(wrong(`at most ${MAX_SUBSECTIONS} subsections`, "one more"));
  seen.add(name);
  let size = sink.sizeOf?.(name);
  if (isKnown) size = await knownSize(cursor, name, headBytes, wrong);
  if (size === undefined) cursor.refuse(wrong("a known subsection", found));
  await cursor.need(headBytes + size);
  const bytes = cursor.bytes(headBytes + size).slice();
  const known = decodeBody(name, bytes.subarray(headBytes));
  if (known.kind === "page-bits") {
    const { pageBits } = known;
    if (pageBits < MIN_PAGE_BITS || pageBits > MAX_PAGE_BITS)
      cursor.refuse(wrong(`${MIN_PAGE_BITS} to ${MAX_PAGE_BITS} page bits`, `${pageBits}`));
  }
  if (known.kind === "capabilities") for (const it of known.capabilities) facts.capabilities.add(it);
  sink.subsection({ ...known, name, version, offset, headBytes, bytes });
}

/** Buffers the head of the subsection at the cursor. Resolves to the length of its name. */
async function peekName(cursor: StreamCursor): Promise<number> {
  await cursor.need(2);
  const length = cursor.buffer[cursor.at + 1]!;
  await cursor.need(2 + length + 4);
  return length;
}

const KNOWN: ReadonlySet<string> = new Set([
  CAPABILITIES_SUBSECTION,
  PAGE_BITS_SUBSECTION,
  UUID_SUBSECTION,
  MOVE_ID_SUBSECTION,
]);

/** Length of the subsection's data, which follows `head` bytes at the cursor. */
async function knownSize(
  cursor: StreamCursor,
  name: string,
  head: number,
  wrong: (expected: string, found: string) => StreamFault,
): Promise<number> {
  if (name === PAGE_BITS_SUBSECTION) return 4;
  if (name === UUID_SUBSECTION) return UUID_BYTES;
  if (name === MOVE_ID_SUBSECTION) return MOVE_ID_SIZE;
  await cursor.need(head + 4);
  const count = cursor.peekU32(head);
  if (count > MAX_CAPABILITIES) cursor.refuse(wrong(`at most ${MAX_CAPABILITIES} capabilities`, `${count}`));
  let size = 4;
  for (let i = 0; i < count; i++) {
    await cursor.need(head + size + 1);
    size += 1 + cursor.buffer[cursor.at + head + size]!;
  }
  return size;
}

function decodeBody(name: string, body: Uint8Array): Known {
  const reader = new ByteReader(body);
  switch (name) {
    case CAPABILITIES_SUBSECTION: {
      const capabilities = Array.from({ length: reader.u32() }, () => reader.countedString());
      return { kind: "capabilities", capabilities };
    }
    case PAGE_BITS_SUBSECTION:
      return { kind: "page-bits", pageBits: reader.u32() };
    case UUID_SUBSECTION:
      return { kind: "uuid", uuid: body };
    case MOVE_ID_SUBSECTION:
      return { kind: "move-id", moveId: body };
    default:
      return { kind: "other" };
  }
}

export interface ConfigurationToWrite {
  readonly machine: string;
  readonly moveId?: Uint8Array | undefined;
  readonly capabilities: readonly string[];
}

/** Writes magic, version and the section. */
export function writeConfiguration(
  out: ByteWriter,
  { machine, moveId, capabilities }: ConfigurationToWrite,
): void {
  const name = encodeUtf8(machine);
  out.u32(QEMU_VM_FILE_MAGIC).u32(QEMU_VM_FILE_VERSION);
  out.u8(QEMU_VM.CONFIGURATION).u32(name.length).bytes(name);
  if (moveId !== undefined) out.u8(QEMU_VM.SUBSECTION).countedString(MOVE_ID_SUBSECTION).u32(1).bytes(moveId);
  if (capabilities.length === 0) return;
  out.u8(QEMU_VM.SUBSECTION).countedString(CAPABILITIES_SUBSECTION).u32(1).u32(capabilities.length);
  for (const capability of capabilities) out.countedString(capability);
}

/** Describes the section for the VMDESCRIPTION. */
export function describeConfiguration({ machine, moveId, capabilities }: ConfigurationToWrite): unknown {
  const subsections: unknown[] = [];
  if (moveId !== undefined) {
    const fields = [{ name: "id", type: "buffer", size: moveId.length }];
    subsections.push({ vmsd_name: MOVE_ID_SUBSECTION, version: 1, fields });
  }
  if (capabilities.length > 0) {
    const fields = [
      { name: "caps_count", type: "uint32", size: 4 },
      ...capabilities.map((it) => ({ name: "capabilities", type: "capability", size: it.length + 1 })),
    ];
    subsections.push({ vmsd_name: CAPABILITIES_SUBSECTION, version: 1, fields });
  }
  return {
    vmsd_name: CONFIGURATION,
    version: 1,
    fields: [
      { name: "len", type: "uint32", size: 4 },
      { name: "name", type: "buffer", size: encodeUtf8(machine).length },
    ],
    ...(subsections.length === 0 ? {} : { subsections }),
  };
}
