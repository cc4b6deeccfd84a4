// The storage behind a virtio disk. Platforms implement it: files in Node, blobs in a browser, memory in
// tests. Offsets and lengths are in bytes, multiples of 512, and inside [0, sizeBytes).
import type { DiskRecord } from "./disk-section.ts";

/** The storage behind a disk. Offsets and lengths are in bytes, multiples of 512, within `sizeBytes`. */
export interface BlockBackend {
  readonly sizeBytes: number;
  readonly readonly: boolean;
  /** Fills all of `target`. Rejects on an I/O error. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Resolves when later reads see the data; it is durable only after `flush`. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** As `read`, before it returns. False if that might take long, or fails: then `read` does it. */
  readNow?(offset: number, target: Uint8Array): boolean;
  /** As `write`, before it returns. False if that might take long, or fails: then `write` does all of it. */
  writeNow?(offset: number, data: Uint8Array): boolean;
  /** Makes all writes durable that resolved before this call. */
  flush(): Promise<void>;
  /** The contents of the range no longer matter; its space may be released. */
  discard(offset: number, length: number): Promise<void>;
  /** The range reads as zeros afterwards. `mayUnmap`: its space may be released. */
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  /** Changes the disk's size, in bytes; what is new reads as zeros. Default: it cannot change. */
  resize?(sizeBytes: number): Promise<void>;
  /** Flushes, then gives up write access and locks, so that another process can take the disk. */
  inactivate(): Promise<void>;
  /**
   * Takes locks and write access. Rejects if another process holds them, or if `record` expects another disk.
   */
  activate(): Promise<void>;
  /** What a saved machine remembers of the contents. Default: nothing, and any disk will do. */
  readonly record?: DiskRecord;
  /** Updates `record`. A live move needs no hashes. `check` throws to stop it. */
  fingerprint?(isLiveMove: boolean, check?: () => void): Promise<void>;
  /**
   * Set by the device: whether the guest's driver has it. Before that, guest memory has nothing of the
   * contents, and a saved machine may continue with any disk.
   */
  isDriven?: () => boolean;
}
