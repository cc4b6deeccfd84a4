// Streams given as files on the command line: opens them for the reader of src/inspect; `-` is standard
// input.
import { open } from "node:fs/promises";
import { type ByteSource, piecesSource } from "../../inspect/read/byte-source.ts";
import { systemReason } from "../../node/channels/system-reason.ts";
import { CliError, EXIT } from "../output/cli-error.ts";

export interface StreamFile {
  readonly source: ByteSource;
  close(): Promise<void>;
}

/** Opens a stream. Rejects with a CliError of `exitCode` if the file cannot be opened; so do reads. */
export async function openStream(path: string, exitCode: number = EXIT.FAILURE): Promise<StreamFile> {
  if (path === "-") return { source: piecesSource(process.stdin), close: () => Promise.resolve() };
  const failed = (cause: Error): never => {
    throw new CliError(`${path}: ${systemReason(cause)}`, { exitCode, cause });
  };
  const file = await open(path).catch(failed);
  const close = () => file.close();
  const stats = await file.stat();
  if (stats.isDirectory()) {
    await close();
    return failed(new Error("is a directory"));
  }
  // A pipe or device has no size, and is read sequentially.
  if (!stats.isFile()) return { source: piecesSource(file.createReadStream({ autoClose: false })), close };
  const read = async (offset: number, into: Uint8Array) =>
    (await file.read(into, 0, into.length, offset).catch(failed)).bytesRead;
  return { source: { size: stats.size, read }, close };
}

/** Runs `use` with an open file, then closes it. */
export async function withStreamFile<T>(
  path: string,
  exitCode: number,
  use: (source: ByteSource) => Promise<T>,
): Promise<T> {
  const file = await openStream(path, exitCode);
  try {
    return await use(file.source);
  } finally {
    await file.close();
  }
}
