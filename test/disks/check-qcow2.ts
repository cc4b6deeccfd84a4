// `npm run check:qcow2`: random requests to qcow2 images that Wherry or qemu-img made, with backing images,
// compressed clusters and internal snapshots, in turns with QEMU's own writes; some by a process that is
// killed at a random moment. `qemu-img check` and `compare` judge.
//   --count N cases (0: as many as fit into --seconds), --seconds S, --seed S, --case N: only this one
import { spawn } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { copyImage } from "../../src/block/images/image-jobs.ts";
import { openImage } from "../../src/block/images/open-image.ts";
import { createQcow2, type Qcow2Options } from "../../src/block/qcow2/qcow2-create.ts";
import { NodeFile, nodeStore } from "../../src/node/node-images.ts";
import { directory, options } from "../support/cases.ts";
import { programSeed, Random } from "../support/random.ts";
import type { ChildSpec } from "./disk-child.ts";
import { play, SECTOR, sequence, type Step, wrongSector } from "./sequence.ts";

const given = options({ count: 0, seconds: 45, case: -1 });
const unlocked = { image: undefined, backing: undefined };
const CHILD = join(import.meta.dirname, "disk-child.ts");

/** A shell that starts the judges: Node needs 20 ms of system time to fork itself. */
const shell = spawn("sh", { stdio: ["pipe", "pipe", "inherit"] });
process.on("exit", () => shell.kill());
const lines = createInterface({ input: shell.stdout })[Symbol.asyncIterator]();

async function run(
  ...words: readonly string[]
): Promise<{ readonly status: number; readonly output: string }> {
  const quoted = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  shell.stdin.write(`${quoted} </dev/null 2>&1; s=$?; echo; echo "status $s"\n`);
  let output = "";
  for (;;) {
    const { value, done } = await lines.next();
    if (done === true) throw new Error("the shell has ended");
    const status = /^status (\d+)$/.exec(value)?.[1];
    if (status !== undefined) return { status: Number(status), output };
    output += `${value}\n`;
  }
}

async function qemuImg(...args: string[]): Promise<string> {
  const { status, output } = await run("qemu-img", ...args);
  if (status !== 0) throw new Error(`qemu-img ${args.join(" ")}: exit code ${status}\n${output}`);
  return output;
}

