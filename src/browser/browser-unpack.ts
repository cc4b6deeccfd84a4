// Decompression in a browser (Compression Streams): kernels (each has gzip, some have zstd), zip archives.
import type { Platform } from "../embed/platform.ts";

function decompressor(format: string): DecompressionStream | undefined {
  try {
    return new DecompressionStream(format as CompressionFormat);
  } catch {
    return undefined;
  }
}

export const unpack: NonNullable<Platform["unpack"]> = async (format, bytes, maxBytes) => {
  const stream = decompressor(format);
  return stream === undefined ? undefined : await through(stream, bytes, maxBytes);
};

/** Undoes raw deflate. */
export const inflate = (bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> =>
  through(new DecompressionStream("deflate-raw"), bytes, maxBytes);

async function through(
  stream: DecompressionStream,
  bytes: Uint8Array,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  const take = new WritableStream<Uint8Array<ArrayBuffer>>({
    write(piece) {
      size += piece.length;
      if (size > maxBytes) throw new RangeError(`it unpacks to more than ${maxBytes} bytes`);
      pieces.push(piece);
    },
  });
  await new Blob([bytes.slice()]).stream().pipeThrough(stream).pipeTo(take);
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}
