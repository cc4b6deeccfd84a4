// `npm run check:soak`: whether memory grows with each reboot, save, or move there and back of one machine.
// Resident memory, without the guest's RAM, is read after each; the last quarter of the readings is compared
// with the second, since the first quarter fills caches. With --count, each tenth reading is printed at once.
// In a move, that is of the destination's process, which is a new one each time.
//   --count N: of each kind (default: as many as fill the caches in a quarter)
//   --guest pulse|debian, --only reboots|saves|moves
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { spread } from "../../bench/figures.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { Machine, wherry } from "../support/machine.ts";
import { finishedMove } from "./move.ts";
import { nextReports, pulseKernel } from "./pulse.ts";

const given = options({ count: 0, guest: "pulse", only: "" });
/** The collector of each thread frees what it likes, when it likes. */
const MAX_GROWTH_MIB = 16;
const COUNTS: Readonly<Record<string, number>> = { reboots: 32, saves: 48, moves: 8 };
const countOf = (kind: string): number => (given.count === 0 ? (COUNTS[kind] ?? 0) : given.count);
const limitMs = (kind: string): number =>
  60_000 + countOf(kind) * (given.guest === "debian" ? 120_000 : 30_000);

interface Guest {
  readonly hardware: readonly string[];
  readonly boot: readonly string[];
  /** Waits until the guest runs, or runs again after a reset, by its output from a position on. */
  up(machine: Machine, from: number, reset?: "reset"): Promise<void>;
}

async function pulse(): Promise<Guest> {
  return {
    hardware: ["--smp", "2", "--memory", "64M"],
    boot: ["--kernel", await pulseKernel(), "--append", "pulse.nodisk pulse.rate=2"],
    up: async (machine) => void (await nextReports(machine.console, 1)),
  };
}

async function debian(): Promise<Guest> {
  const { BOOT_MS, debianHardware, debian: files, prompt } = await import("../support/debian.ts");
  return {
    hardware: debianHardware(2, "builtin"),
    boot: ["--kernel", files.kernel, "--initrd", files.initrd, "--append", "console=ttyS0 panic=-1"],
    async up(machine, from, reset) {
      let at = from;
      // The old kernel may still have answered to what was typed.
      if (reset !== undefined) at += (await machine.console.see(/Linux version/, BOOT_MS, from)).index;
      // A machine that was moved or restored prints its prompt when it is asked to.
      const asked = setInterval(() => machine.console.type("\n"), 2000);
      await prompt(machine.console, at).finally(() => clearInterval(asked));
    },
  };
}

const guest = given.guest === "debian" ? await debian() : await pulse();

/**
 * Resident memory of the machine's process in MiB, without its largest mapping: that is the guest's RAM, of
 * which a guest may touch other pages each time it boots.
 */
function resident(machine: Machine): { guest: number; host: number } {
  const maps = readFileSync(`/proc/${machine.child.pid}/smaps`, "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const kib = (map: string, field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(map)?.[1] ?? 0);
  const all = maps.map((map) => kib(map, "Rss"));
  const writable = maps.filter((map) => / rw-p /.test(map.slice(0, 60)));
  const guest = kib(writable.toSorted((a, b) => kib(b, "Size") - kib(a, "Size"))[0] ?? "", "Rss") / 1024;
  return { guest, host: all.reduce((sum, rss) => sum + rss, 0) / 1024 - guest };
}

/** Takes the readings, and judges them. */
async function grown(count: number, step: (machine: Machine) => Promise<Machine>): Promise<string> {
  let machine = await Machine.start(["run", ...guest.hardware, ...guest.boot], { fromFirstByte: true });
  await guest.up(machine, 0);
  const samples: number[] = [];
  try {
    for (let i = 0; i < count; i++) {
      machine = await step(machine);
      const { guest: ram, host } = resident(machine);
      samples.push(host);
      if (given.count > 0 && i % 10 === 0)
        console.error(`${i}: ${host.toFixed(0)} MiB, and ${ram.toFixed(0)} of the guest's RAM`);
    }
  } finally {
    await machine.kill();
  }
  const quarter = (n: number): number =>
    spread(samples.filter((_, i) => Math.floor((4 * i) / samples.length) === n)).median;
  const growth = quarter(3) - quarter(1);
  const text = `${samples.map((mib) => mib.toFixed(0)).join(" ")} MiB: ${growth.toFixed(1)} MiB more`;
  if (!(growth <= MAX_GROWTH_MIB)) throw new Error(`${text}, at most ${MAX_GROWTH_MIB} are expected`);
  return text;
}

const kinds: Readonly<Record<string, (machine: Machine) => Promise<Machine>>> = {
  async reboots(machine) {
    const from = machine.console.text.length;
    await machine.qmp.execute("system_reset");
    await guest.up(machine, from, "reset");
    return machine;
  },
  async saves(machine) {
    const saved = await wherry(
      ["save", join(directory, "soak"), "--qmp", `unix:${machine.qmpPath}`],
      120_000,
    );
    if (saved.code !== 0) throw new Error(`save: ${saved.err}`);
    return machine;
  },
  async moves(machine) {
    let at = machine;
    for (let i = 0; i < 2; i++) {
      const path = join(directory, `soak-${performance.now()}`);
      const destination = await Machine.start(["run", ...guest.hardware, "--incoming", `unix:${path}`]);
      const from = destination.console.text.length;
      await finishedMove(at, destination).catch(async (error: unknown) => {
        const states = await Promise.all([at, destination].map((each) => each.status()));
        const last = at.console.text.trimEnd().split("\n").at(-1);
        throw new Error(`${(error as Error).message}; source, destination: ${states}; ${last}`, {
          cause: error,
        });
      });
      await at.quit();
      at = destination;
      await guest.up(at, from);
    }
    return at;
  },
};

const wanted = Object.entries(kinds).filter(([name]) => given.only === "" || given.only === name);
const cases = new Cases(`memory over cycles of ${given.guest}`, wanted.length);
for (const [name, step] of wanted) await cases.run(name, limitMs(name), () => grown(countOf(name), step));
cases.end();
