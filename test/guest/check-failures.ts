// `npm run check:failures`: after any failure in a move or a save, one machine is alive, and never two. One
// pulse machine survives all cases: destinations are killed, connections cut at chosen bytes, moves
// cancelled, saves meet a full disk. A killed source is the only case after which no machine may be left.
//   --count N cases, --only KIND, --harts H, --seed S
import { setTimeout as sleep } from "node:timers/promises";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PING_FINAL } from "../../src/stream/wire.ts";
import { Random } from "../support/random.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { until } from "../support/wait.ts";
import { type Cut, CuttingProxy } from "./cutting-proxy.ts";
import { killAll, Machine } from "../support/machine.ts";
import { ended, listening, type MoveReport, query } from "./move.ts";
import { checkProgress, emptyDisk, nextReports, proof, pulseKernel, type Report, reports } from "./pulse.ts";
import { smallDisk } from "./small-disk.ts";

const given = options({ count: 12, only: "", harts: 4 });
const random = new Random(given.seed);
const disk = emptyDisk("disk");
const hardware = ["--smp", String(given.harts), "--memory", "64M", "--drive", `file=${disk}`];
const kernel = ["--kernel", await pulseKernel(), "--append", "pulse.mem=1"];
/** A small disk, in the machines' own mount namespace. */
const full = join(directory, "full");
mkdirSync(full);
const small = smallDisk(full);

/** A destination that loses its connection before GO waits half a minute for the source's query. */
const GIVES_UP_MS = 60_000;
/** Approximate size of a whole stream of this machine, in bytes. */
const STREAM_BYTES = 6_000_000;
const finalPing = Buffer.alloc(9);
finalPing.writeUInt8(8);
finalPing.writeUInt16BE(2, 1);
finalPing.writeUInt16BE(4, 3);
finalPing.writeUInt32BE(PING_FINAL, 5);
const firstDevice = Buffer.from("\x0acpu_common");

/** The PONG to it on the return path. SHUT follows: the destination runs. */
const finalPong = Buffer.alloc(8);
finalPong.writeUInt16BE(2);
finalPong.writeUInt16BE(4, 2);
finalPong.writeUInt32BE(PING_FINAL, 4);

let machine: Machine;
let last: Report;
/** Approximate duration of a move without failure. */
let moveMs = 1500;

async function boot(): Promise<void> {
  emptyDisk("disk");
  machine = await Machine.start(["run", ...hardware, ...kernel], { fromFirstByte: true, wrap: small.wrap });
  last = (await nextReports(machine.console, 2)).at(-1) as Report;
}

/** The surviving machine continues to print, count and tick where the other stopped. */
async function lives(winner: Machine): Promise<void> {
  // A destination owns the machine from GO on, and starts it once it has the locks of its drives.
  const status = await until(GIVES_UP_MS, "it starts", async () => {
    const now = await winner.status();
    return now !== "inmigrate" && now;
  });
  if (status !== "running") throw new Error(`the machine is ${status}: ${winner.complaints}`);
  const report = (await nextReports(winner.console)).at(-1) as Report;
  checkProgress(last, report);
  last = report;
  machine = winner;
}

function newest(source: Machine): void {
  last = reports(source.console.text).at(-1) ?? last;
}

/**
 * Determines which of the two has the machine. The other must not run it, and must not have printed anything
 * meanwhile.
 */
async function judge(source: Machine, destination: Machine): Promise<string> {
  const report = await ended(source);
  const why = report["error-desc"]?.slice(0, 150) ?? "";
  newest(source);
  if (report.status === "failed" || report.status === "cancelled") {
    await lives(source);
    const outcome = `${report.status}, here: ${why}`;
    const there = await fate(destination);
    if (there === "runs" || destination.console.text !== "")
      throw new Error(`both ran: ${destination.console.text}`);
    if (/\n\s+at /.test(destination.complaints)) throw new Error(`stack trace: ${destination.complaints}`);
    if (there === "listens") {
      return `${outcome}; the destination goes on listening: ${await moveAgain(source, destination)}`;
    }
    await destination.kill();
    return outcome;
  }
  // Console and QMP are separate sockets: when this reply arrives, all output from before the stop has.
  await source.status();
  const silentFrom = source.console.text.length;
  await lives(destination);
  if (report.status === "postcopy-paused") {
    await source.qmp.execute("x-wherry-migrate-decide", { decision: "there" });
  } else moveMs = Math.round(0.7 * moveMs + 0.3 * report["total-time"]);
  if ((await source.status()) !== "postmigrate") throw new Error(`the source is ${await source.status()}`);
  if (source.console.text.length !== silentFrom)
    throw new Error("both ran: the source printed after the move");
  await source.quit();
  return report.status === "completed" ? "completed, there" : `${report.status}, there: ${why}`;
}

