// Time for a disk's fingerprint: saves and loads of a large sparse image with some data.
//   npx node bench/disk-fingerprint.ts [MIB OF DATA]      default: 1024
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, open, rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { argv } from "node:process";
import { diskState } from "../src/devices/virtio/disk-section.ts";
import { openFileBlock } from "../src/node/file-block.ts";

const MIB = 1 << 20;
const SIZE = 64 * 1024 * MIB;
const data = Number(argv[2] ?? 1024);

async function timed(what: string, work: () => Promise<void>): Promise<void> {
  const began = performance.now();
  await work();
  console.log(`${what.padEnd(40)} ${(performance.now() - began).toFixed(0).padStart(6)} ms`);
}

// Not in /tmp, which may be memory.
const directory = await mkdtemp(join(import.meta.dirname, "../tmp/disk-"));
try {
  const path = join(directory, "image");
  const file = await open(path, "w");
  for (let i = 0; i < data; i++) await file.write(randomBytes(MIB), 0, MIB, i * 32 * MIB);
  await file.close();
  await truncate(path, SIZE);

  const running = await openFileBlock({ path });
  await running.activate();
  await timed("the first save", () => running.fingerprint(false));
  await timed("another save", () => running.fingerprint(false));
  await running.write(0, new Uint8Array(4096).fill(1));
  await timed("a save after a write of 4 KiB", () => running.fingerprint(false));
  // Long enough ago to be told from a later change.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  await running.fingerprint(false);
  const saved = diskState.create();
  diskState.assign(saved, running.record.state);
  await running.close();

  const copy = join(directory, "copy");
  // It keeps holes; copyFile does not.
  execFileSync("cp", [path, copy]);
  for (const [what, where] of [
    ["a load with the untouched file", path],
    ["a load with a copy", copy],
  ] as const) {
    const block = await openFileBlock({ path: where });
    block.record.expect(saved);
    await timed(what, () => block.activate());
    await block.close();
  }
} finally {
  await rm(directory, { recursive: true });
}
