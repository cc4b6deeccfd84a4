// `npm run check:hostile-qcow2`: damaged and malicious qcow2 images. Each is opened, read, mapped, checked,
// repaired and written to in memory: all that may happen is an error that names the image. No hang, no
// runaway memory, no other error. A case is its seed and number:
//   node test/disks/check-hostile-qcow2.ts [--cases N] [--first N] [--seconds S] [--seed S] [--case N]
import { deflateRawSync, inflateRawSync } from "node:zlib";
import { WherryError } from "../../src/base/errors.ts";
import { MemoryFile } from "../../src/block/block-file.ts";
import { type ImageStore, openImage } from "../../src/block/images/open-image.ts";
import { checkQcow2 } from "../../src/block/qcow2/qcow2-check.ts";
import { createQcow2 } from "../../src/block/qcow2/qcow2-create.ts";
import { readHeader, readSnapshots, viewOf } from "../../src/block/qcow2/qcow2-header.ts";
import type { ClusterCodec } from "../../src/block/qcow2/cluster-codec.ts";
import { Qcow2Image } from "../../src/block/qcow2/qcow2-image.ts";
import { options } from "../support/cases.ts";
import { programSeed, Random } from "../support/random.ts";

const given = options({ cases: 0, first: 0, seconds: 15, case: -1 });
const HANG_SECONDS = 20;
const MAX_RSS = 1536 * 2 ** 20;

// Errors are what most cases come to: their stacks would take the time.
if (given.case < 0) Error.stackTraceLimit = 3;

const CLUSTER = 4096;
/** As Node's, without its thread pool. */
const codec: ClusterCodec = {
  unpack: async (_method, packed, size) => {
    const cluster = inflateRawSync(packed, { maxOutputLength: size, finishFlush: 2 });
    if (cluster.length !== size) throw new Error(`holds ${cluster.length} bytes, expected ${size}`);
    return cluster;
  },
  pack: async (_method, data) => deflateRawSync(data, { windowBits: 12 }),
};

/** Images with all kinds of clusters. */
async function corpus(): Promise<Uint8Array[]> {
  const images: Uint8Array[] = [];
  for (const [clusterBytes, version, isLazy] of [
    [512, 3, false],
    [CLUSTER, 3, true],
    [CLUSTER, 2, false],
    [65536, 3, false],
  ] as const) {
    const file = new MemoryFile("image");
    const size = 40 * clusterBytes;
    const backing = { backingFile: "base", backingFormat: "raw" };
    await createQcow2(file, size, { clusterBytes, version, lazyRefcounts: isLazy, ...backing });
    const header = await readHeader(file);
    const image = await Qcow2Image.open({ file, header, backing: undefined, codec });
    await image.write(3 * clusterBytes, new Uint8Array(9 * clusterBytes).fill(5));
    await image.writeCompressed(20 * clusterBytes, new Uint8Array(clusterBytes).fill(6));
    await image.writeCompressed(21 * clusterBytes, new Uint8Array(clusterBytes).fill(7));
    await image.writeZeroes(5 * clusterBytes, 2 * clusterBytes, false);
    await image.close();
    const bytes = new Uint8Array(file.size);
    await file.read(0, bytes);
    images.push(bytes);
  }
  return images;
}

const HEADER_FIELDS = [
  [8, 8],
  [16, 4],
  [20, 4],
  [24, 8],
  [32, 4],
  [36, 4],
  [40, 8],
  [48, 8],
  [56, 4],
  [60, 4],
  [64, 8],
  [72, 8],
  [80, 8],
  [88, 8],
  [96, 4],
  [100, 4],
  [104, 1],
] as const;

/** A copy with a few changes: of the header's fields, of entries of tables, of any bytes. */
function damaged(image: Uint8Array, random: Random): Uint8Array {
  let bytes = image.slice();
  const view = () => viewOf(bytes);
  const clusterBytes = 2 ** view().getUint32(20);
  const aValue = (): bigint =>
    random.pick([
      () => BigInt(random.int(256)),
      () => BigInt(random.int(bytes.length / clusterBytes + 2)) * BigInt(clusterBytes),
      () => (BigInt(random.int(bytes.length / clusterBytes + 2)) * BigInt(clusterBytes)) | (1n << 63n),
      () => (random.u64() & ((1n << 62n) - 1n)) | (1n << 62n),
      () => 1n << BigInt(random.int(64)),
      () => random.u64(),
      () => (1n << 64n) - 1n - BigInt(random.int(4)),
    ])();
  const tables = [view().getBigUint64(40), view().getBigUint64(48)].map(Number);
  const table = (at: number): number =>
    Number((at + 8 <= bytes.length ? view().getBigUint64(at) : 0n) & 0x00ff_ffff_ffff_fe00n);
  for (let i = 1 + random.int(4); i > 0; i--) {
    const kind = random.int(6);
    if (kind <= 1) {
      const [at, width] = random.pick(HEADER_FIELDS);
      const value = aValue();
      if (width === 8) view().setBigUint64(at, value);
      else if (width === 4)
        view().setUint32(at, Number(BigInt.asUintN(32, random.oneIn(2) ? value : value >> 32n)));
      else view().setUint8(at, Number(BigInt.asUintN(8, value)));
    } else if (kind <= 4) {
      // An entry of the L1 or refcount table, or of a table below.
      const above = random.pick(tables);
      const at = random.oneIn(2) ? above : table(above);
      const entry = at + 8 * random.int(random.pick([2, 64]));
      if (entry + 8 <= bytes.length) view().setBigUint64(entry, aValue());
    } else if (random.oneIn(3)) bytes = bytes.slice(0, random.int(bytes.length));
    else if (bytes.length > 0) bytes[random.int(bytes.length)] = random.int(256);
    if (bytes.length < 112) break;
  }
  return bytes;
}

