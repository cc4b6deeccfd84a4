// Opaque fields other than virtio's and PCI's: SCSI requests, resources of a virtio-gpu, sections without a
// description.
import { describe, expect, it } from "vitest";
import { ByteWriter, EndOfBytes } from "../../base/bytes.ts";
import { FieldReader } from "./fields.ts";
import type { Field } from "../model/stream-report.ts";
import { accountingErrors } from "../../../test/support/accounting.ts";
import { decodeOpaque, type OpaqueContext } from "./opaque.ts";
import { priorityOf } from "./priorities.ts";

/** Decodes all bytes, and checks what each truncation throws. */
function decode(out: ByteWriter, context: Partial<OpaqueContext>): readonly Field[] {
  const bytes = out.finish();
  const whole = { idstr: "x", instanceId: 0, version: 1, field: "data", type: "buffer", ...context };
  for (let end = 0; end < bytes.length; end += bytes.length < 1000 ? 1 : 61) {
    const reader = new FieldReader(bytes.subarray(0, end), 0);
    try {
      decodeOpaque(whole, reader);
    } catch (error) {
      expect(error).toBeInstanceOf(EndOfBytes);
    }
    expect(accountingErrors(reader.fields, 0, end - reader.remaining)).toEqual([]);
  }
  const reader = new FieldReader(bytes, 0);
  expect(decodeOpaque(whole, reader)).toBe(true);
  expect(reader.remaining).toBe(0);
  expect(accountingErrors(reader.fields, 0, bytes.length)).toEqual([]);
  return reader.fields;
}
function at(fields: readonly Field[], ...path: readonly string[]): Field | undefined {
  let found: Field | undefined;
  let inside: readonly Field[] | undefined = fields;
  for (const name of path) {
    found = inside?.find((field) => field.name === name);
    inside = found?.children;
  }
  return found;
}
const zeros = (n: number): Uint8Array => new Uint8Array(n);
const command = (opcode: number): Uint8Array => new Uint8Array([opcode, ...zeros(15)]);

describe("SCSI requests", () => {
  const disk = {
    idstr: "0000:00:01.0/0:0:0/scsi-disk",
    vmsdName: "SCSIDevice",
    field: "requests",
    type: "scsi-requests",
  };

  it("none", () => {
    expect(decode(new ByteWriter().u8(0), disk)).toHaveLength(1);
  });
  it("a continued write carries its data, a continued read the rest, a restarted one nothing", () => {
    const out = new ByteWriter();
    out.u8(2).bytes(command(0x2a)).u32(5).u32(0).u64(100n).u32(1).u32(4096).bytes(zeros(512));
    out.u8(2).bytes(command(0x28)).u32(6).u32(0).u64(200n).u32(8).u32(4096).u32(1024).bytes(zeros(1024));
    out.u8(1).bytes(command(0x28)).u32(7).u32(0).u64(300n).u32(8).u32(4096);
    const fields = decode(out.u8(0), disk);
    expect(at(fields, "[0]", "command")?.meaning).toBe("WRITE(10)");
    expect(at(fields, "[0]", "data")?.size).toBe(512);
    expect(at(fields, "[1]", "data")?.size).toBe(1024);
    expect(at(fields, "[2]", "data")).toBeUndefined();
    expect(at(fields, "[2]", "sector")?.value).toBe(300n);
  });
  it("requests of virtio-scsi with its element, of spapr-vscsi with its SRP unit, of mptsas with its buffers", () => {
    const out = new ByteWriter();
    out.u8(1).bytes(command(0x00)).u32(9).u32(0).u32(1).bytes(zeros(49168)).u64(0n).u32(0).u32(0);
    const srp = zeros(256);
    srp.set(command(0x28), 32);
    out.u8(1).bytes(command(0x28)).u32(3).u32(0);
    out
      .bytes(zeros(16))
      .bytes(srp)
      .u32(3)
      .u8(1)
      .u32(0)
      .u8(0)
      .u32(0)
      .bytes(zeros(252))
      .u8(0)
      .u16(0)
      .u16(0)
      .u16(0);
    out.u64(0n).u32(0).u32(0);
    out.u8(1).bytes(command(0x2a)).u32(4).u32(0);
    out.bytes(zeros(24)).bytes(command(0x2a)).u32(0).u32(0).u32(1).u64(0x7c00n).u64(512n);
    const fields = decode(out.u64(0n).u32(0).u32(0).u8(0), disk);
    expect(at(fields, "[0]", "virtio-scsi", "request queue")?.value).toBe(1n);
    expect(at(fields, "[1]", "spapr-vscsi", "qtag")?.value).toBe(3n);
    expect(at(fields, "[2]", "mptsas", "sg[0]", "base")?.value).toBe(0x7c00n);
  });
  it("requests of a passed-through device", () => {
    const out = new ByteWriter().u8(2).bytes(command(0x2a)).u32(1).u32(0).u32(16).bytes(zeros(16)).u8(0);
    expect(at(decode(out, { ...disk, idstr: "x/scsi-generic" }), "[0]", "data")?.size).toBe(16);
  });
});

