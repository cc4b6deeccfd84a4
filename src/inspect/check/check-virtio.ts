// Requirements of the virtio devices in a stream: features that the loading QEMU must offer, and rings in
// guest memory that must agree with the queues' indexes (QEMU's virtio_load: "Features 0x… unsupported", "VQ
// 0 size 0x80 Guest index … inconsistent with Host index …"). Fields are named in decode/virtio-section.ts.
// Not checked: packed rings (no guest memory has their state) and rings behind an IOMMU.
import { hex } from "../../base/hex.ts";
import { BIG_ENDIAN } from "../decode/virtio-section.ts";
import { virtioType } from "../decode/virtio-devices.ts";
import { featureNames } from "../decode/virtio-features.ts";
import { tryApplyXbzrle } from "../../stream/xbzrle.ts";
import { guestMemory, type RamPlace } from "./guest-memory-map.ts";
import type { Field, Problem, SectionReport, StreamReport } from "../model/stream-report.ts";
import type { ByteSource } from "../read/byte-source.ts";
import { type PageVisitor, readStream } from "../read/read-stream.ts";

interface VirtioQueue {
  readonly index: number;
  /** Such as `receiveq 1`. */
  readonly title?: string;
  readonly size: number;
  readonly desc: bigint;
  readonly avail: bigint;
  readonly used: bigint;
  readonly lastAvail: number;
  readonly offset: number;
}

interface VirtioState {
  readonly section: SectionReport;
  /** Such as `net` or `blk`. */
  readonly type: string;
  readonly features: bigint;
  readonly bigEndian: boolean;
  readonly queues: readonly VirtioQueue[];
  /** The source found the queues inconsistent and stopped the device. */
  readonly broken: boolean;
}

const VERSION_1 = 1n << 32n;
const ACCESS_PLATFORM = 1n << 33n;
const PACKED = 1n << 34n;

const child = (field: Field | undefined, name: string): Field | undefined =>
  field?.children?.find((inner) => inner.name === name);
const integer = (field: Field | undefined): bigint => (typeof field?.value === "bigint" ? field.value : 0n);

/** Finds virtio's common state in a section: the container with its first field. */
function virtioField(fields: readonly Field[], depth = 0): Field | undefined {
  for (const field of fields) {
    if (child(field, "num_queues") !== undefined && child(field, "status") !== undefined) return field;
    const inside = depth > 3 ? undefined : virtioField(field.children ?? [], depth + 1);
    if (inside !== undefined) return inside;
  }
  return undefined;
}

const roundUp = (value: bigint, to: bigint) => ((value + to - 1n) / to) * to;

function virtioState(section: SectionReport, machine: string): VirtioState | undefined {
  const virtio = virtioField(section.fields);
  if (virtio === undefined) return undefined;
  const high = child(virtio, "virtio/64bit_features");
  const features = integer(child(high ?? virtio, "guest_features"));
  const modern = (features & VERSION_1) !== 0n;
  const endian = integer(child(child(virtio, "virtio/device_endian"), "device_endian"));
  const broken = child(child(virtio, "virtio/broken"), "broken")?.value === true;
  const bigEndian = !modern && (endian === 2n || (endian === 0n && BIG_ENDIAN.test(machine)));
  const addresses = child(child(virtio, "virtio/virtqueues"), "vq")?.children ?? [];
  const queues = (child(virtio, "vq")?.children ?? []).map((queue, index): VirtioQueue => {
    const size = integer(child(queue, "vring.num"));
    const desc = integer(child(queue, "vring.desc"));
    // In a legacy device the three parts of a ring are contiguous.
    const align = integer(child(queue, "vring.align")) || 4096n;
    const avail = modern ? integer(child(addresses[index], "vring.avail")) : desc + 16n * size;
    const used = modern
      ? integer(child(addresses[index], "vring.used"))
      : roundUp(avail + 4n + 2n * size, align);
    return {
      index,
      ...(queue.meaning === undefined ? {} : { title: queue.meaning }),
      size: Number(size),
      desc,
      avail,
      used,
      lastAvail: Number(integer(child(queue, "last_avail_idx"))),
      offset: child(queue, "last_avail_idx")?.offset ?? queue.offset,
    };
  });
  return { section, type: virtioType(section.vmsdName ?? ""), features, bigEndian, queues, broken };
}

