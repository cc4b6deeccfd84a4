// What a platform gives for compressed clusters.

/** Unpacks and packs clusters. Given by the platform. */
export interface ClusterCodec {
  /** `packed` may have other bytes behind its end. Rejects if it is damaged or too short. */
  unpack(method: "zlib" | "zstd", packed: Uint8Array, size: number): Promise<Uint8Array>;
  /** zlib: raw deflate with a window of 4 KiB. */
  pack?(method: "zlib" | "zstd", data: Uint8Array): Promise<Uint8Array>;
}
