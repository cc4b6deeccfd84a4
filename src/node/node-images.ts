// Disk images in files of this host, and behind HTTP, for src/block.
import fs from "node:fs";
import { constants, type FileHandle, mkdtemp, open, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { BlockError, type BlockFile } from "../block/block-file.ts";
import { type FetchRange, HttpFile } from "../block/http-file.ts";
import type { ImageStore } from "../block/images/open-image.ts";
import { InFlight } from "../block/in-flight.ts";
import type { ClusterCodec } from "../block/qcow2/cluster-codec.ts";
import { WherryError } from "../base/errors.ts";
import { HolePuncher } from "./hole-puncher.ts";
import { type ImageUse, lockImage } from "./image-lock.ts";
import { systemReason } from "./channels/system-reason.ts";

export class FileBlockError extends WherryError {}

/** fs.read and fs.write. */
type Transfer = (
  fd: number,
  bytes: Uint8Array,
  from: number,
  length: number,
  position: number,
  ended: (error: Error | null, done: number) => void,
) => void;

/** fs.readSync and fs.writeSync. */
type TransferNow = (fd: number, bytes: Uint8Array, from: number, length: number, position: number) => number;

/**
 * What a call may take that the host's page cache serves, in ms and bytes a ms. After one that took longer,
 * this many requests wait for the disk in another thread.
 */
const CACHED_MS = 0.25;
const CACHED_BYTES_PER_MS = 1 << 20;
const SLOW_REQUESTS = 64;

/** An open file of this host. */
export class NodeFile implements BlockFile {
  readonly name: string;
  readonly readonly: boolean;
  readonly handle: FileHandle;
  /** Of the calls below that use the descriptor itself, which cost half of what the handle's do. */
  readonly #calls = new InFlight();
  readonly #holes: HolePuncher;
  /** Requests that are still taken for ones that the page cache does not serve. */
  #slow = 0;
  #size: number;

  private constructor(name: string, handle: FileHandle, size: number, readonly: boolean) {
    this.name = name;
    this.handle = handle;
    this.#holes = new HolePuncher(handle);
    this.#size = size;
    this.readonly = readonly;
  }

  /** Opens a file, and takes `lock` on it. Rejects with FileBlockError. */
  static async open(path: string, isReadonly: boolean, lock: ImageUse | undefined): Promise<NodeFile> {
    const flags = isReadonly ? constants.O_RDONLY | constants.O_NONBLOCK : constants.O_RDWR;
    const handle = await openImageFile(path, flags);
    try {
      const stat = await handle.stat();
      if (!stat.isFile()) {
        const what = stat.isDirectory() ? "a directory" : "not a regular file";
        throw new FileBlockError("file-block.kind", `${path}: ${what}; a disk is an image in a file`);
      }
      if (lock !== undefined) await lockImage(path, handle, lock);
      // Who had the lock before may have changed the size meanwhile.
      const { size } = await handle.stat();
      return new NodeFile(path, handle, size, isReadonly);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /** Makes an empty file, over one that exists if nobody has that open. */
  static async create(path: string, locking = true): Promise<NodeFile> {
    const handle = await openImageFile(path, constants.O_RDWR | constants.O_CREAT, 0o644);
    await handle.close();
    const file = await NodeFile.open(path, false, locking ? "write" : undefined);
    await file.truncate(0);
    return file;
  }

  /** A file without a name, which ends when it is closed or the process dies. */
  static async temporary(name: string): Promise<NodeFile> {
    const directory = await mkdtemp(join(tmpdir(), "wherry-overlay-"));
    try {
      return new NodeFile(name, await open(join(directory, "overlay"), "wx+", 0o600), 0, false);
    } finally {
      await rm(directory, { recursive: true });
    }
  }

  get size(): number {
    return this.#size;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.#size - offset));
    target.fill(0, inside);
    for (let done = 0; done < inside; ) {
      const bytesRead = await this.#call(fs.read, target, done, inside - done, offset + done);
      if (bytesRead === 0) {
        // A write behind the end has begun, and is not there yet.
        const { size } = await this.handle.stat();
        if (size > offset + done) continue;
        if (!this.readonly) return void target.fill(0, done);
        throw new FileBlockError(
          "file-block.end",
          `${this.name}: ends at ${offset + done}, it was truncated`,
        );
      }
      done += bytesRead;
    }
  }

  readNow(offset: number, target: Uint8Array): boolean {
    return this.#now(fs.readSync, offset, target);
  }

  writeNow(offset: number, data: Uint8Array): boolean {
    return this.#now(fs.writeSync, offset, data);
  }

  #now(call: TransferNow, offset: number, bytes: Uint8Array): boolean {
    if (offset + bytes.length > this.#size) return false;
    if (this.#slow > 0) {
      this.#slow--;
      return false;
    }
    const began = performance.now();
    try {
      return call(this.handle.fd, bytes, 0, bytes.length, offset) === bytes.length;
    } catch {
      return false;
    } finally {
      const limit = CACHED_MS + bytes.length / CACHED_BYTES_PER_MS;
      if (performance.now() - began > limit) this.#slow = SLOW_REQUESTS;
    }
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    // fs.write would take it for the file's current position.
    if (!Number.isSafeInteger(offset + data.length))
      throw new RangeError(`${this.name}: no file has an offset ${offset}`);
    this.#size = Math.max(this.#size, offset + data.length);
    for (let done = 0; done < data.length; ) {
      done += await this.#call(fs.write, data, done, data.length - done, offset + done);
    }
  }

  #call(call: Transfer, bytes: Uint8Array, from: number, length: number, position: number): Promise<number> {
    const epoch = this.#calls.begin();
    return new Promise((resolved, reject) => {
      const ended = (error: Error | null, done: number): void => {
        this.#calls.end(epoch);
        if (error === null) resolved(done);
        else reject(error);
      };
      try {
        call(this.handle.fd, bytes, from, length, position, ended);
      } catch (error) {
        // An impossible argument, or a closed file.
        ended(error as Error, 0);
      }
    });
  }

  async flush(): Promise<void> {
    await this.handle.datasync();
  }

  async punch(offset: number, length: number): Promise<boolean> {
    const epoch = this.#calls.begin();
    try {
      return await this.#holes.punch(offset, length);
    } finally {
      this.#calls.end(epoch);
    }
  }
  async zero(offset: number, length: number): Promise<boolean> {
    const epoch = this.#calls.begin();
    try {
      return await this.#holes.zero(offset, length);
    } finally {
      this.#calls.end(epoch);
    }
  }

  async truncate(size: number): Promise<void> {
    await this.handle.truncate(size);
    this.#size = size;
  }

  async close(): Promise<void> {
    await this.#calls.drain();
    await this.#holes.close();
    await this.handle.close();
  }
}

async function openImageFile(path: string, flags: number, mode?: number): Promise<FileHandle> {
  try {
    return await open(path, flags, mode);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const write = (flags & constants.O_RDWR) !== 0;
    const what =
      code === "ENOENT"
        ? "no such file; make one with `wherry image create FILE 1G`"
        : code === "EISDIR"
          ? "a directory, not a disk image"
          : code === "EACCES" || code === "EPERM" || code === "EROFS"
            ? `no permission to ${write ? "write it; readonly=on opens it for reading" : "read it"}`
            : systemReason(cause);
    throw new FileBlockError("file-block.open", `${path}: ${what}`, { cause });
  }
}

type Async = (bytes: Uint8Array, options: object) => Promise<Buffer>;
const inflate: Async = promisify<Uint8Array, object, Buffer>(zlib.inflateRaw);
const deflate: Async = promisify<Uint8Array, object, Buffer>(zlib.deflateRaw);

function zstd<K extends "zstdDecompress" | "zstdCompress">(call: K): Async {
  if (!(call in zlib)) {
    throw new BlockError(
      "qcow2.unsupported",
      `Node ${process.versions.node} has no zstd, which the image is compressed with: use Node 22.15 or newer`,
    );
  }
  return promisify<Uint8Array, object, Buffer>(zlib[call]);
}

/** zstd's frame of one cluster; what follows in the last sector is no part of it. */
async function unpackZstd(packed: Uint8Array, size: number): Promise<Uint8Array> {
  const stream = zstd("zstdDecompress") && zlib.createZstdDecompress();
  const cluster = new Uint8Array(size);
  let done = 0;
  return await new Promise((resolved, reject) => {
    stream.on("data", (piece: Buffer) => {
      const part = piece.subarray(0, size - done);
      cluster.set(part, done);
      done += part.length;
      if (done < size) return;
      stream.destroy();
      resolved(cluster);
    });
    stream.on("error", reject);
    stream.on("end", () => reject(new Error(`holds ${done} bytes, expected ${size}`)));
    stream.end(packed);
  });
}

export const nodeCodec: ClusterCodec = {
  async unpack(method, packed, size) {
    if (method === "zstd") return await unpackZstd(packed, size);
    const { Z_SYNC_FLUSH } = zlib.constants;
    const cluster = await inflate(packed, { maxOutputLength: size, finishFlush: Z_SYNC_FLUSH });
    if (cluster.length !== size) throw new Error(`holds ${cluster.length} bytes, expected ${size}`);
    return cluster;
  },
  pack(method, data) {
    return method === "zstd"
      ? zstd("zstdCompress")(data, {})
      : deflate(data, { windowBits: 12, memLevel: 9 });
  },
};

export const isAddress = (path: string): boolean => /^https?:\/\//i.test(path);

const fetchRange: FetchRange = (url, headers, timeoutMs) =>
  fetch(url, { headers, signal: AbortSignal.timeout(timeoutMs) });

export type ImageFile = NodeFile | HttpFile;

/** How the files of a chain are locked. */
export interface ImageLocks {
  readonly image: ImageUse | undefined;
  readonly backing: ImageUse | undefined;
}

/** Opens images' files with `locks`, and collects them. */
export function nodeStore(locks: ImageLocks): ImageStore & { readonly files: ImageFile[] } {
  const files: ImageFile[] = [];
  return {
    files,
    codec: nodeCodec,
    async open(path, { readonly: isReadonly, isBacking }) {
      const file = isAddress(path)
        ? await HttpFile.open(path, fetchRange)
        : await NodeFile.open(path, isReadonly, isBacking ? locks.backing : locks.image);
      files.push(file);
      return file;
    },
    relative: (path, name) => {
      if (isAddress(name)) return name;
      if (isAddress(path)) return new URL(name, path).href;
      return isAbsolute(name) ? name : path.slice(0, path.lastIndexOf("/") + 1) + name;
    },
    identity: async (path) => (isAddress(path) ? path : await realpath(path).catch(() => resolve(path))),
  };
}
