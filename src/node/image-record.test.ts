// A disk's fingerprint: the disk as it was is accepted, wherever its copy is; one that changed by a sector is
// refused, and so is one of another size.
import { copyFile, mkdtemp, open, rename, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { diskSection } from "../devices/virtio/disk-section.ts";
import { type FileBlock, type FileBlockOptions, openFileBlock } from "./file-block.ts";
import { NodeFile } from "./node-images.ts";

const SIZE = 8 << 20;
let directory: string;
let path: string;
const opened: FileBlock[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-record-"));
  path = join(directory, "disk.img");
  await writeFile(
    path,
    Uint8Array.from({ length: 3 << 20 }, (_, i) => i >> 8),
  );
  await truncate(path, SIZE);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await close();
  await rm(directory, { recursive: true });
});
async function close(): Promise<void> {
  for (const block of opened.splice(0)) await block.close();
}
async function disk(options: Partial<FileBlockOptions> = {}): Promise<FileBlock> {
  const block = await openFileBlock({ path, ...options });
  opened.push(block);
  return block;
}
/** Saves as a snapshot does, or as a live move. */
async function saved(block: FileBlock, isLiveMove = false): Promise<Uint8Array> {
  await block.fingerprint(isLiveMove);
  const writer = new ByteWriter();
  diskSection(0, block.record).encode(writer);
  return writer.finish();
}
/** Loads and takes the disk. */
async function restore(block: FileBlock, bytes: Uint8Array): Promise<void> {
  diskSection(0, block.record).decode(new ByteReader(bytes), 1)();
  await block.activate();
}
const ones = (length: number): Uint8Array => new Uint8Array(length).fill(1);
async function runAndSave(): Promise<Uint8Array> {
  const block = await disk();
  await block.activate();
  await block.write(5 << 20, ones(4096));
  const state = await saved(block);
  await close();
  return state;
}

it("a file that cannot be read or written at a place is closed all the same", async () => {
  const file = await NodeFile.open(path, false, undefined);
  await expect(file.write(2 ** 60, ones(1))).rejects.toThrow(RangeError);
  expect(file.size).toBe(SIZE);
  await file.handle.close();
  await expect(file.read(0, new Uint8Array(1))).rejects.toThrow(RangeError);
  await file.close();
});

const CHANGED = /is not the disk as it was when the machine was saved: .*force-changed=on/;

