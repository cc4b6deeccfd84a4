// Device types of virtio by their names in QEMU's streams, with the fields of their config space and the
// names of their queues: virtio 1.3 section 5.

import { table } from "./field-layout.ts";

/** A layout (see field-layout.ts). */
type Layout = string;

interface VirtioDevice {
  readonly config: Layout;
  /** Config space is little-endian for any guest. */
  readonly littleEndian?: true;
  /** Name of queue `index` of `count`. */
  readonly queue: (index: number, count: number) => string;
}

const named =
  (...names: readonly string[]) =>
  (index: number): string =>
    names[index] ?? `queue ${index}`;
/** Names for queues: the given ones, then any number of one kind, numbered from 1 (or 0 for `first`). */
const numbered =
  (kind: string, ...before: readonly string[]) =>
  (index: number): string =>
    before[index] ?? `${kind} ${index - before.length + 1}`;

// Maps, because names from a stream are looked up: `constructor` is not a device.
const DEVICES: ReadonlyMap<string, VirtioDevice> = table({
  net: {
    config:
      "mac:b6 status:2 max_virtqueue_pairs:2 mtu:2 speed:4 duplex:1 rss_max_key_size:1 " +
      "rss_max_indirection_table_length:2 supported_hash_types:4 supported_tunnel_types:4",
    // The control queue is the last; with it the number of queues is odd.
    queue: (index, count) =>
      index === count - 1 && count % 2 === 1
        ? "controlq"
        : `${index % 2 === 0 ? "receiveq" : "transmitq"} ${Math.floor(index / 2) + 1}`,
  },
  blk: {
    config:
      "capacity:8 size_max:4 seg_max:4 cylinders:2 heads:1 sectors:1 blk_size:4 physical_block_exp:1 " +
      "alignment_offset:1 min_io_size:2 opt_io_size:4 wce:1 unused:1 num_queues:2 max_discard_sectors:4 " +
      "max_discard_seg:4 discard_sector_alignment:4 max_write_zeroes_sectors:4 max_write_zeroes_seg:4 " +
      "write_zeroes_may_unmap:1 unused1:b3 max_secure_erase_sectors:4 max_secure_erase_seg:4 " +
      "secure_erase_sector_alignment:4 zone_sectors:4 max_open_zones:4 max_active_zones:4 " +
      "max_append_sectors:4 write_granularity:4 model:1 unused2:b3",
    queue: numbered("requestq"),
  },
  console: {
    config: "cols:2 rows:2 max_nr_ports:4 emerg_wr:4",
    queue: (index) => {
      const way = index % 2 === 0 ? "receiveq" : "transmitq";
      if (index === 2 || index === 3) return `control ${way}`;
      return `${way} port ${index < 2 ? 0 : Math.floor(index / 2) - 1}`;
    },
  },
  rng: { config: "", queue: named("requestq") },
  balloon: {
    config: "num_pages:4 actual:4 free_page_hint_cmd_id:4 poison_val:4",
    littleEndian: true,
    // With four queues, the last is one of two kinds, depending on features.
    queue: (index, count) =>
      named(
        "inflateq",
        "deflateq",
        "statsq",
        ...(count === 5 ? ["free_page_vq", "reporting_vq"] : []),
      )(index),
  },
  scsi: {
    config:
      "num_queues:4 seg_max:4 max_sectors:4 cmd_per_lun:4 event_info_size:4 sense_size:4 cdb_size:4 " +
      "max_channel:2 max_target:2 max_lun:4",
    queue: numbered("requestq", "controlq", "eventq"),
  },
  "9p": { config: "tag_len:2 tag:b255", queue: named("requestq") },
  gpu: {
    config: "events_read:4 events_clear:4 num_scanouts:4 num_capsets:4 blob_alignment:4",
    queue: named("controlq", "cursorq"),
  },
  input: {
    config: "select:1 subsel:1 size:1 reserved:b5 u:b128",
    queue: named("eventq", "statusq"),
  },
  vsock: { config: "guest_cid:8", queue: named("rx", "tx", "event") },
  crypto: {
    config:
      "status:4 max_dataqueues:4 crypto_services:4 cipher_algo_l:4 cipher_algo_h:4 hash_algo:4 mac_algo_l:4 " +
      "mac_algo_h:4 aead_algo:4 max_cipher_key_len:4 max_auth_key_len:4 akcipher_algo:4 max_size:8",
    queue: (index, count) => (index === count - 1 ? "controlq" : `dataq ${index + 1}`),
  },
  iommu: {
    config:
      "page_size_mask:8 input_range.start:8 input_range.end:8 domain_range.start:4 domain_range.end:4 " +
      "probe_size:4 bypass:1 reserved:b3",
    queue: named("requestq", "eventq"),
  },
  mem: {
    config:
      "block_size:8 node_id:2 padding:b6 addr:8 region_size:8 usable_region_size:8 plugged_size:8 requested_size:8",
    queue: named("guest-request"),
  },
  sound: {
    config: "jacks:4 streams:4 chmaps:4 controls:4",
    queue: named("controlq", "eventq", "txq", "rxq"),
  },
  fs: { config: "tag:b36 num_request_queues:4 notify_buf_size:4", queue: numbered("requestq", "hiprio") },
  pmem: { config: "start:8 size:8", queue: named("requestq") },
  i2c: { config: "", queue: named("requestq") },
  gpio: { config: "ngpio:2 padding:b2 gpio_names_size:4", queue: named("requestq", "eventq") },
  scmi: { config: "", queue: named("cmdq", "eventq") },
});

const UNKNOWN: VirtioDevice = { config: "", queue: (index) => `queue ${index}` };

/** QEMU's names for a type, without `virtio-`, `vhost-` or `vhost-user-`. */
const ALIASES: ReadonlyMap<string, string> = table({
  block: "blk",
  serial: "console",
  snd: "sound",
  vhost_vsock: "vsock",
  vhost_scsi: "scsi",
});

/** Type of a device (such as `net`) by its VMState description or the tail of its idstr. */
export function virtioType(name: string): string {
  const bare = name.replace(/^(virtio|vhost-user|vhost)-/, "").replace(/-device$/, "");
  return ALIASES.get(bare) ?? bare;
}

export const isVirtioType = (type: string): boolean => DEVICES.has(type);

export const virtioDevice = (type: string): VirtioDevice => DEVICES.get(type) ?? UNKNOWN;
