// Names of virtio's feature and status bits, by device type: virtio 1.3 (sections 2.1, 5 and 6), and
// additional ones of QEMU's devices (vhost, vhost-user).
import { bitNames } from "../../base/text.ts";
import { table } from "./field-layout.ts";

export type Bits = Readonly<Record<number, string>>;

/** Bits of the ring and the transport. A device type's own bits are 0 to 23 and 50 up. */
const COMMON: Bits = {
  24: "VIRTIO_F_NOTIFY_ON_EMPTY",
  26: "VHOST_F_LOG_ALL",
  27: "VIRTIO_F_ANY_LAYOUT",
  28: "VIRTIO_RING_F_INDIRECT_DESC",
  29: "VIRTIO_RING_F_EVENT_IDX",
  30: "VHOST_USER_F_PROTOCOL_FEATURES",
  32: "VIRTIO_F_VERSION_1",
  33: "VIRTIO_F_ACCESS_PLATFORM",
  34: "VIRTIO_F_RING_PACKED",
  35: "VIRTIO_F_IN_ORDER",
  36: "VIRTIO_F_ORDER_PLATFORM",
  37: "VIRTIO_F_SR_IOV",
  38: "VIRTIO_F_NOTIFICATION_DATA",
  39: "VIRTIO_F_NOTIF_CONFIG_DATA",
  40: "VIRTIO_F_RING_RESET",
  41: "VIRTIO_F_ADMIN_VQ",
};

/** Format of the tables: `first:NAME,NAME,,NAME` names bits from `first` on; empty names are skipped. */
function bits(prefix: string, ...runs: readonly string[]): Bits {
  const names: Record<number, string> = {};
  for (const run of runs) {
    const [first = "", list = ""] = run.split(":");
    for (const [i, name] of list.split(",").entries())
      if (name !== "") names[Number(first) + i] = prefix + name;
  }
  return names;
}

const DEVICE_FEATURES: ReadonlyMap<string, Bits> = table({
  net: bits(
    "VIRTIO_NET_F_",
    "0:CSUM,GUEST_CSUM,CTRL_GUEST_OFFLOADS,MTU,,MAC,GSO,GUEST_TSO4,GUEST_TSO6,GUEST_ECN,GUEST_UFO",
    "11:HOST_TSO4,HOST_TSO6,HOST_ECN,HOST_UFO,MRG_RXBUF,STATUS,CTRL_VQ,CTRL_RX,CTRL_VLAN,CTRL_RX_EXTRA",
    "21:GUEST_ANNOUNCE,MQ,CTRL_MAC_ADDR",
    "52:VQ_NOTF_COAL,NOTF_COAL,GUEST_USO4,GUEST_USO6,HOST_USO,HASH_REPORT,,GUEST_HDRLEN,RSS,RSC_EXT,STANDBY,SPEED_DUPLEX",
    "64:,GUEST_UDP_TUNNEL_GSO,GUEST_UDP_TUNNEL_GSO_CSUM,HOST_UDP_TUNNEL_GSO,HOST_UDP_TUNNEL_GSO_CSUM",
  ),
  blk: bits(
    "VIRTIO_BLK_F_",
    "0:BARRIER,SIZE_MAX,SEG_MAX,,GEOMETRY,RO,BLK_SIZE,SCSI,,FLUSH,TOPOLOGY,CONFIG_WCE,MQ,DISCARD,WRITE_ZEROES",
    "15:LIFETIME,SECURE_ERASE,ZONED",
  ),
  console: bits("VIRTIO_CONSOLE_F_", "0:SIZE,MULTIPORT,EMERG_WRITE"),
  balloon: bits(
    "VIRTIO_BALLOON_F_",
    "0:MUST_TELL_HOST,STATS_VQ,DEFLATE_ON_OOM,FREE_PAGE_HINT,PAGE_POISON,REPORTING",
  ),
  scsi: bits("VIRTIO_SCSI_F_", "0:INOUT,HOTPLUG,CHANGE,T10_PI"),
  "9p": bits("VIRTIO_9P_F_", "0:MOUNT_TAG"),
  gpu: bits("VIRTIO_GPU_F_", "0:VIRGL,EDID,RESOURCE_UUID,RESOURCE_BLOB,CONTEXT_INIT,BLOB_ALIGNMENT"),
  vsock: bits("VIRTIO_VSOCK_F_", "0:STREAM,SEQPACKET,NO_IMPLIED_STREAM"),
  crypto: bits(
    "VIRTIO_CRYPTO_F_",
    "0:REVISION_1,CIPHER_STATELESS_MODE,HASH_STATELESS_MODE,MAC_STATELESS_MODE,AEAD_STATELESS_MODE",
    "5:AKCIPHER_STATELESS_MODE",
  ),
  iommu: bits("VIRTIO_IOMMU_F_", "0:INPUT_RANGE,DOMAIN_RANGE,MAP_UNMAP,BYPASS,PROBE,MMIO,BYPASS_CONFIG"),
  mem: bits("VIRTIO_MEM_F_", "0:ACPI_PXM,UNPLUGGED_INACCESSIBLE,PERSISTENT_SUSPEND"),
  sound: bits("VIRTIO_SND_F_", "0:CTLS"),
  fs: bits("VIRTIO_FS_F_", "0:NOTIFICATION"),
  pmem: bits("VIRTIO_PMEM_F_", "0:SHMEM_REGION"),
  i2c: bits("VIRTIO_I2C_F_", "0:ZERO_LENGTH_REQUEST"),
  gpio: bits("VIRTIO_GPIO_F_", "0:IRQ"),
  scmi: bits("VIRTIO_SCMI_F_", "0:P2A_CHANNELS,SHARED_MEMORY"),
});

const STATUS: Bits = {
  0: "ACKNOWLEDGE",
  1: "DRIVER",
  2: "DRIVER_OK",
  3: "FEATURES_OK",
  6: "DEVICE_NEEDS_RESET",
  7: "FAILED",
};

/**
 * Names of the set bits. `device` is a type of virtio-devices.ts (such as `net`); `shift` is the number of
 * the value's lowest bit.
 */
export const featureNames = (device: string, value: bigint, shift = 0): string | undefined =>
  bitNames(value << BigInt(shift), DEVICE_FEATURES.get(device) ?? {}, COMMON);

export const statusNames = (value: bigint): string | undefined => bitNames(value, STATUS) ?? "reset";