/** All virtio devices of a stream. */
export function virtioStates(report: StreamReport): VirtioState[] {
  return report.sections
    .filter(({ kind }) => kind === "full")
    .map((section) => virtioState(section, report.configuration?.machine ?? ""))
    .filter((state) => state !== undefined);
}

// --- Features
// -------------------------------------------------------------------------------------------------

/**
 * Properties of QEMU's devices (-device NAME,help) that offer a feature, where the property is not named
 * after the feature.
 */
const PROPERTIES: Readonly<Record<string, string>> = {
  VIRTIO_RING_F_INDIRECT_DESC: "indirect_desc=on",
  VIRTIO_RING_F_EVENT_IDX: "event_idx=on",
  VIRTIO_F_NOTIFY_ON_EMPTY: "notify_on_empty=on",
  VIRTIO_F_ANY_LAYOUT: "any_layout=on",
  VIRTIO_F_VERSION_1: "disable-modern=off (PCI), -global virtio-mmio.force-legacy=false (mmio)",
  VIRTIO_F_ACCESS_PLATFORM: "iommu_platform=on",
  VIRTIO_F_RING_PACKED: "packed=on",
  VIRTIO_F_IN_ORDER: "in_order=on",
  VIRTIO_F_RING_RESET: "queue_reset=on",
  VIRTIO_NET_F_MTU: "host_mtu=N",
  VIRTIO_NET_F_HASH_REPORT: "hash=on",
  VIRTIO_NET_F_STANDBY: "failover=on",
  VIRTIO_NET_F_SPEED_DUPLEX: "speed=N",
  VIRTIO_BLK_F_RO: "readonly=on of the drive",
  VIRTIO_BLK_F_MQ: "num-queues=N",
  VIRTIO_BLK_F_CONFIG_WCE: "config-wce=on",
  VIRTIO_BLK_F_WRITE_ZEROES: "write-zeroes=on",
  VIRTIO_CONSOLE_F_MULTIPORT: "max_ports=N",
  VIRTIO_BALLOON_F_FREE_PAGE_HINT: "free-page-hint=on",
  VIRTIO_BALLOON_F_REPORTING: "free-page-reporting=on",
  VIRTIO_BALLOON_F_DEFLATE_ON_OOM: "deflate-on-oom=on",
};
/** Features of the network device that depend on the backend. */
const OFFLOADS = /^VIRTIO_NET_F_(GUEST_|HOST_|CSUM|GSO)/;

/** The cure for features that the target does not offer. `names` are from decode/virtio-features.ts. */
export function featureCure(names: readonly string[]): string {
  const offloads = names.filter((name) => OFFLOADS.test(name) && name !== "VIRTIO_NET_F_GUEST_ANNOUNCE");
  const others = names.filter((name) => !offloads.includes(name));
  const properties = others.map(
    (name) => PROPERTIES[name] ?? `${name.replace(/^VIRTIO_[A-Z0-9]+_F_/, "").toLowerCase()}=on`,
  );
  return [
    ...(properties.length === 0 ? [] : [`give the target's device ${properties.join(", ")}`]),
    ...(offloads.length === 0
      ? []
      : [
          "use the same kind of network backend on both sides (tap with vnet_hdr offers offloads, user does not)",
        ]),
    "or the source's versioned machine type; or turn the features off on the source before its guest starts",
  ].join("; ");
}

/**
 * Features that the stream's guest uses and the guest of the target's stream does not; a stream has no list
 * of offered features.
 */
