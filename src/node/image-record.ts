// What a saved machine remembers of an image in a file, and the comparison when it is loaded: the same file,
// not changed since, or else the same contents.
import { WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";
import {
  CHUNK_HASH_BYTES,
  type DiskRecord,
  type DiskState,
  diskState,
} from "../devices/virtio/disk-section.ts";
import { type HashedImage, ImageHashes } from "./image-hashes.ts";

export class ImageRecordError extends WherryError {}

/**
 * A file system's clock has ticks. A change after the machine was saved could have the time of one before, if
 * that was this recent: then only the contents tell.
 */
const RECENT_NS = 2_000_000_000n;

const OVERRIDE = "or add force-changed=on to its --drive to take it as it is";
const SAME_ORDER = "give the --drive options in the order of the saved machine";

/** What tells an image's files from others, and from themselves later. */
export interface ImageIdentity {
  readonly device: bigint;
  readonly inode: bigint;
  /** Time of the last change of the contents or the inode, in ns, or with several files a number of all. */
  readonly changedNs: bigint;
  /** Time of the last write, in ns, or a number likewise. */
  readonly writtenNs: bigint;
  /** The latest change of any, in ns. */
  readonly latestNs: bigint;
}

/** An open image. */
export interface RecordedContents extends HashedImage {
  identity(): Promise<ImageIdentity>;
}

export interface RecordedImage {
  readonly path: string;
  sizeBytes: number;
  readonly readonly: boolean;
  /** Any disk will do. */
  readonly forceChanged: boolean;
}

export class ImageRecord implements DiskRecord {
  readonly state: DiskState = diskState.create();
  readonly #image: RecordedImage;
  #hashes: ImageHashes;
  #expected: DiskState | undefined;
  /** The file as it was when the machine gave it up. */
  #released: { readonly inode: bigint; readonly writtenNs: bigint } | undefined;
  /** The file's last change when its hashes were computed; undefined once this machine has written since. */
  #hashedNs: bigint | undefined;

  constructor(image: RecordedImage) {
    this.#image = image;
    this.#hashes = new ImageHashes(image.sizeBytes);
    this.state.sizeBytes = BigInt(image.sizeBytes);
    this.state.readonly = image.readonly;
  }

  /** This machine writes; call it before and after. */
  written(offset: number, length: number): void {
    this.#hashedNs = undefined;
    this.#hashes.forget(offset, length);
  }

  /** The disk has another size from now on. */
  resized(sizeBytes: number): void {
    this.#image.sizeBytes = sizeBytes;
    this.state.sizeBytes = BigInt(sizeBytes);
    this.#hashes = new ImageHashes(sizeBytes);
    this.#hashedNs = undefined;
  }

  /** Updates `state`. In a live move nobody writes between the two machines: the file's identity suffices. */
  async update(image: RecordedContents, isLiveMove: boolean, check?: () => void): Promise<void> {
    const file = await image.identity();
    const { state } = this;
    state.sizeBytes = BigInt(this.#image.sizeBytes);
    state.readonly = this.#image.readonly;
    state.device = file.device;
    state.inode = file.inode;
    const isRecent = BigInt(Date.now()) * 1_000_000n - file.latestNs < RECENT_NS;
    state.changedNs = isRecent ? 0n : file.changedNs;
    if (!isLiveMove) {
      // Another process has written to it, against the lock.
      if (this.#hashedNs !== undefined && this.#hashedNs !== file.changedNs)
        this.written(0, this.#image.sizeBytes);
      this.#hashedNs = file.changedNs;
      await this.#hashes.update(image, check);
    }
    state.hashes = isLiveMove ? new Uint8Array(0) : this.#hashes.bytes;
    state.hashBytes = state.hashes.length;
  }

  check(saved: DiskState): void {
    if (saved.sizeBytes === 0n) return;
    const { path, sizeBytes, readonly, forceChanged } = this.#image;
    if (readonly && !saved.readonly) {
      throw new ImageRecordError(
        "disk.readonly",
        `${path}: the saved machine writes to this disk: leave readonly=on out of its --drive, or ${SAME_ORDER}`,
      );
    }
    if (forceChanged || saved.sizeBytes === BigInt(sizeBytes)) return;
    throw new ImageRecordError(
      "disk.size",
      `${path}: expected the saved machine's disk of ${saved.sizeBytes} bytes, found ${sizeBytes} bytes: ` +
        `${SAME_ORDER}, ${OVERRIDE}`,
    );
  }

  expect(saved: DiskState): void {
    this.#expected = this.#image.forceChanged || saved.sizeBytes === 0n ? undefined : saved;
  }

  /** The machine takes the image: throws if it is not the disk that the machine had. */
  async taken(image: RecordedContents): Promise<void> {
    const file = await image.identity();
    const released = this.#released;
    const isChanged = file.inode !== released?.inode || file.writtenNs !== released.writtenNs;
    if (released !== undefined && isChanged && !this.#image.forceChanged) {
      throw new ImageRecordError(
        "disk.changed",
        `${this.#image.path}: has changed since this machine gave it up: a machine that moved away, or was restored ` +
          "from its file, has written to it. To continue here all the same, save this machine and restore it with " +
          "force-changed=on",
      );
    }
    if (this.#expected !== undefined) await this.#compare(this.#expected, image, file);
    this.#expected = undefined;
    this.#released = undefined;
  }

  /** The machine gives the image up. */
  async released(image: RecordedContents): Promise<void> {
    const { inode, writtenNs } = await image.identity();
    this.#released = { inode, writtenNs };
  }

  async #compare(saved: DiskState, image: RecordedContents, file: ImageIdentity): Promise<void> {
    const { path } = this.#image;
    if (saved.hashBytes === 0) {
      if (saved.inode === file.inode) return;
      throw new ImageRecordError(
        "disk.other",
        `${path}: is not the file that the machine has at its source (inode ${saved.inode} there, ${file.inode} here): ` +
          `a live move needs storage that both sides share; ${SAME_ORDER}, ${OVERRIDE}`,
      );
    }
    if (saved.device === file.device && saved.inode === file.inode && saved.changedNs === file.changedNs) {
      this.#hashes.adopt(saved.hashes);
    } else {
      await this.#hashes.update(image);
      const found = this.#hashes.bytes;
      const at = saved.hashes.findIndex((byte, i) => byte !== found[i]);
      if (at >= 0) {
        const chunk = Math.floor(at / CHUNK_HASH_BYTES) * this.#hashes.chunkBytes;
        throw new ImageRecordError(
          "disk.changed",
          `${path}: is not the disk as it was when the machine was saved: it differs in the ` +
            `${this.#hashes.chunkBytes >> 20} MiB at ${hex(chunk)}, and its file system would be damaged. Give the ` +
            `image of that time (a copy made while the machine was stopped), ${SAME_ORDER}, ${OVERRIDE}`,
        );
      }
    }
    this.#hashedNs = file.changedNs;
  }
}
