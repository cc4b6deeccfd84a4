// PCI configuration space as QEMU writes it: an image of 256 bytes, or 4096 for a PCI Express device,
// little-endian: header, the linked capabilities at their addresses, and the bytes between them. Also the
// fields that accompany it in a stream: interrupt levels and MSI-X vectors.
import { bitNames } from "../../base/text.ts";
import type { FieldReader, Meaning } from "./fields.ts";
import { type Meanings, readLayout } from "./field-layout.ts";
import { capabilityAt, extendedCapability } from "./pci-capabilities.ts";
import type { Bits } from "./virtio-features.ts";

export const CONFIG_SIZE = 256;
export const EXPRESS_CONFIG_SIZE = 4096;
const HEADER_SIZE = 64;
const BARS_AT = 0x10;

const COMMAND: Bits = { 0: "I/O", 1: "memory", 2: "bus master", 6: "parity", 8: "SERR", 10: "no INTx" };
const STATUS: Bits = { 3: "interrupt", 4: "capabilities", 5: "66 MHz", 7: "fast back-to-back" };
const CLASSES: Readonly<Record<number, string>> = {
  256: "SCSI controller",
  257: "IDE controller",
  262: "SATA controller",
  264: "NVMe controller",
  512: "Ethernet controller",
  768: "VGA controller",
  896: "display controller",
  1027: "audio device",
  1280: "RAM",
  1536: "host bridge",
  1537: "ISA bridge",
  1540: "PCI bridge",
  1664: "bridge",
  1920: "communication controller",
  3075: "USB controller",
  3077: "SMBus controller",
};

/** Vendors of the devices that QEMU emulates. */
const VENDORS: Readonly<Record<number, string>> = {
  4096: "LSI",
  4115: "Cirrus Logic",
  4116: "IBM",
  4130: "AMD",
  4203: "Apple",
  4332: "Realtek",
  4660: "QEMU (standard VGA, edu)",
  5549: "VMware",
  6900: "Red Hat (virtio)",
  6966: "Red Hat (QEMU)",
  32902: "Intel",
};

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

/** `view` must have 256 bytes. */
function littleEndian(bytes: Uint8Array): (offset: number) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return (offset) => (offset + 2 <= bytes.length ? view.getUint16(offset, true) : 0);
}

/** Offsets of the capabilities in a list, by address. A loop ends the list. */
function listed(first: number, next: (at: number) => number, low: number, high: number): number[] {
  const found = new Set<number>();
  for (let at = first; at >= low && at + 4 <= high && !found.has(at); at = next(at)) found.add(at);
  return [...found].sort((a, b) => a - b);
}

const capabilities = (u16: (offset: number) => number): number[] =>
  (u16(0x06) & 0x10) === 0
    ? []
    : listed(u16(0x34) & 0xfc, (at) => (u16(at) >> 8) & 0xfc, HEADER_SIZE, CONFIG_SIZE);

/** Facts from the capabilities of the config space at the cursor that determine the layout of the stream. */
export interface ConfigFacts {
  /** Bytes of config space in the stream. */
  readonly size: number;
  /** MSI-X vectors; 0 without MSI-X. */
  readonly vectors: number;
}

export function configFacts(bytes: Uint8Array): ConfigFacts {
  const u16 = littleEndian(bytes);
  let size = CONFIG_SIZE;
  let vectors = 0;
  for (const at of capabilities(u16)) {
    const id = u16(at) & 0xff;
    if (id === 0x10) size = EXPRESS_CONFIG_SIZE;
    if (id === 0x11) vectors = (u16(at + 2) & 0x7ff) + 1;
  }
  return { size, vectors };
}

/** Reads undescribed bytes up to `end`. */
function gap(reader: FieldReader, from: number, end: number): void {
  if (end <= from) return;
  const bytes = reader.peek(end - from);
  const zero = bytes?.every((byte) => byte === 0) === true;
  reader.bytes(`${hex(from)}..${hex(end - 1)}`, end - from, undefined, zero ? "zeros" : "buffer");
}

/** Reads a group of `room` bytes: `layout` as far as it fits, then the remaining bytes. */
function clipped(layout: string, room: number): string {
  const words: string[] = [];
  let left = room;
  for (const word of layout === "" ? [] : layout.split(" ")) {
    const [, count = "1", size = ""] = /(?:\[(\d+)\])?:b?(\d+)$/.exec(word) ?? [];
    left -= Number(count) * Number(size);
    if (left < 0) break;
    words.push(word);
  }
  return words.join(" ");
}

const IO_BAR = 1;
const WIDE_BAR = 4;

/** Descriptions of `count` base address registers; the second of a 64-bit one is its upper half. */
function barMeanings(reader: FieldReader, count: number): Meanings {
  const bytes = reader.peek(BARS_AT + count * 4);
  if (bytes === undefined) return {};
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const meanings: Record<string, Meaning> = {};
  const low = (i: number): number => view.getUint32(BARS_AT + i * 4, true);
  for (let i = 0; i < count; i++) {
    const value = low(i);
    if ((value & IO_BAR) !== 0) {
      meanings[`bar[${i}]`] = () => `I/O at ${hex(value - (value % 4))}`;
      continue;
    }
    const prefetchable = (value & 8) === 0 ? "" : ", prefetchable,";
    const wide = (value & 6) === WIDE_BAR && i + 1 < count;
    const address = BigInt(value - (value % 16)) + (wide ? BigInt(low(i + 1)) << 32n : 0n);
    if (wide) {
      meanings[`bar[${i}]`] = () => `64-bit memory${prefetchable} at ${hex(address)}`;
      meanings[`bar[${++i}]`] = () => `upper half of bar[${i - 1}]`;
    } else if (value !== 0) meanings[`bar[${i}]`] = () => `memory${prefetchable} at ${hex(address)}`;
  }
  return meanings;
}