export function featureWarnings(report: StreamReport, target: StreamReport): Problem[] {
  const known = new Map(
    virtioStates(target).map((state) => [`${state.section.idstr}/${state.section.instanceId}`, state]),
  );
  const warnings: Problem[] = [];
  for (const { section, type, features } of virtioStates(report)) {
    const key = `${section.idstr}/${section.instanceId}`;
    const other = known.get(key);
    // A guest that has not set up the device does not show which features are offered.
    if (other === undefined || other.features === 0n) continue;
    const missing = features & ~other.features;
    const names = featureNames(type, missing)?.split(/ (?=VIRTIO|VHOST|bit)/);
    if (names === undefined) continue;
    warnings.push({
      code: "check.virtio.features",
      where: `section ${key}, features`,
      offset: section.offset,
      expected: `features within ${hex(other.features)}, which the target's guest uses`,
      found: `${hex(features)}, with ${names.join(" ")} besides`,
      cause:
        'the target may not offer them (QEMU: "Features 0x… unsupported. Allowed features: 0x…"); a stream contains the features in use, not those offered',
      cure: `see with x-query-virtio-status what the target offers; give its answer as another target; if it lacks them: ${featureCure(names)}`,
    });
  }
  return warnings;
}

// --- Queues
// ---------------------------------------------------------------------------------------------------

/** Offsets of pages, by block. */
type PageSet = ReadonlyMap<string, ReadonlySet<number>>;

function pageSet(places: readonly (RamPlace | undefined)[]): PageSet {
  const set = new Map<string, Set<number>>();
  for (const place of places) {
    if (place !== undefined) set.set(place.block, (set.get(place.block) ?? new Set()).add(place.page));
  }
  return set;
}

/** The wanted pages of a stream's RAM, by `block/page`, in their final state. */
async function readPages(
  source: ByteSource,
  wanted: PageSet,
  offset: number,
): Promise<Map<string, Uint8Array>> {
  const pages = new Map<string, Uint8Array>();
  const onPage: PageVisitor = (block, at, kind, bytes, fill) => {
    if (wanted.get(block.name)?.has(at) !== true) return;
    const key = `${block.name}/${at}`;
    const page = pages.get(key) ?? new Uint8Array(block.pageSize);
    pages.set(key, page);
    if (kind === "zero") page.fill(fill);
    else if (kind === "page" && bytes !== undefined) page.set(bytes);
    else if (!(kind === "xbzrle" && bytes !== undefined && tryApplyXbzrle(bytes, page))) pages.delete(key);
  };
  await readStream(source, { onPage, skipIntegrity: true, offset });
  return pages;
}

/** Limit on queues, because their pages are kept; no guest has more. */
const MAX_QUEUES = 4096;

/** Whether the virtio queues in a stream agree with the guest memory in it. */
export interface QueueCheck {
  /** Reasons why QEMU does not load the stream. */
  readonly problems: readonly Problem[];
  /** Devices that load but do not work for the guest. */
  readonly warnings: readonly Problem[];
}

/**
 * Compares each queue's indexes with its rings in guest memory, as QEMU does after loading. Reads the stream
 * a second time: the source must be a file. Boards with an unknown memory map give no results.
 */
