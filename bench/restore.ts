// How long a restore takes, under Wherry and under the newest QEMU (11.1, mapped-ram), of the same Debian
// guest with several sizes of RAM: from the start of the process to the guest's next line, and the process's
// resident memory then. Both are saved while a shell prints lines, and restored in turn.
//   node bench/restore.ts [--runs N] [--sizes 256,1024,3072] [--harts H]
import { type ChildProcess, spawn } from "node:child_process";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { directory, options } from "../test/support/cases.ts";
import { QmpClient } from "../test/support/qmp-client.ts";
import { until } from "../test/support/wait.ts";
import { newQemu } from "./debian.ts";
import { show, spread } from "./figures.ts";

const given = options({ runs: 5, sizes: "256,1024,3072", harts: 2 });
const guest = await fetchDebianGuest();
const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const BOOT_MS = 300_000;
const LINE_MS = 60_000;
const APPEND = "console=ttyS0 quiet";
const LINES = "while :; do echo the next li''ne; usleep 20000; done\n";
const LINE = /the next line\r?\n/;

/** A monitor whose process has the guest's console on its standard streams. */
interface Monitor {
  readonly name: string;
  command(mebibytes: number, qmp: string): string[];
  readonly boot: readonly string[];
  restore(path: string): string[];
  save(qmp: QmpClient, path: string): Promise<void>;
}

async function migrated(qmp: QmpClient): Promise<void> {
  await until(BOOT_MS, "the save", async () => {
    const { status, ...more } = await qmp.execute<{ status?: string }>("query-migrate");
    if (status === "failed") throw new Error(`the save failed: ${JSON.stringify(more)}`);
    return status === "completed" ? true : undefined;
  });
}

const kernel = ["-kernel", guest.kernel, "-initrd", guest.initrd, "-append", APPEND];
const wherry: Monitor = {
  name: "Wherry",
  command: (mebibytes, qmp) => [
    ...[process.execPath, MAIN, qmp === "" ? "restore" : "run"],
    ...["--smp", `${given.harts}`, "--memory", `${mebibytes}M`],
    ...(qmp === "" ? [] : ["--qmp", `unix:${qmp}`]),
  ],
  boot: kernel.map((word) => word.replace(/^-/, "--")),
  restore: (path) => [path],
  save: async (qmp, path) => void (await qmp.execute("x-wherry-save", { file: path })),
};

const [program = "", ...prefix] = await newQemu();
const qemu: Monitor = {
  name: "QEMU 11.1",
  command: (mebibytes, qmp) => [
    ...[program, ...prefix, "-machine", "virt", "-smp", `${given.harts}`, "-m", `${mebibytes}M`],
    ...["-bios", guest.opensbi, "-display", "none", "-serial", "stdio", "-monitor", "none"],
    ...(qmp === "" ? [] : ["-qmp", `unix:${qmp},server=on,wait=off`]),
  ],
  boot: kernel,
  restore: (path) => ["-global", "migration.mapped-ram=on", "-incoming", `file:${path}`],
  async save(qmp, path) {
    const capabilities = [{ capability: "mapped-ram", state: true }];
    await qmp.execute("migrate-set-capabilities", { capabilities });
    await qmp.execute("migrate", { uri: `file:${path}` });
    await migrated(qmp);
  },
};

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

/** Starts a process; `seen` waits for a pattern in its output and returns when it came, in ms. */
function start([command = "", ...args]: readonly string[]) {
  const began = performance.now();
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  children.add(child);
  let text = "";
  let waiting: { pattern: RegExp; resolve: (ms: number) => void } | undefined;
  const look = (): void => {
    if (waiting === undefined || !waiting.pattern.test(text)) return;
    text = "";
    waiting.resolve(performance.now() - began);
    waiting = undefined;
  };
  child.stdout.setEncoding("latin1").on("data", (piece: string) => {
    text += piece;
    look();
  });
  const seen = (pattern: RegExp): Promise<number> =>
    new Promise((resolve) => {
      waiting = { pattern, resolve };
      look();
    });
  const end = async (): Promise<void> => {
    child.kill("SIGKILL");
    await new Promise((resolve) => child.once("close", resolve));
    children.delete(child);
  };
  return { child, seen, end };
}

async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  const late = sleep(ms, undefined, { ref: false }).then(() => {
    throw new Error(`${what}: not within ${ms / 1000} s`);
  });
  return await Promise.race([work, late]);
}

/** Boots it and saves it while it prints; returns the file. */
async function saved(monitor: Monitor, mebibytes: number): Promise<string> {
  const qmpPath = join(directory, `${mebibytes}.qmp`);
  const path = join(directory, `${monitor.name}-${mebibytes}`);
  const machine = start([...monitor.command(mebibytes, qmpPath), ...monitor.boot]);
  await within(BOOT_MS, `${monitor.name} boots`, machine.seen(/wherry:~# /));
  machine.child.stdin.write(LINES);
  await within(LINE_MS, "lines", machine.seen(LINE));
  const qmp = await QmpClient.connect(qmpPath);
  await monitor.save(qmp, path);
  qmp.close();
  await machine.end();
  return path;
}

/** In MiB, with what is shared with other processes. */
async function residentMebibytes(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "latin1");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}

interface Restored {
  readonly seconds: number;
  readonly resident: number;
}

async function restored(monitor: Monitor, mebibytes: number, path: string): Promise<Restored> {
  const [command = "", ...rest] = monitor.command(mebibytes, "");
  const machine = start([command, ...rest, ...monitor.restore(path)]);
  try {
    const ms = await within(LINE_MS, `${monitor.name}: the next line`, machine.seen(LINE));
    return { seconds: ms / 1000, resident: await residentMebibytes(machine.child.pid) };
  } finally {
    await machine.end();
  }
}

console.log(`A restore of Debian on ${given.harts} harts, from the start of the process to the guest's next`);
console.log(`line; medians of ${given.runs} runs (lowest–highest), taken in turn.\n`);
console.log("| RAM | Wherry's file | Wherry | QEMU 11.1, mapped-ram | ratio | resident | QEMU's |");
console.log("|---|---|---|---|---|---|---|");
for (const mebibytes of given.sizes.split(",").map(Number)) {
  const monitors = [wherry, qemu];
  const files: string[] = [];
  for (const monitor of monitors) files.push(await saved(monitor, mebibytes));
  const samples = monitors.map(() => [] as Restored[]);
  for (let run = 0; run < given.runs; run++) {
    for (const [i, monitor] of monitors.entries()) {
      samples[i]!.push(await restored(monitor, mebibytes, files[i]!));
    }
  }
  const [ours, theirs] = samples.map((of) => spread(of.map(({ seconds }) => seconds)));
  const resident = samples.map((of) => `${spread(of.map((one) => one.resident)).median.toFixed(0)} MiB`);
  const size = ((await stat(files[0]!)).size / 2 ** 20).toFixed(0);
  const ratio = (ours!.median / theirs!.median).toFixed(2);
  console.log(
    `| ${mebibytes} MiB | ${size} MiB | ${show(ours!, 2, "s")} | ${show(theirs!, 2, "s")} | ${ratio}× | ${resident.join(" | ")} |`,
  );
}
process.exit(0);