describe("virtio-gpu", () => {
  it.each([0, 24])("resources with pixels, and outputs with %i bytes of framebuffer", (framebuffer) => {
    const out = new ByteWriter()
      .u32(7)
      .u32(4)
      .u32(2)
      .u32(1)
      .u32(1)
      .u64(0x8000_0000n)
      .u32(32)
      .bytes(zeros(32));
    out
      .u32(0)
      .u32(1)
      .u32(1)
      .bytes(zeros(40 + framebuffer));
    const reader = new FieldReader(out.finish(), 0);
    const gpu = { idstr: "0000:00:01.0/virtio-gpu", instanceId: 0, version: 1, vmsdName: "virtio-gpu" };
    expect(decodeOpaque({ ...gpu, field: "virtio-gpu", type: "virtio-gpu" }, reader)).toBe(true);
    expect(accountingErrors(reader.fields, 0, out.length)).toEqual([]);
    expect(at(reader.fields, "resources", "[0]", "pixels")?.size).toBe(32);
    expect(at(reader.fields, "scanout", "[0]", "fb.stride") !== undefined).toBe(framebuffer > 0);
  });
  it("two outputs of which QEMU wrote one framebuffer", () => {
    const out = new ByteWriter()
      .u32(0)
      .u32(1)
      .u32(2)
      .bytes(zeros(40 + 64));
    const reader = new FieldReader(out.finish(), 0);
    const gpu = { idstr: "0000:00:01.0/virtio-gpu", instanceId: 0, version: 1, vmsdName: "virtio-gpu" };
    expect(decodeOpaque({ ...gpu, field: "virtio-gpu", type: "virtio-gpu" }, reader)).toBe(true);
    expect(at(reader.fields, "scanout")?.meaning).toContain("1 of them with a framebuffer");
    expect(reader.remaining).toBe(0);
  });
  it("blobs", () => {
    const out = new ByteWriter().u32(7).u32(4096).u32(1).u64(0x8000_0000n).u32(4096).u32(0);
    const fields = decode(out, { vmsdName: "virtio-gpu/blob", field: "virtio-gpu/blob", type: "blob" });
    expect(at(fields, "resources", "[0]", "iov", "[0]", "addr")?.value).toBe(0x8000_0000n);
  });
});

describe("sections without a description", () => {
  it("slirp, with a connection to a program and without", () => {
    const table = (out: ByteWriter) =>
      out
        .u8(0)
        .u16(77)
        .u16(1)
        .bytes(new Uint8Array([2, 0, 0, 0, 0, 9]))
        .bytes(zeros(120));
    const fields = decode(table(new ByteWriter()), { idstr: "slirp" });
    expect(at(fields, "ip_id")?.value).toBe(77n);
    expect(at(fields, "bootp_clients", "[0]", "allocated")?.value).toBe(1n);
    const reader = new FieldReader(table(new ByteWriter().u8(42).bytes(zeros(300))).finish(), 0);
    const context = { idstr: "slirp", instanceId: 0, version: 4, field: "data", type: "buffer" };
    expect(decodeOpaque(context, reader)).toBe(true);
    expect(at(reader.fields, "sockets")?.size).toBe(301);
  });
  it("the clock and the storage keys of s390", () => {
    expect(at(decode(new ByteWriter().u8(1).u8(0).u64(99n), { idstr: "todclock" }), "low")?.value).toBe(99n);
    const keys = new ByteWriter()
      .u64(0x1000n | 2n)
      .u64(3n)
      .bytes(new Uint8Array([1, 2, 3]))
      .u64(1n);
    const fields = decode(keys, { idstr: "s390-skeys" });
    expect(at(fields, "keys[0]")?.value).toEqual(new Uint8Array([1, 2, 3]));
    expect(at(fields, "address[1]")?.meaning).toBe("end");
  });
  it("the early section of a virtio-mem, and a section called virtio that is another", () => {
    const early = new ByteWriter()
      .u64(0n)
      .u64(512n << 20n)
      .u64(2n << 20n)
      .u32(0)
      .u64(0n)
      .bytes(zeros(32));
    const fields = decode(early, { idstr: "0000:00:05.0/virtio-mem-device-early", type: "data" });
    expect(at(fields, "bitmap")?.size).toBe(32);
    const reader = new FieldReader(zeros(1000), 0);
    const context = {
      idstr: "0000:00:03.0/virtio-vga",
      instanceId: 0,
      version: 2,
      field: "data",
      type: "data",
    };
    expect(decodeOpaque(context, reader)).toBe(false);
  });
  it("a field named data in a device with a description is not decoded as one", () => {
    const reader = new FieldReader(zeros(16), 0);
    const context = { idstr: "0000:00:01.0/virtio-x", instanceId: 0, version: 1, vmsdName: "Fifo8" };
    expect(decodeOpaque({ ...context, field: "data", type: "buffer" }, reader)).toBe(false);
  });
});

it("vector registers and segments of POWER", () => {
  expect(at(decode(new ByteWriter().u64(1n).u64(2n), { field: "env.vsr", type: "avr" }), "low")?.value).toBe(
    2n,
  );
  expect(at(decode(new ByteWriter().u64(1n).u64(2n), { field: "slb", type: "slbe" }), "esid")?.value).toBe(
    1n,
  );
});

it("priorities by the description's name or the section's", () => {
  expect(priorityOf("smmuv3", "smmuv3")).toBe("MIG_PRI_IOMMU");
  expect(priorityOf("0000:00:07.0/virtio-iommu")).toBe("MIG_PRI_IOMMU");
  expect(priorityOf("0000:00:0c.0/pcie-root-port", "pcie-root-port")).toBe("MIG_PRI_PCI_BUS");
  expect(priorityOf("cpu", "cpu")).toBeUndefined();
  expect(priorityOf("constructor")).toBeUndefined();
});