/**
 * What becomes of a destination that has lost its source. It ends with status 1; if no page had arrived, it
 * goes on listening, since what connected was not, or not yet, its source.
 */
async function fate(destination: Machine): Promise<"runs" | "ended" | "listens"> {
  const listens = async (): Promise<boolean> => (await query(destination)).status === "setup";
  return until(GIVES_UP_MS, "the destination decides", async () => {
    const status = await destination.status();
    if (status === "running") return "runs";
    if (status === "gone") {
      const { code, signal } = await destination.exit;
      if (signal === null && code !== 1) throw new Error(`the destination ended with ${code}`);
      return "ended";
    }
    if (!(await listens().catch(() => false))) return undefined;
    // What the source had sent may still have to be read.
    await sleep(500);
    return (await listens().catch(() => false)) && "listens";
  });
}

/** The source's next attempt, without a failure. */
async function moveAgain(source: Machine, destination: Machine): Promise<string> {
  await source.qmp.execute("migrate", { uri: await listening(destination) });
  return judge(source, destination);
}

async function destinationAt(address: string): Promise<Machine> {
  return Machine.start(["run", ...hardware, "--incoming", address], { wrap: small.wrap });
}

let sockets = 0;
const unixAddress = (): string => `unix:${join(directory, `move${sockets++}`)}`;

/** A moment in a move: at any time, or in the handover after the guest has stopped. */
async function moment(source: Machine): Promise<string> {
  if (random.oneIn(2)) {
    const ms = random.int(Math.round(1.2 * moveMs));
    await sleep(ms);
    return `after ${ms} ms`;
  }
  const ms = random.int(3) === 0 ? random.int(200) : random.int(30);
  await until(60_000, "the guest stops", async () =>
    ["setup", "active"].includes((await query(source)).status) ? undefined : true,
  );
  await sleep(ms);
  return `${ms} ms into the hand-over`;
}

async function killDestination(): Promise<string> {
  const destination = await destinationAt(random.oneIn(2) ? unixAddress() : "tcp:127.0.0.1:0");
  await machine.qmp.execute("migrate", { uri: await listening(destination) });
  const when = await moment(machine);
  const before = await query(machine);
  destination.child.kill("SIGKILL");
  const report = await ended(machine);
  if (report.status === "completed") return afterLateKill(destination, before, when);
  return `${when}: ${await judge(machine, destination)}`;
}

/**
 * The destination was killed after it had reported that it runs: it owned the machine, which ended with it.
 */
async function afterLateKill(destination: Machine, before: MoveReport, when: string): Promise<string> {
  if ((await machine.status()) !== "postmigrate") throw new Error("moved, but not postmigrate");
  await destination.kill();
  await machine.quit();
  await boot();
  return `${when}: it had arrived (${before.status}) and died with its process; a new one was booted`;
}

const places = new Map<Buffer | undefined, string>([
  [firstDevice, " of the devices"],
  [finalPing, " of GO"],
  [finalPong, " of the last answers"],
]);

async function moveThrough(cut: Cut): Promise<string> {
  const destination = await destinationAt("tcp:127.0.0.1:0");
  const port = Number((await listening(destination)).split(":").at(-1));
  const proxy = await CuttingProxy.start(port, cut);
  try {
    await machine.qmp.execute("migrate", { uri: proxy.uri });
    const outcome = await judge(machine, destination);
    const place = places.get(cut.mark) ?? "";
    return `${cut.how} at ${cut.side} byte ${cut.after}${place}${proxy.cut ? "" : " (not met)"}: ${outcome}`;
  } finally {
    proxy.close();
  }
}

