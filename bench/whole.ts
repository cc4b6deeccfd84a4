// Whole-process figures: an idle guest, the move of an idle and a busy guest, save and restore compared with
// a plain copy; medians with the spread. --write updates its section of docs/benchmarks.md. Programs and boot
// compared with QEMU: bench/run.ts.
//   node bench/whole.ts [--runs N] [--write]
import { setTimeout as sleep } from "node:timers/promises";
import { execFileSync } from "node:child_process";
import { open, readFile, rm, stat } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type DebianGuest, fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { directory, options } from "../test/support/cases.ts";
import { until } from "../test/support/wait.ts";
import { Machine, wherry } from "../test/support/machine.ts";
import { writeSection } from "./document.ts";
import { show, type Spread, spread } from "./figures.ts";

const INTERPRETER = fileURLToPath(new URL("./interpreter.ts", import.meta.url));
const PROMPT = /wherry:~# /;
const BOOT_LIMIT_MS = 180_000;
const GUEST_MIB = 512;

const { runs, write } = options({ runs: 5, write: false });

const lines: string[] = [];
function say(line = ""): void {
  lines.push(line);
  console.log(line);
}

// ---- idle ----

/** CPU time of a process so far, in seconds. */
async function cpuSeconds(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, "utf8")).replace(/.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const IDLE_SECONDS = 5;

async function idle(guest: DebianGuest): Promise<void> {
  const machine = await booted(guest);
  const pid = machine.child.pid ?? 0;
  const samples: number[] = [];
  for (let i = 0; i < runs; i++) {
    await sleep(1000);
    const before = await cpuSeconds(pid);
    await sleep(IDLE_SECONDS * 1000);
    samples.push((((await cpuSeconds(pid)) - before) / IDLE_SECONDS) * 100);
  }
  await machine.quit();
  say("### An idle Debian guest on 4 harts, at its shell prompt\n");
  say(`The process uses ${show(spread(samples), 1, "%")} of one core.\n`);
}

// ---- moves ----

/** Each hart writes 4 MiB of memory over and over. */
const BUSY =
  "for i in 1 2 3 4; do (while :; do dd if=/dev/zero of=/tmp/f$i bs=64k count=64 conv=notrunc 2>/dev/null; done) & done";

async function booted(guest: DebianGuest): Promise<Machine> {
  const machine = await Machine.start([
    ...["run", "--smp", "4", "--memory", `${GUEST_MIB}M`],
    ...["--kernel", guest.kernel, "--initrd", guest.initrd, "--append", "console=ttyS0 quiet"],
  ]);
  await machine.console.see(PROMPT, BOOT_LIMIT_MS);
  return machine;
}

interface MoveFigures {
  readonly downtime: number;
  readonly totalTime: number;
  readonly bytes: number;
  readonly rounds: number;
}

async function moved(source: Machine): Promise<[Machine, MoveFigures]> {
  const path = join(directory, `move-${performance.now()}`);
  const destination = await Machine.start([
    ...["run", "--incoming", `unix:${path}`, "--smp", "4", "--memory", `${GUEST_MIB}M`],
  ]);
  await source.qmp.execute("migrate-set-parameters", { "max-bandwidth": 8 * 2 ** 30 });
  await source.qmp.execute("migrate", { uri: `unix:${path}` });
  interface Query {
    readonly status: string;
    readonly downtime: number;
    readonly "total-time": number;
    readonly ram: { readonly transferred: number; readonly "dirty-sync-count": number };
  }
  const result = await until(120_000, "the move", async () => {
    const query = await source.qmp.execute<Query>("query-migrate");
    if (query.status === "failed" || query.status === "cancelled")
      throw new Error(`the move ${query.status}`);
    return query.status === "completed" ? query : undefined;
  });
  await source.quit();
  const { ram } = result;
  return [
    destination,
    {
      downtime: result.downtime,
      totalTime: result["total-time"],
      bytes: ram.transferred,
      rounds: ram["dirty-sync-count"],
    },
  ];
}

async function moves(guest: DebianGuest): Promise<void> {
  say(`### A live move of a ${GUEST_MIB} MiB Debian guest on 4 harts, over a unix socket on one host\n`);
  say("| guest | downtime | total time | sent | rounds |");
  say("|---|---|---|---|---|");
  let machine = await booted(guest);
  for (const kind of ["idle", "busy"] as const) {
    if (kind === "busy") {
      machine.console.type(`${BUSY}\n`);
      await sleep(3000);
    }
    const figures: MoveFigures[] = [];
    for (let i = 0; i < runs; i++) {
      await sleep(1000);
      const [next, figure] = await moved(machine);
      machine = next;
      figures.push(figure);
    }
    const column = (pick: (f: MoveFigures) => number) => spread(figures.map(pick));
    say(
      `| ${kind} | ${show(
        column((f) => f.downtime),
        0,
        "ms",
      )} | ${show(
        column((f) => f.totalTime / 1000),
        2,
        "s",
      )} | ${show(
        column((f) => f.bytes / 2 ** 20),
        0,
        "MiB",
      )} | ${column((f) => f.rounds).median} |`,
    );
  }
  await machine.quit();
  say();
}

// ---- save and restore ----

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** A plain copy by one process, synced like a snapshot. */
async function plainCopy(from: string, to: string): Promise<void> {
  const source = await open(from, "r");
  const target = await open(to, "w");
  const buffer = Buffer.allocUnsafe(2 ** 20);
  for (;;) {
    const { bytesRead } = await source.read(buffer);
    if (bytesRead === 0) break;
    await target.write(buffer, 0, bytesRead);
  }
  await target.sync();
  await Promise.all([source.close(), target.close()]);
}

async function saveAndRestore(guest: DebianGuest): Promise<void> {
  const machine = await booted(guest);
  // Random contents, since zero pages would not be written.
  machine.console.type("dd if=/dev/urandom of=/tmp/fill bs=1M count=192; echo fill''ed\n");
  await machine.console.see(/filled/, 120_000);
  const file = join(directory, "snapshot");
  const copy = join(directory, "copy");
  const saves: number[] = [];
  const copies: number[] = [];
  const restores: number[] = [];
  for (let i = 0; i < runs; i++) {
    saves.push(
      await timed(async () => {
        const saved = await wherry(["save", file, "--qmp", `unix:${machine.qmpPath}`], 120_000);
        if (saved.code !== 0) throw new Error(`save: ${saved.err}`);
      }),
    );
    copies.push(await timed(() => plainCopy(file, copy)));
    let restored: Machine | undefined;
    restores.push(
      await timed(async () => {
        restored = await Machine.start(["restore", file, "--smp", "4", "--memory", `${GUEST_MIB}M`]);
        await until(60_000, "it runs", async () => (await restored?.status()) === "running");
      }),
    );
    await restored?.quit();
  }
  const mib = (await stat(file)).size / 2 ** 20;
  await machine.quit();
  await Promise.all([rm(file), rm(copy)]);
  const rate = (samples: readonly number[]) => spread(samples.map((s) => mib / s));
  const [save, copied, restore] = [rate(saves), rate(copies), rate(restores)];
  const of = (r: Spread) => `${(r.median / copied.median).toFixed(2)}×`;
  say(
    `### A snapshot of ${mib.toFixed(0)} MiB (${GUEST_MIB} MiB guest, 192 MiB of it random bytes), timed as whole commands\n`,
  );
  say("| | throughput | relative to the plain copy |");
  say("|---|---|---|");
  say(`| plain copy of the file, synced | ${show(copied, 0, "MiB/s")} | 1 |`);
  say(`| \`wherry save\`, synced | ${show(save, 0, "MiB/s")} | ${of(save)} |`);
  say(`| \`wherry restore\`, until the guest runs | ${show(restore, 0, "MiB/s")} | ${of(restore)} |`);
  say();
}

// ---- main ----

const guest = await fetchDebianGuest();
say(
  `Medians of ${runs} run${runs === 1 ? "" : "s"} (lowest–highest). Host: ${cpus().length} × ${cpus()[0]?.model.trim()},`,
);
say(`${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}. Guest: Debian's ${guest.version}.\n`);
say("### Interpreter, one hart\n");
say("```");
say(execFileSync(process.execPath, [INTERPRETER], { encoding: "utf8" }).trimEnd());
say("```\n");
await idle(guest);
await moves(guest);
await saveAndRestore(guest);
if (write) await writeSection("whole", lines.join("\n").trimEnd());
process.exit(0);
