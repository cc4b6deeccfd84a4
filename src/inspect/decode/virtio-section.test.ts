// Virtio devices of real streams compared with QEMU's answers to queries, and generated ones for cases
// without a stream.
import { describe, expect, it } from "vitest";
import { type CapturedSection, capturedSections } from "../../../test/support/captured-sections.ts";
import { ByteWriter, EndOfBytes } from "../../base/bytes.ts";
import { FieldReader } from "./fields.ts";
import type { Field } from "../model/stream-report.ts";
import { accountingErrors } from "../../../test/support/accounting.ts";
import { decodeOpaque, type OpaqueContext } from "./opaque.ts";
import { seed } from "../../../test/support/seed.ts";
import { randomBelow } from "../../../test/support/random.ts";

const BASE = 1000;
const captured = capturedSections();

type Context = Pick<OpaqueContext, "idstr" | "version"> & Partial<OpaqueContext>;

function decode(bytes: Uint8Array, context: Context): readonly Field[] {
  const reader = new FieldReader(bytes, BASE);
  const whole = { instanceId: 0, field: "virtio", type: "virtio", ...context };
  expect(decodeOpaque(whole, reader)).toBe(true);
  expect(reader.remaining).toBe(0);
  expect(accountingErrors(reader.fields, BASE, bytes.length)).toEqual([]);
  return reader.fields;
}

/** The field at a path of names. */
function at(fields: readonly Field[], ...path: readonly string[]): Field {
  let found: Field | undefined;
  let inside: readonly Field[] | undefined = fields;
  for (const name of path) {
    found = inside?.find((field) => field.name === name);
    inside = found?.children;
  }
  if (found === undefined) throw new Error(`no field ${path.join(" / ")}`);
  return found;
}
const number = (fields: readonly Field[], ...path: readonly string[]): number =>
  Number(at(fields, ...path).value);
const words = (text: string | undefined): string[] =>
  (text ?? "")
    .split(" ")
    .filter((word) => word !== "")
    .sort();

function names(fields: readonly Field[]): string[] {
  return fields.flatMap((field) => [field.name, ...names(field.children ?? [])]);
}

const section = (label: string): CapturedSection => {
  const found = captured.find((one) => one.label === label);
  if (found === undefined) throw new Error(`no section ${label}`);
  return found;
};

describe("QEMU's streams agree with its answers", () => {
  it.each(captured.map((one) => [one.label, one] as const))("%s", (_label, { qmp, bytes, ...context }) => {
    const fields = decode(bytes, context);
    const status = at(fields, "status").meaning;
    expect(status === "reset" ? [] : words(status)).toEqual([...qmp.status].sort());
    const wide = fields.some((field) => field.name === "virtio/64bit_features");
    const features = wide
      ? at(fields, "virtio/64bit_features", "guest_features")
      : at(fields, "guest_features");
    expect(words(features.meaning)).toEqual([...qmp.features].sort());
    const modern = fields.some((field) => field.name === "virtio/virtqueues");
    for (const [i, queue] of qmp.queues.entries()) {
      expect(number(fields, "vq", `[${i}]`, "vring.num")).toBe(queue.num);
      expect(number(fields, "vq", `[${i}]`, "vring.desc")).toBe(queue.desc);
      if (queue.lastAvail !== undefined) {
        expect(number(fields, "vq", `[${i}]`, "last_avail_idx")).toBe(queue.lastAvail);
      }
      if (!modern) continue;
      expect(number(fields, "virtio/virtqueues", "vq", `[${i}]`, "vring.avail")).toBe(queue.avail);
      expect(number(fields, "virtio/virtqueues", "vq", `[${i}]`, "vring.used")).toBe(queue.used);
    }
    for (const unknown of ["rest", "tail"]) expect(names(fields)).not.toContain(unknown);
  });

  it("a request that stopped the machine: SeaBIOS's first read", () => {
    const { bytes, ...context } = section("pci, SeaBIOS: blk with a request");
    const elem = at(decode(bytes, context), "device", "requests", "[0]", "elem").children ?? [];
    expect(number(elem, "in_addr", "[0]")).toBe(0x7c00);
    expect(number(elem, "in_sg", "[0]", "iov_len")).toBe(512);
    expect(elem.some((field) => field.name === "ndescs")).toBe(false);
  });
  it("a request with a packed ring and four queues", () => {
    const { bytes, ...context } = section("pci, SeaBIOS: packed blk with a request");
    const request = at(decode(bytes, context), "device", "requests", "[0]").children ?? [];
    expect(number(request, "vq")).toBe(0);
    expect(number(request, "elem", "ndescs")).toBe(1);
    expect(number(request, "elem", "in_addr", "[0]")).toBe(0x7c00);
  });
  it("with a legacy driver, config space is big-endian if the guest is", () => {
    const { bytes, ...context } = section("ccw, s390-ccw.img: blk");
    expect(number(decode(bytes, context), "config", "blk_size")).toBe(512);
    const slof = section("pci, big-endian: blk of SLOF");
    expect(number(decode(slof.bytes, slof), "config", "blk_size")).toBe(512);
  });
  it("memory devices of before and after 8.1", () => {
    const early = section("pci, no driver: mem, sent early");
    expect(names(decode(early.bytes, early))).not.toContain("bitmap");
    const { bytes, ...context } = section("pci, no driver: mem");
    const fields = decode(bytes, context);
    expect(number(fields, "device", "region_size")).toBe(512 * 2 ** 20);
    expect(at(fields, "device", "bitmap").size).toBe(256 / 8);
  });
  it("a section is recognised by its name in a stream without VMDESCRIPTION", () => {
    const { bytes, idstr, version, machine } = section("mmio, modern, Linux: net");
    const fields = decode(bytes, { idstr, version, machine, field: "data", type: "data" });
    expect(number(fields, "vq", "[0]", "vring.num")).toBe(1024);
  });
});

