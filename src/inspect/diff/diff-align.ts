// Pairs the fields of two descriptions of a section: first fields with the same name; then, among the rest,
// fields that occupy the same bytes, because names are not part of a section's data and differ among writers
// (`config` and `config[0]`, fields with or without a struct around them). Fields are paired by bytes only if
// both sections have the same version, because another version gives the bytes another meaning.
import type { Field } from "../model/stream-report.ts";

/** Stream offset of the first field of each side; fields are compared by their distance from it. */
export type Starts = readonly [first: number, second: number];

export interface FieldPair {
  readonly name: string;
  /** At least one of the two is present. */
  readonly first?: Field | undefined;
  readonly second?: Field | undefined;
}

type Named = ReadonlyMap<string, Field>;
/** Fields by offset from the start, and size. */
type Places = ReadonlyMap<string, string>;

/**
 * Pairs in the order of the first side, then the fields that only the second has. Without `starts`, pairs by
 * name only.
 */
export function pairFields(
  firstFields: readonly Field[],
  secondFields: readonly Field[],
  starts: Starts | undefined,
): FieldPair[] {
  const [first, second] = [byName(firstFields), byName(secondFields)];
  const twins = new Map<string, string>();
  let [a, b] = [first, second];
  if (starts !== undefined && lone(a, b).length > 0 && lone(b, a).length > 0) {
    const [from, to] = starts;
    [a, b] = [
      unwrapped(first, second, from, places(lone(second, first), to)),
      unwrapped(second, first, to, places(lone(first, second), from)),
    ];
    const there = places(lone(b, a), to);
    for (const [name, field] of lone(a, b)) {
      const twin = there.get(place(field, from));
      if (twin !== undefined && comparable(field, b.get(twin) as Field)) twins.set(name, twin);
    }
  }
  const pairs: FieldPair[] = [...a].map(([name, field]) => ({
    name,
    first: field,
    second: b.get(twins.get(name) ?? name),
  }));
  const taken = new Set(twins.values());
  for (const [name, field] of b) {
    if (!a.has(name) && !taken.has(name)) pairs.push({ name, second: field });
  }
  return pairs;
}

/** A subsection's header consists of its name, by which it was found, and its version. */
export const isHeader = ({ type }: Field) => type === "subsection header";

const byName = (fields: readonly Field[]): Named =>
  unique(fields.filter((field) => !isHeader(field)).map((field) => [field.name, field]));

/** Numbers fields with the same name, which some of QEMU's descriptions have. */
function unique(fields: Iterable<readonly [string, Field]>): Named {
  const found = new Map<string, Field>();
  const seen = new Map<string, number>();
  for (const [name, field] of fields) {
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    found.set(count === 1 ? name : `${name}#${count}`, field);
  }
  return found;
}

const lone = (fields: Named, others: Named) => [...fields].filter(([name]) => !others.has(name));
const place = ({ offset, size }: Field, start: number) => `${offset - start}+${size}`;
const places = (fields: readonly (readonly [string, Field])[], start: number): Places =>
  new Map(fields.filter(([, { size }]) => size > 0).map(([name, field]) => [place(field, start), name]));

/**
 * Replaces structs that only this side has by their fields, if the other side has such fields outside of
 * structs.
 */
function unwrapped(fields: Named, others: Named, start: number, there: Places): Named {
  const found: (readonly [string, Field])[] = [];
  for (const [name, field] of fields) {
    const children = field.type === "struct" && !others.has(name) ? (field.children ?? []) : [];
    const apart = !there.has(place(field, start)) && children.some((child) => there.has(place(child, start)));
    if (!apart) found.push([name, field]);
    else for (const [inner, child] of byName(children)) found.push([`${name}.${inner}`, child]);
  }
  return unique(found);
}

const comparable = (a: Field, b: Field) =>
  (a.children === undefined) === (b.children === undefined) &&
  typeof a.value === typeof b.value &&
  a.value instanceof Uint8Array === b.value instanceof Uint8Array;
