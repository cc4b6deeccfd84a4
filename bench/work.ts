// `npm run bench:work`: everyday jobs in a Debian root file system on a virtio disk, with the same image,
// kernel and options under Wherry and QEMU, which take turns for each job; the others' processes are stopped
// meanwhile. Cold: a fresh boot, nothing kept from earlier ones. Warm: all jobs once more in that boot.
// Again: one more fresh boot, with what Wherry keeps between runs. Times are the host's, of what the guest
// prints. Options:
//   --jobs a,b (all) --phases cold,warm,again (cold always runs) --rounds N --harts 1,2,4 --memory MIB
//   --rival 11.1|10.0|7.2|none --tree CLONE (also the Wherry of another tree, a clone that was built)
//   --perf (profiles Wherry, which costs a little) --json FILE --svg FILE (of the first number of harts)
//   --write (docs/benchmarks.md)
import { rm, writeFile } from "node:fs/promises";
import { cpus, loadavg, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { directory, options } from "../test/support/cases.ts";
import { qemu, type QemuRelease } from "../tools/unpacked.ts";
import { writeSection } from "./document.ts";
import { WHERRY } from "./figures.ts";
import { BenchMachine, type Monitor, qemuMonitor, wherryMonitor } from "./machines.ts";
import {
  type JobFigures,
  noSamples,
  type Phase,
  PHASES,
  type WorkFigures,
  workChart,
  workReport,
} from "./work-figures.ts";
import { copyOf, PROMPT, workGuest } from "./work-image.ts";
import { JOBS } from "./work-jobs.ts";

const given = options({
  jobs: "",
  phases: PHASES.join(","),
  rounds: 3,
  harts: "1",
  memory: 1024,
  rival: "11.1",
  tree: "",
  perf: false,
  json: "",
  svg: "",
  write: false,
});

/** The members of a list given as text, or ends the process. */
function chosen<T extends string>(text: string, all: readonly T[], what: string): T[] {
  const names = text.split(",").filter((name) => name !== "");
  const unknown = names.filter((name) => !(all as readonly string[]).includes(name));
  if (unknown.length > 0) {
    console.error(`no ${what} ${unknown.join(", ")}; there are: ${all.join(" ")}`);
    process.exit(2);
  }
  return names.length === 0 ? [...all] : all.filter((name) => names.includes(name));
}

const names = chosen(
  given.jobs,
  JOBS.map(({ name }) => name),
  "job",
);
const jobs = JOBS.filter(({ name }) => names.includes(name));
const phases = chosen(given.phases, PHASES, "phase");
const hartCounts = chosen(given.harts, ["1", "2", "4"], "number of harts").map(Number);
const load = (loadavg()[0] ?? 0).toFixed(1);

const guest = await workGuest();
const monitors: Monitor[] = [];
if (given.rival !== "none") {
  const release = given.rival as QemuRelease;
  monitors.push(qemuMonitor(`QEMU ${release}`, await qemu(release, "riscv64"), guest.opensbi));
}
if (given.tree !== "") monitors.push(wherryMonitor("", resolve(given.tree)));
monitors.push(wherryMonitor(""));

/** A monitor's machine of one boot; between its jobs nothing of its process runs. */
async function boot(monitor: Monitor, harts: number, cache: string): Promise<BenchMachine> {
  const disk = join(directory, `${monitors.indexOf(monitor)}.img`);
  await copyOf(guest, disk);
  const { kernel, initrd } = guest;
  const environment = { XDG_CACHE_HOME: cache };
  const hardware = { harts, memoryMib: given.memory, kernel, initrd, disk, prompt: PROMPT, environment };
  const machine = await BenchMachine.boot(monitor, hardware);
  await machine.run("dmesg -n 1; bind 'set enable-bracketed-paste off'; export PAGER=cat; cd /work");
  await machine.freeze();
  return machine;
}

function take(into: Record<string, { seconds: number[]; guestSeconds: number[] }>, column: string) {
  return (into[column] ??= { seconds: [], guestSeconds: [] });
}

/** All jobs once, in each machine. */
async function pass(
  machines: readonly BenchMachine[],
  phase: Phase,
  figures: readonly JobFigures[],
): Promise<void> {
  for (const [i, { name, command }] of jobs.entries()) {
    const job = figures[i] as JobFigures;
    const cells: string[] = [];
    for (const [m, machine] of machines.entries()) {
      const column = (monitors[m] as Monitor).name;
      if (job.failures[column] !== undefined) continue;
      const profiled = given.perf && column === WHERRY;
      await machine.thaw();
      try {
        if (profiled) await machine.startPerf();
        const { seconds, guestSeconds, checksum } = await machine.time(command);
        if (profiled) job.perf[phase] = await machine.takePerf();
        job.checksum ??= checksum;
        if (checksum !== job.checksum)
          throw new Error(`its output has the checksum ${checksum}, that of the first run ${job.checksum}`);
        const samples = take(job.phases[phase], column);
        samples.seconds.push(seconds);
        samples.guestSeconds.push(guestSeconds);
        cells.push(`${column} ${seconds.toFixed(3)}`);
      } catch (error) {
        job.failures[column] = (error as Error).message.replaceAll(/\s+/g, " ");
        cells.push(`${column} FAILED: ${job.failures[column]}`);
      }
      await machine.freeze();
    }
    console.log(`${phase} ${name}: ${cells.join(", ")}`);
  }
}

const figures: JobFigures[] = [];
const boots: WorkFigures["boots"][number][] = [];
for (const harts of hartCounts) {
  const ofHarts = jobs.map(
    ({ name }): JobFigures => ({ name, harts, phases: noSamples(), perf: {}, failures: {} }),
  );
  const booted = { harts, phases: noSamples() };
  figures.push(...ofHarts);
  boots.push(booted);
  const bootAll = async (phase: Phase, cache: string): Promise<BenchMachine[]> => {
    const machines: BenchMachine[] = [];
    for (const monitor of monitors) {
      const machine = await boot(monitor, harts, join(cache, String(monitors.indexOf(monitor))));
      const samples = take(booted.phases[phase], monitor.name);
      samples.seconds.push(machine.bootSeconds);
      samples.guestSeconds.push(machine.bootSeconds);
      console.log(`${phase} boot, ${harts} harts: ${monitor.name} ${machine.bootSeconds.toFixed(2)}`);
      machines.push(machine);
    }
    return machines;
  };
  for (let round = 1; round <= given.rounds; round++) {
    console.log(`round ${round} of ${given.rounds}, ${harts} harts`);
    const cache = join(directory, `cache-${harts}-${round}`);
    for (const first of phases.includes("again") ? (["cold", "again"] as const) : (["cold"] as const)) {
      const machines = await bootAll(first, cache);
      await pass(machines, first, ofHarts);
      if (first === "cold" && phases.includes("warm")) await pass(machines, "warm", ofHarts);
      for (const machine of machines) {
        await machine.thaw();
        await machine.quit();
      }
    }
    await rm(cache, { recursive: true, force: true });
  }
}

const result: WorkFigures = {
  host: `${cpus().length} × ${cpus()[0]?.model.trim()}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Node ${process.version}, load ${load}`,
  guest: `Debian's ${guest.version}, ${given.memory} MiB, virtio-blk on a raw image`,
  rounds: given.rounds,
  columns: monitors.map(({ name }) => name),
  jobs: figures,
  boots,
};
const text = workReport(result);
console.log(`\n${text}`);
if (given.json !== "") await writeFile(given.json, `${JSON.stringify(result, undefined, 2)}\n`);
if (given.svg !== "") await writeFile(given.svg, workChart(result, hartCounts[0] as number));
if (given.write) await writeSection("work", text);
process.exit(figures.some(({ failures }) => Object.keys(failures).length > 0) ? 1 : 0);
