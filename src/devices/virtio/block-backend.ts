// What a virtio disk keeps its bytes in. Hosts implement it: files in Node, blobs in a browser, memory in
// tests. Offsets and lengths are in bytes and multiples of 512, inside [0, sizeBytes).

export interface BlockBackend {
  readonly sizeBytes: number;
  readonly readonly: boolean;
  /** Fills all of `target`. Rejects on an I/O error. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Resolves when a later read sees it; it is durable only after `flush`. */
  write(offset: number, data: Uint8Array): Promise<void>;
  /** All writes that were over before this call are durable. */
  flush(): Promise<void>;
  /** The contents of the range do not matter any more; the space may be given back. */
  discard(offset: number, length: number): Promise<void>;
  /** The range reads as zeros from now on. `mayUnmap`: the space may be given back. */
  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void>;
  /** Flush, then give up write access and locks: somebody else may take the disk. */
  inactivate(): Promise<void>;
  /** Take locks and write access. Rejects if somebody else has them. */
  activate(): Promise<void>;
}
