// The header of a qcow2 image and its extensions, and the table of internal snapshots (QEMU's
// docs/interop/qcow2.txt), versions 2 and 3. All integers are big-endian. Refused by name: encryption,
// external data files, features that are not known. The contents are hostile.
import { decodeUtf8, encodeUtf8, quoted } from "../../base/text.ts";
import { BlockError, type BlockFile } from "../block-file.ts";

const MAGIC = 0x514649fb;
export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** Offsets of fields that change. */
export const HEADER_AT = {
  SIZE: 24,
  L1_SIZE: 36,
  REFCOUNT_TABLE: 48,
  INCOMPATIBLE: 72,
  AUTOCLEAR: 88,
} as const;

export const INCOMPATIBLE = {
  DIRTY: 1n,
  CORRUPT: 2n,
  DATA_FILE: 4n,
  COMPRESSION: 8n,
  EXTENDED_L2: 16n,
} as const;
export const LAZY_REFCOUNTS = 1n;
const KNOWN_INCOMPATIBLE = 31n;

const EXTENSION = {
  END: 0,
  BACKING_FORMAT: 0xe2792aca,
  FEATURES: 0x6803f857,
  BITMAPS: 0x23852875,
  DATA_FILE: 0x44415441,
} as const;

/** Of QEMU; they bound what an image can make its reader allocate. */
const MAX_L1_BYTES = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
const MAX_SNAPSHOTS = 65536;
const MAX_SNAPSHOT_TABLE_BYTES = 64 << 20;
const MAX_BACKING_NAME = 1023;
export const MAX_REFCOUNT_ENTRIES: number = MAX_REFCOUNT_TABLE_BYTES / 8;
export const MAX_L1_ENTRIES: number = MAX_L1_BYTES / 8;
/** Offsets in tables have 56 bits; no file is as long as this. */
export const MAX_FILE_BYTES: number = 2 ** 52;

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  /** Of the disk. */
  sizeBytes: number;
  l1Entries: number;
  l1Offset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  /** Refcounts have 2^order bits. */
  readonly refcountOrder: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
  incompatible: bigint;
  readonly compatible: bigint;
  autoclear: bigint;
  readonly compression: "zlib" | "zstd";
  readonly backingFile: string | undefined;
  readonly backingFormat: string | undefined;
  /** All but backing format and feature names. */
  readonly extensions: readonly HeaderExtension[];
}

export const isQcow2 = (bytes: Uint8Array): boolean =>
  bytes.length >= 4 && viewOf(bytes).getUint32(0) === MAGIC;

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** An offset beyond 2^53 becomes a number that no check lets pass. */
export const u64 = (view: DataView, at: number): number => Number(view.getBigUint64(at));

