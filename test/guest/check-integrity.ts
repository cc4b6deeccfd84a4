// `npm run check:integrity`: a file of a real machine, cut at every section boundary and around it, and files
// with one random bit flipped: each is refused with an error that names the section or RAM chunk, and nothing
// half-loaded can run. Most are loaded in this process; some by `wherry restore`, which must end with exit
// code 1 and one line.
//   --count N flips, --cli N files through the command line, --seed S
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startMachine } from "../../src/cli/machine/start-machine.ts";
import { MigrationError } from "../../src/stream/migration-error.ts";
import { loadSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { Random } from "../support/random.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { until, within } from "../support/wait.ts";
import { Machine, wherry } from "../support/machine.ts";
import { emptyDisk, nextReports, proof, pulseKernel } from "./pulse.ts";
import { type Span, spansOf } from "./sections.ts";

const given = options({ count: 150, cli: 12 });
const random = new Random(given.seed);
const disk = emptyDisk("disk");
const hardware = ["--smp", "2", "--memory", "16M", "--drive", `file=${disk}`, "--rng"];
const LOAD_MS = 60_000;

interface Damage {
  readonly name: string;
  readonly bytes: Buffer;
  /** The position of the damage. */
  readonly at: number;
}

async function savedMachine(): Promise<Buffer> {
  const path = join(directory, "saved");
  const kernel = ["--kernel", await pulseKernel(), "--append", "pulse.mem=1"];
  const machine = await Machine.start(["run", ...hardware, ...kernel], { fromFirstByte: true });
  await nextReports(machine.console, 1);
  // Later writes to its disk would not match the saved state.
  await machine.qmp.execute("stop");
  await machine.qmp.execute("x-wherry-save", { file: path });
  await machine.quit();
  return readFileSync(path);
}

/** A machine that is never started, for all loads. */
async function shell(): Promise<Awaited<ReturnType<typeof startMachine>>> {
  return startMachine({
    harts: 2,
    memoryBytes: 16 << 20,
    kernel: undefined,
    initrd: undefined,
    append: "",
    firmware: undefined,
    // The machines that are restored by command lines have it as well.
    drives: [{ file: disk, readonly: false, locking: false }],
    net: undefined,
    rng: true,
    serial: { kind: "none" },
    qmp: undefined,
    incoming: "defer",
    paused: false,
  });
}

const file = await savedMachine();
const spans = spansOf(file);
const running = await shell();
const { machine } = running;

function load(bytes: Buffer): Promise<unknown> {
  let at = 0;
  // Reset to the run state before a load, which a process enters only once.
  if (machine.runState.current !== "inmigrate") machine.runState.set("prelaunch");
  return loadSnapshot(machine, {
    write: () => Promise.reject(new Error("nothing is written to a file that is loaded")),
    async read(target) {
      const n = bytes.copy(target, 0, at);
      at += n;
      return n;
    },
    close: async () => {},
    abort: () => {},
  });
}

/**
 * The parts that an error may name for damage at this position: both at a boundary, and the previous part if
 * a head is damaged, since the damaged part has no name yet.
 */
function spansNear(at: number): Span[] {
  return spans.filter(({ start, end }, i) => {
    const next = spans[i + 1];
    const head = next === undefined ? 0 : 5 + 1 + next.name.length + 8;
    return start <= at + 1 && at <= end + head;
  });
}

/** The names of such a part in messages. */
function wordsFor({ name }: Span): string[] {
  if (name === "ram") return ["RAM chunk", "section ram"];
  if (name === "header" || name === "configuration") return ["header", "configuration"];
  if (name === "end" || name === "vmdescription") return ["VMDESCRIPTION", "end of the stream"];
  // A damaged instance names another device of that name; with a damaged name, the device's section is
  // missing.
  return [`section ${name.replace(/\d+$/, "")}`, `waits for ${name}`];
}

function checkWords(words: string, at: number): string {
  const near = spansNear(at);
  const wanted = near.flatMap(wordsFor);
  const isNamed = wanted.some((word) => words.toLowerCase().includes(word.toLowerCase()));
  // A section with a damaged name or type is unknown: then the error gives its offset.
  const offset = Number(/\bat offset (0x[0-9a-f]+)/.exec(words)?.[1]);
  const isPlaced = near.some(({ start, end }) => start <= offset && offset <= end);
  if (!isNamed && !isPlaced) {
    throw new Error(`the error does not name ${wanted.join(" or ")}, nor the place: ${words}`);
  }
  if (/\p{Cc}/u.test(words)) throw new Error(`control characters: ${JSON.stringify(words)}`);
  return words;
}

async function refusedHere(damage: Damage): Promise<string> {
  const error = await within(LOAD_MS, "loading", load(damage.bytes)).then(
    () => new Error("it was loaded"),
    (cause: unknown) => (cause instanceof Error ? cause : new Error(String(cause))),
  );
  if (!(error instanceof MigrationError)) throw error;
  if (machine.runState.current !== "internal-error") throw new Error(`then ${machine.runState.current}`);
  const started = await machine.start().then(
    () => true,
    () => false,
  );
  if (started) throw new Error(`a half-loaded machine was started after: ${error.message}`);
  return checkWords(error.message, damage.at);
}

async function refusedByCli(damage: Damage): Promise<string> {
  const path = join(directory, "damaged");
  writeFileSync(path, damage.bytes);
  const { code, signal, out, err } = await wherry(
    ["restore", path, ...hardware, "--serial", "none"],
    LOAD_MS,
  );
  if (code !== 1) throw new Error(`exit code ${code ?? signal}: ${err}`);
  if (!/^wherry: [^\n]+\n$/.test(err) || out !== "") throw new Error(`not one line: ${out}${err}`);
  return checkWords(err.trim(), damage.at);
}

function cutAt(end: number, name: string): Damage {
  return { name: `cut ${name} (${end})`, bytes: file.subarray(0, end), at: end };
}

/** At both ends of each section, one byte before and after them, and once within. */
function cuts(): Damage[] {
  return spans.flatMap(({ name, start, end }: Span) => [
    cutAt(start, `before ${name}`),
    ...(start > 0 ? [cutAt(start - 1, `a byte before ${name}`)] : []),
    cutAt(Math.min(start + 1, file.length - 1), `a byte into ${name}`),
    cutAt(start + random.int(end - start), `within ${name}`),
  ]);
}

/** Half of the flips anywhere, the others outside RAM, where more can go wrong. */
function flip(index: number): Damage {
  const anywhere = { start: 0, end: file.length };
  const { start, end } = index % 2 === 0 ? anywhere : random.pick(spans.filter(({ name }) => name !== "ram"));
  const at = start + random.int(end - start);
  const bit = random.int(8);
  const bytes = Buffer.from(file);
  bytes[at] = (bytes[at] as number) ^ (1 << bit);
  return { name: `flip bit ${bit} of byte ${at}`, bytes, at };
}

const cutFiles = cuts();
const total = cutFiles.length + given.count + given.cli + 2;
const cases = new Cases(
  `integrity: a file of ${file.length} bytes, ${cutFiles.length} cuts, ${given.count} flips, seed ${given.seed}`,
  total,
);
for (const damage of cutFiles) await cases.run(damage.name, LOAD_MS, () => refusedHere(damage));
for (let i = 0; i < given.count; i++) {
  const damage = flip(i);
  await cases.run(damage.name, LOAD_MS, () => refusedHere(damage));
}
for (let i = 0; i < given.cli; i++) {
  const damage = i % 3 === 0 ? random.pick(cutFiles) : flip(i);
  await cases.run(`wherry restore, ${damage.name}`, 2 * LOAD_MS, () => refusedByCli(damage));
}
await cases.run("the file as it was", LOAD_MS, async () => {
  await load(file);
  return "loaded";
});
await cases.run("wherry restore, the file as it was", LOAD_MS, async () => {
  const path = join(directory, "saved");
  const restored = await Machine.start(["restore", path, ...hardware]);
  await until(30_000, "it is loaded", async () =>
    (await restored.status()) === "paused" ? true : undefined,
  );
  await restored.qmp.execute("cont");
  return proof(restored);
});
await running.close();
cases.end();
