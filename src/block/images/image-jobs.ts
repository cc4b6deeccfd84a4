// Work on whole images: copy, compare, commit into the backing image, change the backing image.
import { BlockError } from "../block-file.ts";
import { type BlockImage, type Extent, readWithin } from "../block-image.ts";
import { encodeHeader, type Qcow2Header } from "../qcow2/qcow2-header.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";

/** Bytes of one read and write. */
const PIECE = 1 << 20;
/** Pieces that are read and written at the same time. */
const IN_FLIGHT = 4;
const SECTOR = 512;

/** Called now and then: bytes of the disk that are done, of how many. */
export type OnProgress = (done: number, total: number) => void;

export interface CopyOptions {
  /** Compressed clusters; only for a new qcow2 image. */
  readonly compressed?: boolean | undefined;
  /** Only what is in the image itself, not what its backing images have. */
  readonly onlyTop?: boolean | undefined;
  /** The target may have other contents: zeros are written, too. */
  readonly overwrites?: boolean | undefined;
  readonly onProgress?: OnProgress | undefined;
}

/** Calls `work` for each run of alike blocks of the disk, in pieces of `step` bytes at most. */
async function eachExtent(
  image: BlockImage,
  step: number,
  work: (offset: number, extent: Extent) => Promise<void>,
  onProgress: OnProgress = () => {},
): Promise<void> {
  const running = new Set<Promise<void>>();
  const total = image.sizeBytes;
  try {
    for (let at = 0; at < total; ) {
      const length = Math.min(total - at, step === Number.POSITIVE_INFINITY ? step : step - (at % step));
      const extent = await image.extent(at, length);
      // A step is not cut: its parts may be of several kinds.
      const isWhole = extent.length >= length;
      const piece =
        isWhole || step === Number.POSITIVE_INFINITY ? extent.length : Math.min(length, extent.length);
      const job = work(at, { ...extent, length: piece }).finally(() => running.delete(job));
      running.add(job);
      if (running.size >= IN_FLIGHT) await Promise.race(running);
      at += piece;
      onProgress(at, total);
    }
    await Promise.all(running);
  } finally {
    await Promise.allSettled(running);
  }
}

const isZero = (bytes: Uint8Array): boolean => {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  return words.every((word) => word === 0) && bytes.subarray(words.length * 4).every((byte) => byte === 0);
};

/** Copies the contents of `source` to `target`, a new image that reads as zeros (or as its backing image). */
export async function copyImage(
  source: BlockImage,
  target: BlockImage,
  options: CopyOptions = {},
): Promise<void> {
  const { compressed = false, onlyTop = false, onProgress } = options;
  const needsZeros = target.backing !== undefined || onlyTop || options.overwrites === true;
  if (compressed && target instanceof Qcow2Image)
    return await copyCompressed(source, target, needsZeros, onProgress);
  await eachExtent(
    source,
    PIECE,
    async (at, { kind, depth, length }) => {
      if (onlyTop && (kind === "absent" || depth > 0)) return;
      if (kind !== "data") {
        if (needsZeros) await target.writeZeroes(at, length, true);
        return;
      }
      const bytes = new Uint8Array(length);
      await source.read(at, bytes);
      if (!isZero(bytes)) await target.write(at, bytes);
      else if (needsZeros) await target.writeZeroes(at, length, true);
    },
    onProgress,
  );
  await target.flush();
}

async function copyCompressed(
  source: BlockImage,
  target: Qcow2Image,
  needsZeros: boolean,
  onProgress?: OnProgress,
): Promise<void> {
  const { clusterBytes } = target;
  const running = new Set<Promise<void>>();
  try {
    for (let at = 0; at < source.sizeBytes; at += clusterBytes) {
      const copy = async (): Promise<void> => {
        const bytes = new Uint8Array(Math.min(clusterBytes, source.sizeBytes - at));
        await source.read(at, bytes);
        if (!isZero(bytes)) await target.writeCompressed(at, bytes);
        else if (needsZeros) await target.writeZeroes(at, bytes.length, true);
      };
      const job = copy().finally(() => running.delete(job));
      running.add(job);
      if (running.size >= IN_FLIGHT) await Promise.race(running);
      onProgress?.(Math.min(at + clusterBytes, source.sizeBytes), source.sizeBytes);
    }
    await Promise.all(running);
  } finally {
    await Promise.allSettled(running);
  }
  await target.flush();
}