const BASE = new Uint8Array(100_000).fill(9);

/** Does everything with an image. Only errors of Wherry's own are allowed. */
async function attempt(bytes: Uint8Array, random: Random): Promise<number> {
  let worked = 0;
  const tries = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
      worked++;
    } catch (error) {
      if (!(error instanceof WherryError)) throw error;
    }
  };
  const file = () => new MemoryFile("image", bytes);
  const store = (): ImageStore => ({
    codec,
    // Every name is the image itself, except its proper base: chains without end.
    open: async (path) => (path === "base" ? new MemoryFile("base", BASE) : file()),
    relative: (_, name) => name,
    identity: async (path) => (path === "base" ? path : random.oneIn(2) ? "image" : `other ${random.u32()}`),
  });
  await tries(async () => {
    const found = file();
    const header = await readHeader(found);
    await readSnapshots(found, header);
    await checkQcow2(found, header, "none");
  });
  for (const readonly of [true, false]) {
    await tries(async () => {
      const image = await openImage(store(), "image", { readonly });
      const size = Math.min(image.sizeBytes, 1 << 22);
      await tries(async () => {
        for (let at = 0, i = 0; at < size && i < 200; i++) at += (await image.extent(at, size - at)).length;
      });
      for (let i = 0; i < 6 && size >= 512; i++) {
        const offset = Math.floor(random.int(size) / 512) * 512;
        const length = Math.min(size - offset, 512 * (1 + random.int(24)));
        await tries(() => image.read(offset, new Uint8Array(length)));
        if (readonly) continue;
        await tries(() => image.write(offset, new Uint8Array(length).fill(1)));
        await tries(() => image.discard(offset, length));
        await tries(() => image.writeZeroes(offset, length, true));
        await tries(() => image.flush());
      }
      if (!readonly && random.oneIn(4)) await tries(() => image.resize(size + 512 * 1024));
      await image.close();
    });
  }
  await tries(async () => {
    const found = file();
    await checkQcow2(found, await readHeader(found), "all");
  });
  return worked;
}

const images = await corpus();
// Large clusters take most of the time, and find the least.
const weighted = [images[0]!, images[0]!, images[1]!, images[1]!, images[1]!, images[2]!, images[2]!];
console.log(`seed ${given.seed}`);
const end = performance.now() + given.seconds * 1000;
const first = Math.max(0, given.case >= 0 ? given.case : given.first);
const last = given.case >= 0 ? first + 1 : given.cases > 0 ? first + given.cases : Number.POSITIVE_INFINITY;
let [index, worked, slowest] = [first, 0, 0];

function stop(why: string): never {
  console.error(
    `case ${index}: ${why}\nagain: npm run check:hostile-qcow2 -- --seed ${given.seed} --case ${index}`,
  );
  process.exit(1);
}
// A hang, by the event loop's own seconds, which a process that is stopped has not. A case that never yields
// never ends.
let ticks = 0;
const watch = setInterval(() => ++ticks > HANG_SECONDS && stop(`still runs after ${HANG_SECONDS} s`), 1000);
for (; index < last && (given.cases > 0 || given.case >= 0 || performance.now() < end); index++) {
  const random = new Random(programSeed(given.seed, index));
  const began = performance.now();
  ticks = 0;
  try {
    worked += await attempt(damaged(random.oneIn(12) ? images[3]! : random.pick(weighted), random), random);
  } catch (error) {
    stop((error as Error).stack ?? String(error));
  }
  slowest = Math.max(slowest, performance.now() - began);
  if (index % 64 !== 0) continue;
  if (process.memoryUsage.rss() > MAX_RSS) stop("needs more than 1.5 GiB");
  // Promises alone would starve the timer.
  await new Promise((resolve) => setImmediate(resolve));
}
clearInterval(watch);
// Images that are all refused at once would test nothing.
const share = worked / Math.max(1, index - first);
console.log(
  `${index - first} images, ${share.toFixed(1)} operations of each done, the slowest ${slowest.toFixed(0)} ms; 0 failed`,
);
if (index - first > 100 && share < 3) process.exit(1);
