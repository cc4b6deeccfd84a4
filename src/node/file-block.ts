// A disk image with its backing images as a BlockBackend: raw or qcow2 files, or read behind HTTP. Write
// access and the locks are held only between activate() and inactivate(), so that in a move the source
// releases them before the destination writes. Everything is opened anew at activate(), so that another
// host's writes to a shared file system are visible (close-to-open consistency).
import { createHash } from "node:crypto";
import { realpath } from "node:fs/promises";
import type { BlockImage, ImageFormat } from "../block/block-image.ts";
import { openImage } from "../block/images/open-image.ts";
import { newQcow2 } from "../block/qcow2/qcow2-create.ts";
import { readHeader } from "../block/qcow2/qcow2-header.ts";
import { Qcow2Image } from "../block/qcow2/qcow2-image.ts";
import type { BlockBackend } from "../devices/virtio/block-backend.ts";
import { diskState } from "../devices/virtio/disk-section.ts";
import { chunksOfFile } from "./image-hashes.ts";
import { type ImageIdentity, ImageRecord, type RecordedContents } from "./image-record.ts";
import { FileBlockError, type ImageFile, isAddress, nodeCodec, NodeFile, nodeStore } from "./node-images.ts";
import { systemReason } from "./channels/system-reason.ts";

const SECTOR = 512;

/** As in DriveSpec. */
export interface FileBlockOptions {
  readonly path: string;
  readonly format?: ImageFormat | "auto" | undefined;
  readonly readonly?: boolean;
  readonly snapshot?: boolean | undefined;
  readonly forceShare?: boolean | undefined;
  readonly locking?: boolean | undefined;
  readonly forceChanged?: boolean | undefined;
}

/** Opens an image for reading. Throws FileBlockError or BlockError if it is not a usable image. */
export async function openFileBlock(options: FileBlockOptions): Promise<FileBlock> {
  const { path, readonly = false, forceShare = false, snapshot = false } = options;
  const refuse = (why: string): never => {
    throw new FileBlockError("file-block.options", `${path}: ${why}`);
  };
  if (forceShare && !readonly && !snapshot)
    refuse("force-share=on reads what others write: it needs readonly=on");
  if (isAddress(path) && !readonly && !snapshot)
    refuse("can only be read: add readonly=on, or snapshot=on for changes that are forgotten at the end");
  const opened = await openChain(options, false);
  try {
    if (!readonly && !snapshot) await (await NodeFile.open(path, false, undefined)).close();
    return new FileBlock({ ...options, path: isAddress(path) ? path : await realpath(path) }, opened);
  } catch (error) {
    await opened.image.close();
    throw error;
  }
}

/** An open image, and the files of its chain, its own first. */
interface OpenedChain {
  readonly image: BlockImage;
  readonly files: readonly ImageFile[];
}

async function openChain(options: FileBlockOptions, isActive: boolean): Promise<OpenedChain> {
  const { path, format, readonly = false, forceShare = false, locking = true, snapshot = false } = options;
  const reading = forceShare ? "shared-read" : "read";
  const isWritten = !readonly && !snapshot;
  const isLocked = isActive && locking;
  const store = nodeStore({
    image: isLocked ? (isWritten ? "write" : reading) : undefined,
    backing: isLocked ? reading : undefined,
  });
  const image = await openImage(store, path, { format, readonly: !isActive || !isWritten });
  const { sizeBytes } = image;
  if (sizeBytes > 0 && sizeBytes % SECTOR === 0) return { image, files: store.files };
  await image.close();
  throw new FileBlockError(
    "file-block.size",
    `${path}: ${sizeBytes} bytes; a ${image.format} image is a multiple of ${SECTOR} bytes and not empty`,
  );
}

export class FileBlock implements BlockBackend {
  readonly path: string;
  readonly readonly: boolean;
  readonly record: ImageRecord;
  isDriven?: () => boolean;
  readonly #options: FileBlockOptions;
  #chain: OpenedChain;
  /** With snapshot=on: what has changed. */
  #overlay: Qcow2Image | undefined;
  #isOverlayWritten = false;
  #active = false;