/** The offset of the first byte that differs; undefined if there is none. Beyond a disk's end are zeros. */
export async function compareImages(
  a: BlockImage,
  b: BlockImage,
  onProgress?: OnProgress,
): Promise<number | undefined> {
  const total = Math.max(a.sizeBytes, b.sizeBytes);
  const [left, right] = [new Uint8Array(PIECE), new Uint8Array(PIECE)];
  const isBlank = async (image: BlockImage, at: number, length: number): Promise<boolean> => {
    if (at >= image.sizeBytes) return true;
    const { kind, length: found } = await image.extent(at, Math.min(length, image.sizeBytes - at));
    return kind !== "data" && found >= Math.min(length, image.sizeBytes - at);
  };
  for (let at = 0; at < total; at += PIECE) {
    const length = Math.min(PIECE, total - at);
    if (!((await isBlank(a, at, length)) && (await isBlank(b, at, length)))) {
      const [x, y] = [left.subarray(0, length), right.subarray(0, length)];
      await Promise.all([readWithin(a, at, x), readWithin(b, at, y)]);
      const differs = x.findIndex((byte, i) => byte !== y[i]);
      if (differs >= 0) return at + differs;
    }
    onProgress?.(at + length, total);
  }
  return undefined;
}

/** What is in `top` itself goes into `base`, which is what `top` is based on, opened for writing. */
export async function commitImage(top: BlockImage, base: BlockImage, onProgress?: OnProgress): Promise<void> {
  if (base.sizeBytes < top.sizeBytes) await base.resize(top.sizeBytes);
  await copyImage(top, base, { onlyTop: true, onProgress });
}

/**
 * The disk's contents stay when `to` replaces the image that `image` is based on: what the two have different
 * is copied into `image`.
 */
export async function keepContents(
  image: Qcow2Image,
  to: BlockImage | undefined,
  onProgress?: OnProgress,
): Promise<void> {
  const from = image.backing;
  await eachExtent(
    image,
    PIECE,
    async (at, { depth, kind, length }) => {
      if (depth === 0 && kind !== "absent") return;
      const [before, after] = [new Uint8Array(length), new Uint8Array(length)];
      await Promise.all([from && readWithin(from, at, before), to && readWithin(to, at, after)]);
      for (let start = 0; start < length; start += image.clusterBytes) {
        const end = Math.min(length, start + image.clusterBytes - ((at + start) % image.clusterBytes));
        const part = before.subarray(start, end);
        if (part.some((byte, i) => byte !== after[start + i])) await image.write(at + start, part);
        start = end - image.clusterBytes;
      }
    },
    onProgress,
  );
  await image.flush();
}

/** Writes another backing image into the header; `name` undefined: none. */
export async function setBacking(
  image: Qcow2Image,
  name: string | undefined,
  format: string | undefined,
): Promise<void> {
  const header: Qcow2Header = { ...image.header, backingFile: name, backingFormat: format };
  await image.flush();
  await image.file.write(0, encodeHeader(image.file.name, header));
  await image.file.flush();
}

/** Throws BlockError if `bytes` cannot be a disk's size. */
export function refuseSize(name: string, bytes: number): void {
  if (Number.isSafeInteger(bytes) && bytes >= 0 && bytes % SECTOR === 0) return;
  throw new BlockError("block.size", `${name}: ${bytes} bytes: a disk's size is a multiple of ${SECTOR}`);
}