/** The head of a legacy virtio-mmio device with `queues` queues. */
function legacy(features: number, config: Uint8Array, queues: number): ByteWriter {
  const out = new ByteWriter().u32(0).u32(0).u32(12).u8(7).u8(1).u16(0).u32(features);
  out.u32(config.length).bytes(config).u32(queues);
  for (let i = 0; i < queues; i++) out.u32(256).u32(4096).u64(0x8000_0000n).u16(i);
  return out;
}
const mmio = (device: string, version = 1): Context => ({
  idstr: `virtio-mmio@0000000010008000/virtio-${device}`,
  vmsdName: `virtio-${device}`,
  version,
  machine: "virt",
});
const zeros = (n: number): Uint8Array => new Uint8Array(n);

function netBody(out: ByteWriter, macs: number): ByteWriter {
  out
    .bytes(zeros(6))
    .u32(0)
    .u32(1)
    .u16(3)
    .u8(0)
    .u8(0)
    .u32(macs)
    .bytes(zeros(macs * 6))
    .bytes(zeros(512));
  return out.u32(0).bytes(zeros(7));
}
const subsection = (out: ByteWriter, name: string): ByteWriter => out.u8(5).countedString(name).u32(1);

describe("generated devices", () => {
  it.each([1, 2, 4])("net of %i queue pairs, with offloads and hashes", (pairs) => {
    const out = netBody(legacy(1 << 2, zeros(12), 2 * pairs + 1), 3);
    if (pairs > 1) {
      out.u16(pairs).u16(pairs);
      for (let i = 1; i < pairs; i++) out.u32(i);
    }
    out.u64(0b11n);
    subsection(out, "virtio-net-device/rss")
      .u8(1)
      .u8(1)
      .u8(0)
      .u32(5)
      .u16(4)
      .u16(0)
      .bytes(zeros(40))
      .bytes(zeros(8));
    subsection(out, "virtio-net-device/backend").u32(2).u16(9).u32(0);
    subsection(out, "virtio/started").u8(1);
    const fields = decode(out.finish(), mmio("net", 11));
    expect(at(fields, "device", "virtio-net-device/backend", "data[0]").size).toBe(2);
    expect(at(fields, "device", "curr_guest_offloads").meaning).toBe("bit 0 CSUM");
    expect(at(fields, "device", "mac_table.macs").children).toHaveLength(3);
    expect(at(fields, "device", "virtio-net-device/rss", "hash_types").meaning).toBe("IPv4 UDPv4");
    expect(names(fields).includes("curr_queue_pairs")).toBe(pairs > 1);
    expect(at(fields, "vq", `[${2 * pairs}]`).meaning).toBe("controlq");
  });

  it("hashes of QEMU 11.1, with a list of those it supports", () => {
    const out = netBody(legacy(0, zeros(12), 3), 0)
      .u8(5)
      .countedString("virtio-net-device/rss")
      .u32(2);
    out.u8(1).u8(1).u8(0).u32(0x3f).u32(0x1ff).u16(2).u16(0).bytes(zeros(40)).u16(7).u16(8);
    const rss = at(decode(out.finish(), mmio("net", 11)), "device", "virtio-net-device/rss").children ?? [];
    expect(words(at(rss, "supported_hash_types").meaning)).toHaveLength(9);
    expect(number(rss, "indirections_table", "[1]")).toBe(8);
  });

  it("a console port with an incomplete write", () => {
    const out = legacy(2, zeros(12), 4).u16(80).u16(25).u32(31).u32(1).u32(1);
    out.u32(0).u8(1).u8(1).u32(1).u32(0).u64(100n);
    const element = zeros(49168);
    const view = new DataView(element.buffer);
    view.setUint32(0, 7, true);
    view.setUint32(4, 1, true);
    view.setBigUint64(16 + 8192, 0x8123_4000n, true);
    view.setBigUint64(16 + 16384 + 16384 + 8, 4096n, true);
    out.bytes(element);
    const elem = at(decode(out.finish(), mmio("console", 3)), "device", "port[0]", "elem").children ?? [];
    expect(number(elem, "index")).toBe(7);
    expect(number(elem, "out_addr", "[0]")).toBe(0x8123_4000);
    expect(number(elem, "out_sg", "[0]", "iov_len")).toBe(4096);
  });

  it("an element of a big-endian host", () => {
    const element = zeros(49168);
    const view = new DataView(element.buffer);
    view.setUint32(0, 7);
    view.setUint32(8, 2);
    const out = legacy(0, zeros(60), 1).u8(1).bytes(element).u8(0);
    expect(number(decode(out.finish(), mmio("blk", 2)), "device", "requests", "[0]", "elem", "in_num")).toBe(
      2,
    );
  });

  it("domains of an IOMMU, with mappings and endpoints", () => {
    const out = legacy(0, zeros(40), 2).u32(1);
    out.u8(1).u64(9n).u32(9);
    out.u32(2);
    for (const start of [0n, 0x1000n])
      out
        .u8(1)
        .u64(start)
        .u64(start + 0xfffn)
        .u64(0x8000_0000n + start)
        .u32(3);
    out.u8(0).u8(1).u32(8).u8(0).u8(0).u8(0).u8(1);
    const fields = decode(out.finish(), mmio("iommu", 2));
    const domain = at(fields, "device", "domains", "elements", "[0]").children ?? [];
    expect(at(domain, "mappings", "elements", "[1]", "flags").meaning).toBe("READ WRITE");
    expect(number(domain, "endpoint_list", "[0]", "id")).toBe(8);
    expect(number(fields, "device", "config.bypass")).toBe(1);
  });

  it("features beyond 64", () => {
    const out = netBody(legacy(0, zeros(0), 3), 0);
    subsection(out, "virtio/128bit_features").u64(0b10n);
    const fields = decode(out.finish(), mmio("net", 11));
    const high = at(fields, "virtio/128bit_features", "guest_features_ex[1]");
    expect(high.meaning).toBe("VIRTIO_NET_F_GUEST_UDP_TUNNEL_GSO");
  });

  it("an unknown type and an unknown subsection remain bytes", () => {
    const out = legacy(0, zeros(4), 1).bytes(new Uint8Array([1, 2, 3]));
    subsection(out, "virtio/broken").u8(0);
    subsection(out, "virtio/of_tomorrow").u8(5);
    const fields = decode(out.finish(), mmio("quantum"));
    expect(at(fields, "device").size).toBe(3);
    expect(at(fields, "virtio/of_tomorrow", "rest").value).toEqual(new Uint8Array([5]));
    expect(at(fields, "config", "tail").size).toBe(4);
  });

  it("additional fields of a later version do not hide the following fields", () => {
    const out = netBody(legacy(0, zeros(12), 3), 0);
    subsection(out, "virtio-net-device/rss")
      .bytes(zeros(11 + 40))
      .u32(0x12345678);
    subsection(out, "virtio-net-device/backend").u32(0);
    subsection(out, "virtio/started").u8(1).u32(0x9abcdef0);
    subsection(out, "virtio/disabled").u8(1);
    const fields = decode(out.finish(), mmio("net", 11));
    expect(at(fields, "unknown[0]").size).toBe(4 + 31 + 4);
    expect(at(fields, "unknown[1]").size).toBe(4);
    expect(number(fields, "virtio/started", "started")).toBe(1);
    expect(number(fields, "virtio/disabled", "disabled")).toBe(1);
  });

  it.each(["constructor", "__proto__", "toString"])("a device called %s is unknown", (name) => {
    expect(() => decode(legacy(0, zeros(0), 1).finish(), mmio(name))).not.toThrow();
  });
});

