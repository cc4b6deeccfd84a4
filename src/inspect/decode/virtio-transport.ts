// State of virtio's transports: before the common state (pci: config space and MSI-X vectors; ccw: the
// subchannel; mmio: its selectors), after each queue, and in the subsection `virtio/extra_state`. QEMU 2.x to
// 11.x. For ccw it is a tree of VMState descriptions whose versions are not in the stream.
import type { FieldReader } from "./fields.ts";
import { readElements, readLayout, readSubsections, type SubsectionReaders } from "./field-layout.ts";
import {
  CONFIG_SIZE,
  type ConfigFacts,
  configFacts,
  readConfigSpace,
  readIrqState,
  readMsix,
} from "./pci-config.ts";

/** Queues for which a stream has room, for any device. */
export const QUEUE_MAX = 1024;

export const NO_VECTOR = 0xffff;
export const vectorName = (value: bigint): string | undefined =>
  value === BigInt(NO_VECTOR) ? "none" : undefined;

export interface Transport {
  readonly name: "pci" | "ccw" | "mmio";
  /** Each queue's alignment is written. */
  readonly align: boolean;
  /** A vector (pci, with MSI-X) or an indicator (ccw) is written for each queue. */
  readonly vector: boolean;
}

/** PCI: `version_id` 2, then config space, whose first two bytes are virtio's vendor. */
const PCI_START = [0, 0, 0, 2, 0xf4, 0x1a];

/**
 * The transport by the section's name, or by the bytes, because some boards name devices without their bus.
 */
function kindOf(idstr: string, reader: FieldReader): Transport["name"] {
  if (/^\/?[0-9a-f]{2}\.[0-9a-f]\.[0-9a-f]{4}\//i.test(idstr)) return "ccw";
  if (idstr.startsWith("virtio-mmio@")) return "mmio";
  if (/(^|:)[0-9a-f]{2}\.[0-7]\//i.test(idstr)) return "pci";
  const start = reader.peek(PCI_START.length);
  return start !== undefined && PCI_START.every((byte, i) => start[i] === byte) ? "pci" : "mmio";
}

export function readTransport(reader: FieldReader, idstr: string): Transport {
  const name = kindOf(idstr, reader);
  return reader.group(name, "transport", () => {
    if (name === "pci") return { name, align: false, vector: pci(reader) };
    if (name === "ccw") {
      ccw(reader);
      return { name, align: false, vector: true };
    }
    readLayout(reader, "host_features_sel:4 guest_features_sel:4 guest_page_shift:4");
    return { name, align: true, vector: false };
  });
}

/** Reads a PCIDevice inside other state. Returns true if the device has MSI-X. */
function pci(reader: FieldReader): boolean {
  reader.u32("version_id");
  const ahead = reader.peek(CONFIG_SIZE);
  const facts: ConfigFacts = ahead === undefined ? { size: CONFIG_SIZE, vectors: 0 } : configFacts(ahead);
  reader.group("config", "pci config", () => readConfigSpace(reader, facts.size));
  reader.group("irq_state", "pci irq state", () => readIrqState(reader));
  if (facts.vectors === 0) return false;
  readMsix(reader, facts.vectors);
  reader.u16("config_vector", vectorName);
  return true;
}

const PMCW = "intparm:4 flags:2 devno:2 lpm:1 pnom:1 lpum:1 pim:1 mbi:2 pom:1 pam:1 chpid[8]:1 chars:4";
const SCSW = "flags:2 ctrl:2 cpa:4 dstat:1 cstat:1 count:2";
const COMMAND_INFORMATION_WORDS = 62;

const SUBCHANNEL_SUBSECTIONS: SubsectionReaders = {
  "s390_subch_dev/orb": (reader) =>
    void readLayout(reader, "orb.intparm:4 orb.ctrl0:2 orb.lpm:1 orb.ctrl1:1 orb.cpa:4"),
};

function ccw(reader: FieldReader): void {
  reader.group("sch", "struct", () => {
    readLayout(reader, "cssid:1 ssid:1 migrated_schid:2 devno:2 thinint_active:?");
    reader.group("curr_status", "struct", () => {
      reader.group("pmcw", "struct", () => readLayout(reader, PMCW));
      reader.group("scsw", "struct", () => readLayout(reader, SCSW));
      readLayout(reader, "mba:8 mda:b4");
    });
    readLayout(reader, "sense_data:b32 channel_prog:8");
    reader.group("last_cmd", "struct", () => readLayout(reader, "cmd_code:1 flags:1 count:2 cda:4"));
    readLayout(reader, "last_cmd_valid:?");
    reader.group("id", "struct", () => {
      readLayout(reader, "reserved:1 cu_type:2 cu_model:1 dev_type:2 dev_model:1 unused:1");
      readElements(reader, "type:1 command:1 count:2", COMMAND_INFORMATION_WORDS, 0);
    });
    readLayout(reader, "ccw_fmt_1:? ccw_no_data_cnt:1");
    readSubsections(reader, "s390_subch_dev", SUBCHANNEL_SUBSECTIONS);
  });
  for (const indicator of ["indicators", "indicators2", "summary_indicator"]) {
    reader.group(indicator, "struct", () => readLayout(reader, "len:4 addr:8"));
  }
  reader.u16("config_vector", vectorName);
  reader.group("routes", "struct", () => {
    reader.u64("ind_offset");
    readSubsections(reader, "s390_adapter_info", {
      "s390_adapter_info/summary_offset": (r) => void r.u32("summary_offset"),
    });
  });
  readLayout(reader, "thinint_isc:1 revision:4");
}

const MODERN_QUEUE = "enabled:? desc[2]:4 avail[2]:4 used[2]:4";

/** The queues of a device, among all for which a stream has room. */
export interface Queues {
  readonly count: number;
  readonly title: (index: number) => string | undefined;
}

const features =
  (name: (value: bigint, shift: number) => string | undefined, shift: number) =>
  (value: bigint): string | undefined =>
    name(value, shift);

/** Reads the state of a modern device's proxy: what the guest has configured in the transport's registers. */
export function readExtraState(
  reader: FieldReader,
  transport: Transport,
  queues: Queues,
  name: (value: bigint, shift: number) => string | undefined,
): void {
  const meanings = { "guest_features[0]": features(name, 0), "guest_features[1]": features(name, 32) };
  if (transport.name === "mmio") {
    readSubsections(reader, "virtio_mmio", {
      "virtio_mmio/state": (r) => {
        readLayout(r, "guest_features[2]:4", "big", meanings);
        r.group("vqs", "array", () =>
          readElements(r, `num:2 ${MODERN_QUEUE}`, QUEUE_MAX, queues.count, queues.title),
        );
      },
    });
    return;
  }
  readSubsections(reader, "virtio_pci", {
    "virtio_pci/modern_state": (r) => {
      readLayout(r, "dfselect:4 gfselect:4 guest_features[2]:4", "big", meanings);
      // `enabled` was two bytes in early releases.
      r.group("vqs", "array", () =>
        readElements(r, `num:2 unused:1 ${MODERN_QUEUE}`, QUEUE_MAX, queues.count, queues.title),
      );
      readSubsections(r, "virtio_pci/modern_state", {
        "virtio_pci/modern_state/features128": (inner) =>
          void readLayout(inner, "guest_features_2:4 guest_features_3:4", "big", {
            guest_features_2: features(name, 64),
            guest_features_3: features(name, 96),
          }),
      });
    },
  });
}
