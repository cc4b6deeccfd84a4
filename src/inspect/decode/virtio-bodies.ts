// The part of each virtio device type between the common queues and the common subsections: requests in
// flight, filter tables, counters, as QEMU 2.x to 11.x write them. Where it depends on a property that the
// stream lacks (such as a card's number of queue pairs), the start of the next known part decides.
import { bitNames } from "../../base/text.ts";
import type { FieldReader } from "./fields.ts";
import {
  readLayout,
  readSubsections,
  type SubsectionReaders,
  subsectionOrEnd,
  table,
} from "./field-layout.ts";
import { readElement } from "./virtio-element.ts";

export interface BodyContext {
  /** Version of the device's VMState description. */
  readonly version: number;
  /** Low 32 bits of the features that the guest has accepted. */
  readonly features: number;
  /** Number of queues written. */
  readonly queues: number;
}

type Body = (reader: FieldReader, context: BodyContext) => void;

const CTRL_GUEST_OFFLOADS = 1 << 2;
const GUEST_OFFLOADS = {
  1: "CSUM",
  7: "TSO4",
  8: "TSO6",
  9: "ECN",
  10: "UFO",
  46: "UDP_TUNNEL_GSO",
  47: "UDP_TUNNEL_GSO_CSUM",
  54: "USO4",
  55: "USO6",
};
const RSS_HASH_TYPES = {
  0: "IPv4",
  1: "TCPv4",
  2: "UDPv4",
  3: "IPv6",
  4: "TCPv6",
  5: "UDPv6",
  6: "IP_EX",
  7: "TCP_EX",
  8: "UDP_EX",
};

/** Reads elements, each preceded by a nonzero byte, up to a zero byte. */
function marked(reader: FieldReader, name: string, read: () => void): void {
  reader.group(name, "list", () => {
    for (let i = 0; ; i++) {
      const more = reader.peek(1)?.[0] !== 0;
      if (!more) break;
      reader.group(`[${i}]`, "struct", () => {
        reader.u8("more");
        read();
      });
    }
    reader.u8("end");
  });
}

const blk: Body = (reader, { queues }) =>
  marked(reader, "requests", () => {
    if (queues > 1) reader.u32("vq");
    readElement(reader);
  });

const console: Body = (reader) => {
  reader.group("config (now)", "struct", () => {
    readLayout(reader, "cols:2 rows:2");
  });
  // In the guest's byte order, but read in the host's: it may be swapped. At most 511.
  const written = reader.u32("max_nr_ports");
  const ports = written > 0xffff ? written >>> 24 : written;
  for (let i = 0; i < Math.ceil(ports / 32); i++) reader.u32(`ports_map[${i}]`);
  const active = reader.u32("nr_active_ports");
  for (let i = 0; i < active; i++) {
    reader.group(`port[${i}]`, "struct", () => {
      const { elem_popped } = readLayout(reader, "id:4 guest_connected:? host_connected:? elem_popped:4");
      if (elem_popped === 0) return;
      readLayout(reader, "iov_idx:4 iov_offset:8");
      readElement(reader);
    });
  }
};

/** State from a vhost-user backend: pieces with their lengths, ending with an empty one. */
export function readBackend(reader: FieldReader): void {
  for (let i = 0; ; i++) {
    const length = reader.u32(`length[${i}]`);
    if (length === 0) return;
    reader.bytes(`data[${i}]`, length);
  }
}

const NET_SUBSECTIONS: SubsectionReaders = {
  "virtio-net-device/backend": readBackend,
  "virtio-net-device/rss": (reader, version) => {
    const hashes = (value: bigint): string | undefined => bitNames(value, RSS_HASH_TYPES);
    const supported = version >= 2 ? "supported_hash_types:4 " : "";
    const { indirections_len: entries = 0 } = readLayout(
      reader,
      `enabled:? redirect:? populate_hash:? hash_types:4 ${supported}indirections_len:2 default_queue:2 key:b40`,
      "big",
      { hash_types: hashes, supported_hash_types: hashes },
    );
    reader.group("indirections_table", "array", () => {
      for (let i = 0; i < entries; i++) reader.u16(`[${i}]`);
    });
  },
};

