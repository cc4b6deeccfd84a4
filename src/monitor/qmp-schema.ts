// query-qmp-schema: the commands and events as QAPI's SchemaInfo (qapi/introspect.json), made of the same
// table that reads their arguments. As in QEMU, types other than QAPI's own have numbers for names, and
// arrays the name of their element in brackets.
import type { JsonObject } from "./qmp-json.ts";
import type { Members, Shape } from "./qapi.ts";
import type { QmpCommand } from "./qmp-command.ts";

/** QAPI's built-in types: all integers are `int` here, as in QEMU. */
const JSON_TYPES = { str: "string", int: "int", number: "number", bool: "boolean", any: "value" } as const;

export function qmpSchema(
  commands: readonly QmpCommand[],
  events: Readonly<Record<string, Members>>,
): JsonObject[] {
  const schema: JsonObject[] = [];
  /** The name of each type that is in the schema, by what it is. */
  const names = new Map<string, string>();
  const named = (entry: JsonObject, name = `${names.size}`): string => {
    const key = JSON.stringify(entry);
    const known = names.get(key);
    if (known !== undefined) return known;
    names.set(key, name);
    schema.push({ name, ...entry });
    return name;
  };
  const typeOf = (shape: Shape): string => {
    switch (shape.kind) {
      case "builtin":
        return named({ "meta-type": "builtin", "json-type": JSON_TYPES[shape.name] }, shape.name);
      case "enum": {
        const { values } = shape;
        return named({ "meta-type": "enum", members: values.map((name) => ({ name })), values: [...values] });
      }
      case "array": {
        const element = typeOf(shape.element);
        return named({ "meta-type": "array", "element-type": element }, `[${element}]`);
      }
      case "object": {
        const { members, tag, variants } = shape;
        const cases = Object.entries(variants ?? {}).map(([name, of]) => ({ case: name, type: typeOf(of) }));
        return named({
          "meta-type": "object",
          members: membersOf(members),
          ...(tag === undefined ? {} : { tag, variants: cases }),
        });
      }
    }
  };
  const membersOf = (members: Members): JsonObject[] =>
    Object.entries(members).map(([name, type]) => ({
      name,
      // The default is not told, as in QEMU: its presence says that the member is optional.
      ...(type.optional === true ? { default: null } : {}),
      type: typeOf(type.shape),
    }));
  const entries: JsonObject[] = [];
  for (const { name, members, returns } of commands) {
    const types = { "arg-type": typeOf({ kind: "object", members }), "ret-type": typeOf(returns.shape) };
    entries.push({ name, "meta-type": "command", ...types });
  }
  for (const [name, members] of Object.entries(events))
    entries.push({ name, "meta-type": "event", "arg-type": typeOf({ kind: "object", members }) });
  return [...entries, ...schema];
}

/** Where `value` is not what `shape` says; empty if it is. */
export function misfits(shape: Shape, value: unknown, path: string): string[] {
  switch (shape.kind) {
    case "builtin": {
      const found = typeof value === "bigint" || Number.isInteger(value) ? "int" : typeof value;
      const expected = JSON_TYPES[shape.name];
      if (expected === "value" || found === expected || (expected === "number" && found === "int")) return [];
      return [`${path}: ${found}, expected ${expected}`];
    }
    case "enum":
      return shape.values.some((word) => word === value) ? [] : [`${path}: ${String(value)}`];
    case "array":
      if (!Array.isArray(value)) return [`${path}: no array`];
      return value.flatMap((one, i) => misfits(shape.element, one, `${path}[${i}]`));
    case "object": {
      if (typeof value !== "object" || value === null || Array.isArray(value)) return [`${path}: no object`];
      const all = value as Record<string, unknown>;
      const variant = shape.tag === undefined ? undefined : shape.variants?.[String(all[shape.tag])];
      const members = { ...shape.members, ...(variant?.kind === "object" ? variant.members : {}) };
      const missing = Object.entries(members).filter(([name, type]) => !type.optional && !(name in all));
      return [
        ...missing.map(([name]) => `${path}.${name} is missing`),
        ...Object.entries(all).flatMap(([name, one]) => {
          const type = members[name];
          return type === undefined
            ? [`${path}.${name} is not in the schema`]
            : misfits(type.shape, one, `${path}.${name}`);
        }),
      ];
    }
  }
}
