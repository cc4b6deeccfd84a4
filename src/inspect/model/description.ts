// The VMDESCRIPTION: the JSON after the end of a stream that names every field of its sections (written by
// QEMU's migration/vmstate.c). It has its own parser, because it repeats keys within one object (each element
// of a list has `vmsd_name`, `version`, `fields`), which JSON.parse drops, and because depth
// and size are untrusted.
import { WherryError } from "../../base/errors.ts";
import { decodeUtf8 } from "../../base/text.ts";

/** A section or struct: QEMU's name and version, its fields, and the subsections that are present. */
export interface DescribedStruct {
  readonly vmsdName?: string;
  readonly version?: number;
  readonly fields: readonly DescribedField[];
  readonly subsections: readonly DescribedStruct[];
}

/** One field. */
export interface DescribedField {
  readonly name: string;
  readonly type: string;
  /** Length in bytes; for an array, the length of one element. */
  readonly size: number;
  /** Number of array elements that this field describes. */
  readonly arrayLength?: number;
  /** Index of this element in its array. */
  readonly index?: number;
  /** The description of a `struct`; or the elements of a list, tree or other type, in order. */
  readonly structs: readonly DescribedStruct[];
}

/** The state of one device. */
export interface DescribedDevice extends DescribedStruct {
  readonly name: string;
  readonly instanceId: number;
}

/** The VMDESCRIPTION at the end of a stream: names and sizes of all fields of its device sections. */
export interface Description {
  readonly pageSize?: number;
  readonly configuration?: DescribedStruct;
  readonly devices: readonly DescribedDevice[];
}

const MAX_DEPTH = 100;
/** The VMDESCRIPTION of a guest with 256 CPUs has a million. */
const MAX_VALUES = 2_000_000;

type Json = null | boolean | number | string | Json[] | JsonObject;
/** An object's entries in order, including repeated keys. */
class JsonObject {
  readonly entries: (readonly [key: string, value: Json])[] = [];
  get(key: string): Json | undefined {
    return this.entries.find(([name]) => name === key)?.[1];
  }
}

class DescriptionError extends WherryError {
  constructor(message: string) {
    super("inspect.description", message);
  }
}

/** Parses JSON text and keeps all entries of objects. Throws DescriptionError. */
class JsonParser {
  readonly #text: string;
  #at = 0;
  #values = 0;
  constructor(text: string) {
    this.#text = text;
  }

