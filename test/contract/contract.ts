// The contract of every device with migratable state: golden bytes, round trip, truncation at every byte,
// values out of range, older fixtures, no state outside its schema. A refused load names the section and the
// field and leaves the device unchanged.
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { WherryError } from "../../src/base/errors.ts";
import type { DescribedState } from "../../src/state/schema.ts";
import type { Section } from "../../src/state/section.ts";
import { readGolden, writeGolden } from "./golden.ts";

/** A device with its sections and its environment (guest memory, lines). */
export interface Subject {
  readonly device: object;
  readonly sections: readonly Section[];
}

export interface ContractOptions<S extends Subject> {
  /** Brings a new device into a state in which as many fields and subsections as possible matter. */
  readonly arrange: (subject: S) => void | Promise<void>;
  /** Other requirements of a load, such as the saved guest memory. */
  readonly prepareLoad?: (target: S, source: S) => void;
  /** Own properties that hold schema states. Default: `state`. */
  readonly states?: readonly string[];
  /** Own properties that are wiring or caches; private ones are not checked. */
  readonly wiring?: readonly string[];
  /** Fields, as paths in the VMDESCRIPTION, that must refuse some value. */
  readonly refuses?: readonly string[];
}

const FOOTER = 0x7e;
/** Large sections are truncated at every byte of their start and end, and at samples between. */
const FIRST_CUTS = 700;
const LAST_CUTS = 100;
const SAMPLED_CUT = 997;
/** Only the first element of an array is corrupted. */
const SPOILT_ELEMENTS = 1;

function encode(section: Section): Uint8Array {
  const writer = new ByteWriter();
  section.encode(writer);
  return writer.finish();
}

