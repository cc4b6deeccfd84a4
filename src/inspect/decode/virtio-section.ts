// A virtio device in QEMU's stream, one opaque run in the VMDESCRIPTION: transport, status, features, config
// space, queues, the device type's own part, and subsections for additions since virtio 0.9. QEMU 2.x to
// 11.x, any guest. Byte order and high features come last, but decide how to read the bytes before them.
import { bitNames } from "../../base/text.ts";
import type { FieldReader } from "./fields.ts";
import {
  type ByteOrder,
  findSubsection,
  readElements,
  readLayout,
  readPrefix,
  readSubsections,
  readUnknown,
  type SubsectionReaders,
} from "./field-layout.ts";
import { bodyOf } from "./virtio-bodies.ts";
import { virtioDevice, virtioType } from "./virtio-devices.ts";
import { type Bits, featureNames, statusNames } from "./virtio-features.ts";
import { QUEUE_MAX, readExtraState, readTransport, vectorName } from "./virtio-transport.ts";

export interface VirtioContext {
  readonly idstr: string;
  readonly version: number;
  readonly vmsdName?: string;
  readonly machine?: string;
}

/** Prefixes of boards whose processors start big-endian. */
export const BIG_ENDIAN =
  /^(s390|pseries|powernv|ppce|g3beige|mac99|sam460ex|bamboo|40p|q800|SS-|sun4|hppa|malta)/;

const DEVICE_ENDIAN: Readonly<Record<string, string>> = { 0: "unknown", 1: "little", 2: "big" };
const VERSION_1 = 1 << 0;
const ISR: Bits = { 0: "queue", 1: "config" };

/** Byte order of config space. It depends on whether the guest drives the device as virtio 1.x. */
function byteOrder(reader: FieldReader, context: VirtioContext): ByteOrder {
  const high = findSubsection(reader, "virtio/64bit_features");
  // The high half of 8 bytes; its lowest bit is VIRTIO_F_VERSION_1.
  if (high !== undefined && ((reader.peek(1, high + 3)?.[0] ?? 0) & VERSION_1) !== 0) return "little";
  const endian = findSubsection(reader, "virtio/device_endian");
  if (endian !== undefined) return reader.peek(1, endian)?.[0] === 2 ? "big" : "little";
  return BIG_ENDIAN.test(context.machine ?? "") ? "big" : "little";
}

/** Reads a complete virtio device. Throws EndOfBytes. */
export function readVirtio(reader: FieldReader, context: VirtioContext): void {
  const vmsdName = context.vmsdName ?? context.idstr.slice(context.idstr.lastIndexOf("/") + 1);
  const type = virtioType(vmsdName);
  const device = virtioDevice(type);
  const order = byteOrder(reader, context);
  const names = (value: bigint, shift = 0): string | undefined => featureNames(type, value, shift);

  const transport = readTransport(reader, context.idstr);
  reader.u8("status", statusNames);
  reader.u8("isr", (value) => bitNames(value, ISR));
  reader.u16("queue_sel");
  const features = reader.u32("guest_features", names);
  const length = reader.u32("config_len");
  reader.group("config", "struct", () =>
    readPrefix(reader, device.config, length, device.littleEndian ? "little" : order),
  );

  const queues = reader.u32("num_queues");
  const title = (index: number): string | undefined =>
    index < queues ? device.queue(index, queues) : undefined;
  const layout = `vring.num:4 ${transport.align ? "vring.align:4 " : ""}vring.desc:8 last_avail_idx:2`;
  reader.group("vq", "array", () => {
    for (let i = 0; i < queues; i++) {
      reader.group(
        `[${i}]`,
        "struct",
        () => {
          readLayout(reader, layout);
          if (transport.vector) reader.u16("vector", vectorName);
        },
        title(i),
      );
    }
  });

  const body = bodyOf(type, vmsdName);
  if (body !== undefined) {
    reader.group("device", type, () => body(reader, { version: context.version, features, queues }));
  } else readUnknown(reader, "device", "virtio");

  const perQueue =
    (fields: string) =>
    (r: FieldReader): void =>
      r.group("vq", "array", () => readElements(r, fields, QUEUE_MAX, queues, title));
  const subsections: SubsectionReaders = {
    "virtio/device_endian": (r) => void r.u8("device_endian", (value) => DEVICE_ENDIAN[value.toString()]),
    "virtio/64bit_features": (r) => void r.u64("guest_features", (value) => names(value)),
    "virtio/128bit_features": (r) => void r.u64("guest_features_ex[1]", (value) => names(value, 64)),
    "virtio/virtqueues": perQueue("vring.avail:8 vring.used:8"),
    "virtio/ringsize": perQueue("vring.num_default:4"),
    "virtio/broken": (r) => void readLayout(r, "broken:?"),
    "virtio/started": (r) => void readLayout(r, "started:?"),
    "virtio/disabled": (r) => void readLayout(r, "disabled:?"),
    "virtio/packed_virtqueues": perQueue(
      "last_avail_idx:2 last_avail_wrap_counter:? used_idx:2 used_wrap_counter:? inuse:4",
    ),
    "virtio/extra_state": (r) => readExtraState(r, transport, { count: queues, title }, names),
  };
  readSubsections(reader, "virtio", subsections);
  // A subsection may have a newer version with more fields; the subsections after it are still found.
  for (let i = 0; reader.remaining > 0; i++) {
    readUnknown(reader, `unknown[${i}]`, "virtio");
    readSubsections(reader, "virtio", subsections);
  }
}
