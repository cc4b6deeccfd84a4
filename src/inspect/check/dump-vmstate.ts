// The state that a QEMU can load, from the JSON of `qemu-system-… -M MACHINE -dump-vmstate FILE`: per device
// type the state's name, versions, fields and subsections. A section's part of a stream's VMDESCRIPTION has
// the same shape, so check-layout.ts compares either with either. QEMU does not list sections that belong to
// no device type (cpu of most targets, ram, globalstate).
import { messageOf } from "../../base/errors.ts";
import type { DescribedField, DescribedStruct, Description } from "../model/description.ts";
import { InspectError } from "../model/problems.ts";

/** A field as the dump describes it. */
export interface FieldLayout {
  readonly name: string;
  /** First version of the description that has the field. */
  readonly version: number;
  /** A function of the device decides whether the field is present; unknown here. */
  readonly conditional: boolean;
  /** Bytes of one element in the dump; undefined if they vary or are not known. */
  readonly size?: number;
  /** Number of elements; undefined if not known (QEMU before 8.1 does not print it). */
  readonly count?: number;
  /** Bytes of all elements; streams only. */
  readonly streamBytes?: number;
  /** The VMDESCRIPTION's type; streams only. */
  readonly type?: string;
  /**
   * Layouts of a struct. In a stream the elements of an array may differ: each variant is listed, up to
   * MAX_VARIANTS.
   */
  readonly structs: readonly Layout[];
}

/** QEMU's VMStateDescription. */
export interface Layout {
  readonly name: string;
  readonly version: number;
  /** The oldest version that can be loaded; undefined for streams. */
  readonly minimumVersion?: number;
  readonly fields: readonly FieldLayout[];
  readonly subsections: readonly Layout[];
}

/** A parsed `qemu-system-… -M MACHINE -dump-vmstate`: the state that a QEMU writes for each device type. */
export interface VmstateDump {
  /** Machine type (-M). */
  readonly machine?: string;
  /** By the name of the device type. */
  readonly types: ReadonlyMap<string, Layout>;
}

/** Deepest nesting of structs and subsections that is accepted; QEMU's has less than 10. */
const MAX_DEPTH = 64;
/** Most variants of an array element that are distinguished; QEMU's differ in one or two subsections. */
const MAX_VARIANTS = 16;

type Json = Record<string, unknown>;
const asObject = (value: unknown): Json | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const asText = (value: unknown): string => (typeof value === "string" ? value : "");
const asCount = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;

function tooDeep(name: string): InspectError {
  return new InspectError({
    code: "check.dump",
    where: `description '${name}'`,
    expected: `nesting of at most ${MAX_DEPTH}`,
    found: "more",
    cure: "make the file again: no QEMU writes such a description",
  });
}

function dumpedField(value: Json, depth: number): FieldLayout {
  const size = asCount(value["size"]);
  const count = asCount(value["num"]);
  const struct = asObject(value["Description"]);
  return {
    name: asText(value["field"]),
    version: asCount(value["version_id"]) ?? 0,
    conditional: value["field_exists"] === true,
    // QEMU prints 0 if the size is known only at run time.
    ...(size === undefined || size === 0 ? {} : { size }),
    ...(count === undefined ? {} : { count }),
    structs: struct === undefined ? [] : [dumpedLayout(struct, depth + 1)],
  };
}

function dumpedLayout(value: Json, depth: number): Layout {
  const name = asText(value["name"]);
  if (depth > MAX_DEPTH) throw tooDeep(name);
  const objects = (key: string) =>
    asList(value[key])
      .map(asObject)
      .filter((item) => item !== undefined);
  return {
    name,
    version: asCount(value["version_id"]) ?? 0,
    minimumVersion: asCount(value["minimum_version_id"]) ?? 0,
    fields: objects("Fields").map((field) => dumpedField(field, depth)),
    subsections: objects("Subsections").map((subsection) => dumpedLayout(subsection, depth + 1)),
  };
}

