// The codec of nested states: one struct or an array of structs (VMSTATE_STRUCT, VMSTATE_STRUCT_ARRAY,
// VMSTATE_STRUCT_VARRAY, VMSTATE_VSTRUCT). A struct has no version on the wire: the schema gives it.
import { type ByteReader, ByteWriter } from "../base/bytes.ts";
import { type Count, countIn, countKeyOf, countSchema } from "./codecs.ts";
import type { StateDefinition } from "./definition.ts";
import type { Codec, DescribedState, StateRecord } from "./field.ts";
import type { Place } from "./place.ts";

export class StructCodec<T> implements Codec<T | T[]> {
  readonly type = "struct";
  readonly width = 0;
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
      struct: { ...definition.schema(), version },
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