  /** Use openFileBlock. */
  constructor(options: FileBlockOptions, chain: OpenedChain) {
    const { path, readonly = false, forceChanged = false } = options;
    this.path = path;
    this.readonly = readonly;
    this.#options = options;
    this.#chain = chain;
    this.record = new ImageRecord({ path, sizeBytes: chain.image.sizeBytes, readonly, forceChanged });
  }

  get sizeBytes(): number {
    return this.#image.sizeBytes;
  }

  get format(): ImageFormat {
    return this.#chain.image.format;
  }

  /** The backing images' names, the nearest first. */
  get backingFiles(): readonly string[] {
    return this.#chain.files.slice(1).map(({ name }) => name);
  }

  get active(): boolean {
    return this.#active;
  }

  get #image(): BlockImage {
    return this.#overlay ?? this.#chain.image;
  }

  async activate(): Promise<void> {
    if (this.#active) return;
    const opened = await openChain(this.#options, true);
    try {
      const { sizeBytes } = opened.image;
      if (sizeBytes !== this.#chain.image.sizeBytes) {
        throw new FileBlockError(
          "file-block.size",
          `${this.path}: ${sizeBytes} bytes, it had ${this.#chain.image.sizeBytes} when the machine was made; ` +
            "a disk cannot change its size under a guest",
        );
      }
      await this.record.taken(contentsOf(opened.image, opened.files));
      if (this.#options.snapshot === true) await this.#layOver(opened.image);
    } catch (error) {
      await opened.image.close();
      throw error;
    }
    await this.#replace(opened);
    this.#active = true;
  }

  /** Changes go into a file without a name, which is gone when the process ends, however it ends. */
  async #layOver(base: BlockImage): Promise<void> {
    if (this.#overlay !== undefined) {
      this.#overlay.backing = base;
      return;
    }
    const file = await NodeFile.temporary(`${this.path} (snapshot)`);
    await file.write(0, newQcow2(file.name, base.sizeBytes));
    this.#overlay = await Qcow2Image.open({
      file,
      header: await readHeader(file),
      backing: base,
      codec: nodeCodec,
    });
  }

  async inactivate(): Promise<void> {
    if (!this.#active) return;
    await this.#image.settle();
    const opened = await openChain(this.#options, false);
    await this.record.released(contentsOf(opened.image, opened.files));
    this.#active = false;
    if (this.#overlay !== undefined) this.#overlay.backing = opened.image;
    await this.#replace(opened);
  }

  /** Closing the old files releases their locks. */
  async #replace(chain: OpenedChain): Promise<void> {
    const old = this.#chain;
    this.#chain = chain;
    await old.image.close();
  }

  /** The machine has ended. */
  async close(): Promise<void> {
    this.#active = false;
    await this.#image.close();
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.#image.read(offset, target);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#change(offset, data.length, (image) => image.write(offset, data));
  }

  readNow(offset: number, target: Uint8Array): boolean {
    return this.#image.readNow(offset, target);
  }

  writeNow(offset: number, data: Uint8Array): boolean {
    if (!this.#active || this.readonly) return false;
    this.record.written(offset, data.length);
    this.#isOverlayWritten = this.#overlay !== undefined;
    const isDone = this.#image.writeNow(offset, data);
    this.record.written(offset, data.length);
    return isDone;
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#change(offset, length, (image) => image.discard(offset, length));
  }

  async writeZeroes(offset: number, length: number, mayUnmap = false): Promise<void> {
    await this.#change(offset, length, (image) => image.writeZeroes(offset, length, mayUnmap));
  }

  async #change(offset: number, length: number, work: (image: BlockImage) => Promise<void>): Promise<void> {
    const image = this.#writable();
    this.record.written(offset, length);
    this.#isOverlayWritten = this.#overlay !== undefined;
    try {
      await work(image);
    } finally {
      this.record.written(offset, length);
    }
  }

  #writable(): BlockImage {
    if (!this.#active || this.readonly) {
      throw new FileBlockError(
        "file-block.inactive",
        `${this.path}: a write while the drive is ${this.readonly ? "readonly" : "not activated"}`,
      );
    }
    return this.#image;
  }

  async flush(): Promise<void> {
    if (this.#active && !this.readonly) await this.#image.flush();
  }

  async resize(sizeBytes: number): Promise<void> {
    if (sizeBytes % SECTOR !== 0 || sizeBytes <= 0) {
      const why = `${sizeBytes} bytes: a disk's size is a multiple of ${SECTOR} and not 0`;
      throw new FileBlockError("file-block.size", `${this.path}: ${why}`);
    }
    await this.#writable().resize(sizeBytes);
    this.record.resized(sizeBytes);
  }

  async fingerprint(isLiveMove: boolean, check?: () => void): Promise<void> {
    const isAny = !isLiveMove && this.isDriven?.() === false;
    if (isAny) return void Object.assign(this.record.state, diskState.create());
    if (this.#isOverlayWritten) {
      const why = "snapshot=on keeps its changes in a temporary file of this process, which no other one has";
      throw new FileBlockError(
        "file-block.snapshot",
        `${this.path}: ${why}: the machine cannot be saved or moved`,
      );
    }
    try {
      // Nothing changes the file after its time is taken.
      if (this.#active) await this.#image.settle();
      await this.record.update(contentsOf(this.#image, this.#chain.files), isLiveMove, check);
    } catch (cause) {
      check?.();
      const why = `cannot be read for its fingerprint: ${systemReason(cause)}`;
      throw new FileBlockError("file-block.fingerprint", `${this.path}: ${why}`, { cause });
    }
  }
}

/** What the record compares: the files' identities, and the disk's contents. */
function contentsOf(image: BlockImage, files: readonly ImageFile[]): RecordedContents {
  return {
    identity: () => identityOf(files),
    read: async (offset, target) => {
      const inside = Math.max(0, Math.min(target.length, image.sizeBytes - offset));
      target.fill(0, inside);
      await image.read(offset, target.subarray(0, inside));
    },
    chunksWithData: async (chunkBytes) => {
      const [file] = files;
      if (image.format === "raw" && file instanceof NodeFile)
        return await chunksOfFile(file.handle, image.sizeBytes, chunkBytes);
      const hasData = new Uint8Array(Math.ceil(image.sizeBytes / chunkBytes));
      for (let at = 0; at < image.sizeBytes; ) {
        const { kind, length } = await image.extent(at, image.sizeBytes - at);
        if (kind === "data")
          hasData.fill(1, Math.floor(at / chunkBytes), Math.floor((at + length - 1) / chunkBytes) + 1);
        at += length;
      }
      return hasData;
    },
  };
}

async function identityOf(files: readonly ImageFile[]): Promise<ImageIdentity> {
  const stats: { dev: bigint; ino: bigint; ctimeNs: bigint; mtimeNs: bigint }[] = [];
  const versions: string[] = [];
  for (const file of files) {
    if (file instanceof NodeFile) stats.push(await file.handle.stat({ bigint: true }));
    else versions.push(file.name, file.version);
  }
  const [first] = stats;
  const isSingle = files.length === 1 && first !== undefined;
  const numberOf = (...words: readonly (bigint | string)[]): bigint =>
    createHash("sha256")
      .update(JSON.stringify(words.map(String)))
      .digest()
      .readBigUInt64BE();
  return {
    device: first?.dev ?? 0n,
    inode: first?.ino ?? numberOf(...versions),
    changedNs: isSingle
      ? first.ctimeNs
      : numberOf(...versions, ...stats.flatMap(({ dev, ino, ctimeNs }) => [dev, ino, ctimeNs])),
    writtenNs: isSingle
      ? first.mtimeNs
      : numberOf(...versions, ...stats.flatMap(({ ino, mtimeNs }) => [ino, mtimeNs])),
    latestNs: stats.reduce((latest, { ctimeNs }) => (ctimeNs > latest ? ctimeNs : latest), 0n),
  };
}