/** Reads and checks the header. Rejects with BlockError. */
export async function readHeader(file: BlockFile): Promise<Qcow2Header> {
  const fail = (why: string): never => {
    throw new BlockError("qcow2.header", `${file.name}: ${why}`);
  };
  const unsupported = (what: string): never => {
    throw new BlockError("qcow2.unsupported", `${file.name}: ${what}`);
  };
  const head = new Uint8Array(112);
  await file.read(0, head);
  const view = viewOf(head);
  if (view.getUint32(0) !== MAGIC) fail("not a qcow2 image: its first bytes are not QFI\\xfb");
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) unsupported(`qcow2 version ${version}, expected 2 or 3`);
  const clusterBits = view.getUint32(20);
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    fail(`clusters of 2^${clusterBits} bytes, expected 2^${MIN_CLUSTER_BITS} to 2^${MAX_CLUSTER_BITS}`);
  const clusterBytes = 2 ** clusterBits;
  const headerLength = version === 2 ? 72 : view.getUint32(100);
  if (headerLength < (version === 2 ? 72 : 104) || headerLength > clusterBytes || headerLength % 8 !== 0)
    fail(`a header of ${headerLength} bytes in clusters of ${clusterBytes}`);
  if (version === 2) head.fill(0, 72);
  const first = new Uint8Array(clusterBytes);
  await file.read(0, first);
  const backingOffset = u64(view, 8);
  const extensions = readExtensions(first, headerLength, backingOffset || clusterBytes, fail);
  const incompatible = view.getBigUint64(72);
  if ((incompatible & ~KNOWN_INCOMPATIBLE) !== 0n) {
    const names = featureNames(extensions, incompatible & ~KNOWN_INCOMPATIBLE);
    unsupported(`it needs features that Wherry does not have: ${names}`);
  }
  if (view.getUint32(32) !== 0) unsupported("it is encrypted; decrypt it with `qemu-img convert`");
  if ((incompatible & INCOMPATIBLE.DATA_FILE) !== 0n) {
    const name = extensions.find(({ type }) => type === EXTENSION.DATA_FILE)?.data;
    const where = name === undefined ? "" : ` (${quoted(decodeUtf8(name))})`;
    unsupported(`its data is in an external file${where}; \`qemu-img convert\` makes one image of both`);
  }
  const isExtended = (incompatible & INCOMPATIBLE.EXTENDED_L2) !== 0n;
  if (isExtended && clusterBits < 14) fail(`extended L2 entries with clusters of ${clusterBytes} bytes`);

  const compressionType =
    (incompatible & INCOMPATIBLE.COMPRESSION) !== 0n && headerLength > 104 ? head[104] : 0;
  if (compressionType !== 0 && compressionType !== 1) unsupported(`compression type ${compressionType}`);
  const refcountOrder = version === 2 ? 4 : view.getUint32(96);
  if (refcountOrder > 6) fail(`refcounts of 2^${refcountOrder} bits, expected 64 at most`);

  const table = (what: string, offset: number, bytes: number, maxBytes: number): void => {
    if (bytes > maxBytes) fail(`${what} of ${bytes} bytes, at most ${maxBytes}`);
    if (bytes > 0 && (offset === 0 || offset % clusterBytes !== 0 || offset + bytes > MAX_FILE_BYTES))
      fail(`${what} at ${offset}, expected at a cluster's start`);
  };
  const sizeBytes = u64(view, HEADER_AT.SIZE);
  if (sizeBytes > MAX_FILE_BYTES) fail(`a disk of ${view.getBigUint64(HEADER_AT.SIZE)} bytes`);
  const l1Entries = view.getUint32(HEADER_AT.L1_SIZE);
  const l1Offset = u64(view, 40);
  const refcountTableOffset = u64(view, HEADER_AT.REFCOUNT_TABLE);
  const refcountTableClusters = view.getUint32(56);
  table("L1 table", l1Offset, l1Entries * 8, MAX_L1_BYTES);
  table(
    "refcount table",
    refcountTableOffset,
    refcountTableClusters * clusterBytes,
    MAX_REFCOUNT_TABLE_BYTES,
  );
  if (refcountTableClusters === 0) fail("no refcount table");
  const needed = Math.ceil(sizeBytes / l1Coverage(clusterBits, isExtended));
  if (l1Entries < needed) fail(`an L1 table of ${l1Entries} entries, expected ${needed} for the disk's size`);
  const snapshots = view.getUint32(60);
  const snapshotsOffset = u64(view, 64);
  if (snapshots > MAX_SNAPSHOTS) fail(`${snapshots} snapshots, at most ${MAX_SNAPSHOTS}`);
  table("snapshot table", snapshotsOffset, snapshots * 40, MAX_SNAPSHOT_TABLE_BYTES);

  const backingLength = view.getUint32(16);
  if (
    backingOffset !== 0 &&
    (backingLength > MAX_BACKING_NAME || backingOffset + backingLength > clusterBytes)
  )
    fail(
      `the name of its backing image is outside of the header's cluster, or over ${MAX_BACKING_NAME} bytes`,
    );
  const text = (bytes: Uint8Array): string | undefined =>
    bytes.length === 0 ? undefined : decodeUtf8(bytes);
  const format = extensions.find(({ type }) => type === EXTENSION.BACKING_FORMAT);
  return {
    version: version as 2 | 3,
    clusterBits,
    sizeBytes,
    l1Entries,
    l1Offset,
    refcountTableOffset,
    refcountTableClusters,
    refcountOrder,
    snapshots,
    snapshotsOffset,
    incompatible,
    compatible: view.getBigUint64(80),
    autoclear: view.getBigUint64(HEADER_AT.AUTOCLEAR),
    compression: compressionType === 1 ? "zstd" : "zlib",
    backingFile:
      backingOffset === 0 ? undefined : text(first.subarray(backingOffset, backingOffset + backingLength)),
    backingFormat: format && text(format.data),
    extensions: extensions.filter(
      ({ type }) => type !== EXTENSION.BACKING_FORMAT && type !== EXTENSION.FEATURES,
    ),
  };
}

