// Compressors for pages on multifd channels. The platform provides them, because browsers have no zstd. Each
// direction of a channel is one compressed stream that never ends; each packet ends with a flush.

/** Compression methods of multifd, by QEMU's names. */
export type CompressionMethod = "zlib" | "zstd";

/** Compresses the pages that one channel sends. */
export interface Compressor {
  /** Compresses all of `data` and flushes. The caller must not change `data` before. One call at a time. */
  encode(data: Uint8Array): Promise<Uint8Array>;
  close(): void;
}

/** Decompresses the pages that one channel receives. */
export interface Decompressor {
  /**
   * Decompresses `payload` to exactly `size` bytes, and never allocates more. Rejects if it is damaged or has
   * another length. One call at a time.
   */
  decode(payload: Uint8Array, size: number): Promise<Uint8Array>;
  close(): void;
}

/**
 * Creates compressors and decompressors for multifd channels. Throws WherryError if the host lacks the
 * method.
 */
export interface Compression {
  /** `level` is the method's own; QEMU's default is 1 for both. */
  compressor(method: CompressionMethod, level: number): Compressor;
  decompressor(method: CompressionMethod): Decompressor;
}
