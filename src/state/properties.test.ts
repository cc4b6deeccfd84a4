// Random schemas and states: decoding returns what was encoded, cut or flipped bytes are refused, and the
// description gives the size of each field. WHERRY_SEED replays a run.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter, EndOfBytes } from "../base/bytes.ts";
import { defineState, type StateDefinition, subsection } from "./definition.ts";
import type { DescribedState, Field } from "./field.ts";
import * as s from "./schema.ts";
import { seed } from "../../test/support/seed.ts";

const runs = { seed, numRuns: Number(process.env["WHERRY_RUNS"] ?? 200) };

type AnyField = Field<any>;
type AnyDefinition = StateDefinition<any>;
interface Sample {
  field: AnyField;
  value: unknown;
}

const u64 = fc.bigInt(0n, 2n ** 64n - 1n);
const scalar: fc.Arbitrary<Sample> = fc.oneof(
  fc.record({ field: fc.constant<AnyField>(s.u8), value: fc.nat(0xff) }),
  fc.record({ field: fc.constant<AnyField>(s.u16), value: fc.nat(0xffff) }),
  fc.record({ field: fc.constant<AnyField>(s.u32), value: fc.integer({ min: 0, max: 0xffffffff }) }),
  fc.record({ field: fc.constant<AnyField>(s.i8), value: fc.integer({ min: -128, max: 127 }) }),
  fc.record({ field: fc.constant<AnyField>(s.i16), value: fc.integer({ min: -32768, max: 32767 }) }),
  fc.record({ field: fc.constant<AnyField>(s.i32), value: fc.integer() }),
  fc.record({ field: fc.constant<AnyField>(s.u64), value: u64 }),
  fc.record({ field: fc.constant<AnyField>(s.timer), value: u64 }),
  fc.record({ field: fc.constant<AnyField>(s.i64), value: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n) }),
  fc.record({ field: fc.constant<AnyField>(s.bool), value: fc.boolean() }),
);
const array: fc.Arbitrary<Sample> = fc.oneof(
  fc.uint8Array({ maxLength: 5 }).map((value) => ({ field: s.u8Array(value.length) as AnyField, value })),
  fc.uint8Array({ maxLength: 5 }).map((value) => ({ field: s.buffer(value.length) as AnyField, value })),
  fc.uint16Array({ maxLength: 5 }).map((value) => ({ field: s.u16Array(value.length) as AnyField, value })),
  fc.uint32Array({ maxLength: 5 }).map((value) => ({ field: s.u32Array(value.length) as AnyField, value })),
  fc
    .bigUint64Array({ maxLength: 5 })
    .map((value) => ({ field: s.u64Array(value.length) as AnyField, value })),
  fc
    .bigUint64Array({ maxLength: 3 })
    .map((value) => ({ field: s.bitmap(value.length * 64) as AnyField, value })),
);
const { members } = fc.letrec<{ leaf: Sample; sample: Sample; members: Sample[] }>((tie) => ({
  leaf: fc.oneof(scalar, array),
  sample: fc.oneof(
    { maxDepth: 2 },
    tie("leaf"),
    tie("members").map((inner) => {
      const { definition, state } = build("inner", inner);
      return { field: s.struct(definition) as AnyField, value: state };
    }),
    fc.tuple(tie("members"), fc.nat(3)).map(([inner, n]) => {
      const { definition, state } = build("element", inner);
      return {
        field: s.structArray(definition, n) as AnyField,
        value: Array.from({ length: n }, () => state),
      };
    }),
  ),
  members: fc.array(tie("sample"), { minLength: 1, maxLength: 5 }),
}));

function build(
  name: string,
  samples: Sample[],
  sub: Sample[] = [],
): { definition: AnyDefinition; state: object } {
  const key = (i: number): string => `field${i}`;
  const fields = Object.fromEntries(samples.map(({ field }, i) => [key(i), field]));
  const subFields = Object.fromEntries(sub.map(({ field }, i) => [`sub${i}`, field]));
  const needed = (): boolean => sub.length > 0;
  const definition: AnyDefinition = defineState(name, { version: 1 }, fields, [
    ...(sub.length > 0 ? [subsection(`${name}/sub`, { version: 1, needed }, subFields)] : []),
  ]);
  const state: object = definition.create();
  for (const [i, { value }] of samples.entries()) Object.assign(state, { [key(i)]: value });
  for (const [i, { value }] of sub.entries()) Object.assign(state, { [`sub${i}`]: value });
  return { definition, state };
}

function encode(definition: AnyDefinition, state: object): Uint8Array {
  const writer = new ByteWriter();
  definition.encode(state, writer);
  return writer.finish();
}

/** The number of bytes in a description. */
function describedSize({ fields, subsections = [] }: DescribedState): number {
  const own = fields.reduce((sum, { size, array_len = 1 }) => sum + size * array_len, 0);
  return subsections.reduce((sum, sub) => sum + 2 + sub.vmsd_name.length + 4 + describedSize(sub), own);
}

const machine = fc.tuple(members, fc.oneof(fc.constant<Sample[]>([]), members));

describe("any state", () => {
  it("decodes to what was encoded, and the description covers all of its bytes", () => {
    fc.assert(
      fc.property(machine, ([main, sub]) => {
        const { definition, state } = build("any", main, sub);
        const bytes = encode(definition, state);
        const reader = new ByteReader(bytes);
        const loaded: object = definition.decode(reader, 1);
        expect(loaded).toEqual(state);
        expect(reader.remaining).toBe(0);
        expect(describedSize(definition.describe(state))).toBe(bytes.length);

        const copy: object = definition.create();
        definition.assign(copy, loaded);
        expect(encode(definition, copy)).toEqual(bytes);
      }),
      runs,
    );
  });

  it("cut short gives a StateError and no other error", () => {
    fc.assert(
      fc.property(machine, fc.nat(), ([main, sub], where) => {
        const { definition, state } = build("any", main, sub);
        const bytes = encode(definition, state);
        const subsectionAt = encode(build("any", main).definition, state).length;
        const cut = where % bytes.length;
        // A cut just before a subsection leaves a complete state without it.
        fc.pre(bytes.length > 0 && cut !== subsectionAt);
        const reader = new ByteReader(bytes.subarray(0, cut));
        if (cut > subsectionAt) expectRefusedOrLeft(definition, reader);
        else expect(() => definition.decode(reader, 1)).toThrow(s.StateError);
      }),
      runs,
    );
  });

  it("decoded from any bytes validates, or gives a StateError", () => {
    fc.assert(
      fc.property(machine, fc.uint8Array({ maxLength: 200 }), ([main, sub], bytes) => {
        const { definition } = build("any", main, sub);
        try {
          definition.validate(definition.decode(new ByteReader(bytes), 1));
        } catch (error) {
          expect(error).toBeInstanceOf(s.StateError);
        }
      }),
      runs,
    );
  });
});

/**
 * A subsection with a truncated header is not recognised: its bytes are left for the section reader to
 * refuse.
 */
function expectRefusedOrLeft(definition: AnyDefinition, reader: ByteReader): void {
  try {
    definition.decode(reader, 1);
  } catch (error) {
    expect(error).toBeInstanceOf(s.StateError);
    expect(error).not.toBeInstanceOf(EndOfBytes);
    return;
  }
  expect(reader.remaining).toBeGreaterThan(0);
}
