// Parses and compares dumps in QEMU's format.
import { describe, expect, test } from "vitest";
import { checkDumps } from "./check-dumps.ts";
import { parseDump } from "./dump-vmstate.ts";

interface Fields {
  readonly [name: string]: number;
}
const description = (name: string, fields: Fields, more: Readonly<Record<string, unknown>> = {}) => ({
  name,
  version_id: 1,
  minimum_version_id: 1,
  Fields: Object.entries(fields).map(([field, size]) => ({
    field,
    version_id: 0,
    field_exists: false,
    size,
  })),
  ...more,
});
const dump = (machine: string, types: Readonly<Record<string, ReturnType<typeof description>>>) =>
  parseDump(
    JSON.stringify({
      vmschkmachine: { Name: machine },
      ...Object.fromEntries(
        Object.entries(types).map(([name, Description]) => [
          name,
          { Name: name, version_id: 1, minimum_version_id: 1, Description },
        ]),
      ),
    }),
  );

test("a dump is parsed: machine, types, fields, structs, subsections", () => {
  const inner = { ...description("inner", { x: 4 }), minimum_version_id: 0 };
  const text = {
    vmschkmachine: { Name: "virt" },
    dev: {
      Name: "dev",
      Description: {
        name: "device",
        version_id: 3,
        minimum_version_id: 2,
        Fields: [
          { field: "s", version_id: 0, field_exists: true, num: 2, size: 24, Description: inner },
          { field: "late", version_id: 3, field_exists: false, size: 0 },
        ],
        Subsections: [description("device/more", { y: 1 })],
      },
    },
  };
  const { machine, types } = parseDump(JSON.stringify(text));
  expect(machine).toBe("virt");
  const layout = types.get("dev");
  expect(layout).toMatchObject({ name: "device", version: 3, minimumVersion: 2 });
  expect(layout?.fields[0]).toMatchObject({ name: "s", conditional: true, count: 2, size: 24 });
  expect(layout?.fields[0]?.structs[0]?.fields[0]).toMatchObject({ name: "x", size: 4 });
  expect(layout?.fields[1]).toEqual({ name: "late", version: 3, conditional: false, structs: [] });
  expect(layout?.subsections.map(({ name }) => name)).toEqual(["device/more"]);
});

test("other files are refused with the command that makes a dump", () => {
  for (const text of ["", "QEVM", "[]", "{}", '{"a": {"b": 1}}', "null"]) {
    expect(() => parseDump(text)).toThrow(/-dump-vmstate FILE/);
  }
  let deep: Record<string, unknown> = description("d", { x: 1 });
  for (let i = 0; i < 200; i++) deep = description("d", {}, { Subsections: [deep] });
  expect(() => parseDump(JSON.stringify({ dev: { Description: deep } }))).toThrow(/nesting/);
});

describe("two dumps", () => {
  test("renamed fields are equal; all differences are named", () => {
    const from = dump("virt", { uart: description("uart", { old_name: 4, pad: 4 }) });
    const to = dump("virt", { uart: description("uart", { new_name: 4, unused: 4 }) });
    expect(checkDumps(from, to)).toEqual({
      problems: [],
      warnings: [],
      missing: [],
      unmigratable: [],
      compared: 1,
    });
  });
  test("a renamed type is found by its state; a removed one is missing", () => {
    const from = dump("virt", {
      "ICH9 LPC": description("ICH9LPC", { a: 4 }),
      gone: description("gone", { a: 4 }),
    });
    const to = dump("virt", { "ICH9-LPC": description("ICH9LPC", { a: 4 }) });
    expect(checkDumps(from, to)).toMatchObject({ problems: [], missing: ["gone"], compared: 1 });
  });
  test("many types of one description are one problem", () => {
    const chip = (size: number) => description("m25p80", { state: size });
    const from = dump("virt", { chip1: chip(4), chip2: chip(4), chip3: chip(4) });
    const to = dump("virt", { chip1: chip(8), chip2: chip(8), chip3: chip(8) });
    const { problems } = checkDumps(from, to);
    expect(problems).toMatchObject([
      { where: "chip1 and 2 more of 'm25p80', state", expected: "8 bytes", found: "4 bytes" },
    ]);
    expect(checkDumps(from, to, ["chip2"]).problems).toMatchObject([{ where: "chip2, state" }]);
  });
  test("versions: too new and too old", () => {
    const at = (version: number, minimum: number) =>
      dump("virt", {
        timer: description("timer", { a: 8 }, { version_id: version, minimum_version_id: minimum }),
      });
    expect(checkDumps(at(3, 3), at(1, 1)).problems).toMatchObject([
      { code: "check.version", where: "timer", expected: "version 1", found: "version 3" },
    ]);
    expect(checkDumps(at(1, 1), at(3, 3)).problems).toMatchObject([{ found: "version 1" }]);
    expect(checkDumps(at(2, 1), at(3, 2)).problems).toEqual([]);
  });
  test("a type without state cannot be migrated by the first: no problem of the second", () => {
    const from = dump("virt", { nvme: description("nvme", {}, { version_id: 0 }) });
    const to = dump("virt", { nvme: description("nvme", { a: 4 }) });
    expect(checkDumps(from, to)).toMatchObject({ problems: [], unmigratable: ["nvme"], compared: 0 });
    expect(checkDumps(to, from).problems).toMatchObject([{ code: "check.unmigratable", where: "nvme" }]);
  });
  test("another machine type is reported", () => {
    const types = { uart: description("uart", { a: 4 }) };
    const { warnings } = checkDumps(dump("pc-1", types), dump("pc-2", types));
    expect(warnings).toMatchObject([{ code: "check.machine", found: "pc-2" }]);
  });
});
