// The migrated state of a virtio-mmio device in the layout of QEMU's virtio_save: transport registers, common
// fields, queues, the device's own fields, then the `virtio` subsections. QEMU describes all this as one
// opaque field; here every byte is described. Left out: the packed ring's subsection. Each device type and
// transport mode has its own definition, with the device's own fields.
import {
  bool,
  defineState,
  type StateDefinition,
  type StateOf,
  struct,
  structArray,
  subsection,
  u8,
  u16,
  u32,
  u32Array,
  u64,
  unused,
  varBuffer,
  varStructArray,
} from "../../state/schema.ts";
import type { Field, LooseState } from "../../state/field.ts";
import { VIRTIO_LEGACY_VRING_ALIGN, VIRTIO_QUEUE_MAX, VIRTQUEUE_MAX_SIZE } from "./virtio-feature-bits.ts";

export const DEVICE_ENDIAN_LITTLE = 1;

/** The fields that a device type adds to the state. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Fields = Record<string, Field<any>>;

const queue = defineState(
  "virtqueue",
  { version: 1 },
  {
    num: u32.range(0, VIRTQUEUE_MAX_SIZE),
    align: u32
      .init(VIRTIO_LEGACY_VRING_ALIGN)
      .check((align) => ((align & (align - 1)) === 0 && align !== 0 ? undefined : "a power of two")),
    desc: u64,
    lastAvailIdx: u16,
  },
);

const queueRings = defineState(
  "virtqueue_state",
  { version: 1 },
  { avail: u64.named("vring.avail"), used: u64.named("vring.used") },
);

const queueSize = defineState(
  "ringsize_state",
  { version: 1 },
  { numDefault: u32.named("vring.num_default").range(0, VIRTQUEUE_MAX_SIZE) },
);

const mmioQueue = defineState(
  "virtio_mmio/queue_state",
  { version: 1 },
  { num: u16, enabled: bool, desc: u32Array(2), avail: u32Array(2), used: u32Array(2) },
);

/**
 * QEMU's arrays have one element for each possible queue number; those beyond the device's queues are zero.
 */
function perQueue<T>(element: StateDefinition<T>, bytes: number, queues: number) {
  return { used: structArray(element, queues), unused: unused(bytes * (VIRTIO_QUEUE_MAX - queues)) };
}

function mmioState(queues: number) {
  const vqs = perQueue(mmioQueue, 27, queues);
  return defineState("virtio_mmio", { version: 1 }, {}, [
    subsection(
      "virtio_mmio/state",
      { version: 1, needed: () => true },
      { guestFeatures: u32Array(2), vqs: vqs.used, vqsUnused: vqs.unused },
    ),
  ]);
}

// The device's own fields are not in the result's type: a type that depends on them cannot be declared.
function define(version: number, fields: Record<never, never>, queues: number, modern: boolean) {
  const rings = perQueue(queueRings, 16, queues);
  const sizes = perQueue(queueSize, 4, queues);
  return defineState(
    "virtio",
    {
      version,
      preSave(s: LooseState) {
        s.guestFeaturesLow = Number(s.guestFeatures & 0xffff_ffffn);
      },
    },
    {
      hostFeaturesSel: u32.range(0, 1),
      guestFeaturesSel: u32.range(0, 1),
      guestPageShift: u32.range(0, 31),
      status: u8,
      isr: u8,
      queueSel: u16.range(0, VIRTIO_QUEUE_MAX - 1),
      guestFeaturesLow: u32,
      configLength: u32.named("config_len"),
      config: varBuffer("configLength", 4096),
      queueCount: u32.range(0, VIRTIO_QUEUE_MAX),
      queues: varStructArray(queue, "queueCount", VIRTIO_QUEUE_MAX).named("vq"),
      ...fields,
    },
    [
      subsection(
        "virtio/device_endian",
        { version: 1, needed: (s) => s.deviceEndian !== DEVICE_ENDIAN_LITTLE },
        { deviceEndian: u8.init(DEVICE_ENDIAN_LITTLE) },
      ),
      // QEMU writes it if the host offers a feature bit above 31; every device here offers
      // VIRTIO_F_RING_RESET.
      subsection("virtio/64bit_features", { version: 1, needed: () => true }, { guestFeatures: u64 }),
      subsection(
        "virtio/virtqueues",
        { version: 1, needed: () => modern },
        { rings: rings.used.named("vq"), ringsUnused: rings.unused },
      ),
      subsection(
        "virtio/ringsize",
        { version: 1, needed: (s) => sizesChanged(s) },
        { sizes: sizes.used.named("vq"), sizesUnused: sizes.unused },
      ),
      subsection("virtio/broken", { version: 1, needed: (s) => s.broken }, { broken: bool }),
      subsection(
        "virtio/extra_state",
        { version: 1, needed: () => modern },
        { mmio: struct(mmioState(queues)).named("extra_state") },
      ),
      subsection("virtio/started", { version: 1, needed: (s) => s.started }, { started: bool }),
      subsection("virtio/disabled", { version: 1, needed: (s) => s.disabled }, { disabled: bool }),
    ],
  );
}

function sizesChanged(s: { queues: { num: number }[]; sizes: { numDefault: number }[] }): boolean {
  return s.queues.some((q, i) => q.num !== s.sizes[i]?.numDefault);
}

type CoreState = StateOf<ReturnType<typeof define>>;
type Values<F> = { -readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** The whole state of a device: the fields of the core, the transport, and the device itself (`F`). */
export type VirtioState<F extends Fields> = CoreState & Values<F>;

/**
 * `version` is the section's version, `queues` the number of the device's queues; `modern` is mmio version 2.
 */
export function virtioState<F extends Fields>(
  version: number,
  fields: F,
  queues: number,
  modern: boolean,
): StateDefinition<VirtioState<F>> {
  return define(version, fields, queues, modern) as unknown as StateDefinition<VirtioState<F>>;
}
