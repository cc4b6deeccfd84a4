// Differences of two layouts that are harmless, such as all false alarms of a comparison by names, and
// differences that make QEMU read at a wrong offset.
import { describe, expect, test } from "vitest";
import { compareLayouts, versionFinding } from "./check-layout.ts";
import type { FieldLayout, Layout } from "./dump-vmstate.ts";
import { seed } from "../../../test/support/seed.ts";
import { randomBelow } from "../../../test/support/random.ts";

type Rest = Partial<Omit<FieldLayout, "name">>;
/** A field of a dump. */
const field = (name: string, size: number | undefined, rest: Rest = {}): FieldLayout => ({
  name,
  version: 0,
  conditional: false,
  ...(size === undefined ? {} : { size }),
  structs: [],
  ...rest,
});
/** A field of a stream. */
const sent = (name: string, type: string, size: number, count = 1): FieldLayout =>
  field(name, size, { type, count, streamBytes: size * count });
const layout = (
  fields: readonly FieldLayout[],
  subsections: readonly Layout[] = [],
  name = "dev",
): Layout => ({
  name,
  version: 2,
  minimumVersion: 1,
  fields,
  subsections,
});
const stream = (
  fields: readonly FieldLayout[],
  subsections: readonly Layout[] = [],
  name = "dev",
): Layout => ({
  name,
  version: 2,
  fields,
  subsections,
});
const struct = (name: string, inner: Layout, rest: Rest = {}) =>
  field(name, 100, { structs: [inner], ...rest });
const findingsOf = (source: Layout, target: Layout) =>
  compareLayouts(source, target).map(({ kind, code, path }) => `${kind} ${code} ${path}`);

const a = field("a", 4);
const b = field("b", 2);
const c = field("c", 8);

describe("accepted", () => {
  test("equal layouts", () => {
    expect(findingsOf(layout([a, b, c]), layout([a, b, c]))).toEqual([]);
  });
  test("a renamed field of the same size", () => {
    expect(findingsOf(layout([a, b, c]), layout([a, field("bee", 2), c]))).toEqual([]);
  });
  test("padding of the size of the fields that it replaces, on either side, of one field or several", () => {
    const padded = layout([a, field("unused", 10)]);
    expect(findingsOf(layout([a, b, c]), padded)).toEqual([]);
    expect(findingsOf(padded, layout([a, b, c]))).toEqual([]);
    expect(findingsOf(layout([field("unused", 4), b]), layout([a, b]))).toEqual([]);
  });
  test("padding of an array whose length an old dump lacks", () => {
    const array = layout([a, field("flags", 1)]);
    expect(findingsOf(array, layout([a, field("unused", 5, { count: 1 })]))).toEqual([]);
  });
  test("fields that moved into a struct, or out of one", () => {
    const inner = layout([b, c], [], "inner");
    expect(findingsOf(layout([a, b, c]), layout([a, struct("state", inner)]))).toEqual([]);
    expect(findingsOf(layout([a, struct("state", inner)]), layout([a, b, c]))).toEqual([]);
  });
  test("a field that only the target has, if it is conditional", () => {
    const conditional = field("extra", 4, { conditional: true });
    expect(findingsOf(layout([a, c]), layout([a, conditional, c]))).toEqual([]);
  });
  test("two alternatives, one of which is present", () => {
    const config = [
      field("config", 256, { conditional: true }),
      field("config", 4096, { conditional: true }),
    ];
    expect(findingsOf(stream([sent("config", "pci config", 4096), a]), layout([...config, a]))).toEqual([]);
    expect(findingsOf(layout([...config, a]), layout([...config, a]))).toEqual([]);
  });
  test("a field of a version newer than the one sent", () => {
    const old = { ...layout([a]), version: 1 };
    expect(findingsOf(old, layout([a, field("new", 4, { version: 2 })]))).toEqual([]);
    expect(findingsOf(layout([a, field("new", 4, { version: 3 })]), layout([a]))).toEqual([]);
  });
  test("another size in memory of a type with its own wire format", () => {
    expect(findingsOf(stream([sent("fpu", "fpreg", 10)]), layout([field("fpu", 16)]))).toEqual([]);
  });
  test("an array described as a whole, as elements or as a buffer", () => {
    const target = layout([field("regs", 1, { count: 16 })]);
    expect(findingsOf(stream([sent("regs", "uint8", 1, 16)]), target)).toEqual([]);
    expect(findingsOf(stream([sent("regs", "buffer", 16)]), target)).toEqual([]);
    expect(findingsOf(stream([sent("regs", "uint32", 4, 7)]), layout([field("regs", 4)]))).toEqual([]);
  });
  test("an array of structs without elements, which a stream does not show", () => {
    expect(findingsOf(stream([sent("a", "uint32", 4)]), layout([a, struct("devs", layout([b]))]))).toEqual(
      [],
    );
  });
  test("a list: a dump shows its element, a stream all elements", () => {
    const list = field("io", undefined, { type: "qlist", streamBytes: 1, count: 1 });
    expect(findingsOf(stream([list]), layout([struct("io", layout([b]))]))).toEqual([]);
  });
  test("a buffer whose end became fields", () => {
    const fields = [sent("runstate", "buffer", 32), sent("flag", "uint8", 1), sent("unused", "buffer", 67)];
    expect(findingsOf(stream([sent("runstate", "buffer", 100)]), stream(fields))).toEqual([]);
  });
  test("another version of a struct: it is not in the stream", () => {
    const inner = layout([b], [], "inner");
    expect(findingsOf(layout([struct("s", inner)]), layout([struct("s", { ...inner, version: 1 })]))).toEqual(
      [],
    );
  });
  test("a subsection that only the target has", () => {
    expect(findingsOf(stream([a]), layout([a], [layout([b], [], "dev/new")]))).toEqual([]);
  });
});