const net: Body = (reader, { features }) => {
  reader.bytes("mac", 6);
  reader.u32("vqs[0].tx_waiting");
  const { "mac_table.in_use": macs = 0 } = readLayout(
    reader,
    "mergeable_rx_bufs:4 status:2 promisc:1 allmulti:1 mac_table.in_use:4",
    "big",
    { status: (value) => bitNames(value, { 0: "LINK_UP", 1: "ANNOUNCE" }) },
  );
  reader.group("mac_table.macs", "array", () => {
    for (let i = 0; i < macs; i++) reader.bytes(`[${i}]`, 6);
  });
  reader.bytes("vlans", 512, "bit per VLAN");
  readLayout(
    reader,
    "has_vnet_hdr:4 mac_table.multi_overflow:1 mac_table.uni_overflow:1 alluni:1 nomulti:1 nouni:1 nobcast:1 has_ufo:1",
  );
  // A card with one queue pair has no bytes here, any other has; the number of pairs is not in the stream.
  const offloads = (features & CTRL_GUEST_OFFLOADS) === 0 ? 0 : 8;
  if (!subsectionOrEnd(reader, offloads, ["virtio-net-device", "virtio"])) {
    reader.u16("max_queue_pairs");
    const current = reader.u16("curr_queue_pairs");
    for (let i = 1; i < current; i++) reader.u32(`vqs[${i}].tx_waiting`);
  }
  if (offloads > 0) reader.u64("curr_guest_offloads", (value) => bitNames(value, GUEST_OFFLOADS));
  readSubsections(reader, "virtio-net-device", NET_SUBSECTIONS);
};

const BALLOON_SUBSECTIONS: SubsectionReaders = {
  "virtio-balloon-device/free-page-report": (reader) =>
    void readLayout(reader, "free_page_hint_cmd_id:4 free_page_hint_status:4"),
  "virtio-balloon-device/page-poison": (reader) => void reader.u32("poison_val"),
};

const balloon: Body = (reader) => {
  readLayout(reader, "num_pages:4 actual:4");
  readSubsections(reader, "virtio-balloon-device", BALLOON_SUBSECTIONS);
};

/** QEMU's bitmaps consist of 64-bit words, lowest bits first. */
function bitmap(reader: FieldReader, name: string, bits: number): void {
  reader.bytes(name, Math.ceil(bits / 64) * 8, undefined, "bitmap");
}

/** Properties that must be equal on both sides, and the plugged blocks. */
function memBlocks(reader: FieldReader, fields: string): void {
  const { region_size = 0, block_size = 0 } = readLayout(reader, "addr:8 region_size:8 block_size:8 node:4");
  readLayout(reader, fields);
  bitmap(reader, "bitmap", block_size === 0 ? 0 : region_size / block_size);
}

/** Section `virtio-mem-device-early` of QEMU 8.1 and later, ahead of RAM. */
export const readEarlyMem = (reader: FieldReader): void => memBlocks(reader, "size:8");

/** Omits the fields of the early section. */
const mem: Body = (reader) => {
  if (subsectionOrEnd(reader, 16, ["virtio"])) readLayout(reader, "usable_region_size:8 requested_size:8");
  else memBlocks(reader, "usable_region_size:8 size:8 requested_size:8");
};

/** GLib trees: the count, then each node preceded by a byte 1, then a byte 0. */
function tree(reader: FieldReader, name: string, read: () => void): void {
  reader.group(name, "gtree", () => {
    reader.u32("nodes");
    marked(reader, "elements", read);
  });
}

const iommu: Body = (reader, { version }) => {
  tree(reader, "domains", () => {
    reader.u64("key");
    reader.u32("id");
    tree(reader, "mappings", () => {
      readLayout(reader, "low:8 high:8 phys_addr:8 flags:4", "big", {
        flags: (value) => bitNames(value, { 0: "READ", 1: "WRITE", 2: "MMIO" }),
      });
    });
    marked(reader, "endpoint_list", () => reader.u32("id"));
    if (version >= 2) reader.u8("bypass");
  });
  if (version >= 2) reader.u8("config.bypass");
};

const BODIES = table<Body>({ blk, console, net, balloon, mem, iommu });

/**
 * Reader for a device type; undefined if the type has no part of its own or is unknown. Requests of
 * vhost-user-blk are in its backend.
 */
export const bodyOf = (type: string, vmsdName: string): Body | undefined =>
  type === "blk" && vmsdName.startsWith("vhost") ? undefined : BODIES.get(type);
