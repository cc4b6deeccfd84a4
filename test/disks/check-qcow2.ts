// `npm run check:qcow2`: random requests to qcow2 images that Wherry or qemu-img made, with backing images,
// compressed clusters and internal snapshots, in turns with QEMU's own writes; some by a process that is
// killed at a random moment. `qemu-img check` and `compare` judge.
//   --count N cases (0: as many as fit into --seconds), --seconds S, --seed S, --case N: only this one
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copyImage } from "../../src/block/images/image-jobs.ts";
import { openImage } from "../../src/block/images/open-image.ts";
import { createQcow2, type Qcow2Options } from "../../src/block/qcow2/qcow2-create.ts";
import { NodeFile, nodeStore } from "../../src/node/node-images.ts";
import { directory, options } from "../support/cases.ts";
import { programSeed, Random } from "../support/random.ts";
import { play, SECTOR, sequence, type Step, wrongSector } from "./sequence.ts";

const given = options({ count: 0, seconds: 45, case: -1 });
const unlocked = { image: undefined, backing: undefined };
const CHILD = join(import.meta.dirname, "disk-child.ts");

function qemuImg(...args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync("qemu-img", args, { encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`qemu-img ${args.join(" ")}: exit code ${status}\n${stdout}${stderr}`);
  return stdout;
}

try {
  execFileSync("qemu-img", ["--version"], { stdio: "ignore" });
} catch {
  console.log("qemu-img is missing: apt-get install qemu-utils");
  process.exit(process.env["CI"] === "true" ? 1 : 0);
}

const open = (path: string, readonly = false) =>
  openImage(nodeStore(unlocked), path, { format: "qcow2", readonly });

async function contents(path: string): Promise<Uint8Array> {
  const image = await open(path, true);
  const bytes = new Uint8Array(image.sizeBytes);
  await image.read(0, bytes);
  await image.close();
  return bytes;
}

/** Throws unless qemu-img finds the image right, and both read the same. `mayLeak`: after a crash. */
async function judge(path: string, mayLeak: boolean): Promise<Uint8Array> {
  const { status, stdout, stderr } = spawnSync("qemu-img", ["check", "-f", "qcow2", path], {
    encoding: "utf8",
  });
  if (status !== 0 && !(mayLeak && status === 3))
    throw new Error(`qemu-img check: ${status}\n${stdout}${stderr}`);
  const bytes = await contents(path);
  const raw = `${path}.raw`;
  writeFileSync(raw, bytes);
  qemuImg("compare", "-f", "qcow2", "-F", "raw", path, raw);
  rmSync(raw);
  return bytes;
}

interface Made {
  readonly path: string;
  readonly sectors: number;
  readonly clusterSectors: number;
  readonly isLazy: boolean;
  /** Not version 2 with snapshots, as in QEMU. */
  readonly resizes: boolean;
}

/** An image, by itself or over another, by Wherry or QEMU. */
async function make(random: Random, name: string): Promise<Made> {
  const clusterBytes = random.pick([512, 2048, 4096, 65536, 65536, 1 << 19]);
  const clusterSectors = clusterBytes / SECTOR;
  const sectors = Math.min(1 << 14, (4 + random.int(120)) * clusterSectors) + random.int(3);
  const path = join(directory, `${name}.qcow2`);
  const isLazy = random.oneIn(4);
  const isQemus = random.oneIn(3);
  const version = !isLazy && random.oneIn(6) ? 2 : 3;
  let backing: { backingFile: string; backingFormat: string } | undefined;
  if (random.oneIn(2)) {
    // Noise in half of it.
    const base = new Uint8Array((1 + random.int(sectors)) * SECTOR);
    for (let at = 0; at < base.length; at += 4 * SECTOR)
      if (random.oneIn(2)) base.fill(1 + random.int(255), at, at + SECTOR);
    const raw = join(directory, `${name}.base`);
    writeFileSync(raw, base);
    const kind = random.pick(["raw", "qemu", "qemu-c", "wherry-c"]);
    const file = kind === "raw" ? raw : `${raw}.qcow2`;
    const zstd = random.oneIn(2) ? "zstd" : "zlib";
    if (kind.startsWith("qemu"))
      qemuImg(
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        ...(kind === "qemu" ? [] : ["-c", "-o", `compression_type=${zstd}`]),
        raw,
        file,
      );
    if (kind === "wherry-c") {
      const source = await openImage(nodeStore(unlocked), raw, { format: "raw", readonly: true });
      const target = await NodeFile.create(file, false);
      await createQcow2(target, source.sizeBytes, { clusterBytes: 4096, compression: zstd });
      await target.close();
      const image = await open(file);
      await copyImage(source, image, { compressed: true });
      await source.close();
      await image.close();
      qemuImg("check", file);
      qemuImg("compare", "-f", "raw", "-F", "qcow2", raw, file);
    }
    backing = {
      backingFile: file.slice(directory.length + 1),
      backingFormat: kind === "raw" ? "raw" : "qcow2",
    };
  }
  if (isQemus) {
    const base = backing && ["-b", backing.backingFile, "-F", backing.backingFormat];
    const settings = [
      `cluster_size=${clusterBytes}`,
      ...(version === 2 ? ["compat=0.10"] : [`lazy_refcounts=${isLazy ? "on" : "off"}`]),
    ];
    qemuImg(
      "create",
      "-q",
      "-f",
      "qcow2",
      ...(base ?? []),
      "-o",
      settings.join(),
      path,
      String(sectors * SECTOR),
    );
  } else {
    const refcountBits = version === 2 ? 16 : random.pick([16, 16, 32, 64, 8]);
    const settings: Qcow2Options = { clusterBytes, lazyRefcounts: isLazy, version, refcountBits, ...backing };
    const file = await NodeFile.create(path, false);
    await createQcow2(file, sectors * SECTOR, settings);
    await file.close();
  }
  return { path, sectors, clusterSectors, isLazy, resizes: version === 3 };
}

/** Requests, reopened and looked at in between, with QEMU's writes and snapshots. */
async function quiet(random: Random, image: Made): Promise<void> {
  let before = await contents(image.path);
  for (let turn = 0; turn < 3; turn++) {
    if (random.oneIn(3)) {
      const at = random.int(before.length / SECTOR) * SECTOR;
      const length = Math.min(before.length - at, SECTOR * (1 + random.int(3 * image.clusterSectors)));
      const value = 1 + random.int(255);
      execFileSync("qemu-io", ["-f", "qcow2", "-c", `write -P ${value} ${at} ${length}`, image.path], {
        stdio: "pipe",
      });
      before.fill(value, at, at + length);
    }
    if (random.oneIn(4)) qemuImg("snapshot", "-c", `s${turn}`, image.path);
    const { path, clusterSectors, resizes } = image;
    const { steps, sectors } = sequence(random, {
      sectors: before.length / SECTOR,
      clusterSectors,
      steps: 40,
      resizes,
    });
    const disk = await open(path);
    await play(disk, steps);
    await disk.close();
    const found = await judge(path, false);
    if (found.length !== sectors * SECTOR)
      throw new Error(`${found.length} bytes, expected ${sectors * SECTOR}`);
    const wrong = wrongSector(found, before, steps);
    if (wrong !== undefined) throw new Error(wrong);
    before = found;
  }
  // Snapshots have kept what they had: QEMU can go back to each, and the image stays right.
  for (const [, tag = ""] of qemuImg("snapshot", "-l", image.path).matchAll(/^\d+\s+(s\d)\s/gm)) {
    qemuImg("snapshot", "-a", tag, image.path);
    await judge(image.path, false);
  }
}

/** A process that is killed. */
async function killed(random: Random, image: Made): Promise<string> {
  const before = await contents(image.path);
  const { path, clusterSectors } = image;
  const plan = { sectors: image.sectors, clusterSectors, steps: 4000, resizes: true };
  const seed = random.u32();
  const { steps } = sequence(new Random(seed), plan);
  const child = spawn(process.execPath, [CHILD, JSON.stringify({ path, seed, ...plan })], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  const target = random.int(600);
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString();
    // Somewhere within a later step.
    if (output.length > target * 10) setTimeout(() => child.kill("SIGKILL"), random.int(30));
  });
  await new Promise((resolve) => child.once("close", resolve));
  const ended = new Set([...output.matchAll(/^e (\d+)$/gm)].map(([, step]) => Number(step)));
  const begun = Math.max(-1, ...[...output.matchAll(/^b (\d+)$/gm)].map(([, step]) => Number(step))) + 1;
  // A flush covers what had ended before it began: all steps, as it does not join others.
  const flushed = steps.findLastIndex(({ kind }, i) => kind === "flush" && ended.has(i) && i < begun);
  if (image.isLazy) qemuImgRepair(path);
  const found = await judge(path, true);
  const wrong = wrongSector(found, before, steps, { begun, flushed: flushed + 1 });
  if (wrong !== undefined) throw new Error(`${wrong} (killed in step ${begun}, last flush ${flushed})`);
  // It goes on.
  const again = await open(path);
  await play(
    again,
    sequence(random, { sectors: again.sizeBytes / SECTOR, clusterSectors, steps: 20, resizes: false }).steps,
  );
  await again.close();
  await judge(path, true);
  return `${begun} steps`;
}

