// Disks of more than one file: backing images, overlays that are forgotten, images behind HTTP.
import { mkdtemp, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { newQcow2 } from "../../src/block/qcow2/qcow2-create.ts";
import { diskState } from "../../src/devices/virtio/disk-section.ts";
import { type FileBlock, type FileBlockOptions, openFileBlock } from "../../src/node/file-block.ts";

const SIZE = 2 << 20;
let directory: string;
const opened: FileBlock[] = [];
let server: Server | undefined;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-chain-"));
  await writeFile(at("base"), new Uint8Array(SIZE).fill(1));
  await overlay("top", "base", "raw");
});
afterEach(async () => {
  for (const block of opened.splice(0)) await block.close().catch(() => {});
  server?.close();
  await rm(directory, { recursive: true });
});
const at = (name: string): string => join(directory, name);
const overlay = (name: string, backingFile: string, backingFormat: string): Promise<void> =>
  writeFile(at(name), newQcow2(name, SIZE, { backingFile, backingFormat }));

async function disk(path: string, options: Partial<FileBlockOptions> = {}): Promise<FileBlock> {
  const block = await openFileBlock({ path, ...options });
  opened.push(block);
  return block;
}
async function sector(block: FileBlock, offset: number): Promise<number | undefined> {
  const bytes = new Uint8Array(512);
  await block.read(offset, bytes);
  return bytes.every((byte) => byte === bytes[0]) ? bytes[0] : undefined;
}
const filled = (value: number): Uint8Array => new Uint8Array(4096).fill(value);

test("a backing image is read, locked against writers, and never written", async () => {
  const top = await disk(at("top"));
  await top.activate();
  await top.write(8192, filled(2));
  await top.discard(65536, 65536);
  await top.flush();
  expect([await sector(top, 0), await sector(top, 8192), await sector(top, 12288)]).toEqual([1, 2, 1]);
  await expect((await disk(at("base"))).activate()).rejects.toThrow(/locked for writing/);
  await top.inactivate();
  expect((await readFile(at("base"))).every((byte) => byte === 1)).toBe(true);
  await top.activate();
  expect(await sector(top, 8192)).toBe(2);
});

test("a saved disk is known by its contents, in whatever chain; a backing image that changed is refused", async () => {
  const top = await disk(at("top"));
  await top.activate();
  await top.write(0, filled(7));
  await top.fingerprint(false);
  const saved = diskState.create();
  diskState.assign(saved, top.record.state);
  await top.close();
  // The same contents in one raw file.
  const flat = new Uint8Array(SIZE).fill(1);
  flat.fill(7, 0, 4096);
  await writeFile(at("flat"), flat);
  for (const name of ["top", "flat"]) {
    const block = await disk(at(name));
    block.record.expect(saved);
    await block.activate();
    await block.close();
  }
  const base = await open(at("base"), "r+");
  await base.write(filled(9), 0, 512, SIZE - 512);
  await base.close();
  const block = await disk(at("top"));
  block.record.expect(saved);
  await expect(block.activate()).rejects.toThrow(/is not the disk as it was when the machine was saved/);
});

test("snapshot=on forgets what was written, and such a machine is not saved", async () => {
  const block = await disk(at("top"), { snapshot: true });
  await block.activate();
  await block.fingerprint(false);
  await block.write(0, filled(3));
  expect([await sector(block, 0), await sector(block, 4096)]).toEqual([3, 1]);
  await expect(block.fingerprint(false)).rejects.toMatchObject({ code: "file-block.snapshot" });
  await block.close();
  expect(await sector(await disk(at("top")), 0)).toBe(1);
});

test("chains without an end, and backing images that are not there, are refused by name", async () => {
  await overlay("a", "b", "qcow2");
  await overlay("b", "a", "qcow2");
  await expect(disk(at("a"))).rejects.toMatchObject({ code: "block.chain" });
  await overlay("c", "nowhere", "raw");
  await expect(disk(at("c"))).rejects.toThrow(/nowhere: no such file/);
  await overlay("d", "nbd://host/x", "raw");
  await expect(disk(at("d"))).rejects.toMatchObject({ code: "block.backing" });
});

test("a raw disk whose format was guessed cannot become a qcow2 image", async () => {
  await truncate(at("base"), 1 << 20);
  const header = newQcow2("x", SIZE, { backingFile: "/etc/passwd", backingFormat: "raw" }).subarray(0, 512);
  const guessed = await disk(at("base"));
  await guessed.activate();
  await expect(guessed.write(0, header)).rejects.toMatchObject({ code: "block.probed" });
  await guessed.close();
  const named = await disk(at("base"), { format: "raw" });
  await named.activate();
  await named.write(0, header);
});

test("an image behind HTTP is read by ranges, and pinned", async () => {
  let version = '"1"';
  let ranges = true;
  server = createServer((request, response) => {
    void readFile(join(directory, request.url ?? "")).then((bytes) => {
      const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
      if (!ranges) return response.writeHead(200).end(bytes);
      const end = Math.min(Number(last), bytes.length - 1);
      const headers = { etag: version, "content-range": `bytes ${first}-${end}/${bytes.length}` };
      return response.writeHead(206, headers).end(bytes.subarray(Number(first), end + 1));
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/top`;
  await expect(disk(url)).rejects.toMatchObject({ code: "file-block.options" });
  const block = await disk(url, { snapshot: true });
  await block.activate();
  await block.write(4096, filled(5));
  expect([await sector(block, 0), await sector(block, 4096), await sector(block, SIZE - 512)]).toEqual([
    1, 5, 1,
  ]);
  version = '"2"';
  await expect(sector(block, SIZE / 2)).rejects.toThrow(
    /has changed on the server: it was "1", now it is "2"/,
  );
  ranges = false;
  await expect(disk(url, { readonly: true })).rejects.toThrow(/does not give parts of files/);
});
