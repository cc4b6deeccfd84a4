// Unpacking Debian packages and indexes: ar(5) members, tar by tar-stream, xz, gzip and zstd by libraries.
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { type Duplex, Readable } from "node:stream";
import zlib from "node:zlib";
import { extract, type Header } from "tar-stream";
import xz from "xz-decompress";
import { GuestError } from "./guest-error.ts";
import type { OnBytes } from "./download.ts";

const AR_MAGIC = "!<arch>\n";
const AR_HEADER_SIZE = 60;

/** Like `pipe`, which does not pass the source's errors on. */
function pipeWithErrors<T extends Duplex>(source: Readable, target: T): T {
  source.on("error", (error) => target.destroy(error));
  return source.pipe(target);
}

/** The decompressed contents of a stream; the file name's suffix selects the compression. */
export function decompress(stream: Readable, name: string): Readable {
  if (name.endsWith(".xz")) return Readable.from(new xz.XzReadableStream(Readable.toWeb(stream)));
  if (name.endsWith(".gz")) return pipeWithErrors(stream, zlib.createGunzip());
  if (name.endsWith(".zst")) {
    if (!("createZstdDecompress" in zlib))
      throw new GuestError("guest.zstd", `${name}: zstd needs Node 22.15 or newer`);
    return pipeWithErrors(stream, zlib.createZstdDecompress());
  }
  return stream;
}

/** Decompresses a buffer. */
export async function decompressBytes(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  return Buffer.concat(await Readable.from(decompress(Readable.from([bytes]), name)).toArray());
}

/** The position of a member, control.tar.* or data.tar.*, in the package. */
async function findMember(
  path: string,
  wanted: "control" | "data",
): Promise<{ name: string; start: number; size: number }> {
  const file = await open(path, "r");
  try {
    const { size: end } = await file.stat();
    const magic = await file.read(Buffer.alloc(AR_MAGIC.length), 0, AR_MAGIC.length, 0);
    if (magic.buffer.toString("latin1") !== AR_MAGIC)
      throw new GuestError("guest.deb", `${path} is not a Debian package`);
    for (let at = AR_MAGIC.length; at + AR_HEADER_SIZE <= end; ) {
      const header = (await file.read(Buffer.alloc(AR_HEADER_SIZE), 0, AR_HEADER_SIZE, at)).buffer.toString(
        "latin1",
      );
      const name = header.slice(0, 16).trim().replace(/\/$/, "");
      const size = Number(header.slice(48, 58));
      if (name.startsWith(`${wanted}.tar`)) return { name, start: at + AR_HEADER_SIZE, size };
      at += AR_HEADER_SIZE + size + (size & 1);
    }
  } finally {
    await file.close();
  }
  throw new GuestError("guest.deb", `${path} has no ${wanted} member`);
}

/** An entry of a package's archive. */
export interface DebEntry {
  /** Without "./" and the slash at a directory's end; "" is the root. */
  readonly name: string;
  readonly header: Header;
  /** The contents of a file; call it for each file, or not at all. */
  read(): Promise<Uint8Array>;
}

/** Calls `visit` for each entry, in the archive's order. `onBytes` counts compressed bytes. */
export async function eachEntry(
  path: string,
  member: "control" | "data",
  visit: (entry: DebEntry) => Promise<void>,
  onBytes: OnBytes = () => {},
): Promise<void> {
  const { name, start, size } = await findMember(path, member);
  const raw = createReadStream(path, { start, end: start + size - 1 });
  let done = 0;
  raw.on("data", (chunk) => onBytes((done += chunk.length), size));
  raw.pause();
  const tar = extract();
  const source = decompress(raw, name);
  source.on("error", (error) => tar.destroy(error));
  source.pipe(tar);
  for await (const entry of tar) {
    let isRead = false;
    await visit({
      name: entry.header.name.replace(/^\.?\/|\/$/g, "").replace(/^\.$/, ""),
      header: entry.header,
      async read() {
        isRead = true;
        const chunks: Buffer[] = [];
        for await (const chunk of entry) chunks.push(chunk as Buffer);
        return Buffer.concat(chunks);
      },
    });
    if (!isRead) entry.resume();
  }
}

/** The package's regular files whose path (without "./") `wanted` accepts, in the archive's order. */
export async function unpackDeb(
  path: string,
  wanted: (name: string) => boolean,
  onBytes: OnBytes = () => {},
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  const take = async ({ name, header, read }: DebEntry): Promise<void> => {
    if (header.type === "file" && wanted(name)) files.set(name, await read());
  };
  await eachEntry(path, "data", take, onBytes);
  return files;
}