/**
 * Decodes bytes that may be invalid: only EndOfBytes may be thrown, and the fields must cover the bytes read.
 */
function endures(bytes: Uint8Array, context: Context): void {
  const reader = new FieldReader(bytes, BASE);
  try {
    decodeOpaque({ instanceId: 0, field: "virtio", type: "virtio", ...context }, reader);
  } catch (error) {
    if (!(error instanceof EndOfBytes)) throw error;
  }
  const read = bytes.length - reader.remaining;
  const errors = accountingErrors(reader.fields, BASE, read);
  if (errors.length > 0) throw new Error(errors.join("; "));
}

describe("invalid bytes", () => {
  it("cut at any byte", () => {
    for (const { bytes, ...context } of captured) {
      // Long runs of zeros are tested at few places.
      const step = (n: number): number => (n < 400 ? 1 : n < 3000 ? 29 : bytes.length - n < 100 ? 1 : 997);
      for (let n = 0; n < bytes.length; n += step(n)) endures(bytes.subarray(0, n), context);
    }
  });

  it("changed at random", () => {
    const random = randomBelow(seed);
    for (let i = 0; i < 600; i++) {
      const { bytes, ...context } = captured[random(captured.length)]!;
      const changed = bytes.slice();
      for (let k = random(8); k >= 0; k--) {
        const where = random(random(3) === 0 ? changed.length : Math.min(changed.length, 1200));
        changed[where] = random(2) === 0 ? random(256) : [0, 1, 0x7f, 0xff][random(4)]!;
      }
      endures(changed, context);
    }
  });
});