describe("a saved machine's disk", () => {
  it("is accepted as it was: the same file, renamed, copied", async () => {
    const state = await runAndSave();
    await restore(await disk(), state);
    await close();
    await rename(path, `${path}.moved`);
    await copyFile(`${path}.moved`, path);
    await utimes(path, 1, 1);
    await restore(await disk(), state);
    await close();
    await restore(await disk({ path: `${path}.moved` }), state);
  });

  it("is any disk before the guest has a driver for it", async () => {
    const block = await disk();
    block.isDriven = () => false;
    const state = await saved(block);
    await close();
    await writeFile(path, ones(SIZE / 2));
    await restore(await disk(), state);
  });

  it("may be readonly, also if it was saved before the guest had a driver", async () => {
    const block = await disk({ readonly: true });
    let isDriven = false;
    block.isDriven = () => isDriven;
    await saved(block);
    isDriven = true;
    const state = await saved(block);
    await close();
    await restore(await disk({ readonly: true }), state);
  });

  it.each([
    ["a sector of its data", 4096 + 512, 512],
    ["its last sector, a hole", SIZE - 512, 512],
    ["4 KiB within what the machine itself wrote", 5 << 20, 4096],
  ])("is refused if it went on: %s", async (_name, offset, length) => {
    const before = await stat(path);
    const state = await runAndSave();
    const file = await open(path, "r+");
    await file.write(ones(length).fill(7), 0, length, offset);
    await file.close();
    await utimes(path, before.atime, before.mtime);
    await expect(restore(await disk(), state)).rejects.toThrow(CHANGED);
    await expect(restore(await disk(), state)).rejects.toThrow(`at 0x${((offset >> 20) << 20).toString(16)}`);
    await restore(await disk({ forceChanged: true }), state);
  });

  it("is refused if the machine itself went on after the save, within a tick of the file system's clock", async () => {
    const block = await disk();
    await block.activate();
    await block.write(0, ones(512));
    const state = await saved(block);
    await block.write(0, ones(512).fill(2));
    await close();
    await expect(restore(await disk(), state)).rejects.toThrow(CHANGED);
  });

  it("of another size is refused, with both sizes", async () => {
    const state = await runAndSave();
    await truncate(path, SIZE / 2);
    const message = /disk.img: expected the saved machine's disk of 8388608 bytes, found 4194304 bytes/;
    await expect(restore(await disk(), state)).rejects.toThrow(message);
    await restore(await disk({ forceChanged: true }), state);
  });

  it("that the machine writes is refused with readonly=on; a readonly one is shared by clones", async () => {
    const state = await runAndSave();
    await expect(restore(await disk({ readonly: true }), state)).rejects.toThrow(/leave readonly=on out/);
    const base = await disk({ readonly: true });
    await base.activate();
    const shared = await saved(base);
    await restore(await disk({ readonly: true }), shared);
    await restore(await disk({ readonly: true }), shared);
  });

  it("is not read again if its file has not been touched since", async () => {
    const soon = Date.now();
    vi.spyOn(Date, "now").mockReturnValue(soon + 5000);
    const state = await runAndSave();
    const block = await disk({ format: "raw" });
    const read = vi.spyOn(NodeFile.prototype, "read");
    await restore(block, state);
    // Nor to save it again, but for what was written.
    await saved(block);
    expect(read).toHaveBeenCalledTimes(0);
    await block.write(0, ones(512));
    await saved(block);
    expect(read).toHaveBeenCalledTimes(1);
  });

  it("has the same hashes after random writes as if all were read", async () => {
    const block = await disk();
    await block.activate();
    for (let i = 0; i < 20; i++) {
      const hashing = saved(block);
      await Promise.all([3, 5, 7].map((n) => block.write((i * n * 500_224) % SIZE, ones(1024).fill(i))));
      await hashing;
    }
    await saved(block);
    const { hashes } = block.record.state;
    const fresh = await disk({ locking: false });
    await fresh.activate();
    await saved(fresh);
    expect(fresh.record.state.hashes).toEqual(hashes);
  });

  it("of which the saving side kept no record may be any; a side that keeps none takes any", async () => {
    const writer = new ByteWriter();
    diskSection(0).encode(writer);
    await restore(await disk(), writer.finish());
    await close();
    diskSection(0).decode(new ByteReader(await runAndSave()), 1)();
  });

  it("that cannot be read is named, and read again by the next save", async () => {
    const block = await disk();
    vi.spyOn(NodeFile.prototype, "read").mockRejectedValueOnce(new Error("EIO: i/o error"));
    await expect(saved(block)).rejects.toThrow(/disk.img: cannot be read for its fingerprint: .*EIO/);
    const state = await saved(block);
    await restore(await disk(), state);
  });

  it("of many GiB with few data is read where its data are", async () => {
    await truncate(path, 64 * 2 ** 30);
    const block = await disk();
    const read = vi.spyOn(NodeFile.prototype, "read");
    await saved(block);
    expect(block.record.state.hashBytes).toBe(65536 * 16);
    expect(read.mock.calls.length).toBeGreaterThan(0);
    expect(read.mock.calls.length).toBeLessThan(10);
  });
});

describe("a live move", () => {
  it("needs the file that the source has; no hashes", async () => {
    const block = await disk();
    await block.activate();
    const state = await saved(block, true);
    expect(state.length).toBeLessThan(100);
    await block.inactivate();
    const there = await disk();
    await restore(there, state);
    await there.write(0, ones(512));
    await there.inactivate();
    await copyFile(path, `${path}.copy`);
    const message = /is not the file that the machine has at its source.*shared?/;
    await expect(restore(await disk({ path: `${path}.copy` }), state)).rejects.toThrow(message);
    // The machine went on elsewhere: it must not run here any more.
    await expect(block.activate()).rejects.toThrow(/has changed since this machine gave it up/);
  });

  it("that comes to nothing gives the disk back", async () => {
    const block = await disk();
    await block.activate();
    await block.write(0, ones(512));
    await block.inactivate();
    const there = await disk();
    await there.activate();
    await there.inactivate();
    await block.activate();
  });
});

it("hashing ends when its caller says so, and goes on from there the next time", async () => {
  const block = await disk();
  await block.activate();
  let asked = 0;
  const stopped = new Error("stopped");
  const stop = (): void => {
    if (++asked >= 3) throw stopped;
  };
  await expect(block.fingerprint(false, stop)).rejects.toBe(stopped);
  let left = 0;
  await block.fingerprint(false, () => void left++);
  expect([asked > 3, left]).toEqual([true, (SIZE >> 20) - 2]);
  expect(await saved(block)).toEqual(await saved(await disk()));
});
