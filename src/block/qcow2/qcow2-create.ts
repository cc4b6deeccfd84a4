// New qcow2 images.
import { BlockError, type BlockFile } from "../block-file.ts";
import {
  encodeHeader,
  l1Coverage,
  LAZY_REFCOUNTS,
  INCOMPATIBLE,
  MAX_CLUSTER_BITS,
  MAX_L1_ENTRIES,
  MIN_CLUSTER_BITS,
  type Qcow2Header,
  viewOf,
} from "./qcow2-header.ts";
import { writeRefcount } from "./qcow2-refcounts.ts";

/** As `qemu-img create -o`. */
export interface Qcow2Options {
  readonly clusterBytes?: number | undefined;
  readonly lazyRefcounts?: boolean | undefined;
  readonly compression?: "zlib" | "zstd" | undefined;
  readonly refcountBits?: number | undefined;
  /** 2: `compat=0.10`. */
  readonly version?: 2 | 3 | undefined;
  readonly backingFile?: string | undefined;
  readonly backingFormat?: string | undefined;
}

/** The header of a new, empty image and the bytes of its file. Throws BlockError. */
export function newQcow2(name: string, sizeBytes: number, options: Qcow2Options = {}): Uint8Array {
  const { clusterBytes = 1 << 16, lazyRefcounts = false, refcountBits = 16, version = 3 } = options;
  const { compression = "zlib" } = options;
  const fail = (why: string): never => {
    throw new BlockError("qcow2.options", `${name}: ${why}`);
  };
  const clusterBits = Math.log2(clusterBytes);
  if (!Number.isInteger(clusterBits) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
    fail(`cluster_size ${clusterBytes}: expected a power of two from 512 to 2M`);
  const refcountOrder = Math.log2(refcountBits);
  if (!Number.isInteger(refcountOrder) || refcountOrder > 6)
    fail(`refcount_bits ${refcountBits}: expected a power of two up to 64`);
  if (version === 2 && (refcountBits !== 16 || lazyRefcounts || compression === "zstd"))
    fail("refcount_bits, lazy_refcounts and compression_type need compat=1.1");
  const l1Entries = Math.ceil(sizeBytes / l1Coverage(clusterBits));
  if (l1Entries > MAX_L1_ENTRIES) fail(`${sizeBytes} bytes are too many for clusters of ${clusterBytes}`);
  // In this order: header, refcount table, refcount blocks, L1 table.
  const l1Clusters = Math.ceil((l1Entries * 8) / clusterBytes);
  const perBlock = 2 ** (clusterBits + 3 - refcountOrder);
  let [blocks, tableClusters] = [1, 1];
  const clusters = (): number => 1 + tableClusters + blocks + l1Clusters;
  while (blocks * perBlock < clusters() || tableClusters * (clusterBytes / 8) < blocks) {
    blocks = Math.ceil(clusters() / perBlock);
    tableClusters = Math.ceil((blocks * 8) / clusterBytes);
  }
  const header: Qcow2Header = {
    version,
    clusterBits,
    sizeBytes,
    l1Entries,
    l1Offset: (1 + tableClusters + blocks) * clusterBytes,
    refcountTableOffset: clusterBytes,
    refcountTableClusters: tableClusters,
    refcountOrder,
    snapshots: 0,
    snapshotsOffset: 0,
    incompatible: compression === "zstd" ? INCOMPATIBLE.COMPRESSION : 0n,
    compatible: lazyRefcounts ? LAZY_REFCOUNTS : 0n,
    autoclear: 0n,
    compression,
    backingFile: options.backingFile,
    backingFormat: options.backingFormat,
    extensions: [],
  };
  const bytes = new Uint8Array(clusters() * clusterBytes);
  bytes.set(encodeHeader(name, header));
  const view = viewOf(bytes);
  const firstBlock = (1 + tableClusters) * clusterBytes;
  for (let i = 0; i < blocks; i++)
    view.setBigUint64(clusterBytes + i * 8, BigInt(firstBlock + i * clusterBytes));
  const counts = viewOf(bytes.subarray(firstBlock));
  for (let i = 0; i < clusters(); i++) writeRefcount(counts, refcountOrder, i, 1);
  return bytes;
}

/** Writes a new image over what `file` has. */
export async function createQcow2(
  file: BlockFile,
  sizeBytes: number,
  options: Qcow2Options = {},
): Promise<void> {
  const bytes = newQcow2(file.name, sizeBytes, options);
  await file.truncate(0);
  await file.write(0, bytes);
  await file.flush();
}