/** Bytes of the disk that an L1 entry covers. */
export const l1Coverage = (clusterBits: number, isExtended = false): number =>
  2 ** (2 * clusterBits - (isExtended ? 4 : 3));

function readExtensions(
  first: Uint8Array,
  start: number,
  end: number,
  fail: (why: string) => never,
): HeaderExtension[] {
  const view = viewOf(first);
  const found: HeaderExtension[] = [];
  const limit = Math.min(end, first.length);
  for (let at = start; at + 8 <= limit; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXTENSION.END) break;
    if (at + 8 + length > limit)
      fail(`a header extension of ${length} bytes at ${at} leaves the header's cluster`);
    found.push({ type, data: first.slice(at + 8, at + 8 + length) });
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

/** The names of incompatible features, from the image's own table of names. */
function featureNames(extensions: readonly HeaderExtension[], bits: bigint): string {
  const table = extensions.find(({ type }) => type === EXTENSION.FEATURES)?.data ?? new Uint8Array(0);
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((bits >> BigInt(bit)) & 1n) === 0n) continue;
    let name = `incompatible feature bit ${bit}`;
    for (let at = 0; at + 48 <= table.length; at += 48) {
      if (table[at] !== 0 || table[at + 1] !== bit) continue;
      name = quoted(decodeUtf8(table.subarray(at + 2, at + 48)).replace(/\0.*$/s, ""));
    }
    names.push(name);
  }
  return names.join(", ");
}

/** Names of the features that Wherry knows, for those that do not: type, bit, name. */
const FEATURE_NAMES: readonly (readonly [type: number, bit: number, name: string])[] = [
  [0, 0, "dirty bit"],
  [0, 1, "corrupt bit"],
  [0, 2, "external data file"],
  [0, 3, "compression type"],
  [0, 4, "extended L2 entries"],
  [1, 0, "lazy refcounts"],
  [2, 0, "bitmaps"],
  [2, 1, "raw external data"],
];

/** The header's cluster. Throws BlockError if it has no room. */
export function encodeHeader(name: string, header: Qcow2Header): Uint8Array {
  const bytes = new Uint8Array(2 ** header.clusterBits);
  const view = viewOf(bytes);
  const u64At = (at: number, value: number | bigint): void => view.setBigUint64(at, BigInt(value));
  view.setUint32(0, MAGIC);
  view.setUint32(4, header.version);
  view.setUint32(20, header.clusterBits);
  u64At(HEADER_AT.SIZE, header.sizeBytes);
  view.setUint32(HEADER_AT.L1_SIZE, header.l1Entries);
  u64At(40, header.l1Offset);
  u64At(HEADER_AT.REFCOUNT_TABLE, header.refcountTableOffset);
  view.setUint32(56, header.refcountTableClusters);
  view.setUint32(60, header.snapshots);
  u64At(64, header.snapshotsOffset);
  let at = 72;
  if (header.version === 3) {
    u64At(HEADER_AT.INCOMPATIBLE, header.incompatible);
    u64At(80, header.compatible);
    u64At(HEADER_AT.AUTOCLEAR, header.autoclear);
    view.setUint32(96, header.refcountOrder);
    view.setUint32(100, 112);
    view.setUint8(104, header.compression === "zstd" ? 1 : 0);
    at = 112;
  }
  const features = new Uint8Array(48 * FEATURE_NAMES.length);
  for (const [i, [type, bit, feature]] of FEATURE_NAMES.entries()) {
    features.set([type, bit, ...encodeUtf8(feature)], i * 48);
  }
  const { backingFile, backingFormat } = header;
  const own: HeaderExtension[] = [];
  if (backingFile !== undefined && backingFormat !== undefined)
    own.push({ type: EXTENSION.BACKING_FORMAT, data: encodeUtf8(backingFormat) });
  const names = { type: EXTENSION.FEATURES, data: features };
  const backing = encodeUtf8(backingFile ?? "");
  const spaceOf = (list: readonly HeaderExtension[]): number =>
    list.reduce((sum, { data }) => sum + 8 + Math.ceil(data.length / 8) * 8, 8);
  // Small clusters have no room for the names of features, which nothing needs.
  const all = [...own, ...header.extensions];
  if (header.version === 3 && at + spaceOf([...all, names]) + backing.length <= bytes.length) all.push(names);
  if (at + spaceOf(all) + backing.length > bytes.length || backing.length > MAX_BACKING_NAME)
    throw new BlockError(
      "qcow2.header",
      `${name}: the name of its backing image does not fit into the header`,
    );
  for (const { type, data } of all) {
    view.setUint32(at, type);
    view.setUint32(at + 4, data.length);
    bytes.set(data, at + 8);
    at += 8 + Math.ceil(data.length / 8) * 8;
  }
  at += 8;
  if (backingFile !== undefined) {
    u64At(8, at);
    view.setUint32(16, backing.length);
    bytes.set(backing, at);
  }
  return bytes;
}

