// The committed dump of all state schemas is what the sources define; a change without a version fails.
import { describe, expect, it } from "vitest";
import { allSchemas, committedDump, dumpProblems } from "./schema-dump.ts";

describe("the schema dump", async () => {
  const schemas = await allSchemas();

  it("has every definition and every virtio device", () => {
    const names = schemas.map(({ name }) => name);
    expect(names).toEqual(
      expect.arrayContaining(["cpu", "riscv_sifive_plic", "serial", "virtio-blk", "virtio-net"]),
    );
  });

  it("is up to date", () => {
    expect(dumpProblems(schemas, committedDump())).toEqual([]);
  });

  it("fails when a field appears without a version", () => {
    const planted = schemas.map((schema) =>
      schema.name === "serial"
        ? { ...schema, fields: [...schema.fields, { name: "planted", type: "uint8", size: 1 }] }
        : schema,
    );
    expect(dumpProblems(planted, schemas)).toEqual([
      expect.stringMatching(/^serial: field planted added within version 3: raise version to 4/),
    ]);
  });

  it("fails when a legal change is not in the dump", () => {
    const planted = [...schemas, { name: "new", version: 1, minimumVersion: 1, fields: [] }];
    expect(dumpProblems(planted, schemas)).toEqual([
      expect.stringMatching(/out of date: run npx node tools/),
    ]);
  });
});
