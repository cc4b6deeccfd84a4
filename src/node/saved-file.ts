// The size of a saved machine in a file.
import { open } from "node:fs/promises";
import { type SavedHardware, savedHardware } from "../embed/saved-hardware.ts";

/** Nothing for a pipe or a file that cannot be read, which the load reports. */
export async function savedFileHardware(path: string, start = 0): Promise<SavedHardware> {
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return {};
  try {
    const stats = await file.stat();
    if (!stats.isFile()) return {};
    const read = async (offset: number, into: Uint8Array) =>
      (await file.read(into, 0, into.length, start + offset)).bytesRead;
    return await savedHardware({ size: Math.max(0, stats.size - start), read });
  } finally {
    await file.close();
  }
}
