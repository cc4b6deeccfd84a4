// Node's zlib and zstd for multifd's channels. Both run in Node's thread pool.
import zlib, { type Deflate, type Inflate, type ZstdCompress, type ZstdDecompress } from "node:zlib";
import { WherryError } from "../../base/errors.ts";
import type { Compression, CompressionMethod } from "../../migration/environment/page-compression.ts";

type Codec = Deflate | Inflate | ZstdCompress | ZstdDecompress;

class CompressionError extends WherryError {}

/** Writes `input` to the codec, optionally flushes, and passes each piece of output to `take`. */
async function run(
  codec: Codec,
  input: Uint8Array,
  flush: number | undefined,
  take: (piece: Uint8Array) => void,
): Promise<void> {
  let onReadable = () => {};
  let onError = (_error: Error) => {};
  const drain = () => {
    for (;;) {
      const piece = codec.read() as Uint8Array | null;
      if (piece === null) return;
      take(piece);
    }
  };
  try {
    await new Promise<void>((resolve, reject) => {
      onError = reject;
      onReadable = () => {
        try {
          drain();
        } catch (error) {
          codec.destroy();
          reject(error as Error);
        }
      };
      codec.on("readable", onReadable);
      codec.once("error", onError);
      codec.write(input, (error) => {
        if (error) reject(error);
        else if (flush === undefined) resolve();
        else codec.flush(flush, resolve);
      });
    });
    drain();
  } finally {
    codec.off("readable", onReadable);
    codec.off("error", onError);
  }
}

/** Older releases of Node have no zstd. */
function refuseWithoutZstd(method: CompressionMethod): void {
  if (method === "zlib" || "createZstdCompress" in zlib) return;
  throw new CompressionError(
    "compression.zstd",
    `Node ${process.versions.node} has no zstd: use Node 22.15 or newer, or multifd-compression zlib or none`,
  );
}

function failing(codec: Codec): Codec {
  // An error between two calls is reported by the next call.
  codec.on("error", () => {});
  return codec;
}

export const nodeCompression: Compression = {
  compressor(method: CompressionMethod, level: number) {
    refuseWithoutZstd(method);
    const codec = failing(
      method === "zlib"
        ? zlib.createDeflate({ level })
        : zlib.createZstdCompress({ params: { [zlib.constants.ZSTD_c_compressionLevel]: level } }),
    );
    const flush = method === "zlib" ? zlib.constants.Z_SYNC_FLUSH : zlib.constants.ZSTD_e_flush;
    return {
      async encode(data) {
        const pieces: Uint8Array[] = [];
        await run(codec, data, flush, (piece) => pieces.push(piece));
        return Buffer.concat(pieces);
      },
      close: () => codec.destroy(),
    };
  },

  decompressor(method: CompressionMethod) {
    refuseWithoutZstd(method);
    const codec = failing(method === "zlib" ? zlib.createInflate() : zlib.createZstdDecompress());
    return {
      async decode(payload, size) {
        const target = new Uint8Array(size);
        let at = 0;
        await run(codec, payload, undefined, (piece) => {
          if (at + piece.length > size) {
            throw new CompressionError("compression.size", `${method} data holds more than ${size} bytes`);
          }
          target.set(piece, at);
          at += piece.length;
        });
        if (at !== size) {
          throw new CompressionError(
            "compression.size",
            `${method} data holds ${at} bytes, expected ${size}`,
          );
        }
        return target;
      },
      close: () => codec.destroy(),
    };
  },
};
