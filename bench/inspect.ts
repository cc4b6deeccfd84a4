// The speed at which `wherry inspect` reads RAM pages, compared with plain reads of the same file in the same
// size, and its memory use. The file is made in the temporary directory and removed afterwards; it is read
// once first, so that it is in the page cache. Every figure is the best of three runs, each in its own
// process. With --check it fails if reading streams is much slower than plain reads, or if memory grows with
// the stream.
//   npm run bench:inspect [-- --gib 4] [--dir DIRECTORY]; npm run check:inspect
import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ByteWriter } from "../src/base/bytes.ts";
import { readStream } from "../src/inspect/read/read-stream.ts";

const PAGE = 4096;
const GIB = 2 ** 30;
const READ_BYTES = 4 * 1024 * 1024;
const RUNS = 3;
/** Limits of --check: the ratio to the speed of plain reads, and peak memory. */
const LEAST_SHARE = 0.25;
const MOST_MIB = 200;
/** The ways of reading a file. */
const MODES = ["plain", "inspect", "visit", "zeros"] as const;
type Mode = (typeof MODES)[number];

const NAMES: Record<Mode, string> = {
  plain: "plain reading, 4 MiB at a time",
  inspect: "readStream",
  visit: "readStream, each page handed to a visitor",
  zeros: "readStream, pages of zeros looked for",
};

const { values } = parseArgs({
  options: {
    gib: { type: "string", default: "4" },
    dir: { type: "string", default: tmpdir() },
    check: { type: "boolean", default: false },
    child: { type: "string" },
    file: { type: "string" },
  },
});

if (values.child !== undefined && values.file !== undefined) await child(values.child as Mode, values.file);
else parent(Number(values.gib), values.dir);

function parent(gib: number, directory: string): void {
  const bytes = gib * GIB;
  const { bavail, bsize } = statfsSync(directory);
  if (bavail * bsize < bytes * 1.5 + GIB) throw new Error(`${directory} has no room for ${gib} GiB`);
  if (freemem() < bytes * 1.2)
    console.log(`note: ${gib} GiB do not fit into the page cache; the figures are the disk's`);
  const place = mkdtempSync(join(directory, "wherry-inspect-"));
  try {
    const file = join(place, "stream");
    const size = makeStream(file, bytes);
    run("plain", file);
    console.log(`${(size / GIB).toFixed(2)} GiB of stream, ${bytes / PAGE} pages of 4 KiB`);
    let plain = 0;
    for (const mode of MODES) {
      const runs = Array.from({ length: RUNS }, () => run(mode, file));
      const rate = size / Math.min(...runs.map(({ seconds }) => seconds)) / 1e9;
      const memory = Math.max(...runs.map(({ peakBytes }) => peakBytes)) / 2 ** 20;
      if (mode === "plain") plain = rate;
      if (values.check && (rate < LEAST_SHARE * plain || memory > MOST_MIB)) process.exitCode = 1;
      const ratio = `${((100 * rate) / plain).toFixed(0)}%`.padStart(5);
      console.log(
        `${NAMES[mode].padEnd(42)} ${rate.toFixed(2)} GB/s ${ratio} of reading   peak ${memory.toFixed(0)} MiB`,
      );
    }
  } finally {
    rmSync(place, { recursive: true });
  }
}

function run(mode: Mode, file: string): { seconds: number; peakBytes: number } {
  const args = [import.meta.filename, "--child", mode, "--file", file];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8" })) as {
    seconds: number;
    peakBytes: number;
  };
}

async function child(mode: Mode, path: string): Promise<void> {
  const file = await open(path);
  const { size } = await file.stat();
  const read = async (offset: number, into: Uint8Array) =>
    (await file.read(into, 0, into.length, offset)).bytesRead;
  let pages = 0;
  const start = performance.now();
  if (mode === "plain") {
    const buffer = new Uint8Array(READ_BYTES);
    for (let at = 0; at < size; ) at += await read(at, buffer);
  } else {
    const report = await readStream(
      { size, read },
      {
        lookForZeros: mode === "zeros",
        ...(mode === "visit"
          ? { onPage: (_block, _offset, _kind, bytes) => (pages += bytes === undefined ? 0 : 1) }
          : {}),
      },
    );
    const ram = report.ram[0];
    if (report.problem !== undefined || ram?.pages !== ram?.heat.length)
      throw new Error("the stream was not read whole");
    if (mode === "visit" && pages !== ram?.records.page) throw new Error("not every page was visited");
  }
  const seconds = (performance.now() - start) / 1000;
  await file.close();
  console.log(JSON.stringify({ seconds, peakBytes: process.resourceUsage().maxRSS * 1024 }));
}

/**
 * One block of `bytes` without zero pages, in parts of 50 MiB, and a small device. Returns the stream's size.
 */
function makeStream(path: string, bytes: number): number {
  const file = openSync(path, "w");
  const out = new ByteWriter(READ_BYTES);
  let size = 0;
  const flush = () => {
    size += writeSync(file, out.view());
    out.reset();
  };
  out.u32(0x5145564d).u32(3).u8(7).u32(4).bytes(Buffer.from("virt"));
  out
    .u8(1)
    .u32(1)
    .countedString("ram")
    .u32(0)
    .u32(4)
    .u64(BigInt(bytes) | 4n);
  out.countedString("ram").u64(BigInt(bytes)).u64(0x10n).u8(0x7e).u32(1);
  const page = Uint8Array.from({ length: PAGE }, (_, i) => i * 7 + (i >> 8));
  const pagesInPart = 12_800;
  for (let i = 0; i < bytes / PAGE; i++) {
    const first = i % pagesInPart === 0;
    if (first && i > 0) out.u64(0x10n).u8(0x7e).u32(1);
    if (first) out.u8(2).u32(1);
    page[0] = i;
    out.u64(BigInt(i * PAGE) | (first ? 0x08n : 0x28n));
    if (first) out.countedString("ram");
    out.bytes(page);
    if (out.length > READ_BYTES - 2 * PAGE) flush();
  }
  const json = Buffer.from(
    '{"page_size":4096,"devices":[{"name":"x","instance_id":0,"fields":[{"name":"a","type":"uint8","size":1}]}]}',
  );
  out.u64(0x10n).u8(0x7e).u32(1).u8(3).u32(1).u64(0x10n).u8(0x7e).u32(1);
  out.u8(4).u32(2).countedString("x").u32(0).u32(1).u8(1).u8(0x7e).u32(2);
  out.u8(0).u8(6).u32(json.length).bytes(json);
  flush();
  closeSync(file);
  return size;
}