  document(): Json {
    const value = this.#value(0);
    this.#space();
    if (this.#at !== this.#text.length) this.#fail("the end");
    return value;
  }
  #fail(expected: string): never {
    const found =
      this.#at < this.#text.length ? JSON.stringify(this.#text.slice(this.#at, this.#at + 12)) : "the end";
    throw new DescriptionError(`expected ${expected} at character ${this.#at}, found ${found}`);
  }
  #space(): void {
    while (" \t\n\r".includes(this.#text[this.#at] ?? "x")) this.#at++;
  }
  #accept(char: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== char) return false;
    this.#at++;
    return true;
  }
  #expect(char: string): void {
    if (!this.#accept(char)) this.#fail(`'${char}'`);
  }
  #value(depth: number): Json {
    if (depth > MAX_DEPTH) this.#fail(`at most ${MAX_DEPTH} levels`);
    if (++this.#values > MAX_VALUES) this.#fail(`at most ${MAX_VALUES} values`);
    this.#space();
    const char = this.#text[this.#at];
    if (char === "{") return this.#object(depth);
    if (char === "[") return this.#array(depth);
    if (char === '"') return this.#string();
    WORD.lastIndex = this.#at;
    const match = WORD.exec(this.#text);
    if (match === null) this.#fail("a value");
    this.#at += match[0].length;
    return JSON.parse(match[0]) as Json;
  }
  #object(depth: number): JsonObject {
    this.#at++;
    const object = new JsonObject();
    if (this.#accept("}")) return object;
    do {
      this.#space();
      if (this.#text[this.#at] !== '"') this.#fail("a key");
      const key = this.#string();
      this.#expect(":");
      object.entries.push([key, this.#value(depth + 1)]);
    } while (this.#accept(","));
    this.#expect("}");
    return object;
  }
  #array(depth: number): Json[] {
    this.#at++;
    const array: Json[] = [];
    if (this.#accept("]")) return array;
    do array.push(this.#value(depth + 1));
    while (this.#accept(","));
    this.#expect("]");
    return array;
  }
  #string(): string {
    // Most strings are names without escapes.
    const end = this.#text.indexOf('"', this.#at + 1);
    const plain = this.#text.slice(this.#at + 1, end);
    if (end >= 0 && PLAIN.test(plain)) {
      this.#at = end + 1;
      return plain;
    }
    STRING.lastIndex = this.#at;
    const match = STRING.exec(this.#text);
    if (match === null) this.#fail("a string");
    this.#at += match[0].length;
    try {
      return JSON.parse(match[0]) as string;
    } catch {
      this.#fail("a string");
    }
  }
}
const WORD = /(?:null|true|false|-?(?:0|[1-9]\d{0,20})(?:\.\d{1,10})?(?:e[+-]?\d{1,3})?)(?![\w.])/iy;
const PLAIN = /^[\x20-\x5b\x5d-\x7e]*$/;
const STRING = /"(?:[^"\\]|\\.)*"/y;

/** Parses the VMDESCRIPTION's bytes. Throws a WherryError with the reason if they are invalid. */
export function parseDescription(bytes: Uint8Array): Description {
  const json = new JsonParser(decodeUtf8(bytes)).document();
  if (!(json instanceof JsonObject)) throw new DescriptionError("expected an object");
  const pageSize = json.get("page_size");
  const configuration = json.get("configuration");
  return {
    ...(typeof pageSize === "number" ? { pageSize } : {}),
    ...(configuration instanceof JsonObject ? { configuration: structOf(configuration) } : {}),
    devices: objects(json.get("devices")).map((device) => ({
      ...structOf(device),
      name: text(device.get("name")),
      // QEMU prints it as a signed number.
      instanceId: count(device.get("instance_id"), "instance_id", true) >>> 0,
    })),
  };
}

function objects(value: Json | undefined): JsonObject[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || !value.every((item) => item instanceof JsonObject))
    throw new DescriptionError("expected an array of objects");
  return value;
}
function text(value: Json | undefined): string {
  if (typeof value !== "string")
    throw new DescriptionError(`expected a name, found ${JSON.stringify(value)}`);
  return value;
}
function count(value: Json | undefined, what: string, signed = false): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || (value < 0 && !signed))
    throw new DescriptionError(`expected a number as ${what}, found ${JSON.stringify(value)}`);
  return value;
}

function structOf(object: JsonObject): DescribedStruct {
  return structsOf(object)[0] ?? { fields: [], subsections: [] };
}

/** Structs whose keys follow each other in one object: each starts at the first repeated key. */
function structsOf(object: JsonObject): DescribedStruct[] {
  const structs: { -readonly [K in keyof DescribedStruct]: DescribedStruct[K] }[] = [];
  let seen = new Set<string>();
  for (const [key, value] of object.entries) {
    if (!STRUCT_KEYS.has(key)) continue;
    let struct = structs.at(-1);
    if (struct === undefined || seen.has(key)) {
      struct = { fields: [], subsections: [] };
      structs.push(struct);
      seen = new Set();
    }
    seen.add(key);
    if (key === "vmsd_name") struct.vmsdName = text(value);
    else if (key === "version") struct.version = count(value, "version", true);
    else if (key === "fields") struct.fields = objects(value).map(fieldOf);
    else struct.subsections = objects(value).map(structOf);
  }
  return structs;
}
const STRUCT_KEYS = new Set(["vmsd_name", "version", "fields", "subsections"]);

function fieldOf(object: JsonObject): DescribedField {
  const struct = object.get("struct");
  const length = object.get("array_len");
  const index = object.get("index");
  return {
    name: text(object.get("name")),
    type: text(object.get("type")),
    size: count(object.get("size"), "size"),
    ...(length === undefined ? {} : { arrayLength: count(length, "array_len") }),
    ...(index === undefined ? {} : { index: count(index, "index") }),
    structs: struct instanceof JsonObject ? [structOf(struct)] : structsOf(object),
  };
}

/** Length of a struct in bytes, including subsections. */
export function describedSize(struct: DescribedStruct): number {
  let size = 0;
  for (const field of struct.fields) size += field.size * (field.arrayLength ?? 1);
  for (const subsection of struct.subsections) {
    size += 1 + 1 + (subsection.vmsdName ?? "").length + 4 + describedSize(subsection);
  }
  return size;
}