/** Decodes like the stream's reader: the section must end where its footer starts. */
function decode(section: Section, bytes: Uint8Array, version = section.version): () => void {
  const reader = new ByteReader(bytes);
  const apply = section.decode(reader, version);
  if (reader.peekU8() !== FOOTER || reader.remaining !== 1) {
    throw new WherryError(
      "contract.footer",
      `${section.idstr}: expected the footer at offset ${reader.offset}`,
    );
  }
  return apply;
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const framed = (bytes: Uint8Array): Uint8Array => Uint8Array.of(...bytes, FOOTER);

/** An error is clear if it is a WherryError and names the place. */
function expectClear(error: unknown, section: Section): void {
  expect(error).toBeInstanceOf(WherryError);
  const { message } = error as WherryError;
  expect(message.length).toBeGreaterThan(section.idstr.length);
  const named = [section.idstr, section.vmsdName].some((where) => message.includes(where));
  expect(named, `says where: ${message}`).toBe(true);
}

interface Span {
  readonly path: string;
  readonly offset: number;
  readonly size: number;
}

/** The position of each described element. */
function spansOf(
  { fields, subsections = [] }: Pick<DescribedState, "fields" | "subsections">,
  at = 0,
  path = "",
): { spans: Span[]; end: number } {
  const spans: Span[] = [];
  let end = at;
  for (const field of fields) {
    for (let i = 0; i < (field.array_len ?? 1); i++) {
      const name = path + field.name + (field.array_len === undefined ? "" : `[${i}]`);
      spans.push(
        ...(field.struct === undefined
          ? [{ path: name, offset: end, size: field.size }]
          : spansOf(field.struct, end, `${name}.`).spans),
      );
      end += field.size;
    }
  }
  for (const sub of subsections) {
    const inner = spansOf(sub, end + 2 + sub.vmsd_name.length + 4, "");
    spans.push(...inner.spans);
    end = inner.end;
  }
  return { spans, end };
}

function isSample({ path }: Span): boolean {
  return [...path.matchAll(/\[(\d+)\]/g)].every(([, index]) => Number(index) < SPOILT_ELEMENTS);
}

function* spoilt(bytes: Uint8Array, { offset, size }: Span): Generator<Uint8Array> {
  for (const [first, rest] of [
    [0xff, 0xff],
    [0x7f, 0xff],
    [0x00, 0x00],
  ] as const) {
    const copy = bytes.slice();
    copy.fill(rest, offset, offset + size);
    if (size > 0) copy[offset] = first;
    yield copy;
  }
}

/** Registers the tests. `make` returns a new device in its own environment each time. */
export function contractSuite<S extends Subject>(
  name: string,
  make: () => S,
  options: ContractOptions<S>,
): void {
  const arranged = async (): Promise<S> => {
    const subject = make();
    await options.arrange(subject);
    return subject;
  };
  /** A new device that can load what `source` saved, with the section that matches `section`. */
  const targetOf = (source: S, index: number): Section => {
    const target = make();
    options.prepareLoad?.(target, source);
    return target.sections[index] as Section;
  };

  describe(`contract: ${name}`, () => {
    it("has no state outside its schema", async () => {
      const listed = new Set([...(options.states ?? ["state"]), ...(options.wiring ?? [])]);
      expect(Object.getOwnPropertyNames((await arranged()).device).filter((key) => !listed.has(key))).toEqual(
        [],
      );
    });

    for (const [index, { idstr, instanceId }] of make().sections.entries()) {
      describe(`${idstr}/${instanceId}`, () => {
        it("has its golden bytes", async () => {
          const section = (await arranged()).sections[index] as Section;
          const bytes = encode(section);
          if (process.env["WHERRY_GOLDEN"] === "write")
            writeGolden(name, idstr, instanceId, { version: section.version, bytes });
          const golden = readGolden(name, idstr, instanceId).find(
            ({ version }) => version === section.version,
          );
          expect(Buffer.from(bytes).toString("hex")).toBe(Buffer.from(golden?.bytes ?? []).toString("hex"));
        });

        it("loads as it was saved, and describes every byte", async () => {
          const source = await arranged();
          const section = source.sections[index] as Section;
          const bytes = encode(section);
          const target = targetOf(source, index);
          decode(target, framed(bytes))();
          expect(equal(encode(target), bytes)).toBe(true);
          expect(spansOf(section.describe() as DescribedState).end).toBe(bytes.length);
        });

        it("changes only when the load is applied", async () => {
          const source = await arranged();
          const target = targetOf(source, index);
          const before = encode(target);
          decode(target, framed(encode(source.sections[index] as Section)));
          expect(equal(encode(target), before)).toBe(true);
        });

        it("refuses truncation at any byte and is unchanged", async () => {
          const source = await arranged();
          const bytes = encode(source.sections[index] as Section);
          const target = targetOf(source, index);
          const before = encode(target);
          for (let cut = 0; cut <= bytes.length; cut++) {
            if (cut > FIRST_CUTS && cut < bytes.length - LAST_CUTS && cut % SAMPLED_CUT !== 0) continue;
            let error: unknown;
            try {
              decode(target, bytes.subarray(0, cut));
            } catch (thrown) {
              error = thrown;
            }
            expectClear(error, target);
          }
          expect(equal(encode(target), before)).toBe(true);
        });

        it("refuses versions that it does not know", async () => {
          const source = await arranged();
          const target = targetOf(source, index);
          const bytes = framed(encode(source.sections[index] as Section));
          for (const version of [target.minimumVersion - 1, target.version + 1, 0xffffffff]) {
            expect(() => decode(target, bytes, version)).toThrow(/version/);
          }
        });

        it("with any field corrupted refuses it clearly, or loads a state that it can save again", async () => {
          const source = await arranged();
          const section = source.sections[index] as Section;
          const bytes = framed(encode(section));
          const refused = new Set<string>();
          const { spans } = spansOf(section.describe() as DescribedState);
          let target = targetOf(source, index);
          const before = encode(target);
          for (const span of spans.filter(isSample)) {
            for (const wrong of spoilt(bytes, span)) {
              let apply: () => void;
              try {
                apply = decode(target, wrong);
              } catch (error) {
                expectClear(error, target);
                refused.add(span.path);
                continue;
              }
              expect(equal(encode(target), before)).toBe(true);
              apply();
              const loaded = framed(encode(target));
              target = targetOf(source, index);
              decode(target, loaded);
            }
          }
          expect(equal(encode(target), before)).toBe(true);
          const described = spans.map(({ path }) => path);
          const wanted = (options.refuses ?? []).filter((path) => described.includes(path));
          expect([...refused]).toEqual(expect.arrayContaining(wanted));
        });

        it("loads the fixtures of older versions", async () => {
          const source = await arranged();
          const golden = readGolden(name, idstr, instanceId);
          expect(golden.length).toBeGreaterThan(0);
          for (const { version, bytes } of golden) {
            const target = targetOf(source, index);
            decode(target, framed(bytes), version)();
            decode(targetOf(source, index), framed(encode(target)));
          }
        });
      });
    }

    it("has the fields that refuse values", async () => {
      const known = (await arranged()).sections.flatMap((s) =>
        spansOf(s.describe() as DescribedState).spans.map(({ path }) => path),
      );
      expect((options.refuses ?? []).filter((path) => !known.includes(path))).toEqual([]);
    });
  });
}