if ((await run("qemu-img", "--version")).status !== 0) {
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
  const { status, output } = await run("qemu-img", "check", "-f", "qcow2", path);
  if (status !== 0 && !(mayLeak && status === 3)) throw new Error(`qemu-img check: ${status}\n${output}`);
  const bytes = await contents(path);
  const raw = `${path}.raw`;
  writeFileSync(raw, bytes);
  await qemuImg("compare", "-f", "qcow2", "-F", "raw", path, raw);
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
      await qemuImg(
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
      await qemuImg("check", file);
      await qemuImg("compare", "-f", "raw", "-F", "qcow2", raw, file);
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
    await qemuImg(
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
      const { status, output } = await run(
        "qemu-io",
        ...["-f", "qcow2", "-c", `write -P ${value} ${at} ${length}`, image.path],
      );
      if (status !== 0) throw new Error(`qemu-io: ${output}`);
      before.fill(value, at, at + length);
    }
    if (random.oneIn(4)) await qemuImg("snapshot", "-c", `s${turn}`, image.path);
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
  for (const [, tag = ""] of (await qemuImg("snapshot", "-l", image.path)).matchAll(/^\d+\s+(s\d)\s/gm)) {
    await qemuImg("snapshot", "-a", tag, image.path);
    await judge(image.path, false);
  }
}

/** A process that writes to some images and is killed, and what they then have. */
async function killed(random: Random, images: readonly Made[]): Promise<void> {
  const befores = await Promise.all(images.map(({ path }) => contents(path)));
  const specs = images.map(({ path, sectors, clusterSectors }): ChildSpec => {
    return { path, seed: random.u32(), sectors, clusterSectors, steps: 4000, resizes: true };
  });
  const child = spawn(process.execPath, [CHILD, JSON.stringify(specs)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  const target = random.int(600) * images.length;
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString();
    // Somewhere within a later step.
    if (output.length > target * 12) setTimeout(() => child.kill("SIGKILL"), random.int(30));
  });
  await new Promise((resolve) => child.once("close", resolve));
  for (const [i, spec] of specs.entries()) {
    const of = (word: string): number[] =>
      [...output.matchAll(new RegExp(`^${word} ${i} (\\d+)$`, "gm"))].map(([, step]) => Number(step));
    const ended = new Set(of("e"));
    const begun = Math.max(-1, ...of("b")) + 1;
    const { steps } = sequence(new Random(spec.seed), spec);
    // A flush covers what had ended before it began: all steps, as it does not join others.
    const flushed = steps.findLastIndex(({ kind }, at) => kind === "flush" && ended.has(at) && at < begun);
    const { path, clusterSectors, isLazy } = images[i]!;
    if (isLazy && random.oneIn(2)) await qemuImgRepair(path);
    else if (isLazy) await (await open(path)).close();
    const found = await judge(path, true);
    const wrong = wrongSector(found, befores[i]!, steps, { begun, flushed: flushed + 1 });
    if (wrong !== undefined)
      throw new Error(`${path}: ${wrong} (killed in step ${begun}, last flush ${flushed})`);
    // It goes on.
    const again = await open(path);
    const sectors = again.sizeBytes / SECTOR;
    await play(again, sequence(random, { sectors, clusterSectors, steps: 20, resizes: false }).steps);
    await again.close();
    await judge(path, true);
  }
}

/** With lazy refcounts, a dirty image has refcounts that are not right. */
async function qemuImgRepair(path: string): Promise<void> {
  const { status } = await run("qemu-img", "check", "-q", "-r", "all", path);
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
/** Cases of one round: quiet ones, then those of one process that is killed. */
const [QUIET, KILLED] = [12, 6];
let passed = 0;
let kills = 0;

/** Runs cases of a round, by their number in it. */
async function tries(round: number, cases: readonly number[]): Promise<void> {
  const first = round * (QUIET + KILLED);
  const made: { readonly random: Random; readonly image: Made; readonly index: number }[] = [];
  for (const at of cases) {
    const random = new Random(programSeed(given.seed, first + at));
    made.push({ random, image: await make(random, `case${first + at}`), index: first + at });
  }
  const attempt = async (index: number, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const again = `npm run check:qcow2 -- --seed ${given.seed} --case ${index}`;
      console.error(`case ${index}: ${(error as Error).stack}\nagain: ${again}`);
      process.exit(1);
    }
  };
  const [quietOnes, killedOnes] = [[], []] as [typeof made, typeof made];
  for (const one of made) (one.index - first < QUIET ? quietOnes : killedOnes).push(one);
  for (const { random, image, index } of quietOnes) await attempt(index, () => quiet(random, image));
  const [one] = killedOnes;
  if (one !== undefined)
    await attempt(one.index, () =>
      killed(
        one.random,
        killedOnes.map(({ image }) => image),
      ),
    );
  for (const { index } of made)
    for (const suffix of [".qcow2", ".base", ".base.qcow2"])
      rmSync(join(directory, `case${index}${suffix}`), { force: true });
  passed += made.length;
  kills += killedOnes.length;
}

const ofRound = QUIET + KILLED;
if (given.case >= 0) {
  const at = given.case % ofRound;
  // A killed process has all images of its round.
  const cases = at < QUIET ? [at] : Array.from({ length: KILLED }, (_, i) => QUIET + i);
  await tries(Math.floor(given.case / ofRound), cases);
} else {
  const all = Array.from({ length: ofRound }, (_, i) => i);
  for (let round = 0; given.count > 0 ? passed < given.count : performance.now() < end; round++)
    await tries(round, given.count > 0 ? all.slice(0, given.count - passed) : all);
}
console.log(`${passed} cases passed, ${kills} of them with a killed process; 0 failed`);
shell.stdin.end();
