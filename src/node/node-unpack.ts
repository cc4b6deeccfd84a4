// Decompression of kernels by Node's zlib, which has gzip, and zstd from Node 22.15 on.
import { promisify } from "node:util";
import zlib from "node:zlib";
import type { Platform } from "../embed/platform.ts";

type Decompress = (
  bytes: Uint8Array,
  options: { maxOutputLength: number },
  done: (error: Error | null, result: Uint8Array) => void,
) => void;

const decompressors: Readonly<Record<string, Decompress | undefined>> = {
  gzip: zlib.gunzip,
  zstd: zlib.zstdDecompress as Decompress | undefined,
};

export const unpack: NonNullable<Platform["unpack"]> = async (format, bytes, maxOutputLength) => {
  const decompress = decompressors[format];
  try {
    return decompress && (await promisify(decompress)(bytes, { maxOutputLength }));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_BUFFER_TOO_LARGE") throw error;
    throw new RangeError(`it unpacks to more than ${maxOutputLength} bytes`, { cause: error });
  }
};
