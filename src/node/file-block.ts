// A raw disk image in a file, as a BlockBackend. A flush is an fdatasync. Write access and the lock are held
// only between activate() and inactivate(), so that in a move the source releases them before the destination
// writes. The lock is flock(2), which the kernel drops when its holder dies and which shared file systems
// carry between hosts; Node has no call for it, so flock(1) of util-linux (or busybox) locks the open file.
// Holes are not punched: a discard has no effect.
import { spawn } from "node:child_process";
import { constants, type FileHandle, open, realpath } from "node:fs/promises";
import { messageOf, WherryError } from "../base/errors.ts";
import type { BlockBackend } from "../devices/virtio/block-backend.ts";
import { systemReason } from "./system-reason.ts";

export class FileBlockError extends WherryError {}

const SECTOR = 512;
const ZERO_PIECE = 1 << 20;

export interface FileBlockOptions {
  readonly path: string;
  /** Never written, and not locked. Default: false. */
  readonly readonly?: boolean;
}

/** Opens an image for reading. Throws FileBlockError if it is not a usable image. */
export async function openFileBlock(options: FileBlockOptions): Promise<FileBlock> {
  const readonly = options.readonly ?? false;
  const handle = await openImage(options.path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const sizeBytes = await imageSize(options.path, handle);
    if (!readonly) await (await openImage(options.path, constants.O_RDWR)).close();
    return new FileBlock(await realpath(options.path), sizeBytes, readonly, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

export class FileBlock implements BlockBackend {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readonly: boolean;
  #handle: FileHandle;
  #active = false;

  /** Use openFileBlock. */
  constructor(path: string, sizeBytes: number, readonly: boolean, handle: FileHandle) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.readonly = readonly;
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
      const sizeBytes = await imageSize(this.path, handle);
      if (sizeBytes !== this.sizeBytes) {
        throw new FileBlockError(
          "file-block.size",
          `${this.path}: ${sizeBytes} bytes, it had ${this.sizeBytes} when the machine was made; ` +
            "a disk cannot change its size under a guest",
        );
      }
      if (!this.readonly) await lockExclusive(this.path, handle);
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
    for (let done = 0; done < data.length; ) {
      const { bytesWritten } = await handle.write(data, done, data.length - done, offset + done);
      done += bytesWritten;
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

/** The exit status of flock(1) if another process holds the lock. */
const LOCK_HELD = 75;

/**
 * The flock(2) lock belongs to the open file, which the child shares: it remains when flock(1) has exited.
 */
async function lockExclusive(path: string, handle: FileHandle): Promise<void> {
  const status = await new Promise<number | string>((resolve, reject) => {
    const child = spawn("flock", ["-x", "-n", "-E", String(LOCK_HELD), "3"], {
      stdio: ["ignore", "ignore", "ignore", handle.fd],
    });
    child.on("error", reject);
    child.on("exit", (code, signal) => resolve(code ?? signal ?? "unknown"));
  }).catch((cause: unknown) => {
    throw new FileBlockError(
      "file-block.lock",
      `${path}: cannot be locked: flock (package util-linux) does not run: ${messageOf(cause)}`,
      { cause },
    );
  });
  if (status === 0) return;
  const why =
    status === LOCK_HELD
      ? "another process, or another drive of this machine, has it open for writing"
      : `flock ended with ${status}`;
  throw new FileBlockError("file-block.lock", `${path}: cannot be locked: ${why}`);
}
