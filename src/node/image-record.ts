// What a saved machine remembers of an image in a file, and the comparison when it is loaded: the same file,
// not changed since, or else the same contents.
import type { FileHandle } from "node:fs/promises";
import { WherryError } from "../base/errors.ts";
import { hex } from "../base/hex.ts";
import {
  CHUNK_HASH_BYTES,
  type DiskRecord,
  type DiskState,
  diskState,
} from "../devices/virtio/disk-section.ts";
import { ImageHashes } from "./image-hashes.ts";

export class ImageRecordError extends WherryError {}

/**
 * A file system's clock has ticks. A change after the machine was saved could have the time of one before, if
 * that was this recent: then only the contents tell.
 */
const RECENT_NS = 2_000_000_000n;

const OVERRIDE = "or add force-changed=on to its --drive to take it as it is";
const SAME_ORDER = "give the --drive options in the order of the saved machine";

export interface RecordedImage {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readonly: boolean;
  /** Any disk will do. */
  readonly forceChanged: boolean;
}

export class ImageRecord implements DiskRecord {
  readonly state: DiskState = diskState.create();
  readonly #image: RecordedImage;
  readonly #hashes: ImageHashes;
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

  /** Updates `state`. In a live move nobody writes between the two machines: the file's identity suffices. */
  async update(handle: FileHandle, isLiveMove: boolean): Promise<void> {
    const file = await handle.stat({ bigint: true });
    const { state } = this;
    state.device = file.dev;
    state.inode = file.ino;
    const isRecent = BigInt(Date.now()) * 1_000_000n - file.ctimeNs < RECENT_NS;
    state.changedNs = isRecent ? 0n : file.ctimeNs;
    if (!isLiveMove) {
      // Another process has written to it, against the lock.
      if (this.#hashedNs !== undefined && this.#hashedNs !== file.ctimeNs)
        this.written(0, this.#image.sizeBytes);
      this.#hashedNs = file.ctimeNs;
      await this.#hashes.update(handle);
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
  async taken(handle: FileHandle): Promise<void> {
    const file = await handle.stat({ bigint: true });
    const released = this.#released;
    const isChanged = file.ino !== released?.inode || file.mtimeNs !== released.writtenNs;
    if (released !== undefined && isChanged && !this.#image.forceChanged) {
      throw new ImageRecordError(
        "disk.changed",
        `${this.#image.path}: has changed since this machine gave it up: a machine that moved away, or was restored ` +
          "from its file, has written to it. To continue here all the same, save this machine and restore it with " +
          "force-changed=on",
      );
    }
    if (this.#expected !== undefined) await this.#compare(this.#expected, handle, file);
    this.#expected = undefined;
    this.#released = undefined;
  }

  /** The machine gives the image up. */
  async released(handle: FileHandle): Promise<void> {
    const file = await handle.stat({ bigint: true });
    this.#released = { inode: file.ino, writtenNs: file.mtimeNs };
  }

  async #compare(
    saved: DiskState,
    handle: FileHandle,
    file: { readonly dev: bigint; readonly ino: bigint; readonly ctimeNs: bigint },
  ): Promise<void> {
    const { path } = this.#image;
    if (saved.hashBytes === 0) {
      if (saved.inode === file.ino) return;
      throw new ImageRecordError(
        "disk.other",
        `${path}: is not the file that the machine has at its source (inode ${saved.inode} there, ${file.ino} here): ` +
          `a live move needs storage that both sides share; ${SAME_ORDER}, ${OVERRIDE}`,
      );
    }
    if (saved.device === file.dev && saved.inode === file.ino && saved.changedNs === file.ctimeNs) {
      this.#hashes.adopt(saved.hashes);
    } else {
      await this.#hashes.update(handle);
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
    this.#hashedNs = file.ctimeNs;
  }
}