describe("obstacles", () => {
  test("a field that the target does not read, and one that it expects", () => {
    expect(findingsOf(layout([a, b, c]), layout([a, c]))).toEqual(["certain check.layout b"]);
    expect(findingsOf(layout([a, c]), layout([a, b, c]))).toEqual(["certain check.layout b"]);
  });
  test("neighbouring fields of one side are one finding", () => {
    const more = [field("x", 1), field("y", 2), field("z", 4)];
    expect(compareLayouts(layout([a, ...more, c]), layout([a, c]))).toEqual([
      {
        kind: "certain",
        code: "check.layout",
        path: "x",
        expected: "'c' (8 bytes)",
        found: "'x' (1 byte) and 2 more",
      },
    ]);
    expect(compareLayouts(layout([a, c]), layout([a, ...more, c]))).toMatchObject([
      { path: "x", expected: "'x' (1 byte) and 2 more" },
    ]);
    expect(findingsOf(layout([field("x", 1), a, field("y", 2)]), layout([a]))).toHaveLength(2);
  });
  test("another size, alone and in a struct", () => {
    expect(findingsOf(layout([a, b]), layout([a, field("b", 4)]))).toEqual(["certain check.size b"]);
    const inner = (size: number) => struct("s", layout([field("x", size)], [], "s"));
    expect(findingsOf(layout([inner(4)]), layout([inner(8)]))).toEqual(["certain check.size s.x"]);
  });
  test("another number of elements, where both state it", () => {
    const array = (count: number) => layout([field("regs", 4, { count })]);
    expect(findingsOf(array(3), array(4))).toEqual(["certain check.size regs"]);
    expect(findingsOf(stream([sent("regs", "uint32", 4, 3)]), array(4))).toEqual(["certain check.size regs"]);
  });
  test("padding that is too short", () => {
    expect(findingsOf(layout([a, b]), layout([a, field("unused", 1, { count: 1 }), c]))).not.toEqual([]);
  });
  test("a subsection that the target does not know: certain in a stream, possible in a dump", () => {
    const subsection = stream([b], [], "dev/extra");
    expect(findingsOf(stream([a], [subsection]), layout([a]))).toEqual([
      "certain check.subsection dev/extra",
    ]);
    const dumped = layout([a], [layout([b], [], "dev/extra")]);
    expect(findingsOf(dumped, layout([a]))).toEqual(["possible check.subsection dev/extra"]);
  });
  test("a subsection with another layout or version", () => {
    const target = layout([a], [layout([b], [], "dev/x")]);
    expect(findingsOf(stream([a], [stream([sent("b", "uint64", 8)], [], "dev/x")]), target)).toEqual([
      "certain check.size dev/x.b",
    ]);
    expect(findingsOf(stream([a], [{ ...stream([], [], "dev/x"), version: 3 }]), target)).toEqual([
      "certain check.version dev/x",
    ]);
  });
  test("a subsection of a struct, of an element of an array", () => {
    const plain = stream([sent("x", "uint8", 1)], [], "queue");
    const more = { ...plain, subsections: [stream([], [], "queue/late")] };
    const array = { ...sent("q", "struct", 1, 2), structs: [plain, more] };
    const target = layout([struct("q", layout([field("x", 1)], [], "queue"), { count: 2 })]);
    expect(findingsOf(stream([array]), target)).toEqual(["certain check.subsection q.queue/late"]);
  });
  test("a conditional field of the source that the target lacks: possible", () => {
    const source = layout([a, field("extra", 4, { conditional: true }), c]);
    expect(findingsOf(source, layout([a, c]))).toEqual(["possible check.layout extra"]);
  });
});

