// What a QEMU can load, read from the JSON that `qemu-system-… -M MACHINE -dump-vmstate FILE` prints: per
// device type the state's name, versions, fields and subsections. The same shape holds what a stream's
// VMDESCRIPTION says of one section, so that check-layout.ts compares either with either. Left out: sections
// that belong to no device type (cpu of most targets, ram, globalstate), which QEMU does not list.
import { messageOf } from "../../base/errors.ts";
import type { DescribedField, DescribedStruct, Description } from "../model/description.ts";
import { InspectError } from "../model/problems.ts";

/** A field as the dump describes it. */
export interface FieldLayout {
  readonly name: string;
  /** The first version of the description that has the field. */
  readonly version: number;
  /** A function of the device decides whether the field is there; unknown from outside. */
  readonly conditional: boolean;
  /** Bytes of one element as the dump has them; undefined where they vary or are not known. */
  readonly size?: number;
  /** Elements; undefined if not known (QEMU before 8.1 does not say). */
  readonly count?: number;
  /** Bytes of all elements in a stream; only of streams. */
  readonly streamBytes?: number;
  /** The VMDESCRIPTION's type; only of streams. */
  readonly type?: string;
  /**
   * Of a struct. An array's elements may differ in a stream: each different one is here, up to MAX_VARIANTS.
   */
  readonly structs: readonly Layout[];
}

/** QEMU's VMStateDescription. */
export interface Layout {
  readonly name: string;
  readonly version: number;
  /** The oldest version that can be loaded; undefined for streams, which do not say. */
  readonly minimumVersion?: number;
  readonly fields: readonly FieldLayout[];
  readonly subsections: readonly Layout[];
}

/** A parsed `qemu-system-… -M MACHINE -dump-vmstate`: what a QEMU would write of each type of device. */
export interface VmstateDump {
  /** Of -M. */
  readonly machine?: string;
  /** By name of the device type. */
  readonly types: ReadonlyMap<string, Layout>;
}

/** Nesting of structs and subsections that is believed; QEMU's own has less than 10. */
const MAX_DEPTH = 64;
/**
 * Elements of an array of structs that are kept apart where they differ; QEMU's differ in a subsection or
 * two.
 */
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
    // QEMU prints 0 where the size is only known at run time.
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

/** Whether this parsed JSON is a dump at all. */
function isDump(root: Json | undefined): root is Json {
  return (
    root !== undefined && Object.values(root).some((value) => asObject(asObject(value)?.["Description"]))
  );
}

/** Parses a dump's text. Throws InspectError if it is none. */
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
    // The parser quotes what it found, whatever that is.
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
  // Arrays of pointers: how many elements are described depends on which of them are null.
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

/** The mark before an element of an array of pointers, and what stands for one that is null. */
const POINTERS = /^(ptr-marker|nullptr)$/;
/** Lists and trees: a dump shows what their elements are, a stream those that there are. */
const LISTS = /^(qtailq|qlist|gtree)$/;

function describedField({ name, type, size, arrayLength = 1, structs }: DescribedField): FieldLayout {
  return {
    // Fields of one name are numbered in the stream only.
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

/** One more element of an array that is described element by element. */
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

/**
 * What a stream's VMDESCRIPTION says of each section, by `idstr/instance`. Those without a description are
 * left out.
 */
export function describedSections(description: Description): ReadonlyMap<string, Layout> {
  const found = new Map<string, Layout>();
  for (const device of description.devices) {
    if (device.vmsdName !== undefined) found.set(`${device.name}/${device.instanceId}`, streamLayout(device));
  }
  return found;
}
