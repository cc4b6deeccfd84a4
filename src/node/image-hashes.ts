// Hashes of an image's chunks, kept up to date: a write makes its chunks unknown, and an update reads only
// unknown ones. Holes are not read.
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { CHUNK_HASH_BYTES, chunkBytesOf } from "../devices/virtio/disk-section.ts";
import { perl } from "./perl.ts";

/** To find the holes costs a process. */
const FEW_CHUNKS = 8;

/** Prints the first and last chunk of each run that is not a hole. 3 is SEEK_DATA, 4 SEEK_HOLE, 6 ENXIO. */
const FIND_DATA = `
my ($chunk, $at) = (@ARGV, 0);
while (defined(my $from = sysseek $file, $at, 3)) {
  my $to = sysseek $file, $from, 4;
  my ($first, $last) = (int($from / $chunk), int(($to - 1) / $chunk));
  print "$first $last\\n";
  $at = ($last + 1) * $chunk;
}
die "$!" if $! != 6;
`;

/** What is hashed: a disk's contents. */
export interface HashedImage {
  /** Beyond the end of a truncated file are zeroes. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** 1 for each chunk that may have other bytes than zeroes; undefined if that is not known. */
  chunksWithData(chunkBytes: number): Promise<Uint8Array | undefined>;
}

/** 1 for each chunk of a file that is not a hole; undefined if the holes cannot be found. */
export async function chunksOfFile(
  handle: FileHandle,
  sizeBytes: number,
  chunkBytes: number,
): Promise<Uint8Array | undefined> {
  const { status, output } = await perl(handle, FIND_DATA, String(chunkBytes)).catch(() => ({
    status: 1,
    output: "",
  }));
  if (status !== 0) return undefined;
  const hasData = new Uint8Array(Math.ceil(sizeBytes / chunkBytes));
  for (const [, first, last] of output.matchAll(/^(\d+) (\d+)$/gm)) {
    hasData.fill(1, Number(first), Number(last) + 1);
  }
  return hasData;
}

export class ImageHashes {
  readonly chunkBytes: number;
  /** The hashes of all chunks after an update. */
  readonly bytes: Uint8Array;
  readonly #sizeBytes: number;
  /** 1 for a chunk whose hash is up to date, or being computed. */
  readonly #known: Uint8Array;
  #turn: Promise<void> = Promise.resolve();

  constructor(sizeBytes: number) {
    this.chunkBytes = chunkBytesOf(sizeBytes);
    this.#sizeBytes = sizeBytes;
    this.#known = new Uint8Array(Math.ceil(sizeBytes / this.chunkBytes));
    this.bytes = new Uint8Array(this.#known.length * CHUNK_HASH_BYTES);
  }

  /** The hashes are known from elsewhere. */
  adopt(bytes: Uint8Array): void {
    this.bytes.set(bytes);
    this.#known.fill(1);
  }

  /** Call it before and after a write, so that an update between the two is not taken for the last. */
  forget(offset: number, length: number): void {
    if (length === 0) return;
    const last = Math.floor((offset + length - 1) / this.chunkBytes);
    this.#known.fill(0, Math.floor(offset / this.chunkBytes), last + 1);
  }

  /**
   * Computes the unknown hashes. Without a write meanwhile, all are known afterwards. `check` is called
   * before each, and throws to stop; those computed stay known.
   */
  update(image: HashedImage, check: () => void = () => {}): Promise<void> {
    const done = this.#turn.then(() => this.#update(image, check));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #update(image: HashedImage, check: () => void): Promise<void> {
    const unknown = [...this.#known.keys()].filter((chunk) => this.#known[chunk] === 0);
    // Before anything is read: a write from here on makes its chunk unknown again.
    for (const chunk of unknown) this.#known[chunk] = 1;
    let done = 0;
    try {
      const hasData = unknown.length > FEW_CHUNKS ? await image.chunksWithData(this.chunkBytes) : undefined;
      const buffer = Buffer.alloc(this.chunkBytes);
      const zeroes = Buffer.alloc(this.chunkBytes);
      for (; done < unknown.length; done++) {
        check();
        const chunk = unknown[done] as number;
        const hash = this.bytes.subarray(chunk * CHUNK_HASH_BYTES, (chunk + 1) * CHUNK_HASH_BYTES).fill(0);
        if (hasData?.[chunk] === 0) continue;
        const piece = buffer.subarray(0, this.#sizeBytes - chunk * this.chunkBytes);
        await image.read(chunk * this.chunkBytes, piece);
        if (piece.equals(zeroes.subarray(0, piece.length))) continue;
        hash.set(createHash("sha256").update(piece).digest().subarray(0, CHUNK_HASH_BYTES));
      }
    } catch (error) {
      for (const chunk of unknown.slice(done)) this.#known[chunk] = 0;
      throw error;
    }
  }
}
