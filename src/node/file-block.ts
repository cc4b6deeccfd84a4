// A raw disk image in a file, as a BlockBackend. A flush is an fdatasync. Write access and the lock are held
// only between activate() and inactivate(), so that in a move the source releases them before the destination
// writes. Holes are not punched: a discard has no effect.
import { constants, type FileHandle, open, realpath } from "node:fs/promises";
import { WherryError } from "../base/errors.ts";
import type { BlockBackend } from "../devices/virtio/block-backend.ts";
import { type ImageUse, lockImage } from "./image-lock.ts";
import { ImageRecord } from "./image-record.ts";
import { systemReason } from "./system-reason.ts";

export class FileBlockError extends WherryError {}

const SECTOR = 512;
const ZERO_PIECE = 1 << 20;

/** As in DriveSpec. */
export interface FileBlockOptions {
  readonly path: string;
  readonly readonly?: boolean;
  readonly forceShare?: boolean | undefined;
  readonly locking?: boolean | undefined;
  readonly forceChanged?: boolean | undefined;
}

/** Opens an image for reading. Throws FileBlockError if it is not a usable image. */
export async function openFileBlock(options: FileBlockOptions): Promise<FileBlock> {
  const { readonly = false, forceShare = false } = options;
  if (forceShare && !readonly) {
    const why = "force-share=on reads what others write: it needs readonly=on";
    throw new FileBlockError("file-block.options", `${options.path}: ${why}`);
  }
  const handle = await openImage(options.path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const sizeBytes = await imageSize(options.path, handle);
    if (!readonly) await (await openImage(options.path, constants.O_RDWR)).close();
    return new FileBlock({ ...options, path: await realpath(options.path) }, sizeBytes, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

export class FileBlock implements BlockBackend {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readonly: boolean;
  readonly record: ImageRecord;
  readonly #lock: ImageUse | undefined;
  #handle: FileHandle;
  #active = false;

  /** Use openFileBlock. */
  constructor(options: FileBlockOptions, sizeBytes: number, handle: FileHandle) {
    const { path, readonly = false, forceShare = false, locking = true, forceChanged = false } = options;
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.readonly = readonly;
    if (locking) this.#lock = readonly ? (forceShare ? "shared-read" : "read") : "write";
    this.record = new ImageRecord({ path, sizeBytes, readonly, forceChanged });
    this.#handle = handle;
  }

  get active(): boolean {
    return this.#active;
  }

  async activate(): Promise<void> {
    if (this.#active) return;
    // Reopened, so that another host's writes to a shared file system are visible (close-to-open
    // consistency).
    const handle = await openImage(this.path, this.readonly ? constants.O_RDONLY : constants.O_RDWR);
    try {
      if (this.#lock !== undefined) await lockImage(this.path, handle, this.#lock);
      const sizeBytes = await imageSize(this.path, handle);
      if (sizeBytes !== this.sizeBytes) {
        throw new FileBlockError(
          "file-block.size",
          `${this.path}: ${sizeBytes} bytes, it had ${this.sizeBytes} when the machine was made; ` +
            "a disk cannot change its size under a guest",
        );
      }
      await this.record.taken(handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
    await this.#replace(handle);
    this.#active = true;
  }

  async inactivate(): Promise<void> {
    if (!this.#active) return;
    if (!this.readonly) await this.#handle.datasync();
    const handle = await openImage(this.path, constants.O_RDONLY);
    await this.record.released(handle);
    this.#active = false;
    await this.#replace(handle);
  }

  /** Closing the old handle releases its lock. */
  async #replace(handle: FileHandle): Promise<void> {
    const old = this.#handle;
    this.#handle = handle;
    await old.close();
  }

  /** The machine has ended. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      this.#active = false;
      await this.#handle.close();
    }
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const { bytesRead } = await this.#handle.read(target, done, target.length - done, offset + done);
      if (bytesRead === 0) {
        throw new FileBlockError(
          "file-block.end",
          `${this.path}: ends at ${offset + done}, it was truncated`,
        );
      }
      done += bytesRead;
    }
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    const handle = this.#writable();
    this.record.written(offset, data.length);
    try {
      for (let done = 0; done < data.length; ) {
        const { bytesWritten } = await handle.write(data, done, data.length - done, offset + done);
        done += bytesWritten;
      }
    } finally {
      this.record.written(offset, data.length);
    }
  }

  #writable(): FileHandle {
    if (!this.#active || this.readonly) {
      throw new FileBlockError(
        "file-block.inactive",
        `${this.path}: a write while the drive is ${this.readonly ? "readonly" : "not activated"}`,
      );
    }
    return this.#handle;
  }

  async flush(): Promise<void> {
    if (this.#active && !this.readonly) await this.#handle.datasync();
  }

  async fingerprint(isLiveMove: boolean): Promise<void> {
    try {
      await this.flush();
      await this.record.update(this.#handle, isLiveMove);
    } catch (cause) {
      const why = `cannot be read for its fingerprint: ${systemReason(cause)}`;
      throw new FileBlockError("file-block.fingerprint", `${this.path}: ${why}`, { cause });
    }
  }

  async discard(): Promise<void> {
    this.#writable();
  }

  /** Zeros that exist already are not written, so that holes are kept. */
  async writeZeroes(offset: number, length: number): Promise<void> {
    this.#writable();
    const piece = new Uint8Array(Math.min(ZERO_PIECE, length));
    for (let done = 0; done < length; done += piece.length) {
      const part = piece.subarray(0, length - done);
      await this.read(offset + done, part);
      if (part.every((byte) => byte === 0)) continue;
      await this.write(offset + done, part.fill(0));
    }
  }
}

async function openImage(path: string, flags: number): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const write = (flags & constants.O_RDWR) !== 0;
    const what =
      code === "ENOENT"
        ? "no such file; make one with `truncate -s 1G FILE`"
        : code === "EISDIR"
          ? "a directory, not a disk image"
          : code === "EACCES" || code === "EPERM" || code === "EROFS"
            ? `no permission to ${write ? "write it; readonly=on opens it for reading" : "read it"}`
            : systemReason(cause);
    throw new FileBlockError("file-block.open", `${path}: ${what}`, { cause });
  }
}

async function imageSize(path: string, handle: FileHandle): Promise<number> {
  const stat = await handle.stat();
  if (!stat.isFile()) {
    const what = stat.isDirectory() ? "a directory" : "not a regular file";
    throw new FileBlockError("file-block.kind", `${path}: ${what}; a disk is a raw image in a file`);
  }
  if (stat.size === 0 || stat.size % SECTOR !== 0) {
    throw new FileBlockError(
      "file-block.size",
      `${path}: ${stat.size} bytes; a raw image is a multiple of ${SECTOR} bytes and not empty`,
    );
  }
  return stat.size;
}
