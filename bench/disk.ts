// Reads and writes of disk images without a guest: raw and qcow2 here and by QEMU's `qemu-img bench`. For
// each, throughput and, less dependent on what else the host does, processor time (user and system) of a
// request.
//   npx node bench/disk.ts [MIB]      default: 128
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { argv } from "node:process";
import { newQcow2 } from "../src/block/qcow2/qcow2-create.ts";
import { openFileBlock } from "../src/node/file-block.ts";

const MIB = 1 << 20;
const SIZE = Number(argv[2] ?? 128) * MIB;
const IN_FLIGHT = 16;

interface Cost {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** For requests of `bytes` bytes at each offset, some at the same time, and a flush. */
async function timed(
  offsets: readonly number[],
  work: (offset: number) => Promise<void>,
  flush: () => Promise<void>,
): Promise<Cost> {
  const began = performance.now();
  const cpuBegan = process.cpuUsage();
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = offsets[next++]; at !== undefined; at = offsets[next++]) await work(at);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  await flush();
  const { user, system } = process.cpuUsage(cpuBegan);
  return { seconds: (performance.now() - began) / 1000, cpuSeconds: (user + system) / 1e6 };
}

const offsetsOf = (bytes: number, count: number, isRandom: boolean): number[] =>
  Array.from({ length: count }, (_, i) => ((isRandom ? Math.imul(i, 0x9e3779b1) >>> 0 : i) * bytes) % SIZE);

/** What `qemu-img bench` says, and the shell of its processor time; undefined without it. */
function qemu(path: string, format: string, write: boolean, bytes: number, count: number): Cost | undefined {
  try {
    const args = ["bench", "-f", format, "-c", String(count), "-d", String(IN_FLIGHT), "-s", String(bytes)];
    const command = ["-c", '"$@" && times', "sh", "qemu-img", ...args, ...(write ? ["-w"] : []), path];
    const text = execFileSync("sh", command, { encoding: "utf8" });
    const times = [...(text.trim().split("\n").at(-1) ?? "").matchAll(/(\d+)m([\d.]+)s/g)];
    return {
      seconds: Number(/in ([\d.]+) seconds/.exec(text)?.[1]),
      cpuSeconds: times.reduce(
        (sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds),
        0,
      ),
    };
  } catch {
    return undefined;
  }
}

// Not in /tmp, which may be memory.
const directory = await mkdtemp(join(import.meta.dirname, "../tmp/disk-"));
const COLUMNS = ["raw", "qcow2", "QEMU raw", "QEMU qcow2"];
console.log(
  "MiB/s (µs of processor time for a request)".padEnd(44) + COLUMNS.map((c) => c.padStart(15)).join(""),
);
try {
  const paths = { raw: join(directory, "raw"), qcow2: join(directory, "qcow2") };
  const theirs = { raw: join(directory, "raw-q"), qcow2: join(directory, "qcow2-q") };
  for (const { raw, qcow2 } of [paths, theirs]) {
    await writeFile(raw, "");
    await truncate(raw, SIZE);
    await writeFile(qcow2, newQcow2(qcow2, SIZE));
  }
  const whole = SIZE / (256 << 10);
  for (const [name, write, bytes, count, isRandom] of [
    ["sequential writes, new, 256 KiB", true, 256 << 10, whole, false],
    ["sequential writes again, 256 KiB", true, 256 << 10, whole, false],
    ["sequential reads, 256 KiB", false, 256 << 10, whole, false],
    ["random writes, 4 KiB", true, 4096, 8192, true],
    ["random reads, 4 KiB", false, 4096, 8192, true],
    ["sequential reads, 4 KiB", false, 4096, 8192, false],
  ] as const) {
    const costs: (Cost | undefined)[] = [];
    for (const format of ["raw", "qcow2"] as const) {
      const disk = await openFileBlock({ path: paths[format], format, locking: false });
      await disk.activate();
      const data = new Uint8Array(bytes).fill(1);
      const buffers = Array.from({ length: IN_FLIGHT }, () => new Uint8Array(bytes));
      const work = write
        ? (at: number) => disk.write(at, data)
        : (at: number) => disk.read(at, buffers[(at / bytes) % IN_FLIGHT]!);
      costs.push(await timed(offsetsOf(bytes, count, isRandom), work, () => disk.flush()));
      await disk.close();
    }
    // It has no random order.
    for (const format of ["raw", "qcow2"] as const)
      costs.push(isRandom ? undefined : qemu(theirs[format], format, write, bytes, count));
    const cells = costs.map((cost) => {
      if (cost === undefined) return "-";
      const rate = ((bytes * count) / MIB / cost.seconds).toFixed(0);
      return `${rate} (${((cost.cpuSeconds / count) * 1e6).toFixed(0)})`;
    });
    console.log(name.padEnd(44) + cells.map((cell) => cell.padStart(15)).join(""));
  }
} finally {
  await rm(directory, { recursive: true });
}
