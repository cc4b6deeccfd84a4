// The only walker over the fields and subsections of a state: it validates, encodes, decodes and describes
// them, as QEMU's vmstate_save_state and vmstate_load_state do. The fields of a subsection are properties of
// the same flat state object as its parent's.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import { decodeUtf8, quoted } from "../base/text.ts";
import type { DescribedField, DescribedState, Field, LooseState, StateRecord, StateSchema } from "./field.ts";
import { type Place, StateError } from "./place.ts";

/** The byte before the name of a subsection. */
export const QEMU_VM_SUBSECTION = 0x05;

/** Fields by key, in the order of the stream. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Fields = Record<string, Field<any>>;

/** What runs before a state is saved and after it is loaded. */
export interface Hooks<T> {
  /** Runs before the fields are written or described; may run more than once. */
  preSave?(state: T): void;
  /**
   * Runs on a loaded state after its fields and checks have passed and before it is applied. May throw
   * StateError.
   */
  postLoad?(state: T, version: number): void;
}

/** The walker's view of definitions and subsections. */
export interface Group {
  readonly name: string;
  readonly version: number;
  readonly minimumVersion: number;
  readonly members: readonly Member[];
  readonly subsections: readonly Group[];
  readonly hooks: Hooks<LooseState>;
  needed(state: LooseState): boolean;
}
export interface Member {
  readonly key: string;
  /** The name in paths and, made unique as QEMU does, in the VMDESCRIPTION. */
  readonly wireName: string;
  readonly describedName: string;
  readonly field: Field<unknown>;
}

function snakeCase(key: string): string {
  return key.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
}

export function membersOf(group: string, fields: Fields): Member[] {
  const entries = Object.entries(fields);
  const wireNames = entries.map(
    ([key, field]) => field.options.wireName ?? (field.type === "unused_buffer" ? "unused" : snakeCase(key)),
  );
  const before = new Set<string>();
  return entries.map(([key, field], i) => {
    const { countKey } = field.codec;
    if (countKey !== undefined && !before.has(countKey)) {
      throw new StateError("state.definition", `${group}.${key}`, undefined, `${countKey} before it`, "none");
    }
    before.add(key);
    const wireName = wireNames[i] as string;
    const unique = wireNames.indexOf(wireName) === wireNames.lastIndexOf(wireName);
    const ordinal = wireNames.slice(0, i).filter((n) => n === wireName).length;
    return { key, wireName, describedName: unique ? wireName : `${wireName}[${ordinal}]`, field };
  });
}

function* allMembers(group: Group): Generator<Member> {
  yield* group.members;
  for (const sub of group.subsections) yield* allMembers(sub);
}

/** Every field of the state except unused bytes. */
export function* stateMembers(group: Group): Generator<Member> {
  for (const member of allMembers(group)) if (member.field.codec.type !== "unused_buffer") yield member;
}

export function validateGroup(group: Group, state: StateRecord, version: number, place: Place): void {
  const { path } = place;
  for (const { key, wireName, field } of group.members) {
    if (!field.exists(state, version)) continue;
    place.path = `${path}.${wireName}`;
    place.index = -1;
    field.validate(state[key], place, state);
  }
  for (const sub of group.subsections) {
    if (!sub.needed(state)) continue;
    place.path = subsectionPath(path, sub.name);
    validateGroup(sub, state, sub.version, place);
  }
  place.path = path;
}

export function encodeGroup(group: Group, state: StateRecord, version: number, writer: ByteWriter): void {
  for (const { key, field } of group.members) {
    if (field.exists(state, version)) field.codec.write(writer, state[key]);
  }
  for (const sub of group.subsections) {
    if (!sub.needed(state)) continue;
    writer.u8(QEMU_VM_SUBSECTION).countedString(sub.name).u32(sub.version);
    encodeGroup(sub, state, sub.version, writer);
  }
}

export function preSaveGroup(group: Group, state: StateRecord): void {
  group.hooks.preSave?.(state);
  for (const { key, field } of group.members) {
    field.codec.preSave?.(state[key]);
  }
  for (const sub of group.subsections) if (sub.needed(state)) preSaveGroup(sub, state);
}

