// A state definition: fields, versions, hooks and subsections, and the one walker that encodes,
// decodes, validates, describes and copies whatever they describe (QEMU's VMStateDescription).
// A subsection adds fields to the same flat state object; it is written after the fields, if needed.
import { ByteWriter, EndOfBytes, type ByteReader } from "../base/bytes.ts";
import { decodeUtf8 } from "../base/text.ts";
import { countIn, countKeyOf, countSchema, type Count } from "./codecs.ts";
import type {
  Codec,
  DescribedField,
  DescribedState,
  Field,
  FieldSchema,
  LooseState,
  StateRecord,
} from "./field.ts";
import { Place, StateError } from "./place.ts";

const QEMU_VM_SUBSECTION = 0x05;
/** QEMU's MIG_PRI_DEFAULT. */
const PRIORITY_DEFAULT = 2;

// oxlint-disable-next-line typescript/no-explicit-any
export type Fields = Record<string, Field<any>>;
type Values<F> = {
  -readonly [K in keyof F as F[K] extends Field<undefined> ? never : K]: F[K] extends Field<infer T>
    ? T
    : never;
};
type Subsections = readonly Subsection<unknown>[];
type Intersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void ? I : never;
type Added<S> = S extends Subsection<infer T> ? T : never;
type Flatten<T> = { [K in keyof T]: T[K] };
/** The fields, and those of all subsections, as properties of one object. */
type Flat<F, S extends Subsections> = Flatten<Values<F> & Intersection<Added<S[number]>>>;

/** The state object's type. */
export type StateOf<D> = D extends StateDefinition<infer T> ? T : never;

export interface StateOptions<T> {
  readonly version: number;
  /** Oldest version that still loads. Default: `version`. */
  readonly minimumVersion?: number;
  /** MIG_PRI_*: sections are written from the highest to the lowest. Default: MIG_PRI_DEFAULT. */
  readonly priority?: number;
  /** Runs before the fields are written or described; may run more than once. */
  preSave?(state: T): void;
  /** Runs on a loaded state whose fields and checks have passed, before it is applied. May throw StateError. */
  postLoad?(state: T, version: number): void;
}

export interface SubsectionOptions extends Pick<StateOptions<LooseState>, "preSave" | "postLoad"> {
  readonly version: number;
  readonly minimumVersion?: number;
  /** True if the state has something that the parent's fields do not say. */
  needed(state: LooseState): boolean;
}

/** Definitions and subsections as the walker sees them. */
interface Group {
  readonly name: string;
  readonly version: number;
  readonly minimumVersion: number;
  readonly members: readonly Member[];
  readonly subsections: readonly Group[];
  readonly hooks: Pick<StateOptions<LooseState>, "preSave" | "postLoad">;
  needed(state: LooseState): boolean;
}
interface Member {
  readonly key: string;
  /** Name in paths and, made unique as QEMU does, in the VMDESCRIPTION. */
  readonly wireName: string;
  readonly describedName: string;
  readonly field: Field<unknown>;
}

export interface StateSchema {
  name: string;
  version: number;
  minimumVersion: number;
  priority?: number;
  fields: FieldSchema[];
  subsections?: StateSchema[];
}

function snakeCase(key: string): string {
  return key.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
}

