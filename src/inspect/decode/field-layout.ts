// Runs of fixed fields, written as text: "mac:b6 status:2 max_virtqueue_pairs:2". `name:n` is an unsigned
// integer of n bytes (1, 2, 4, 8), `name:bn` n bytes as they are, `name:?` a byte that is true or false, and
// `name[n]:…` an array of n, as `desc[2]:4`. Also subsections as the VMState format writes them (0x05,
// counted name, version, fields): see QEMU's docs/devel/migration, "Subsections".
import { decodeUtf8 } from "../../base/text.ts";
import { QEMU_VM } from "../../stream/wire.ts";
import type { FieldReader, Meaning } from "./fields.ts";

export type ByteOrder = "big" | "little";
/** A table whose keys come from a stream; unlike an object it has no inherited keys. */
export const table = <V>(entries: Readonly<Record<string, V>>): ReadonlyMap<string, V> =>
  new Map(Object.entries(entries));

export type Meanings = Readonly<Record<string, Meaning>>;

interface Item {
  readonly name: string;
  readonly kind: "integer" | "bytes" | "bool";
  readonly size: number;
}

const parsed = new Map<string, readonly Item[]>();

function itemsOf(layout: string): readonly Item[] {
  let items = parsed.get(layout);
  if (items === undefined) {
    items = (layout === "" ? [] : layout.split(" ")).flatMap((word): Item[] => {
      const [, name = "", count, kind = ""] = /^([^[:]+)(?:\[(\d+)\])?:(b?\d+|\?)$/.exec(word) ?? [];
      const item: Item =
        kind === "?"
          ? { name, kind: "bool", size: 1 }
          : kind.startsWith("b")
            ? { name, kind: "bytes", size: Number(kind.slice(1)) }
            : { name, kind: "integer", size: Number(kind) };
      if (count === undefined) return [item];
      return Array.from({ length: Number(count) }, (_, i) => ({ ...item, name: `${name}[${i}]` }));
    });
    parsed.set(layout, items);
  }
  return items;
}

/** Length of a layout in bytes. */
export const layoutSize = (layout: string): number =>
  itemsOf(layout).reduce((sum, item) => sum + item.size, 0);

const trueOrFalse: Meaning = (value) =>
  value === 0n ? "false" : value === 1n ? "true" : "neither true nor false";

/** Reads one item. Returns its value if it is an integer of at most 8 bytes. */
function readItem(reader: FieldReader, item: Item, order: ByteOrder, meaning?: Meaning): number | undefined {
  if (item.kind === "bytes") {
    reader.bytes(item.name, item.size);
    return undefined;
  }
  if (item.kind === "bool") return reader.u8(item.name, trueOrFalse);
  switch (item.size) {
    case 1:
      return reader.u8(item.name, meaning);
    case 2:
      return reader.u16(item.name, meaning, order);
    case 4:
      return reader.u32(item.name, meaning, order);
    default:
      return Number(reader.u64(item.name, meaning, order));
  }
}

/** Reads all of `layout` and returns its integers by name (8-byte ones rounded to a double). */
export function readLayout(
  reader: FieldReader,
  layout: string,
  order: ByteOrder = "big",
  meanings: Meanings = {},
): Readonly<Record<string, number>> {
  const values: Record<string, number> = {};
  for (const item of itemsOf(layout)) {
    const value = readItem(reader, item, order, meanings[item.name]);
    if (value !== undefined) values[item.name] = value;
  }
  return values;
}

/**
 * Reads `length` bytes as far as `layout` goes (bytes may be truncated). Bytes beyond it become the field
 * `tail`.
 */
export function readPrefix(
  reader: FieldReader,
  layout: string,
  length: number,
  order: ByteOrder,
  meanings: Meanings = {},
): void {
  let left = length;
  for (const item of itemsOf(layout)) {
    const size = item.kind === "bytes" ? Math.min(item.size, left) : item.size;
    if (size > left || size === 0) break;
    readItem(reader, { ...item, size }, order, meanings[item.name]);
    left -= size;
  }
  if (left > 0) reader.bytes("tail", left, undefined, "unknown");
}

/**
 * Reads `count` elements of `layout` as groups `[i]`. Equal elements at the end become one field, but the
 * first `least` are always elements, so that two streams of one machine have the same fields.
 */
export function readElements(
  reader: FieldReader,
  layout: string,
  count: number,
  least: number,
  title: (index: number) => string | undefined = () => undefined,
): void {
  const size = layoutSize(layout);
  const bytes = reader.peek(size * count);
  let used = count;
  if (bytes !== undefined && count > 0) {
    // Compares bytes with those one element further on, backwards from the last element.
    let same = bytes.length - size;
    while (same > 0 && bytes[same - 1] === bytes[same - 1 + size]) same--;
    used = Math.max(Math.ceil(same / size), Math.min(least, count));
    if (count - used < 2) used = count;
  }
  for (let i = 0; i < used; i++) {
    reader.group(`[${i}]`, "struct", () => readLayout(reader, layout), title(i));
  }
  if (used === count) return;
  const zero = bytes?.subarray(used * size, (used + 1) * size).every((byte) => byte === 0) === true;
  const type = zero ? "zeros" : "buffer";
  reader.bytes(`[${used}..${count - 1}]`, (count - used) * size, zero ? "all zero" : "all equal", type);
}

/**
 * Name and header size in bytes of the subsection `ahead` bytes after the cursor, if it belongs to `parent`.
 */
function subsectionAhead(
  reader: FieldReader,
  parent: string,
  ahead = 0,
): { readonly name: string; readonly header: number } | undefined {
  const [marker, length = 0] = reader.peek(2, ahead) ?? [];
  if (marker !== QEMU_VM.SUBSECTION || length <= parent.length) return undefined;
  const bytes = reader.peek(length, ahead + 2);
  if (bytes === undefined) return undefined;
  const name = decodeUtf8(bytes);
  return name.startsWith(`${parent}/`) ? { name, header: 2 + length + 4 } : undefined;
}

/** True if a subsection of one of `parents`, or the end, is `ahead` bytes after the cursor. */
export function subsectionOrEnd(reader: FieldReader, ahead: number, parents: readonly string[]): boolean {
  return (
    reader.remaining === ahead ||
    parents.some((parent) => subsectionAhead(reader, parent, ahead) !== undefined)
  );
}

/** Readers of the fields of subsections, by name. */
export type SubsectionReaders = Readonly<Record<string, (reader: FieldReader, version: number) => void>>;

/** Names of subsections inside virtio devices; only these are searched for in unknown bytes. */
const PLAUSIBLE = /^virtio[-_a-z]*\/[-_a-z0-9/]+$/;

/** Reads unknown bytes as one field, up to the probable start of the next subsection (of `parent`). */
export function readUnknown(reader: FieldReader, name: string, parent = ""): void {
  const bytes = reader.peek(reader.remaining) ?? new Uint8Array(0);
  let end = bytes.indexOf(QEMU_VM.SUBSECTION);
  for (; end >= 0; end = bytes.indexOf(QEMU_VM.SUBSECTION, end + 1)) {
    const size = bytes[end + 1] ?? 0;
    const text = decodeUtf8(bytes.subarray(end + 2, end + 2 + size));
    if (text.length === size && PLAUSIBLE.test(text) && (parent === "" || text.startsWith(`${parent}/`)))
      break;
  }
  const length = end < 0 ? bytes.length : end;
  if (length > 0) reader.bytes(name, length, undefined, "unknown");
}

/**
 * Reads the subsections of `parent` at the cursor. Unknown bytes are read up to the next subsection's head.
 */
export function readSubsections(reader: FieldReader, parent: string, readers: SubsectionReaders): void {
  for (;;) {
    const ahead = subsectionAhead(reader, parent);
    if (ahead === undefined) return;
    const version = [...(reader.peek(4, ahead.header - 4) ?? [])].reduce((v, byte) => v * 256 + byte, 0);
    reader.group(ahead.name, "subsection", () => {
      reader.bytes("header", ahead.header, `version ${version}`, "subsection header");
      const read = readers[ahead.name];
      if (read === undefined) readUnknown(reader, "rest");
      else read(reader, version);
    });
  }
}

/**
 * Finds a subsection by its name. Returns the offset of its fields from the cursor, in bytes; undefined if it
 * is missing.
 */
export function findSubsection(reader: FieldReader, name: string): number | undefined {
  const bytes = reader.peek(reader.remaining);
  if (bytes === undefined) return undefined;
  const wanted = [QEMU_VM.SUBSECTION, name.length, ...Array.from(name, (c) => c.charCodeAt(0))];
  for (let at = bytes.indexOf(QEMU_VM.SUBSECTION); at >= 0; at = bytes.indexOf(QEMU_VM.SUBSECTION, at + 1)) {
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return at + wanted.length + 4;
  }
  return undefined;
}