/** True if the parsed JSON is a dump. */
function isDump(root: Json | undefined): root is Json {
  return (
    root !== undefined && Object.values(root).some((value) => asObject(asObject(value)?.["Description"]))
  );
}

/** Parses the text of a dump. Throws InspectError if it is another text. */
export function parseDump(text: string): VmstateDump {
  const notDump = (found: string, cause?: unknown) =>
    new InspectError(
      {
        code: "check.dump",
        where: "dump of the target",
        expected: "the output of qemu -dump-vmstate",
        found,
        cure: "make it with `qemu-system-ARCH -M MACHINE -dump-vmstate FILE`",
      },
      { cause },
    );
  let root: Json | undefined;
  try {
    root = asObject(JSON.parse(text));
  } catch (cause) {
    // Remove the parser's quotation of the input.
    throw notDump(`no JSON (${messageOf(cause).replace(/, (\.\.\.)?".*$/s, "")})`, cause);
  }
  if (!isDump(root)) throw notDump("other JSON");
  const types = new Map<string, Layout>();
  for (const [name, value] of Object.entries(root)) {
    const description = asObject(asObject(value)?.["Description"]);
    if (description !== undefined) types.set(name, dumpedLayout(description, 0));
  }
  const machine = asObject(root["vmschkmachine"])?.["Name"];
  return { types, ...(typeof machine === "string" ? { machine } : {}) };
}

function streamLayout(struct: DescribedStruct): Layout {
  const fields: FieldLayout[] = [];
  // In an array of pointers, the number of described elements depends on how many are null.
  const sparse = new Set(struct.fields.filter(({ type }) => POINTERS.test(type)).map(({ name }) => name));
  let last: string | undefined;
  for (const described of struct.fields) {
    if (POINTERS.test(described.type)) continue;
    const { count, ...rest } = describedField(described);
    const field = sparse.has(described.name) || count === undefined ? rest : { ...rest, count };
    const array = fields.at(-1);
    // Elements of one array have one name; different fields have different ones.
    if (array !== undefined && described.name === last) fields[fields.length - 1] = joined(array, field);
    else fields.push(field);
    last = described.name;
  }
  return {
    name: struct.vmsdName ?? "",
    version: struct.version ?? 0,
    fields,
    subsections: struct.subsections.map(streamLayout),
  };
}

/** The mark before an element of an array of pointers, and the placeholder of a null element. */
const POINTERS = /^(ptr-marker|nullptr)$/;
/** Lists and trees: a dump describes their element, a stream the present elements. */
const LISTS = /^(qtailq|qlist|gtree)$/;

function describedField({ name, type, size, arrayLength = 1, structs }: DescribedField): FieldLayout {
  return {
    // Only streams number fields of the same name.
    name: name.replace(/\[\d+\]$/, ""),
    version: 0,
    conditional: false,
    ...(LISTS.test(type) ? {} : { size }),
    streamBytes: size * arrayLength,
    count: arrayLength,
    type,
    structs: type === "struct" || type === "vstruct" ? structs.map(streamLayout) : [],
  };
}

/** Adds an element to an array that is described element by element. */
function joined(array: FieldLayout, element: FieldLayout): FieldLayout {
  const added = element.structs.filter(
    (struct) =>
      array.structs.length < MAX_VARIANTS &&
      !array.structs.some((known) => JSON.stringify(known) === JSON.stringify(struct)),
  );
  return {
    ...array,
    ...(array.count === undefined || element.count === undefined
      ? {}
      : { count: array.count + element.count }),
    streamBytes: (array.streamBytes ?? 0) + (element.streamBytes ?? 0),
    structs: added.length === 0 ? array.structs : [...array.structs, ...added],
  };
}

/** A stream's VMDESCRIPTION by section (`idstr/instance`), without sections that have no description. */
export function describedSections(description: Description): ReadonlyMap<string, Layout> {
  const found = new Map<string, Layout>();
  for (const device of description.devices) {
    if (device.vmsdName !== undefined) found.set(`${device.name}/${device.instanceId}`, streamLayout(device));
  }
  return found;
}