export async function checkQueues(report: StreamReport, source: ByteSource, offset = 0): Promise<QueueCheck> {
  const states = virtioStates(report);
  const problems = states.flatMap((state) =>
    state.queues
      .filter(({ desc, lastAvail }) => desc === 0n && lastAvail !== 0)
      .map((queue) => inconsistent(state, queue, NO_ADDRESS)),
  );
  const warnings: Problem[] = [];
  const memory = guestMemory(report);
  if (memory === undefined) return { problems, warnings };
  const checked = states
    .filter(({ features }) => (features & (ACCESS_PLATFORM | PACKED)) === 0n)
    .flatMap((state) => state.queues.map((queue) => ({ state, queue })))
    .filter(({ queue }) => queue.desc !== 0n && queue.size > 0)
    .slice(0, MAX_QUEUES)
    // Both rings start with 16 bits of flags; the index follows.
    .map((item) => ({
      ...item,
      availAt: memory(item.queue.avail + 2n),
      usedAt: memory(item.queue.used + 2n),
    }));
  const wanted = pageSet(checked.flatMap(({ availAt, usedAt }) => [availAt, usedAt]));
  if (checked.length === 0) return { problems, warnings };
  const pages = await readPages(source, wanted, offset);
  for (const { state, queue, availAt, usedAt } of checked) {
    const avail = indexAt(pages, availAt, state.bigEndian);
    const used = indexAt(pages, usedAt, state.bigEndian);
    const ahead = avail === undefined ? 0 : (avail - queue.lastAvail) & 0xffff;
    const inUse = used === undefined ? 0 : (queue.lastAvail - used) & 0xffff;
    if (ahead > queue.size) {
      const found = `guest index ${hex(avail ?? 0)}, delta ${hex(ahead)}`;
      warnings.push(inconsistent(state, queue, { ...GUEST_INDEX, found }));
    } else if (inUse > queue.size) {
      const found = `used index ${hex(used ?? 0)}, ${hex(inUse)} requests in use`;
      problems.push(inconsistent(state, queue, { ...USED_INDEX, found }));
    }
  }
  return { problems, warnings };
}

/** Undefined if the stream lacks the page. */
function indexAt(
  pages: ReadonlyMap<string, Uint8Array>,
  at: RamPlace | undefined,
  bigEndian: boolean,
): number | undefined {
  const page = at === undefined ? undefined : pages.get(`${at.block}/${at.page}`);
  if (page === undefined || at === undefined || at.offset + 2 > page.length) return undefined;
  return new DataView(page.buffer, page.byteOffset).getUint16(at.offset, !bigEndian);
}

interface Inconsistency {
  /** The expected state; the queue's size and its last_avail_idx are appended. */
  readonly expected: string;
  readonly found: string;
  /** QEMU's message. */
  readonly message: string;
}
const NO_ADDRESS: Inconsistency = {
  expected: "an address in guest memory",
  found: "address 0",
  message: "VQ … address 0x0 inconsistent with Host index …; it does not load",
};
const GUEST_INDEX = {
  expected: "a guest index that is not further than the queue's size ahead of last_avail_idx",
  message: "Guest index … inconsistent with Host index …; it loads, and the device is broken",
};
const USED_INDEX = {
  expected: "a used index that is not further than the queue's size behind last_avail_idx",
  message: "VQ … size … < last_avail_idx … - used_idx …; it does not load",
};

function inconsistent(
  { section, broken }: VirtioState,
  { index, title, size, lastAvail, offset }: VirtioQueue,
  { expected, found, message }: Inconsistency,
): Problem {
  const cause = broken
    ? "the source itself had stopped the device (virtio/broken): its guest or firmware overwrote the ring"
    : "device state and guest memory are inconsistent: memory was written after the device was saved (by a vhost or other backend that kept running, or in a stream joined from two), or the stream is damaged";
  return {
    code: "virtio.queue-index",
    where: `section ${section.idstr}/${section.instanceId}, VQ ${index}${title === undefined ? "" : ` (${title})`}`,
    offset,
    expected: `${expected}; size ${hex(size)}, last_avail_idx ${hex(lastAvail)}`,
    found,
    cause: `${cause} (QEMU: "${message}")`,
    cure: broken
      ? "reset the device on the source (unbind and bind its driver, or reset the guest), then save again"
      : "save again with the guest stopped first (QMP stop), and with vhost=off if a vhost device is in use; if the guest is loaded nevertheless, reset the device in it (unbind and bind its driver)",
  };
}
