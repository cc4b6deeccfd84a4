// Generated PCI config spaces: capabilities at any address, loops, overlaps; and the fields that accompany
// config space in a stream.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { capturedSections } from "../../../test/support/captured-sections.ts";
import { FieldReader } from "./fields.ts";
import type { Field } from "../model/stream-report.ts";
import { accountingErrors } from "../../../test/support/accounting.ts";
import { decodeOpaque } from "./opaque.ts";
import { configFacts, vectorsOf } from "./pci-config.ts";
import { seed } from "../../../test/support/seed.ts";

function decode(type: string, bytes: Uint8Array): readonly Field[] {
  const reader = new FieldReader(bytes, 0);
  const context = {
    idstr: "0000:00:01.0/e1000",
    instanceId: 0,
    version: 2,
    vmsdName: "PCIDevice",
    field: "config",
  };
  expect(decodeOpaque({ ...context, type }, reader)).toBe(true);
  expect(accountingErrors(reader.fields, 0, bytes.length)).toEqual([]);
  return reader.fields;
}
const named = (fields: readonly Field[], name: string): Field | undefined =>
  fields.find((field) => field.name === name);

/** Config space with 16-bit words at offsets. */
function config(size: number, words: Readonly<Record<number, number>>): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  for (const [offset, word] of Object.entries(words)) view.setUint16(Number(offset), word, true);
  return bytes;
}
const WITH_CAPABILITIES = { 0x00: 0x8086, 0x02: 0x10d3, 0x06: 0x10, 0x0a: 0x200 };

describe("config space", () => {
  it("header, BARs, interrupt pin", () => {
    const fields = decode(
      "pci config",
      config(256, {
        ...WITH_CAPABILITIES,
        0x04: 7,
        0x10: 0xc,
        0x12: 0xfe00,
        0x14: 0x80,
        0x18: 0xc001,
        0x1c: 8,
        0x3d: 2,
      }),
    );
    expect(named(fields, "vendor_id")).toMatchObject({ value: 0x8086n, meaning: "Intel" });
    expect(named(fields, "class")?.meaning).toBe("Ethernet controller");
    expect(named(fields, "command")?.meaning).toBe("I/O memory bus master");
    expect(named(fields, "bar[0]")?.meaning).toBe("64-bit memory, prefetchable, at 0x80fe000000");
    expect(named(fields, "bar[1]")?.meaning).toBe("upper half of bar[0]");
    expect(named(fields, "bar[2]")?.meaning).toBe("I/O at 0xc000");
    expect(named(fields, "bar[4]")?.meaning).toBeUndefined();
    expect(named(fields, "interrupt_pin")?.meaning).toBe("INTB");
  });

  it("capabilities in the order of their addresses, whatever the order of the list", () => {
    const words = {
      ...WITH_CAPABILITIES,
      0x34: 0xc8,
      0xc8: 0xd001,
      0xd0: 0x5005,
      0xd2: 0x180,
      0x50: 0x0011,
      0x52: 4,
    };
    const fields = decode("pci config", config(256, words));
    const capabilities = fields.filter((field) => field.type === "capability");
    expect(capabilities.map(({ name, offset, size }) => [name, offset, size])).toEqual([
      ["MSI-X", 0x50, 12],
      ["power management", 0xc8, 8],
      ["MSI", 0xd0, 24],
    ]);
    expect(configFacts(config(256, words))).toEqual({ size: 256, vectors: 5 });
  });

  it("a list that loops, capabilities that overlap, one at the very end", () => {
    const words = { ...WITH_CAPABILITIES, 0x34: 0x44, 0x44: 0x4801, 0x48: 0xfc10, 0xfc: 0x4411 };
    const capabilities = decode("pci config", config(256, words)).filter(
      (field) => field.type === "capability",
    );
    expect(capabilities.map(({ offset, size }) => [offset, size])).toEqual([
      [0x44, 4],
      [0x48, 20],
      [0xfc, 4],
    ]);
  });

  it("a bridge", () => {
    const bytes = config(256, { 0x0a: 0x604, 0x18: 0x0100, 0x1a: 0x0002, 0x20: 0xfe90 });
    bytes[0x0e] = 1;
    const fields = decode("pci config", bytes);
    expect(named(fields, "secondary_bus")?.value).toBe(1n);
    expect(named(fields, "memory_base")?.value).toBe(0xfe90n);
    expect(named(fields, "bar[2]")).toBeUndefined();
  });

  it("PCI Express: the extended space too", () => {
    const section = capturedSections().find(({ label }) => label.startsWith("pci, express"))!;
    const bytes = section.bytes.slice(4, 4 + 4096);
    const names = decode("pci config", bytes)
      .filter((field) => field.type === "capability")
      .map((field) => field.name);
    expect(names).toContain("PCI Express");
    expect(names).toContain("advanced error reporting");
    expect(names).toContain("address translation services");
    expect(names).toContain("virtio common configuration");
    expect(configFacts(bytes).size).toBe(4096);
  });

  it("fields of random bytes cover all bytes", () => {
    const bytes = fc.uint8Array({ minLength: 256, maxLength: 256 });
    const wide = fc.uint8Array({ minLength: 4096, maxLength: 4096 });
    const property = fc.property(fc.oneof(bytes, wide), (all) => {
      all[6] = 0x10;
      decode("pci config", all);
    });
    fc.assert(property, { seed, numRuns: 200 });
  });
});

describe("fields that accompany config space", () => {
  it("interrupt levels", () => {
    const fields = decode("pci irq state", new Uint8Array([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    expect(named(fields, "INTB")?.value).toBe(1n);
  });
  it("MSI-X: the number of vectors follows from the size", () => {
    for (const vectors of [1, 7, 8, 9, 65, 2048]) {
      expect(vectorsOf(vectors * 16 + Math.ceil(vectors / 8))).toBe(vectors);
    }
    expect(vectorsOf(16)).toBeUndefined();
    const bytes = new Uint8Array(17);
    bytes.set([0x00, 0x10, 0xe0, 0xfe, 0, 0, 0, 0, 0x41, 0, 0, 0, 1]);
    const vector = named(decode("msix state", bytes), "msix_table")?.children?.[0]?.children ?? [];
    expect(vector.map(({ value }) => value)).toEqual([0xfee01000n, 0x41n, 1n]);
    expect(vector[2]?.meaning).toBe("masked");
  });
  it("impossible sizes are not decoded", () => {
    const reader = new FieldReader(new Uint8Array(100), 0);
    const context = { idstr: "x", instanceId: 0, version: 1, vmsdName: "PCIDevice", field: "config" };
    for (const type of ["pci config", "pci irq state", "msix state", "avr", "no such type"]) {
      expect(decodeOpaque({ ...context, type }, reader)).toBe(false);
    }
    expect(reader.fields).toEqual([]);
  });
});