function checkVersion(group: Group, version: number, place: Place): void {
  if (version > group.version) {
    place.fail(
      "state.version",
      `version ${group.minimumVersion} to ${group.version} (a newer Wherry is needed)`,
      String(version),
    );
  }
  if (version < group.minimumVersion) {
    place.fail(
      "state.version",
      `version ${group.minimumVersion} to ${group.version} (too old to load)`,
      String(version),
    );
  }
}

export function decodeGroup(
  group: Group,
  reader: ByteReader,
  version: number,
  state: StateRecord,
  place: Place,
): void {
  const { path } = place;
  checkVersion(group, version, place);
  for (const { key, wireName, field } of group.members) {
    if (!field.exists(state, version)) continue;
    place.path = `${path}.${wireName}`;
    place.index = -1;
    place.at(reader);
    const { offset } = place;
    const value = field.codec.read(reader, place, state);
    place.path = `${path}.${wireName}`;
    place.index = -1;
    place.offset = offset;
    if (value !== undefined) {
      state[key] = value;
      field.validate(value, place, state);
    }
  }
  place.path = path;
  decodeSubsections(group, reader, state, place);
  const { postLoad } = group.hooks;
  if (postLoad !== undefined) place.deferred.push(() => postLoad(state, version));
  place.path = path;
}

/** The name of the next subsection, or undefined if there is none. */
export function peekSubsection(reader: ByteReader): string | undefined {
  if (reader.peekU8() !== QEMU_VM_SUBSECTION) return undefined;
  const length = reader.peek(1, 1)?.[0];
  const name = length === undefined ? undefined : reader.peek(2, length);
  return name === undefined ? undefined : decodeUtf8(name);
}

/** A subsection's name starts with its parent's, which the path may contain already. */
function subsectionPath(path: string, name: string): string {
  return name.startsWith(`${path}/`) ? name : `${path}: ${name}`;
}

/**
 * Subsections come in any order. A subsection whose name does not start with ours belongs to the container.
 */
function decodeSubsections(group: Group, reader: ByteReader, state: StateRecord, place: Place): void {
  const { path } = place;
  const seen = new Set<string>();
  for (;;) {
    const name = peekSubsection(reader);
    if (name === undefined || name.length <= group.name.length || !name.startsWith(group.name)) return;
    place.at(reader);
    place.path = path;
    place.index = -1;
    const sub = group.subsections.find((s) => s.name === name);
    if (sub === undefined) failUnknownSubsection(group, name, place);
    if (seen.has(name)) place.fail("state.subsection", "each subsection once", `${name} again`);
    seen.add(name);
    reader.u8();
    reader.countedString();
    place.path = subsectionPath(path, name);
    place.at(reader);
    decodeGroup(sub, reader, reader.u32(), state, place);
  }
}

export function failUnknownSubsection(group: Group, name: string, place: Place): never {
  const known = group.subsections.map((s) => s.name).join(", ");
  place.fail(
    "state.subsection",
    known === "" ? "no subsection" : `one of ${known}`,
    `unknown subsection ${quoted(name)}`,
  );
}

export function describeGroup(group: Group, state: StateRecord, version: number): DescribedState {
  const fields: DescribedField[] = [];
  for (const { key, describedName: name, field } of group.members) {
    if (!field.exists(state, version)) continue;
    const elements = field.codec.describe(state[key]);
    for (const [index, { size, struct }] of elements.entries()) {
      const place = elements.length < 2 ? {} : field.uniform ? { array_len: elements.length } : { index };
      fields.push({ name, ...place, type: field.type, ...(struct === undefined ? {} : { struct }), size });
      if (field.uniform) break;
    }
  }
  const subsections = group.subsections
    .filter((s) => s.needed(state))
    .map((s) => describeGroup(s, state, s.version));
  return { vmsd_name: group.name, version, fields, ...(subsections.length === 0 ? {} : { subsections }) };
}

export function schemaOf(group: Group): StateSchema {
  return {
    name: group.name,
    version: group.version,
    minimumVersion: group.minimumVersion,
    fields: group.members
      .filter(({ field }) => !field.options.known)
      .map(({ describedName, field }) => ({
        name: describedName,
        ...field.codec.schema,
        type: field.type,
        ...(field.options.since === undefined ? {} : { since: field.options.since }),
        ...(field.options.when === undefined ? {} : { conditional: true }),
      })),
    ...(group.subsections.length === 0 ? {} : { subsections: group.subsections.map(schemaOf) }),
  };
}