/** With lazy refcounts, a dirty image has refcounts that are not right; in half of the cases ours repairs. */
function qemuImgRepair(path: string): void {
  const { status } = spawnSync("qemu-img", ["check", "-q", "-r", "all", path]);
  if (status !== 0) throw new Error(`qemu-img check -r all: ${status}`);
}

/** The judges must see a wrong byte, a wrong refcount and a lost write. */
async function planted(): Promise<void> {
  const path = join(directory, "planted.qcow2");
  const file = await NodeFile.create(path, false);
  await createQcow2(file, 1 << 20, { clusterBytes: 4096 });
  await file.close();
  const image = await open(path);
  const steps: Step[] = [{ kind: "write", first: 0, length: 64, value: 7, mayUnmap: false, joins: false }];
  await play(image, steps);
  await image.close();
  const good = await judge(path, false);
  const finds = async (what: string, work: () => unknown): Promise<void> => {
    const found = await Promise.resolve()
      .then(work)
      .then(
        () => false,
        () => true,
      );
    if (!found) throw new Error(`a planted fault is not found: ${what}`);
  };
  if (wrongSector(good, new Uint8Array(1 << 20), steps) !== undefined)
    throw new Error("a right disk is found wrong");
  if (wrongSector(new Uint8Array(1 << 20), new Uint8Array(1 << 20), steps) === undefined)
    throw new Error("a lost write is not found");
  const bytes = readFileSync(path);
  // The first refcount block is the third cluster: the data's refcounts become 0.
  bytes.fill(0, 2 * 4096 + 8, 2 * 4096 + 40);
  writeFileSync(path, bytes);
  await finds("refcounts", () => judge(path, false));
}

await planted();
console.log(`seed ${given.seed}; planted faults are found`);
const end = performance.now() + given.seconds * 1000;
const first = Math.max(0, given.case);
const last = given.case >= 0 ? first + 1 : given.count > 0 ? given.count : Number.POSITIVE_INFINITY;
let kills = 0;
let index = first;
for (; index < last && (given.count > 0 || given.case >= 0 || performance.now() < end); index++) {
  const random = new Random(programSeed(given.seed, index));
  const isKilled = index % 3 === 2;
  try {
    const image = await make(random, `case${index}`);
    if (isKilled) await killed(random, image);
    else await quiet(random, image);
    if (isKilled) kills++;
  } catch (error) {
    console.error(
      `case ${index}: ${(error as Error).stack}\nagain: npm run check:qcow2 -- --seed ${given.seed} --case ${index}`,
    );
    process.exit(1);
  }
  for (const end of [".qcow2", ".base", ".base.qcow2"])
    rmSync(join(directory, `case${index}${end}`), { force: true });
}
console.log(`${index - first} cases passed, ${kills} of them with a killed process; 0 failed`);
