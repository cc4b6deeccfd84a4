// A state definition: fields, versions, hooks and subsections (QEMU's VMStateDescription). It determines the
// type, initial value, encoding, checks, copies and description of the state object.
import { type ByteReader, type ByteWriter, EndOfBytes } from "../base/bytes.ts";
import type { DescribedState, Field, LooseState, StateRecord, StateSchema } from "./field.ts";
import { Place, StateError } from "./place.ts";
import {
  decodeGroup,
  describeGroup,
  encodeGroup,
  failUnknownSubsection,
  type Fields,
  type Group,
  type Hooks,
  type Member,
  membersOf,
  peekSubsection,
  preSaveGroup,
  schemaOf,
  stateMembers,
  validateGroup,
} from "./walk.ts";

/** QEMU's MIG_PRI_DEFAULT. */
const PRIORITY_DEFAULT = 2;

/** The state's properties that fields give. */
export type Values<F> = {
  -readonly [K in keyof F as F[K] extends Field<undefined> ? never : K]: F[K] extends Field<infer T>
    ? T
    : never;
};
/** Subsections of one parent. */
export type Subsections = readonly Subsection<unknown>[];
/** All members of a union at once. */
export type Intersection<U> = (U extends unknown ? (u: U) => void : never) extends (i: infer I) => void
  ? I
  : never;
/** What a subsection adds to its parent's state. */
export type Added<S> = S extends Subsection<infer T> ? T : never;
/** The same properties, as one object type. */
export type Flatten<T> = { [K in keyof T]: T[K] };
/** The fields and those of all subsections, as properties of one object. */
export type Flat<F, S extends Subsections> = Flatten<Values<F> & Intersection<Added<S[number]>>>;

/** The state object's type. */
export type StateOf<D> = D extends StateDefinition<infer T> ? T : never;

/** Version, priority and hooks of a state. */
export interface StateOptions<T> extends Hooks<T> {
  readonly version: number;
  /** The oldest version that can be loaded. Default: `version`. */
  readonly minimumVersion?: number;
  /** MIG_PRI_*: sections are written from the highest to the lowest. Default: MIG_PRI_DEFAULT. */
  readonly priority?: number;
}

/** Version, condition and hooks of a subsection. */
export interface SubsectionOptions extends Hooks<LooseState> {
  readonly version: number;
  readonly minimumVersion?: number;
  /** True if the subsection holds state that the parent's fields do not express. */
  needed(state: LooseState): boolean;
}

/** Optional fields of the parent's state object (a VMStateDescription in `.subsections`). */
export class Subsection<T> {
  /** @internal */
  readonly group: Group;
  /** The properties that it adds to the state; a type only. */
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

/** `name` starts with the parent's name, mostly followed by a slash: QEMU finds the parent by this prefix. */
export function subsection<F extends Fields, const S extends Subsections = readonly []>(
  name: string,
  options: SubsectionOptions,
  fields: F,
  subsections?: S,
): Subsection<Flat<F, S>> {
  return new Subsection(name, options, fields, subsections ?? []);
}

/** How errors name the state. */
export interface PathOptions {
  /** The root of the paths in errors, such as the section's idstr. Default: the definition's name. */
  readonly path?: string;
}

/** How a state is decoded. */
export interface DecodeOptions<T> extends PathOptions {
  /** The source of the values of `known()` fields. Default: their initial values. */
  readonly known?: Partial<T>;
}

/** A state's fields, versions, checks and stream format; made by `defineState`. */
export class StateDefinition<T> {
  readonly name: string;
  readonly version: number;
  readonly minimumVersion: number;
  readonly priority: number;
  readonly #group: Group;
  /** The members of the definition and of all subsections. */
  readonly #members: readonly Member[];

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
    this.#members = [...stateMembers(this.#group)];
    const keys = this.#members.map((m) => m.key);
    const twice = keys.find((key, i) => keys.indexOf(key) !== i);
    if (twice !== undefined)
      throw new StateError("state.definition", name, undefined, "each field once", `${twice} twice`);
  }

