// The interface of the compressors for the pages of multifd's channels. The platform provides them, because
// browsers have no zstd. The state of each direction of a channel continues from packet to packet; each
// packet ends with a flush, and the compressed stream never ends.

/** How multifd compresses pages, by QEMU's names. */
export type CompressionMethod = "zlib" | "zstd";

/** One direction of a channel. */
export interface Compressor {
  /** All of `data`, flushed. `data` must not change until then. One call at a time. */
  encode(data: Uint8Array): Promise<Uint8Array>;
  close(): void;
}

/** The other direction. */
export interface Decompressor {
  /**
   * `payload` as exactly `size` bytes. Rejects if it is damaged, or holds fewer or more: no more than `size`
   * bytes are kept. One call at a time.
   */
  decode(payload: Uint8Array, size: number): Promise<Uint8Array>;
  close(): void;
}

/**
 * Makes what compresses and decompresses the pages of multifd's channels. Throws WherryError where the host
 * lacks the method.
 */
export interface Compression {
  /** `level` as the method's own; QEMU's default is 1 for both. */
  compressor(method: CompressionMethod, level: number): Compressor;
  decompressor(method: CompressionMethod): Decompressor;
}
