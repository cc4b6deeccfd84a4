import { expect, test } from "vitest";
import { MemoryFile } from "../block-file.ts";
import { createQcow2, type Qcow2Options } from "../qcow2/qcow2-create.ts";
import { readHeader } from "../qcow2/qcow2-header.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { BlockImage } from "../block-image.ts";
import { commitImage } from "./image-jobs.ts";
import { RawImage } from "./raw-image.ts";

const CLUSTER = 65_536;
const SIZE = 8 * CLUSTER;
const codec = { unpack: () => Promise.reject(new Error("nothing is compressed here")) };

async function qcow2(options: Qcow2Options, backing: BlockImage | undefined): Promise<Qcow2Image> {
  const file = new MemoryFile();
  await createQcow2(file, SIZE, options);
  return Qcow2Image.open({ file, header: await readHeader(file), backing, codec });
}

async function raw(): Promise<RawImage> {
  const file = new MemoryFile();
  await file.truncate(SIZE);
  return new RawImage(file, false);
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));

async function contents(image: BlockImage): Promise<Uint8Array> {
  const bytes = new Uint8Array(SIZE);
  await image.read(0, bytes);
  return bytes;
}

const overlay: Qcow2Options = { backingFile: "base", backingFormat: "raw" };

test.each([
  ["raw", raw],
  ["qcow2", () => qcow2({}, undefined)],
])("a commit to a %s base without a backing image carries zeros and discards", async (_, make) => {
  const base = await make();
  await base.write(0, new Uint8Array(SIZE).fill(1));
  const top = await qcow2(overlay, base);
  await top.writeZeroes(CLUSTER, CLUSTER, true);
  await top.discard(3 * CLUSTER, 2 * CLUSTER);
  await top.write(6 * CLUSTER + 512, new Uint8Array(512).fill(2));
  const seen = await contents(top);
  expect(seen[CLUSTER]).toBe(0);
  await commitImage(top, base);
  expect(Buffer.compare(await contents(base), seen)).toBe(0);
});

test("a write that waits for its backing image is not cut off with the clusters freed before it", async () => {
  const base = await raw();
  const top = await qcow2(overlay, base);
  await top.write(0, new Uint8Array(4 * CLUSTER).fill(3));
  await top.flush();
  await top.discard(2 * CLUSTER, 2 * CLUSTER);
  // The first part of the cluster comes from below, and takes its time.
  let go = (): void => {};
  const gate = new Promise<void>((resolve) => (go = resolve));
  const read = base.read.bind(base);
  base.read = async (...args) => {
    await gate;
    await read(...args);
  };
  const write = top.write(5 * CLUSTER + 4096, new Uint8Array(4096).fill(9));
  await pause();
  const { file } = top;
  const truncate = file.truncate.bind(file);
  file.truncate = async (size) => {
    go();
    await pause();
    await truncate(size);
  };
  const flush = top.flush();
  await pause();
  go();
  await Promise.all([write, flush]);
  const seen = await contents(top);
  expect([seen[5 * CLUSTER + 4096], seen[5 * CLUSTER + 8191]]).toEqual([9, 9]);
});