test("the range of versions", () => {
  const target = layout([]);
  expect(versionFinding({ ...target, version: 1 }, target)).toBeUndefined();
  expect(versionFinding({ ...target, version: 3 }, target)).toBe("version 1 to 2");
  expect(versionFinding({ ...target, version: 0 }, target)).toBe("version 1 to 2");
});

test("the comparison of huge layouts is bounded", () => {
  const many = Array.from({ length: 5000 }, (_, i) => field(`f${i}`, 4));
  const start = performance.now();
  expect(findingsOf(layout(many), layout(many))).toEqual(["possible check.layout "]);
  expect(performance.now() - start).toBeLessThan(5000);
});

describe("random layouts", () => {
  const next = randomBelow(seed);
  const fields = () =>
    Array.from({ length: 2 + next(8) }, (_, i) =>
      field(`f${i}`, [1, 2, 4, 8][next(4)], { count: 1 + next(3) }),
    );
  /** Random other descriptions of the same bytes. */
  const same = (given: readonly FieldLayout[], ways = 4): FieldLayout[] => {
    const renamed = given.map((one) => (next(3) === 0 ? { ...one, name: `${one.name}_new` } : one));
    const start = next(renamed.length);
    const part = renamed.slice(start, start + 1 + next(3));
    const bytes = part.reduce((sum, one) => sum + (one.size ?? 0) * (one.count ?? 1), 0);
    const instead = [
      part,
      [struct("s", layout(part, [], "s"), { count: 1 })],
      [field("unused", bytes, { count: 1 })],
      [field("perhaps", 4, { conditional: true }), ...part],
    ][next(ways)] as FieldLayout[];
    return [...renamed.slice(0, start), ...instead, ...renamed.slice(start + part.length)];
  };
  test("other descriptions of the same bytes are accepted", () => {
    for (let n = 0; n < 300; n++) {
      const source = fields();
      const target = same(source);
      expect(compareLayouts(layout(source), layout(target)), JSON.stringify({ source, target })).toEqual([]);
    }
  });
  test("additional or missing bytes are found in any description", () => {
    for (let n = 0; n < 300; n++) {
      const source = fields();
      const at = next(source.length);
      // Leaves out fields that another, optional field could replace.
      const less = source.filter((_, i) => i !== at);
      const findings = compareLayouts(layout(source), layout(same(less, 3)));
      expect(
        findings.some(({ kind }) => kind === "certain"),
        JSON.stringify({ source, at, findings }),
      ).toBe(true);
    }
  });
});
