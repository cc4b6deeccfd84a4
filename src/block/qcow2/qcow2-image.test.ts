// A qcow2 image in memory, cut off at any moment: the file then has what was written before its last flush,
// and any sectors of what came after. Nothing that the guest had flushed may be lost, and the image must be
// consistent but for clusters that nothing uses.
import { describe, expect, it } from "vitest";
import { programSeed, Random } from "../../../test/support/random.ts";
import { seed } from "../../../test/support/seed.ts";
import { type BlockFile, MemoryFile } from "../block-file.ts";
import { checkQcow2 } from "./qcow2-check.ts";
import { createQcow2, type Qcow2Options } from "./qcow2-create.ts";
import { INCOMPATIBLE, readHeader } from "./qcow2-header.ts";
import type { ClusterCodec } from "./cluster-codec.ts";
import { Qcow2Image } from "./qcow2-image.ts";

const SECTOR = 512;
const ANY = -1;
const runs = Number(process.env["WHERRY_RUNS"] ?? 30);

const codec: ClusterCodec = { unpack: () => Promise.reject(new Error("nothing is compressed here")) };

type Entry = { readonly offset: number; readonly data: Uint8Array } | { readonly size: number } | "flush";

/** Remembers all that is done to a file; `log` can be played up to any moment. */
class RecordedFile extends MemoryFile implements BlockFile {
  readonly log: Entry[] = [];
  /** Leaves out flushes: the judge must notice. */
  readonly forgetsFlushes: boolean;
  constructor(forgetsFlushes: boolean) {
    super();
    this.forgetsFlushes = forgetsFlushes;
  }
  override async write(offset: number, data: Uint8Array): Promise<void> {
    this.log.push({ offset, data: data.slice() });
    await super.write(offset, data);
    await new Promise((resolve) => setImmediate(resolve));
  }
  override async punch(offset: number, length: number): Promise<boolean> {
    this.log.push({ offset, data: new Uint8Array(length) });
    return await super.punch(offset, length);
  }
  override async truncate(size: number): Promise<void> {
    this.log.push({ size });
    await super.truncate(size);
  }
  override async flush(): Promise<void> {
    if (!this.forgetsFlushes) this.log.push("flush");
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The file as a crash leaves it after `end` entries. */
async function crashed(log: readonly Entry[], end: number, random: Random): Promise<MemoryFile> {
  const file = new MemoryFile();
  const durable = log.lastIndexOf("flush", end - 1);
  // The operating system writes in an order of its own.
  const share = random.pick([0, 1, 2, 4]);
  for (const [i, entry] of log.slice(0, end).entries()) {
    if (entry === "flush") continue;
    if ("size" in entry) {
      await file.truncate(entry.size);
      continue;
    }
    const { offset, data } = entry;
    if (i < durable) await file.write(offset, data);
    else
      for (let at = 0; at < data.length; at += SECTOR) {
        if (share === 0 || random.int(4) < share)
          await file.write(offset + at, data.subarray(at, at + SECTOR));
      }
  }
  return file;
}

interface Run {
  readonly file: RecordedFile;
  /** Of each guest's write: the length of the log when it began. 0 is zeros, ANY a discard. */
  readonly writes: {
    readonly began: number;
    readonly first: number;
    readonly last: number;
    readonly value: number;
  }[];
  /** Lengths of the log when a flush of the guest had ended, and the number of writes before it. */
  readonly flushes: { readonly ended: number; readonly writes: number }[];
  readonly sectors: number;
}

const filled = (sectors: number, value: number): Uint8Array =>
  new Uint8Array(new Uint32Array((sectors * SECTOR) / 4).fill(value).buffer);

async function random(random: Random, options: Qcow2Options, forgetsFlushes = false): Promise<Run> {
  const clusterSectors = (options.clusterBytes ?? 0) / SECTOR;
  let sectors = (8 + random.int(200)) * clusterSectors + random.int(3);
  const file = new RecordedFile(forgetsFlushes);
  await createQcow2(file, sectors * SECTOR, options);
  file.log.push("flush");
  const header = await readHeader(file);
  const image = await Qcow2Image.open({ file, header, backing: undefined, codec });
  const writes: Run["writes"] = [];
  const flushes: Run["flushes"] = [{ ended: file.log.length, writes: 0 }];
  for (let step = 1; step <= 40; step++) {
    const began = file.log.length;
    const kind = random.int(10);
    if (kind === 0) {
      await image.flush();
      flushes.push({ ended: file.log.length, writes: writes.length });
    } else if (kind === 1 && random.oneIn(3)) {
      const next = Math.max(1, sectors + random.int(40 * clusterSectors) - 10 * clusterSectors);
      if (next < sectors) writes.push({ began, first: next, last: sectors - 1, value: ANY });
      await image.resize(next * SECTOR);
      sectors = next;
    } else {
      // Several at the same time, next to each other.
      const many = 1 + random.int(3);
      const start = random.int(sectors);
      const jobs: Promise<void>[] = [];
      for (let i = 0, first = start; i < many && first < sectors; i++) {
        const length = Math.min(sectors - first, 1 + random.int(4 * clusterSectors));
        const value = kind === 8 ? 0 : kind === 9 ? ANY : step * 4 + i;
        writes.push({ began, first, last: first + length - 1, value });
        const [offset, bytes] = [first * SECTOR, length * SECTOR];
        if (kind === 8) jobs.push(image.writeZeroes(offset, bytes, random.oneIn(2)));
        else if (kind === 9) jobs.push(image.discard(offset, bytes));
        else jobs.push(image.write(offset, filled(length, value)));
        first += length;
      }
      await Promise.all(jobs);
    }
  }
  await image.close();
  return { file, writes, flushes, sectors };
}

/** What is wrong after a crash at that moment; undefined if nothing is. */
async function judge(run: Run, end: number, chance: Random): Promise<string | undefined> {
  const file = await crashed(run.file.log, end, chance);
  const header = await readHeader(file);
  const isDirty = (header.incompatible & INCOMPATIBLE.DIRTY) !== 0n;
  if (isDirty) await checkQcow2(file, header, "all");
  const { corruptions, messages } = await checkQcow2(file, header, "none");
  if (corruptions > 0) return messages.join("\n");
  header.incompatible &= ~INCOMPATIBLE.DIRTY;
  const image = await Qcow2Image.open({ file, header, backing: undefined, codec });
  const flushed = run.flushes.findLast(({ ended }) => ended <= end)?.writes ?? 0;
  const bytes = new Uint8Array(image.sizeBytes);
  await image.read(0, bytes);
  const words = new Uint32Array(bytes.buffer);
  for (let sector = 0; sector < image.sizeBytes / SECTOR; sector++) {
    const found = words.subarray((sector * SECTOR) / 4, ((sector + 1) * SECTOR) / 4);
    const allowed = new Set([0]);
    for (const [i, { began, first, last, value }] of run.writes.entries()) {
      if (began >= end || sector < first || sector > last) continue;
      if (i < flushed) allowed.clear();
      allowed.add(value);
    }
    if (allowed.has(ANY)) continue;
    if (!allowed.has(found[0] ?? 0) || found.some((word) => word !== found[0]))
      return `sector ${sector} has ${found[0]}, expected ${[...allowed].join(" or ")}`;
  }
  return undefined;
}

const optionsOf = (random: Random): Qcow2Options => ({
  clusterBytes: random.pick([512, 1024, 4096]),
  lazyRefcounts: random.oneIn(3),
  refcountBits: random.pick([1, 2, 8, 16, 32, 64]),
});

describe("a qcow2 image after a crash", () => {
  it("is consistent and has all that was flushed", { timeout: 60_000 }, async () => {
    for (let i = 0; i < runs; i++) {
      const chance = new Random(programSeed(seed, i));
      const run = await random(chance, optionsOf(chance));
      for (let cut = 0; cut < 8; cut++) {
        const end = cut === 0 ? run.file.log.length : 1 + chance.int(run.file.log.length);
        // The image itself is made before anything can be lost.
        if (end <= (run.flushes[0]?.ended ?? 0)) continue;
        const what = `WHERRY_SEED=${seed}, run ${i}, cut after ${end} of ${run.file.log.length}`;
        expect(await judge(run, end, chance), what).toBeUndefined();
      }
    }
  });

  it("would not be, without the flushes between its tables: the judge notices", async () => {
    let found = 0;
    for (let i = 0; i < 10; i++) {
      const chance = new Random(programSeed(1, i));
      const run = await random(chance, { clusterBytes: 512 }, true);
      for (let cut = 0; cut < 10; cut++) {
        const end = 2 + chance.int(run.file.log.length - 2);
        if (end <= (run.flushes[0]?.ended ?? 0)) continue;
        const fault = await judge(run, end, chance).catch(String);
        if (fault !== undefined) found++;
      }
    }
    expect(found).toBeGreaterThan(10);
  });
});

it("refuses a cluster far beyond any file", async () => {
  const file = new MemoryFile();
  await createQcow2(file, 1 << 20, { clusterBytes: 4096 });
  const open = async (): Promise<Qcow2Image> =>
    Qcow2Image.open({ file, header: await readHeader(file), backing: undefined, codec });
  const image = await open();
  await image.write(0, filled(8, 7));
  await image.close();
  const bytes = new Uint8Array(file.size);
  await file.read(0, bytes);
  const view = new DataView(bytes.buffer);
  const table = Number(view.getBigUint64(Number(view.getBigUint64(40))) & 0x00ff_ffff_ffff_fe00n);
  const entry = new Uint8Array(8);
  new DataView(entry.buffer).setBigUint64(0, (1n << 63n) | (1n << 55n));
  await file.write(table, entry);
  const corrupt = await open();
  const refusal = expect.objectContaining({ code: "qcow2.corrupt" });
  await expect(corrupt.write(0, filled(8, 8))).rejects.toEqual(refusal);
  await expect(corrupt.read(0, new Uint8Array(512))).rejects.toEqual(refusal);
});
