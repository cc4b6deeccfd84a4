// A read error reaches the reader of decompressed data, whatever the compression: it must neither hang nor
// end the process.
import { Readable } from "node:stream";
import zlib from "node:zlib";
import { expect, it } from "vitest";
import { decompress } from "./deb-package.ts";

const suffixes = ["", ".gz", ".xz", ...("createZstdDecompress" in zlib ? [".zst"] : [])];

it.each(suffixes)(
  "a file that another process has removed fails, for data.tar%s",
  async (suffix) => {
    const file = new Readable({ read: () => file.destroy(new Error("no such file")) });
    await expect(decompress(file, `data.tar${suffix}`).toArray()).rejects.toThrow("no such file");
  },
  5000,
);
