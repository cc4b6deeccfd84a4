// One field of a schema: a codec (its representation in memory and in the stream) and its properties: the
// version that added it, when it is present, its bounds, its name on the wire. QEMU's VMStateField.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Place } from "./place.ts";

/**
 * The state that contains a field, as its predicates take it: its type is still being inferred at that point.
 */
// oxlint-disable-next-line typescript/no-explicit-any
export type LooseState = any;

/** A state as a record of values by key. */
export type StateRecord = Record<string, unknown>;

/** One entry of `fields` in QEMU's VMDESCRIPTION. */
export interface DescribedField {
  name: string;
  array_len?: number;
  index?: number;
  type: string;
  struct?: DescribedState;
  size: number;
}
/** One state in QEMU's VMDESCRIPTION. */
export interface DescribedState {
  vmsd_name: string;
  version: number;
  fields: DescribedField[];
  subsections?: DescribedState[];
}

/** The part of a DescribedField that one element determines. */
export type DescribedElement = Pick<DescribedField, "size" | "struct">;

/** A field in the committed schema dump. `size` is the size of one element in bytes, 0 if it varies. */
export interface FieldSchema {
  name: string;
  type: string;
  size: number;
  count?: number | string;
  since?: number;
  conditional?: true;
  struct?: StateSchema;
}

/** A definition in the committed schema dump. */
export interface StateSchema {
  name: string;
  version: number;
  minimumVersion: number;
  /** Present for sections; a subsection has no priority of its own. */
  priority?: number;
  fields: FieldSchema[];
  subsections?: StateSchema[];
}

/** Creates, checks, writes and reads the values of one field. */
export interface Codec<T> {
  /** `type` in the VMDESCRIPTION. */
  readonly type: string;
  create(): T;
  /** Fails at `place` unless `value` has the right type, width and length. */
  validate(value: T, place: Place, state: StateRecord): void;
  write(writer: ByteWriter, value: T): void;
  read(reader: ByteReader, place: Place, state: StateRecord): T;
  /** Copies `source` into `target` if possible, otherwise returns a copy of `source`. */
  assign(target: T, source: T): T;
  /** The scalars that `range` bounds, and the size of each in bytes. */
  scalars(value: T): Iterable<number | bigint>;
  readonly width: number;
  describe(value: T): DescribedElement[];
  /** Hooks of nested states. */
  preSave?(value: T): void;
  /** False if the elements of one array may differ in shape. */
  readonly uniform: boolean;
  readonly schema: Omit<FieldSchema, "name" | "since" | "conditional">;
  /** The key of the field that holds the number of elements. */
  readonly countKey?: string;
}

/** What bounds a value, or an element of an array. */
export type Bound<T> = T extends number
  ? number
  : T extends bigint | BigUint64Array
    ? bigint
    : T extends Uint8Array | Uint16Array | Uint32Array
      ? number
      : never;

/** What a field's modifiers have set. */
export interface FieldOptions<T> {
  readonly since?: number;
  readonly when?: (state: LooseState, version: number) => boolean;
  readonly bounds?: readonly [number | bigint, number | bigint];
  readonly check?: (value: T, state: LooseState) => string | undefined;
  readonly initial?: T;
  readonly known?: true;
  readonly wireName?: string;
  readonly typeName?: string;
}

/** Immutable: every modifier returns a new field. */
export class Field<T> {
  readonly codec: Codec<T>;
  readonly options: FieldOptions<T>;

  constructor(codec: Codec<T>, options: FieldOptions<T> = {}) {
    this.codec = codec;
    this.options = options;
  }

  #with(options: FieldOptions<T>): Field<T> {
    return new Field(this.codec, { ...this.options, ...options });
  }

  /** Present in sections of this version and later. */
  since(version: number): Field<T> {
    return this.#with({ since: version });
  }
  /** Present if `exists` returns true; it sees the fields before this one. Overrides `since`. */
  when(exists: (state: LooseState, version: number) => boolean): Field<T> {
    return this.#with({ when: exists });
  }
  /** An inclusive range, for each element of an array. */
  range(lo: Bound<T>, hi: Bound<T>): Field<T> {
    return this.#with({ bounds: [lo, hi] });
  }
  /** `check` returns what was expected if `value` is wrong. It runs after all fields have been read. */
  check(check: (value: T, state: LooseState) => string | undefined): Field<T> {
    return this.#with({ check });
  }
  /** The value in a new state, and in a loaded state whose stream lacks the field. Default: zero. */
  init(value: T): Field<T> {
    return this.#with({ initial: value });
  }
  /**
   * A value known without the stream, such as the number of harts that sizes an array: not on the wire. A
   * loaded state takes it from the `known` state passed to `decode`.
   */
  known(): Field<T> {
    return this.#with({ known: true });
  }
  /** The name in the VMDESCRIPTION. Default: the key in snake_case. */
  named(wireName: string): Field<T> {
    return this.#with({ wireName });
  }
  /** The type in the VMDESCRIPTION if QEMU's differs from the codec's, such as `int32 equal`. */
  typed(typeName: string): Field<T> {
    return this.#with({ typeName });
  }

  get type(): string {
    return this.options.typeName ?? this.codec.type;
  }
  /** QEMU's vmsd_can_compress: the elements of an array share one VMDESCRIPTION entry. */
  get uniform(): boolean {
    return this.options.when === undefined && this.codec.uniform;
  }

  create(): T {
    const { initial } = this.options;
    const value = this.codec.create();
    return initial === undefined ? value : this.codec.assign(value, initial);
  }

  exists(state: StateRecord, version: number): boolean {
    const { when, since, known } = this.options;
    if (known === true) return false;
    return when === undefined ? (since ?? 0) <= version : when(state, version);
  }

  validate(value: T, place: Place, state: StateRecord): void {
    this.codec.validate(value, place, state);
    const { bounds, check } = this.options;
    if (bounds !== undefined) {
      const [lo, hi] = bounds;
      let i = 0;
      for (const scalar of this.codec.scalars(value)) {
        if (scalar < lo || scalar > hi) {
          if (typeof value === "object") place.index = i;
          if (place.offset !== undefined) place.offset += i * this.codec.width;
          place.fail("state.range", `${lo} to ${hi}`, String(scalar));
        }
        i++;
      }
    }
    if (check !== undefined) {
      const { path, offset } = place;
      place.deferred.push(() => {
        const expected = check(value, state);
        if (expected === undefined) return;
        place.path = path;
        place.index = -1;
        place.offset = offset;
        place.fail("state.check", expected, show(value));
      });
    }
  }
}

/** A value as messages show it. */
function show(value: unknown): string {
  return typeof value === "object" && value !== null ? "another value" : String(value);
}
