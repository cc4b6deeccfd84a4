// Types of QMP: the small part of QEMU's QAPI (docs/devel/qapi-code-gen) needed to check a client's
// arguments, to report errors with the messages of QEMU's visitors, and to describe commands (qmp-schema.ts).
import { WherryError } from "../base/errors.ts";
import { isObject, type JsonObject, type JsonValue } from "./qmp-json.ts";

/** Classes of QMP errors (qapi/error.json). All but GenericError exist because some client tests for them. */
export type ErrorClass =
  | "GenericError"
  | "CommandNotFound"
  | "DeviceNotActive"
  | "DeviceNotFound"
  | "KVMMissingCap";

/** An error reply to the client: `{"error": {"class", "desc"}}`. */
export class QmpError extends WherryError {
  readonly errorClass: ErrorClass;

  constructor(desc: string, errorClass: ErrorClass = "GenericError") {
    super("qmp.error", desc);
    this.errorClass = errorClass;
  }
}

/** What values a type has, for query-qmp-schema. */
export type Shape =
  | { readonly kind: "builtin"; readonly name: "str" | "int" | "number" | "bool" | "any" }
  | { readonly kind: "enum"; readonly values: readonly string[] }
  | { readonly kind: "array"; readonly element: Shape }
  | {
      readonly kind: "object";
      readonly members: Members;
      /** The member whose value selects further members. */
      readonly tag?: string;
      readonly variants?: Readonly<Record<string, Shape>>;
    };

const builtin = (name: "str" | "int" | "number" | "bool" | "any"): Shape => ({ kind: "builtin", name });

/** Reads a JSON value as T. `path` is the argument's name in messages. Throws QmpError. */
export interface Type<T> {
  readonly read: (value: JsonValue, path: string) => T;
  readonly shape: Shape;
  readonly optional?: boolean;
}

/** A member that may be absent. */
export interface OptionalType<T> extends Type<T> {
  readonly optional: true;
}

export type Members = { readonly [name: string]: Type<unknown> };

type ReadType<T> = T extends Type<infer V> ? V : never;
type OptionalNames<M extends Members> = {
  [K in keyof M]: M[K] extends OptionalType<unknown> ? K : never;
}[keyof M];

/** The object type that `members` describes. */
export type ArgumentsOf<M extends Members> = {
  [K in Exclude<keyof M, OptionalNames<M>>]: ReadType<M[K]>;
} & { [K in OptionalNames<M>]?: ReadType<M[K]> };

function invalidType(path: string, expected: string): QmpError {
  return new QmpError(`Invalid parameter type for '${path}', expected: ${expected}`);
}

export const str: Type<string> = {
  shape: builtin("str"),
  read(value, path) {
    if (typeof value !== "string") throw invalidType(path, "string");
    return value;
  },
};

export const bool: Type<boolean> = {
  shape: builtin("bool"),
  read(value, path) {
    if (typeof value !== "boolean") throw invalidType(path, "boolean");
    return value;
  },
};

function integer(value: JsonValue): number | undefined {
  if (typeof value === "bigint") return Number(value);
  return typeof value === "number" && Number.isInteger(value) ? value : undefined;
}

/** An unsigned 64-bit number; values above 2^53 are rounded to a double. */
export const uint64: Type<number> = {
  shape: builtin("int"),
  read(value, path) {
    const n = integer(value);
    if (n === undefined || n < 0) throw new QmpError(`Parameter '${path}' expects uint64`);
    return n;
  },
};

export const int: Type<number> = {
  shape: builtin("int"),
  read(value, path) {
    const n = integer(value);
    if (n === undefined) throw invalidType(path, "integer");
    return n;
  },
};

/** One word of a list. As in QEMU, the message names the member without its path. */
export function oneOf<const W extends string>(words: readonly W[]): Type<W> {
  return {
    shape: { kind: "enum", values: words },
    read(value, path) {
      const text = str.read(value, path);
      const word = words.find((w) => w === text);
      if (word !== undefined) return word;
      const member = path.slice(path.lastIndexOf(".") + 1);
      throw new QmpError(`Parameter '${member}' does not accept value '${text}'`);
    },
  };
}

export function list<T>(element: Type<T>): Type<T[]> {
  return {
    shape: { kind: "array", element: element.shape },
    read(value, path) {
      if (!Array.isArray(value)) throw invalidType(path, "array");
      return value.map((v, i) => element.read(v, `${path}[${i}]`));
    },
  };
}

/** A struct: required members must be present, unknown ones must not. */
export function struct<M extends Members>(members: M): Type<ArgumentsOf<M>> {
  return {
    shape: { kind: "object", members },
    read(value, path) {
      if (!isObject(value)) throw invalidType(path, "object");
      return readMembers(members, value, `${path}.`);
    },
  };
}

/** A number that may have a fraction; in results only. */
export const number: Type<number> = {
  shape: builtin("number"),
  read(value, path) {
    if (typeof value !== "number") throw invalidType(path, "number");
    return value;
  },
};

/** A value that no type of QAPI describes, such as a map of names. */
export const any: Type<JsonValue> = { shape: builtin("any"), read: (value) => value };

/** An object whose member `tag` selects further members, which the command reads itself. */
export function union(tag: string, variants: Readonly<Record<string, Type<unknown>>>): Type<JsonObject> {
  const cases = Object.entries(variants).map(([name, { shape }]) => [name, shape] as const);
  const members = { [tag]: oneOf(Object.keys(variants)) };
  return {
    shape: { kind: "object", members, tag, variants: Object.fromEntries(cases) },
    read(value, path) {
      if (!isObject(value)) throw invalidType(path, "object");
      return value;
    },
  };
}

export function optional<T>(type: Type<T>): OptionalType<T> {
  return { read: type.read, shape: type.shape, optional: true };
}

/** Reads the members of an object. `prefix` precedes a member's name in messages. Throws QmpError. */
export function readMembers<M extends Members>(members: M, value: JsonObject, prefix = ""): ArgumentsOf<M> {
  const result: Record<string, unknown> = {};
  for (const [name, type] of Object.entries(members)) {
    const member = value[name];
    if (member !== undefined) result[name] = type.read(member, prefix + name);
    else if (type.optional !== true) throw new QmpError(`Parameter '${prefix}${name}' is missing`);
  }
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(members, name)) throw new QmpError(`Parameter '${prefix}${name}' is unexpected`);
  }
  return result as ArgumentsOf<M>;
}
