// One field of a schema: a codec (how a value looks in bytes and in memory) and what the schema says of
// it: since which version, when it exists, its bounds, its name on the wire. QEMU's VMStateField.
import type { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Place } from "./place.ts";

// A predicate sees the state that it is part of, whose type is still being inferred where it is written.
// oxlint-disable-next-line typescript/no-explicit-any
export type LooseState = any;

/** A state seen by key. */
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
export interface DescribedState {
  vmsd_name: string;
  version: number;
  fields: DescribedField[];
  subsections?: DescribedState[];
}

/** What one element of a value adds to its DescribedField. */
export type DescribedElement = Pick<DescribedField, "size" | "struct">;

/** A field as the committed schema dump shows it. `size` is in bytes of one element, 0 if it varies. */
export interface FieldSchema {
  name: string;
  type: string;
  size: number;
  count?: number | string;
  since?: number;
  conditional?: true;
  struct?: StateSchema;
}

/** A definition as the committed schema dump shows it. */
export interface StateSchema {
  name: string;
  version: number;
  minimumVersion: number;
  /** Of sections; a subsection has none of its own. */
  priority?: number;
  fields: FieldSchema[];
  subsections?: StateSchema[];
}

/** How values of one field are made, checked, written and read. */
export interface Codec<T> {
  /** `type` in the VMDESCRIPTION. */
  readonly type: string;
  create(): T;
  /** Fails at `place` unless `value` is of the right type, width and length. */
  validate(value: T, place: Place, state: StateRecord): void;
  write(writer: ByteWriter, value: T): void;
  read(reader: ByteReader, place: Place, state: StateRecord): T;
  /** `source` copied into `target` where it can be, else a copy of `source`. */
  assign(target: T, source: T): T;
  /** Scalars that `range` bounds, and how many bytes each has. */
  scalars(value: T): Iterable<number | bigint>;
  readonly width: number;
  describe(value: T): DescribedElement[];
  /** Hooks of nested states. */
  preSave?(value: T): void;
  /** False if elements of one array may differ in shape. */
  readonly uniform: boolean;
  readonly schema: Omit<FieldSchema, "name" | "since" | "conditional">;
  /** Key of the field that holds the number of elements. */
  readonly countKey?: string;
  /** Fixed-size little-endian image of the value, for layoutOf; absent if it has none. */
  readonly image?: ImageFormat;
}

/** `count` elements of `width` bytes each; `kind` says how JavaScript sees an element. */
export interface ImageFormat {
  readonly width: 1 | 2 | 4 | 8;
  readonly count: number;
  readonly kind: "unsigned" | "signed" | "bool";
  readonly array: boolean;
}

type Bound<T> = T extends number
  ? number
  : T extends bigint | BigUint64Array
    ? bigint
    : T extends Uint8Array | Uint16Array | Uint32Array
      ? number
      : never;

interface FieldOptions<T> {
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
  /** Present if `exists` says so; it sees the fields before this one. Takes precedence over `since`. */
  when(exists: (state: LooseState, version: number) => boolean): Field<T> {
    return this.#with({ when: exists });
  }
  /** Both ends are allowed values; holds for each element of an array. */
  range(lo: Bound<T>, hi: Bound<T>): Field<T> {
    return this.#with({ bounds: [lo, hi] });
  }
  /** `check` returns what was expected if `value` is wrong. It runs once all fields are there. */
  check(check: (value: T, state: LooseState) => string | undefined): Field<T> {
    return this.#with({ check });
  }
  /** Value in a new state, and in a loaded one whose stream lacks the field. Default: zero. */
  init(value: T): Field<T> {
    return this.#with({ initial: value });
  }
  /**
   * Known without the stream, such as the number of harts that sizes an array: no byte on the wire. A
   * loaded state takes it from the state that `decode` is told of.
   */
  known(): Field<T> {
    return this.#with({ known: true });
  }
  /** Name in the VMDESCRIPTION. Default: the key in snake_case. */
  named(wireName: string): Field<T> {
    return this.#with({ wireName });
  }
  /** Type in the VMDESCRIPTION where QEMU has another word for it, such as `int32 equal`. */
  typed(typeName: string): Field<T> {
    return this.#with({ typeName });
  }

  get type(): string {
    return this.options.typeName ?? this.codec.type;
  }
  /** QEMU's vmsd_can_compress: an array's elements share one VMDESCRIPTION entry. */
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

/** A value as a message shows it. */
function show(value: unknown): string {
  return typeof value === "object" && value !== null ? "another value" : String(value);
}
