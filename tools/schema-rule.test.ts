// The rule for changes of state schemas: growth is fine, whatever breaks saved states is refused.
import { describe, expect, it } from "vitest";
import type { FieldSchema, StateSchema } from "../src/state/schema.ts";
import { schemaViolations } from "./schema-rule.ts";

const u32 = (name: string, more: Partial<FieldSchema> = {}): FieldSchema => ({
  name,
  type: "uint32",
  size: 4,
  ...more,
});
const sub = (name: string): StateSchema => ({ name, version: 1, minimumVersion: 1, fields: [u32("x")] });
const plic: StateSchema = {
  name: "plic",
  version: 1,
  minimumVersion: 1,
  fields: [u32("a"), u32("b")],
  subsections: [sub("plic/one")],
};
const violations = (change: Partial<StateSchema>): string[] =>
  schemaViolations([plic], [{ ...plic, ...change }]);

describe("a change of a schema", () => {
  it.each<[string, Partial<StateSchema>]>([
    ["nothing", {}],
    ["another priority", { priority: 4 }],
    ["a new subsection", { subsections: [sub("plic/one"), sub("plic/two")] }],
    ["a field since the new version", { version: 2, fields: [u32("a"), u32("new", { since: 2 }), u32("b")] }],
    [
      "a removed field, its bytes kept",
      {
        version: 2,
        fields: [u32("a"), { name: "unused", type: "unused_buffer", size: 4 }].map((f, i) =>
          i === 1 ? u32("b_was_here") : f,
        ),
      },
    ],
    [
      "a new layout that no longer accepts the old one",
      { version: 2, minimumVersion: 2, fields: [u32("z")] },
    ],
    [
      "a conditional field with a new version",
      { version: 2, fields: [u32("a"), u32("b"), u32("c", { conditional: true })] },
    ],
  ])("is fine: %s", (_what, change) => {
    expect(violations(change)).toEqual([]);
  });

  it.each<[string, Partial<StateSchema>, RegExp]>([
    [
      "a field added",
      { fields: [u32("a"), u32("b"), u32("c")] },
      /^plic: field c added within version 1: raise version to 2 and give new fields \.since\(2\), or put them in a subsection$/,
    ],
    ["a field removed", { fields: [u32("a")] }, /field b removed within version 1/],
    [
      "a field retyped",
      { fields: [u32("a"), { name: "b", type: "uint64", size: 8 }] },
      /field b changed from .*uint32.* to .*uint64/,
    ],
    ["an array grown", { fields: [u32("a"), u32("b", { count: 2 })] }, /field b changed/],
    ["fields reordered", { fields: [u32("b"), u32("a")] }, /fields reordered within version 1/],
    [
      "a version without since",
      { version: 2, fields: [u32("a"), u32("b"), u32("c")] },
      /still accepts 1 but would not read its bytes/,
    ],
    ["a version that goes back", { version: 0 }, /version went back from 1 to 0/],
    [
      "old streams refused without a new version",
      { minimumVersion: 2 },
      /minimumVersion 1 became 2 in version 1/,
    ],
    ["a subsection removed", { subsections: [] }, /subsection plic\/one removed/],
    [
      "a field added to a subsection",
      { subsections: [{ ...sub("plic/one"), fields: [u32("x"), u32("y")] }] },
      /^plic\/one: field y added within version 1/,
    ],
  ])("is refused: %s", (_what, change, message) => {
    expect(violations(change).join("\n")).toMatch(message);
  });

  it("is refused: a definition removed", () => {
    expect(schemaViolations([plic], [])).toEqual([expect.stringMatching(/^plic: removed/)]);
  });
});