/** An internal snapshot. */
export interface SnapshotEntry {
  readonly id: string;
  readonly name: string;
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** Bytes of machine state that are stored behind the disk. */
  readonly vmStateBytes: number;
  readonly diskBytes: number;
  readonly date: { readonly seconds: number; readonly nanoseconds: number };
  readonly vmClockNs: bigint;
  /** Instructions of a recorded machine; undefined if there is no record. */
  readonly icount: bigint | undefined;
}

/** Reads the snapshot table; `bytes` is its length. Rejects with BlockError. */
export async function readSnapshots(
  file: BlockFile,
  header: Qcow2Header,
): Promise<{ readonly entries: readonly SnapshotEntry[]; readonly bytes: number }> {
  const fail = (why: string): never => {
    throw new BlockError(
      "qcow2.snapshots",
      `${file.name}: snapshot table at ${header.snapshotsOffset}: ${why}`,
    );
  };
  const entries: SnapshotEntry[] = [];
  let at = header.snapshotsOffset;
  const end = at + MAX_SNAPSHOT_TABLE_BYTES;
  for (let i = 0; i < header.snapshots; i++) {
    const head = new Uint8Array(40);
    if (at + head.length > file.size) fail(`entry ${i} is beyond the end of the file`);
    await file.read(at, head);
    const view = viewOf(head);
    const [idLength, nameLength] = [view.getUint16(12), view.getUint16(14)];
    const extraLength = view.getUint32(36);
    if (extraLength > 1024) fail(`entry ${i} has ${extraLength} bytes of extra data, at most 1024`);
    const rest = new Uint8Array(extraLength + idLength + nameLength);
    if (at + 40 + rest.length > Math.min(file.size, end)) fail(`entry ${i} is beyond the table's end`);
    await file.read(at + 40, rest);
    const extra = viewOf(rest);
    const names = rest.subarray(extraLength);
    const l1Entries = view.getUint32(8);
    if (l1Entries > MAX_L1_ENTRIES) fail(`entry ${i} has an L1 table of ${l1Entries} entries`);
    entries.push({
      l1Offset: u64(view, 0),
      l1Entries,
      date: { seconds: view.getUint32(16), nanoseconds: view.getUint32(20) },
      vmClockNs: view.getBigUint64(24),
      icount: extraLength >= 24 && extra.getBigInt64(16) !== -1n ? extra.getBigUint64(16) : undefined,
      vmStateBytes: extraLength >= 8 ? u64(extra, 0) : view.getUint32(32),
      diskBytes: extraLength >= 16 ? u64(extra, 8) : header.sizeBytes,
      id: decodeUtf8(names.subarray(0, idLength)),
      name: decodeUtf8(names.subarray(idLength)),
    });
    at += Math.ceil((40 + rest.length) / 8) * 8;
  }
  return { entries, bytes: at - header.snapshotsOffset };
}

/** True for a cluster of what the header refers to. */
export function isFixed(header: Qcow2Header, offset: number): boolean {
  const clusterBytes = 2 ** header.clusterBits;
  const isIn = (start: number, bytes: number): boolean =>
    bytes > 0 && offset + clusterBytes > start && offset < start + bytes;
  return (
    offset < clusterBytes ||
    isIn(header.l1Offset, header.l1Entries * 8) ||
    isIn(header.refcountTableOffset, header.refcountTableClusters * clusterBytes) ||
    isIn(header.snapshotsOffset, header.snapshots * 40)
  );
}

export const bytesOf = ({ buffer, byteOffset, byteLength }: DataView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