function membersOf(group: string, fields: Fields): Member[] {
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

/** Every field that is part of the state (unused bytes are not). */
function* stateMembers(group: Group): Generator<Member> {
  for (const member of allMembers(group)) if (member.field.codec.type !== "unused_buffer") yield member;
}

function validateGroup(group: Group, state: StateRecord, version: number, place: Place): void {
  const { path } = place;
  for (const { key, wireName, field } of group.members) {
    if (!field.exists(state, version)) continue;
    place.path = `${path}.${wireName}`;
    place.index = -1;
    field.validate(state[key], place, state);
  }
  for (const sub of group.subsections) {
    if (!sub.needed(state)) continue;
    place.path = sub.name;
    validateGroup(sub, state, sub.version, place);
  }
  place.path = path;
}

function encodeGroup(group: Group, state: StateRecord, version: number, writer: ByteWriter): void {
  for (const { key, field } of group.members) {
    if (field.exists(state, version)) field.codec.write(writer, state[key]);
  }
  for (const sub of group.subsections) {
    if (!sub.needed(state)) continue;
    writer.u8(QEMU_VM_SUBSECTION).countedString(sub.name).u32(sub.version);
    encodeGroup(sub, state, sub.version, writer);
  }
}

function preSaveGroup(group: Group, state: StateRecord): void {
  group.hooks.preSave?.(state);
  for (const { key, field } of group.members) {
    if (field.codec instanceof StructCodec) field.codec.preSave(state[key]);
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

function decodeGroup(
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
  decodeSubsections(group, reader, state, place);
  const { postLoad } = group.hooks;
  if (postLoad !== undefined) place.deferred.push(() => postLoad(state, version));
  place.path = path;
}

/** The name of the subsection that comes next, or undefined if none does. */
function peekSubsection(reader: ByteReader): string | undefined {
  if (reader.peekU8() !== QEMU_VM_SUBSECTION) return undefined;
  const length = reader.peek(1, 1)?.[0];
  const name = length === undefined ? undefined : reader.peek(2, length);
  return name === undefined ? undefined : decodeUtf8(name);
}

/** Subsections come in any order. One whose name does not start with ours belongs to who contains us. */
function decodeSubsections(group: Group, reader: ByteReader, state: StateRecord, place: Place): void {
  const seen = new Set<string>();
  for (;;) {
    const name = peekSubsection(reader);
    if (name === undefined || name.length <= group.name.length || !name.startsWith(group.name)) return;
    place.at(reader);
    place.path = group.name;
    place.index = -1;
    const sub = group.subsections.find((s) => s.name === name);
    if (sub === undefined) failUnknownSubsection(group, name, place);
    if (seen.has(name)) place.fail("state.subsection", "each subsection once", `${name} again`);
    seen.add(name);
    reader.u8();
    reader.countedString();
    place.path = name;
    place.at(reader);
    decodeGroup(sub, reader, reader.u32(), state, place);
  }
}

function failUnknownSubsection(group: Group, name: string, place: Place): never {
  const known = group.subsections.map((s) => s.name).join(", ");
  place.fail(
    "state.subsection",
    known === "" ? "no subsection" : `one of ${known}`,
    `unknown subsection ${JSON.stringify(name)}`,
  );
}

function describeGroup(group: Group, state: StateRecord, version: number): DescribedState {
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

function schemaOf(group: Group): StateSchema {
  return {
    name: group.name,
    version: group.version,
    minimumVersion: group.minimumVersion,
    fields: group.members.map(({ describedName, field }) => ({
      name: describedName,
      ...field.codec.schema,
      type: field.type,
      ...(field.options.since === undefined ? {} : { since: field.options.since }),
      ...(field.options.when === undefined ? {} : { conditional: true }),
    })),
    ...(group.subsections.length === 0 ? {} : { subsections: group.subsections.map(schemaOf) }),
  };
}

/** Fields that are only there sometimes, beside the parent's (a VMStateDescription in `.subsections`). */
export class Subsection<T> {
  readonly group: Group;
  /** What it adds to the state; only a type. */
  declare readonly adds: T;

  constructor(name: string, options: SubsectionOptions, fields: Fields, subsections: Subsections) {
    this.group = {
      name,
      version: options.version,
      minimumVersion: options.minimumVersion ?? options.version,
      members: membersOf(name, fields),
      subsections: subsections.map((s) => s.group),
      hooks: options,
      needed: (state) => options.needed(state),
    };
  }
}

/** `name` is the parent's name, a slash and more: QEMU finds the parent by that prefix. */
export function subsection<F extends Fields, const S extends Subsections = readonly []>(
  name: string,
  options: SubsectionOptions,
  fields: F,
  subsections?: S,
): Subsection<Flat<F, S>> {
  return new Subsection(name, options, fields, subsections ?? []);
}

export interface DecodeOptions {
  /** Root of the paths in errors, such as the section's idstr. Default: the definition's name. */
  readonly path?: string;
}

export class StateDefinition<T> {
  readonly name: string;
  readonly version: number;
  readonly minimumVersion: number;
  readonly priority: number;
  readonly #group: Group;

  constructor(name: string, options: StateOptions<T>, fields: Fields, subsections: Subsections) {
    this.name = name;
    this.version = options.version;
    this.minimumVersion = options.minimumVersion ?? options.version;
    this.priority = options.priority ?? PRIORITY_DEFAULT;
    this.#group = {
      name,
      version: this.version,
      minimumVersion: this.minimumVersion,
      members: membersOf(name, fields),
      subsections: subsections.map((s) => s.group),
      hooks: options,
      needed: () => true,
    };
    for (const sub of this.#group.subsections) requirePrefix(sub, name);
    const keys = [...stateMembers(this.#group)].map((m) => m.key);
    const twice = keys.find((key, i) => keys.indexOf(key) !== i);
    if (twice !== undefined)
      throw new StateError("state.definition", name, undefined, "each field once", `${twice} twice`);
  }

  /** A new state: every field at its initial value. No property can be added to it. */
  create(): T {
    const state: StateRecord = {};
    for (const { key, field } of stateMembers(this.#group)) state[key] = field.create();
    return Object.seal(state) as T;
  }

  /** Throws StateError if a value has the wrong type, is out of its range, or contradicts another. */
  validate(state: T, options: DecodeOptions = {}): void {
    const place = new Place(options.path ?? this.name);
    this.validateAt(state, place);
    for (const check of place.deferred) check();
  }

  /** Runs preSave, validates, then writes the fields and the subsections that are needed. */
  encode(state: T, writer: ByteWriter, options: DecodeOptions = {}): void {
    preSaveGroup(this.#group, state as StateRecord);
    this.validate(state, options);
    this.write(state, writer);
  }

  /** A new validated state. Throws StateError; whatever the bytes are, it reads no further than they go. */
  decode(reader: ByteReader, version: number, options: DecodeOptions = {}): T {
    const place = new Place(options.path ?? this.name);
    place.at(reader);
    try {
      const state = this.readAt(reader, version, place);
      const stray = peekSubsection(reader);
      if (stray !== undefined && /^[\x21-\x7e]+\/[\x21-\x7e]+$/.test(stray)) {
        place.at(reader);
        failUnknownSubsection(this.#group, stray, place);
      }
      for (const check of place.deferred) check();
      return state;
    } catch (error) {
      if (!(error instanceof EndOfBytes)) throw error;
      const { offset, needed } = error;
      throw new StateError("state.end", place.fullPath, offset, `${needed} more bytes`, "the end");
    }
  }

  /** The VMDESCRIPTION of `state` as `encode` would write it now. */
  describe(state: T): DescribedState {
    preSaveGroup(this.#group, state as StateRecord);
    return this.describeAs(state, this.version);
  }

  /** Copy `source` into `target`, typed arrays and structs in place where the lengths agree. */
  assign(target: T, source: T): void {
    const [to, from] = [target as StateRecord, source as StateRecord];
    for (const { key, field } of stateMembers(this.#group)) to[key] = field.codec.assign(to[key], from[key]);
  }

  schema(): StateSchema {
    const { name, version, minimumVersion, ...rest } = schemaOf(this.#group);
    return { name, version, minimumVersion, priority: this.priority, ...rest };
  }

  /** Fields of the state with their keys, in the order of the schema, subsections last. */
  *entries(): Generator<readonly [key: string, field: Field<unknown>]> {
    for (const { key, field } of stateMembers(this.#group)) yield [key, field];
  }

  /** For structs inside other states: as above, at a place in the containing state. */
  validateAt(state: T, place: Place, version = this.version): void {
    validateGroup(this.#group, state as StateRecord, version, place);
  }
  readAt(reader: ByteReader, version: number, place: Place): T {
    const state = this.create();
    decodeGroup(this.#group, reader, version, state as StateRecord, place);
    return state;
  }
  write(state: T, writer: ByteWriter, version = this.version): void {
    encodeGroup(this.#group, state as StateRecord, version, writer);
  }
  describeAs(state: T, version: number): DescribedState {
    return describeGroup(this.#group, state as StateRecord, version);
  }
  preSaveAt(state: T): void {
    preSaveGroup(this.#group, state as StateRecord);
  }
  get uniform(): boolean {
    return this.#group.subsections.length === 0 && this.#group.members.every((m) => m.field.uniform);
  }
}

function requirePrefix(group: Group, parent: string): void {
  if (!group.name.startsWith(`${parent}/`) || group.name.length > 255) {
    throw new StateError(
      "state.definition",
      group.name,
      undefined,
      `a name that starts with ${parent}/, at most 255 bytes`,
      group.name,
    );
  }
  for (const sub of group.subsections) requirePrefix(sub, group.name);
}

/** A struct, or an array of them (VMSTATE_STRUCT, VMSTATE_STRUCT_ARRAY, VMSTATE_STRUCT_VARRAY, VMSTATE_VSTRUCT). */
export class StructCodec<T> implements Codec<T | T[]> {
  readonly type = "struct";
  readonly schema: Codec<T>["schema"];
  readonly countKey?: string;
  readonly #definition: StateDefinition<T>;
  readonly #version: number;
  readonly #count: Count | undefined;

  constructor(definition: StateDefinition<T>, version: number, count?: Count) {
    this.#definition = definition;
    this.#version = version;
    this.#count = count;
    if (count !== undefined) Object.assign(this, countKeyOf(count));
    this.schema = {
      type: "struct",
      size: 0,
      ...(count === undefined ? {} : countSchema(count)),
      struct: { name: definition.name, version },
    };
  }

  get uniform(): boolean {
    return this.#definition.uniform;
  }

  #each(value: T | T[]): T[] {
    return this.#count === undefined ? [value as T] : (value as T[]);
  }
  #shape(elements: T[]): T | T[] {
    return this.#count === undefined ? (elements[0] as T) : elements;
  }

  create(): T | T[] {
    const n = this.#count === undefined ? 1 : typeof this.#count === "number" ? this.#count : 0;
    return this.#shape(Array.from({ length: n }, () => this.#definition.create()));
  }

  validate(value: T | T[], place: Place, state: StateRecord): void {
    const { path } = place;
    const isArray = Array.isArray(value);
    if (typeof value !== "object" || value === null || isArray !== (this.#count !== undefined)) {
      place.fail("state.type", isArray ? "a struct" : "an array of structs", typeof value);
    }
    const elements = this.#each(value);
    if (this.#count !== undefined) {
      const n = countIn(this.#count, place, state);
      if (elements.length !== n) place.fail("state.length", `${n} elements`, String(elements.length));
    }
    for (const [i, element] of elements.entries()) {
      place.path = this.#count === undefined ? path : `${path}[${i}]`;
      this.#definition.validateAt(element, place, this.#version);
    }
    place.path = path;
  }

  preSave(value: T | T[]): void {
    for (const element of this.#each(value)) this.#definition.preSaveAt(element);
  }

  write(writer: ByteWriter, value: T | T[]): void {
    for (const element of this.#each(value)) this.#definition.write(element, writer, this.#version);
  }

  read(reader: ByteReader, place: Place, state: StateRecord): T | T[] {
    const { path } = place;
    const n = this.#count === undefined ? 1 : countIn(this.#count, place, state);
    const elements: T[] = [];
    for (let i = 0; i < n; i++) {
      place.path = this.#count === undefined ? path : `${path}[${i}]`;
      elements.push(this.#definition.readAt(reader, this.#version, place));
    }
    return this.#shape(elements);
  }

  assign(target: T | T[], source: T | T[]): T | T[] {
    const from = this.#each(source);
    const to = this.#each(target);
    if (to.length !== from.length) return this.#shape(from.map((element) => this.#copy(element)));
    for (const [i, element] of from.entries()) this.#definition.assign(to[i] as T, element);
    return target;
  }
  #copy(source: T): T {
    const copy = this.#definition.create();
    this.#definition.assign(copy, source);
    return copy;
  }

  scalars(): Iterable<never> {
    return [];
  }

  describe(value: T | T[]): { size: number; struct: DescribedState }[] {
    return this.#each(value).map((element) => {
      const writer = new ByteWriter();
      this.#definition.write(element, writer, this.#version);
      return { size: writer.length, struct: this.#definition.describeAs(element, this.#version) };
    });
  }
}

// Every definition made, by name and shape, for the schema dump (tools/schema-dump.ts).
const registry = new Map<string, StateSchema>();

/** Schemas of all definitions made so far, sorted by name. */
export function registeredSchemas(): StateSchema[] {
  return [...registry.keys()].sort().map((key) => registry.get(key) as StateSchema);
}

/**
 * Define a state. The state object's type, its bytes, checks and description follow from `fields`.
 * `name` is QEMU's vmsd name where there is one. Throws StateError if the definition contradicts itself.
 */
export function defineState<F extends Fields, const S extends Subsections = readonly []>(
  name: string,
  options: StateOptions<Flat<F, S>>,
  fields: F,
  subsections?: S,
): StateDefinition<Flat<F, S>> {
  const definition = new StateDefinition<Flat<F, S>>(name, options, fields, subsections ?? []);
  const schema = definition.schema();
  registry.set(`${name} ${JSON.stringify(schema)}`, schema);
  return definition;
}
