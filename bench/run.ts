// `npm run bench`: the same programs in the same Debian guest under Wherry and two QEMUs, and natively. All
// machines boot first and then take turns, program by program, so that changes of the host's load affect all
// of them. Also boot time and memory. Options:
//   --only a,b (programs, or `boot`) --rounds N --engine E --no-qemu --no-native --memory MIB --quick
//   --perf (one more run of each program under Wherry, with profiling)
//   --clock cpu (processor time of the processes, not the programs' own clock; for a busy host)
//   --against DIR (also the Wherry of another tree, a clone that was built: shows the effect of a change)
//   --json FILE --svg FILE --write (docs/benchmarks.md) --initrd FILE (write the guest's initramfs, then
// exit)
import { execFileSync } from "node:child_process";
import { copyFile, writeFile } from "node:fs/promises";
import { cpus, loadavg, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { type DebianGuest, fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { perfTable } from "../src/cli/output/perf-table.ts";
import { DEFAULT_ENGINE } from "../src/hypervisor/shared/engine-kind.ts";
import type { PerfInfo } from "../src/monitor/perf-commands.ts";
import { directory, options } from "../test/support/cases.ts";
import { compileGuest, compileNative, dataFile, writeInitramfs } from "./build.ts";
import { chart } from "./chart.ts";
import { guestPrograms, hostPrograms, newQemu } from "./debian.ts";
import { writeSection } from "./document.ts";
import {
  type BootFigures,
  type Figures,
  type MemoryFigures,
  NATIVE,
  type ProgramFigures,
  report,
} from "./figures.ts";
import { BenchMachine, type Monitor, qemuMonitor, wherryMonitor } from "./machines.ts";
import { guestCommand, type Host, hostCommand, parseResult, type Result } from "./program-commands.ts";
import { type Program, PROGRAMS } from "./programs.ts";

const given = options({
  only: "",
  rounds: 3,
  engine: "",
  clock: "guest",
  "no-qemu": false,
  "no-native": false,
  against: "",
  memory: 512,
  quick: false,
  perf: false,
  json: "",
  svg: "",
  write: false,
  initrd: "",
});
const rounds = given.quick ? 1 : given.rounds;
/** Scale of the iterations. */
const scale = given.quick ? 1 / 50 : 1;
/** The first line tells what failed; the rest is for debugging. */
const why = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).trim().split("\n", 1)[0] as string;

// ---- programs and machines ----

function choose(): { programs: Program[]; boot: boolean } {
  const names = given.only.split(",").filter((name) => name !== "");
  const unknown = names.filter((name) => name !== "boot" && !PROGRAMS.some((p) => p.name === name));
  if (unknown.length > 0) {
    console.error(
      `no program ${unknown.join(", ")}; there are: boot ${PROGRAMS.map((p) => p.name).join(" ")}`,
    );
    process.exit(2);
  }
  // A quick run needs no packages.
  const all = given.quick ? PROGRAMS.filter((p) => p.kind === "kernel") : PROGRAMS;
  if (names.length === 0) return { programs: [...all], boot: !given.quick };
  return { programs: PROGRAMS.filter((p) => names.includes(p.name)), boot: names.includes("boot") };
}

/** Reports and omits what is not available. */
async function orWithout<T>(what: string, get: () => Promise<T>): Promise<T | undefined> {
  try {
    return await get();
  } catch (error) {
    console.log(`without ${what}: ${why(error)}`);
    return undefined;
  }
}

/** "QEMU 11.1", or undefined if it does not start. */
function qemuName(command: readonly string[]): string | undefined {
  try {
    const text = execFileSync(command[0] as string, [...command.slice(1), "--version"], { encoding: "utf8" });
    return `QEMU ${/version (\d+\.\d+)/.exec(text)?.[1]}`;
  } catch {
    return undefined;
  }
}

async function chooseMonitors(guest: DebianGuest): Promise<Monitor[]> {
  const monitors: Monitor[] = [];
  if (!given["no-qemu"]) {
    const system = ["qemu-system-riscv64"];
    const newer = given.quick ? undefined : await orWithout("QEMU from the backports", newQemu);
    for (const command of [system, ...(newer ? [newer] : [])]) {
      const name = qemuName(command);
      if (name === undefined) console.log(`without ${command[0]}: it does not start`);
      else if (!monitors.some((monitor) => monitor.name === name))
        monitors.push(qemuMonitor(name, command, guest.opensbi));
    }
  }
  if (given.against !== "") monitors.push(wherryMonitor(given.engine, resolve(given.against)));
  return [...monitors, wherryMonitor(given.engine)];
}

/** Undefined if the host lacks the program. */
function runNative(program: Program, host: Host): Result | undefined {
  const [command, ...rest] = hostCommand(program, scale, host) ?? [];
  if (command === undefined) return undefined;
  const text = execFileSync(command, rest, {
    encoding: "utf8",
    env: { PATH: process.env["PATH"] ?? "", OPENSSL_CONF: "/dev/null" },
    stdio: ["ignore", "pipe", program.kind === "speed" ? "ignore" : "inherit"],
  });
  return parseResult(program, text);
}

// ---- the runs ----

/** A monitor and its machines by number of harts; a machine that fails is booted again. */
class Rival {
  readonly monitor: Monitor;
  readonly #kernel: string;
  readonly #initrd: string;
  readonly #machines = new Map<number, BenchMachine>();
  /** A failing boot takes minutes: it is not tried again. */
  #cannotBoot: Error | undefined;

  constructor(monitor: Monitor, kernel: string, initrd: string) {
    this.monitor = monitor;
    this.#kernel = kernel;
    this.#initrd = initrd;
  }

  async machine(harts: number): Promise<BenchMachine> {
    const present = this.#machines.get(harts);
    if (present) return present;
    if (this.#cannotBoot) throw this.#cannotBoot;
    const hardware = { harts, memoryMib: given.memory, kernel: this.#kernel, initrd: this.#initrd };
    const machine = await BenchMachine.boot(this.monitor, hardware).catch((error: Error) => {
      this.#cannotBoot = error;
      throw error;
    });
    this.#machines.set(harts, machine);
    return machine;
  }

  async run(program: Program): Promise<Result> {
    // A quick run boots one machine for all programs.
    const harts = given.quick ? 2 : program.harts;
    const machine = await this.machine(harts);
    try {
      const { text, cpuNanoseconds } = await machine.run(guestCommand(program, scale));
      return parseResult(program, text, cpuNanoseconds);
    } catch (error) {
      await machine.end();
      this.#machines.delete(harts);
      throw error;
    }
  }

  async perf(program: Program): Promise<PerfInfo> {
    return (await this.machine(program.harts)).runCounted(guestCommand(program, scale));
  }

  async end(): Promise<MemoryFigures[]> {
    const figures: MemoryFigures[] = [];
    for (const [harts, machine] of this.#machines) {
      const { peak: peakMib } = await machine.memory();
      figures.push({ column: this.monitor.name, harts, guestMib: given.memory, peakMib });
      await machine.end();
    }
    return figures;
  }
}

async function runPrograms(
  programs: readonly Program[],
  host: Host,
  rivals: readonly Rival[],
): Promise<ProgramFigures[]> {
  const figures = programs.map(
    ({ name, harts }): ProgramFigures => ({ name, harts, samples: {}, cpu: {}, failures: {} }),
  );
  for (let round = 1; round <= rounds; round++)
    for (const [i, program] of programs.entries()) {
      const { samples, cpu, failures } = figures[i] as ProgramFigures;
      let expected: Result | undefined;
      const take = async (column: string, measure: () => Promise<Result | undefined>): Promise<string> => {
        if (failures[column] !== undefined) return "failed";
        try {
          const result = await measure();
          if (result === undefined) return "–";
          expected ??= result;
          if (result.checksum !== expected.checksum)
            throw new Error(`checksum ${result.checksum}, where the first one had ${expected.checksum}`);
          (samples[column] ??= []).push(result.nanoseconds);
          (cpu[column] ??= []).push(result.cpuNanoseconds);
          return ((given.clock === "cpu" ? result.cpuNanoseconds : result.nanoseconds) / 1e9).toFixed(3);
        } catch (error) {
          failures[column] = why(error);
          return `FAILED: ${why(error)}`;
        }
      };
      const cells: string[] = [];
      if (!given["no-native"])
        cells.push(`${NATIVE} ${await take(NATIVE, async () => runNative(program, host))}`);
      for (const each of rivals)
        cells.push(`${each.monitor.name} ${await take(each.monitor.name, () => each.run(program))}`);
      console.log(`${round}/${rounds} ${program.name}: ${cells.join(", ")}`);
    }
  return figures;
}

async function runBoots(monitors: readonly Monitor[], guest: DebianGuest): Promise<BootFigures[]> {
  const figures: BootFigures[] = [];
  for (const harts of [1, 4]) {
    const samples: Record<string, number[]> = {};
    const cpu: Record<string, number[]> = {};
    for (let round = 1; round <= rounds; round++)
      for (const monitor of monitors) {
        const { kernel, initrd } = guest;
        const machine = await BenchMachine.boot(monitor, { harts, memoryMib: given.memory, kernel, initrd });
        (samples[monitor.name] ??= []).push(machine.bootSeconds);
        (cpu[monitor.name] ??= []).push(machine.bootCpuSeconds);
        await machine.end();
        console.log(
          `${round}/${rounds} boot, ${harts} harts: ${monitor.name} ${machine.bootSeconds.toFixed(2)}`,
        );
      }
    figures.push({ harts, samples, cpu });
  }
  return figures;
}

// ---- main ----

const load = (loadavg()[0] ?? 0).toFixed(1);
const { programs, boot } = choose();
const guest = await fetchDebianGuest();
const initrd = join(directory, "initrd.cpio");
const needPackages = programs.some(({ kind }) => kind !== "kernel");
const packages = needPackages ? await orWithout("Debian's programs", guestPrograms) : undefined;
await writeInitramfs(initrd, guest.initrd, await compileGuest(), packages);
if (given.initrd !== "") {
  await copyFile(initrd, given.initrd);
  console.log(`kernel ${guest.kernel}, initrd ${given.initrd}`);
  process.exit(0);
}
const host: Host = {
  wbench: await compileNative(),
  packages:
    packages && !given["no-native"] ? await orWithout("Debian's programs natively", hostPrograms) : undefined,
  data: join(directory, "data"),
};
await writeFile(host.data, dataFile());
const possible = programs.filter(({ kind }) => kind === "kernel" || packages !== undefined);

const monitors = await chooseMonitors(guest);
const rivals = monitors.map((monitor) => new Rival(monitor, guest.kernel, initrd));
const programFigures = await runPrograms(possible, host, rivals);
if (given.perf)
  for (const [i, program] of possible.entries()) {
    const info = await orWithout(`counts of ${program.name}`, async () => rivals.at(-1)?.perf(program));
    if (info === undefined) continue;
    (programFigures[i] as ProgramFigures).perf = info;
    console.log(`${program.name}, ${perfTable(info)}`);
  }
const memory: MemoryFigures[] = [];
for (const each of rivals) memory.push(...(await each.end()));
const figures: Figures = {
  host: `${cpus().length} × ${cpus()[0]?.model.trim()}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}, load ${load}`,
  guest: `Debian's ${guest.version}, ${given.memory} MiB`,
  engine: given.engine === "" ? DEFAULT_ENGINE : given.engine,
  clock: given.clock === "cpu" ? "cpu" : "guest",
  rounds,
  columns: monitors.map(({ name }) => name),
  programs: programFigures,
  boots: boot ? await runBoots(monitors, guest) : [],
  memory,
};
const text = report(figures);
console.log(`\n${text}`);
if (given.json !== "") await writeFile(given.json, `${JSON.stringify(figures, undefined, 2)}\n`);
if (given.svg !== "") await writeFile(given.svg, chart(figures));
if (given.write) await writeSection("programs", text);
process.exit(programFigures.some(({ failures }) => Object.keys(failures).length > 0) ? 1 : 0);