async function cutConnection(): Promise<string> {
  const how = random.weighted<Cut["how"]>([
    [10, "reset"],
    [6, "end"],
    [1, "silence"],
  ]);
  const cut = random.weighted<Cut>([
    [2, { side: "forward", after: random.int(STREAM_BYTES), how }],
    [1, { side: "forward", after: random.int(4096), how }],
    [3, { side: "forward", mark: firstDevice, after: random.int(6000), how }],
    [2, { side: "forward", mark: finalPing, after: random.int(64), how }],
    [3, { side: "forward", mark: finalPing, after: random.int(16_000), how }],
    [2, { side: "back", after: random.int(100), how }],
    [3, { side: "back", mark: finalPong, after: random.int(10), how }],
  ]);
  return moveThrough(cut);
}

/**
 * A tunnel on this host that ends during the handover: the missing listener does not prove that the
 * destination is dead.
 */
function tunnelDies(): Promise<string> {
  return moveThrough({ side: "back", mark: finalPong, after: random.int(8), how: "death" });
}

async function cancel(): Promise<string> {
  const destination = await destinationAt(random.oneIn(2) ? unixAddress() : "tcp:127.0.0.1:0");
  await machine.qmp.execute("migrate", { uri: await listening(destination) });
  const when = await moment(machine);
  await machine.qmp.execute("migrate_cancel");
  return `${when}: ${await judge(machine, destination)}`;
}

/** The source is killed: the destination runs the complete machine, or none. */
async function killSource(): Promise<string> {
  const source = machine;
  const destination = await destinationAt(random.oneIn(2) ? unixAddress() : "tcp:127.0.0.1:0");
  await source.qmp.execute("migrate", { uri: await listening(destination) });
  const when = await moment(source);
  await source.kill();
  newest(source);
  const there = await fate(destination);
  if (there === "runs") {
    await lives(destination);
    return `${when}: it runs there`;
  }
  if (destination.console.text !== "") throw new Error(`half a machine ran: ${destination.console.text}`);
  await destination.kill();
  await boot();
  const left = there === "listens" ? "the destination goes on listening" : "nothing runs";
  return `${when}: died with its process, ${left}; a new one was booted`;
}

/** A save to a disk that fills up at a random byte leaves the old file and the running machine. */
async function saveOnFullDisk(): Promise<string> {
  const pid = machine.child.pid as number;
  const seen = small.seenFrom(pid);
  const target = join(full, "snapshot");
  const old = Buffer.from("an older snapshot".repeat(1000));
  for (const name of readdirSync(seen)) rmSync(join(seen, name));
  await machine.qmp.execute("x-wherry-save", { file: target });
  const size = statSync(join(seen, "snapshot")).size;
  writeFileSync(join(seen, "snapshot"), old);
  const { room, undo } = small.fill(pid, random.oneIn(2) ? size - 1 - random.int(65536) : random.int(size));
  const error = await machine.qmp.execute("x-wherry-save", { file: target }).then(
    () => undefined,
    (cause: unknown) => (cause as Error).message,
  );
  undo();
  newest(machine);
  await lives(machine);
  if (error === undefined) throw new Error(`a snapshot of about ${size} bytes fits into ${room}?`);
  if (!readFileSync(join(seen, "snapshot")).equals(old)) throw new Error("the older snapshot was touched");
  const left = readdirSync(seen).filter((name) => name !== "snapshot");
  if (left.length > 0) throw new Error(`it left ${left.join(", ")}`);
  return `room for ${room} of ${size} bytes: ${error.slice(0, 150)}`;
}

const kinds = { cutConnection, killDestination, cancel, saveOnFullDisk, killSource, tunnelDies };
type Kind = keyof typeof kinds;
if (given.only !== "" && !Object.hasOwn(kinds, given.only)) {
  console.error(`--only ${Object.keys(kinds).join("|")}`);
  process.exit(2);
}
const order: readonly Kind[] =
  given.only === ""
    ? [
        "cutConnection",
        "killDestination",
        "cancel",
        "cutConnection",
        "saveOnFullDisk",
        "killSource",
        "tunnelDies",
      ]
    : [given.only as Kind];

const cases = new Cases(
  `failures: ${given.count} on ${given.harts} harts, seed ${given.seed}, ${small.means}`,
  given.count + 1,
);
await boot();
for (let i = 0; i < given.count; i++) {
  const kind = order[i % order.length] as Kind;
  if (await cases.run(kind, 240_000, kinds[kind])) continue;
  // The state after a failure is unknown: start a new machine.
  killAll();
  await boot();
}
await cases.run("pulse's proof", 120_000, () => proof(machine));
cases.end();