  /** A new state with every field at its initial value. Properties cannot be added to it. */
  create(): T {
    const state: StateRecord = {};
    for (const { key, field } of this.#members) state[key] = field.create();
    return Object.seal(state) as T;
  }

  /** Throws StateError if a value has the wrong type, is out of range, or contradicts another. */
  validate(state: T, options: PathOptions = {}): void {
    const place = new Place(options.path ?? this.name);
    this.validateAt(state, place);
    for (const check of place.deferred) check();
  }

  /** Runs preSave, validates, then writes the fields and the subsections that are needed. */
  encode(state: T, writer: ByteWriter, options: PathOptions = {}): void {
    preSaveGroup(this.#group, state as StateRecord);
    this.validate(state, options);
    this.write(state, writer);
  }

  /** Returns a new, validated state. Throws StateError; never reads past the end of the bytes. */
  decode(reader: ByteReader, version: number, options: DecodeOptions<T> = {}): T {
    const place = new Place(options.path ?? this.name);
    place.at(reader);
    try {
      const state = this.readAt(reader, version, place, options.known);
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

  /** Copies `source` into `target`; typed arrays and structs in place where the lengths agree. */
  assign(target: T, source: T): void {
    const [to, from] = [target as StateRecord, source as StateRecord];
    for (const { key, field } of this.#members) to[key] = field.codec.assign(to[key], from[key]);
  }

  schema(): StateSchema {
    const { name, version, minimumVersion, ...rest } = schemaOf(this.#group);
    return { name, version, minimumVersion, priority: this.priority, ...rest };
  }

  /** The same for a struct inside another state: `place` is its position in the containing state. */
  validateAt(state: T, place: Place, version = this.version): void {
    validateGroup(this.#group, state as StateRecord, version, place);
  }
  readAt(reader: ByteReader, version: number, place: Place, known?: Partial<T>): T {
    const state = this.create();
    const record = state as StateRecord;
    for (const { key, field } of known === undefined ? [] : this.#group.members) {
      if (field.options.known) record[key] = field.codec.assign(record[key], (known as StateRecord)[key]);
    }
    decodeGroup(this.#group, reader, version, record, place);
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
  if (!group.name.startsWith(parent) || group.name.length <= parent.length || group.name.length > 255) {
    throw new StateError(
      "state.definition",
      group.name,
      undefined,
      `a name that starts with ${parent}, at most 255 bytes`,
      group.name,
    );
  }
  for (const sub of group.subsections) requirePrefix(sub, group.name);
}

// All definitions by name and shape, for the schema dump (tools/schema-dump.ts).
const registry = new Map<string, StateSchema>();

/**
 * The schemas of all definitions made so far, sorted by name. For the schema dump.
 * @fortools
 */
export function registeredSchemas(): StateSchema[] {
  return [...registry.keys()].sort().map((key) => registry.get(key) as StateSchema);
}

/**
 * Defines a state. `fields` determine the type, encoding, checks and description of the state object. `name`
 * is QEMU's vmsd name if there is one. Throws StateError if the definition contradicts itself.
 */
export function defineState<F extends Fields, const S extends Subsections = readonly []>(
  name: string,
  options: StateOptions<Flat<F, S>>,
  fields: F,
  subsections?: S,
): StateDefinition<Flat<F, S>> {
  const definition = qemuState(name, options, fields, subsections);
  const schema = definition.schema();
  registry.set(`${name} ${JSON.stringify(schema)}`, schema);
  return definition;
}

/**
 * A state in the format of another program's release. It is not in the schema dump, because Wherry does not
 * decide how it may change.
 */
export function qemuState<F extends Fields, const S extends Subsections = readonly []>(
  name: string,
  options: StateOptions<Flat<F, S>>,
  fields: F,
  subsections?: S,
): StateDefinition<Flat<F, S>> {
  return new StateDefinition<Flat<F, S>>(name, options, fields, subsections ?? []);
}