const PIN = (value: bigint): string | undefined =>
  value >= 1n && value <= 4n ? `INT${"ABCD"[Number(value) - 1] ?? ""}` : undefined;

function header(reader: FieldReader): void {
  const type = reader.peek(1, 0x0e)?.[0] ?? 0;
  const bridge = (type & 0x7f) === 1;
  const meanings: Meanings = {
    ...barMeanings(reader, bridge ? 2 : 6),
    vendor_id: (value: bigint) => VENDORS[Number(value)],
    command: (value: bigint) => bitNames(value, COMMAND),
    status: (value: bigint) => bitNames(value & 0xf9ffn, STATUS),
    class: (value: bigint) => CLASSES[Number(value)],
    interrupt_pin: PIN,
  };
  const common =
    "vendor_id:2 device_id:2 command:2 status:2 revision:1 prog_if:1 class:2 cache_line_size:1 latency_timer:1 " +
    "header_type:1 bist:1";
  const own = bridge
    ? "bar[2]:4 primary_bus:1 secondary_bus:1 subordinate_bus:1 secondary_latency:1 io_base:1 io_limit:1 " +
      "secondary_status:2 memory_base:2 memory_limit:2 prefetch_base:2 prefetch_limit:2 prefetch_base_hi:4 " +
      "prefetch_limit_hi:4 io_base_hi:2 io_limit_hi:2 capabilities:1 reserved:b3 rom:4 interrupt_line:1 " +
      "interrupt_pin:1 bridge_control:2"
    : "bar[6]:4 cis:4 subsystem_vendor_id:2 subsystem_id:2 rom:4 capabilities:1 reserved:b7 interrupt_line:1 " +
      "interrupt_pin:1 min_gnt:1 max_lat:1";
  readLayout(reader, `${common} ${own}`, "little", meanings);
}

/** Reads config space of `size` bytes: CONFIG_SIZE or EXPRESS_CONFIG_SIZE. Throws EndOfBytes. */
export function readConfigSpace(reader: FieldReader, size: number): void {
  const bytes = reader.peek(size);
  if (bytes === undefined) {
    reader.bytes("config", size);
    return;
  }
  const u16 = littleEndian(bytes);
  header(reader);
  let at = HEADER_SIZE;
  const offsets = capabilities(u16);
  for (const [i, offset] of offsets.entries()) {
    const end = offsets[i + 1] ?? CONFIG_SIZE;
    gap(reader, at, offset);
    const capability = capabilityAt(u16, offset);
    reader.group(
      unique(reader, capability?.name ?? `capability ${hex(u16(offset) & 0xff)}`, offset),
      "capability",
      () => {
        const layout = clipped(
          `cap_id:1 cap_next:1${capability ? ` ${capability.layout}` : ""}`,
          end - offset,
        );
        readLayout(reader, layout, "little");
      },
      `at ${hex(offset)}`,
    );
    at = offset + consumed(reader);
  }
  gap(reader, at, CONFIG_SIZE);
  if (size > CONFIG_SIZE) extended(reader, u16, size);
}

/** The name of a second capability of one kind includes its offset. */
const unique = (reader: FieldReader, name: string, offset: number): string =>
  reader.fields.some((field) => field.name === name) ? `${name} ${hex(offset)}` : name;

/** Size of the last group in bytes. */
const consumed = (reader: FieldReader): number => reader.fields.at(-1)?.size ?? 0;

function extended(reader: FieldReader, u16: (offset: number) => number, size: number): void {
  const offsets =
    u16(CONFIG_SIZE) === 0 ? [] : listed(CONFIG_SIZE, (at) => u16(at + 2) >> 4, CONFIG_SIZE, size);
  let at = CONFIG_SIZE;
  for (const [i, offset] of offsets.entries()) {
    const end = offsets[i + 1] ?? size;
    gap(reader, at, offset);
    const capability = extendedCapability(u16(offset));
    reader.group(
      unique(reader, capability?.name ?? `extended capability ${hex(u16(offset))}`, offset),
      "capability",
      () =>
        readLayout(
          reader,
          clipped(`cap_id:2 version_next:2 ${capability?.layout ?? ""}`.trim(), end - offset),
          "little",
        ),
      `at ${hex(offset)}`,
    );
    at = offset + consumed(reader);
  }
  gap(reader, at, size);
}

/** Reads the levels of INTA to INTD, 0 or 1 each. */
export function readIrqState(reader: FieldReader): void {
  readLayout(reader, "INTA:4 INTB:4 INTC:4 INTD:4");
}

/** Reads MSI-X table and pending bits, which have the BAR's format: little-endian. */
export function readMsix(reader: FieldReader, vectors: number): void {
  reader.group("msix_table", "array", () => {
    for (let i = 0; i < vectors; i++) {
      reader.group(`[${i}]`, "struct", () => {
        readLayout(reader, "address:8 data:4 control:4", "little", {
          control: (value) => ((value & 1n) === 0n ? undefined : "masked"),
        });
      });
    }
  });
  reader.bytes("msix_pba", Math.ceil(vectors / 8), "bit per vector");
}

/** Number of vectors in `size` bytes of MSI-X state; undefined if no number fits. */
export function vectorsOf(size: number): number | undefined {
  const vectors = Math.floor((size * 8) / (16 * 8 + 1));
  return [vectors, vectors + 1].find((n) => n * 16 + Math.ceil(n / 8) === size);
}
