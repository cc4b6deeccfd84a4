// Constants of virtio 1.3 shared by the core, the transports and all devices: status bits (§2.1), feature
// bits (§6) and ring limits. Feature bits are bit numbers; `feature()` makes masks.

export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 0x40;

export const VIRTIO_F_NOTIFY_ON_EMPTY = 24;
export const VIRTIO_F_ANY_LAYOUT = 27;
export const VIRTIO_RING_F_INDIRECT_DESC = 28;
export const VIRTIO_RING_F_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_RING_RESET = 40;

/** Interrupt status bits (§4.2.2). */
export const VIRTIO_ISR_USED = 1;
export const VIRTIO_ISR_CONFIG = 2;

/** The largest queue a driver may choose, and the longest chain a device follows. */
export const VIRTQUEUE_MAX_SIZE = 1024;
/** The number of queues a transport can select; QEMU's stream has as many records for every device. */
export const VIRTIO_QUEUE_MAX = 1024;
/** Ring alignment of legacy queues until the driver chooses one. */
export const VIRTIO_LEGACY_VRING_ALIGN = 4096;

/** The mask of these feature bits. */
export function feature(...bits: number[]): bigint {
  return bits.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
}

/** Features for legacy drivers only (QEMU's VIRTIO_LEGACY_FEATURES). */
export const LEGACY_FEATURES = feature(VIRTIO_F_NOTIFY_ON_EMPTY, VIRTIO_F_ANY_LAYOUT);

/** Features that the core offers for every device. */
export const COMMON_FEATURES =
  LEGACY_FEATURES | feature(VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX, VIRTIO_F_RING_RESET);
