// Queue indexes against rings, and features against features, in generated streams.
import { describe, expect, test } from "vitest";
import { type VirtioStream, virtioStream } from "../../../test/support/virtio-stream.ts";
import { checkQueues, featureCure, featureWarnings } from "./check-virtio.ts";
import { checkStream } from "./check-stream.ts";
import { bytesSource } from "../read/byte-source.ts";
import { readStream } from "../read/read-stream.ts";
import { parseVirtioStatus } from "./virtio-status.ts";

const read = (wanted: VirtioStream) => readStream(bytesSource(virtioStream(wanted)));

async function queues(wanted: VirtioStream) {
  const source = bytesSource(virtioStream(wanted));
  const report = await readStream(source);
  expect(report.problem).toBeUndefined();
  expect(report.warnings).toEqual([]);
  return checkQueues(report, source);
}

describe("queues", () => {
  test("indexes that agree, also across 0xffff", async () => {
    expect(await queues({})).toEqual({ problems: [], warnings: [] });
    expect(await queues({ lastAvail: 0xfff0, availIndex: 0x10, usedIndex: 0xffe0 })).toEqual({
      problems: [],
      warnings: [],
    });
    expect(await queues({ lastAvail: 5, availIndex: 5 + 256 })).toEqual({ problems: [], warnings: [] });
  });
  test("a guest index too far ahead, reported like QEMU: queue, both indexes", async () => {
    const { problems, warnings } = await queues({
      queueSize: 128,
      lastAvail: 0x33,
      availIndex: 0x12c,
      usedIndex: 0x33,
    });
    expect(problems).toEqual([]);
    expect(warnings).toMatchObject([
      {
        code: "virtio.queue-index",
        where: "section virtio-mmio@0000000010008000/virtio-rng/0, VQ 0 (requestq)",
        found: "guest index 0x12c, delta 0xf9",
      },
    ]);
    expect(warnings[0]?.expected).toMatch(/size 0x80, last_avail_idx 0x33/);
    expect(warnings[0]?.cause).toMatch(/Guest index … inconsistent with Host index/);
    expect(warnings[0]?.cure).toMatch(/QMP stop/);
  });
  test("more requests in use than the queue holds are refused", async () => {
    const { problems } = await queues({ usedIndex: 5 - 257 });
    expect(problems).toMatchObject([
      { code: "virtio.queue-index", found: "used index 0xff04, 0x101 requests in use" },
    ]);
  });
  test("an index without an address is refused", async () => {
    const { problems } = await queues({ desc: 0n });
    expect(problems).toMatchObject([{ code: "virtio.queue-index", found: "address 0" }]);
  });
  test("legacy: rings after the descriptors, in the guest's byte order", async () => {
    // 256 descriptors fill a page; the used ring starts at the page after the available ring.
    expect(await queues({ features: 0n })).toEqual({ problems: [], warnings: [] });
    const s390 = { features: 0n, machine: "s390-ccw-virtio-10.0", desc: 0x1000n };
    expect(await queues({ ...s390, bigEndian: true })).toEqual({ problems: [], warnings: [] });
    expect((await queues({ ...s390, bigEndian: false })).warnings).toMatchObject([
      { found: "guest index 0x600, delta 0x5fb" },
    ]);
  });
  test("not checked: packed rings, IOMMU, addresses outside of RAM, boards without a map", async () => {
    const wrong = { availIndex: 0x7000 };
    for (const bit of [33n, 34n]) {
      expect(await queues({ ...wrong, features: (1n << 32n) | (1n << bit) })).toEqual({
        problems: [],
        warnings: [],
      });
    }
    expect(await queues({ ...wrong, desc: 0x1000n })).toEqual({ problems: [], warnings: [] });
    expect(await queues({ ...wrong, desc: 0xffff_ffff_ffff_f000n })).toEqual({ problems: [], warnings: [] });
    expect(await queues({ ...wrong, machine: "some-board" })).toEqual({ problems: [], warnings: [] });
  });
});

describe("features", () => {
  test("unused by the target's guest are a warning, with names and properties", async () => {
    const report = await read({ features: (1n << 32n) | (1n << 29n) | (1n << 34n) });
    const [warning] = featureWarnings(report, await read({ features: 1n << 32n }));
    expect(warning).toMatchObject({
      code: "check.virtio.features",
      expected: expect.stringContaining("0x100000000"),
    });
    expect(warning?.found).toContain("VIRTIO_RING_F_EVENT_IDX VIRTIO_F_RING_PACKED");
    expect(warning?.cure).toContain("event_idx=on, packed=on");
  });
  test("within the target's, or of a target without a driver: no warning", async () => {
    const report = await read({});
    expect(featureWarnings(report, report)).toEqual([]);
    expect(featureWarnings(report, await read({ features: 0n }))).toEqual([]);
  });
  test("against the features that the target reports", async () => {
    const status = (...transports: string[]) => ({
      name: "virtio-rng",
      "host-features": { transports: transports.map((name) => `${name}: in words`), "dev-features": [] },
    });
    const given = (...answers: unknown[]) => {
      const offers = parseVirtioStatus(JSON.stringify({ return: answers }));
      return { kind: "virtio", name: "status", offers: offers ?? [] } as const;
    };
    const report = await read({ features: (1n << 32n) | (1n << 29n) });
    const [all, less] = [
      status("VIRTIO_F_VERSION_1", "VIRTIO_RING_F_EVENT_IDX", "VIRTIO_F_RING_PACKED"),
      status("VIRTIO_F_VERSION_1"),
    ];
    expect(checkStream(report, [given(all)])).toMatchObject({ problems: [], warnings: [] });
    const { problems } = checkStream(report, [given(less)]);
    expect(problems).toMatchObject([
      { code: "check.virtio.features", found: "VIRTIO_RING_F_EVENT_IDX in use" },
    ]);
    expect(problems[0]?.cure).toContain("event_idx=on");
    expect(checkStream(report, [given(all, less)])).toMatchObject({ problems: [], warnings: [{}] });
    // The reported features take precedence over those that its guest uses.
    const target = { kind: "stream", name: "t", report: await read({ features: 1n << 32n }) } as const;
    expect(checkStream(report, [target, given(all)])).toMatchObject({ problems: [], warnings: [] });
    expect(parseVirtioStatus('{"return": []}')).toBeUndefined();
  });
  test("offloads depend on the backend", () => {
    expect(featureCure(["VIRTIO_NET_F_GUEST_TSO4", "VIRTIO_NET_F_MQ"])).toMatch(
      /mq=on; use the same kind of network backend/,
    );
  });
});
