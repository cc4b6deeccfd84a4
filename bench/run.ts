// `npm run bench`: the same programs in the same Debian guest under Wherry and under QEMU, and natively. All machines
// are booted first and take turns, program by program; medians with the spread, ratios, geometric means.
//   node bench/run.ts [--only a,b] [--rounds N] [--quick] [--engine E] [--no-qemu]
import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { fetchDebianGuest } from "../src/guest/debian.ts";
import { options } from "../test/guest/cases.ts";
import { build } from "./build.ts";
import { BenchMachine, qemuMonitor, wherryMonitor } from "./machines.ts";
import { PROGRAMS, type Kernel } from "./programs.ts";

const given = options({ only: "", rounds: 3, quick: false, engine: "", "no-qemu": false });
const rounds = given.quick ? 1 : given.rounds;

const chosen =
  given.only === "" ? PROGRAMS : PROGRAMS.filter(({ name }) => given.only.split(",").includes(name));

const guest = await fetchDebianGuest();
const built = await build(guest.initrd);
process.on("exit", () => rm(built.initrd, { force: true }));
const monitors = [wherryMonitor(given.engine)];
if (!given["no-qemu"]) monitors.push(qemuMonitor("QEMU 7.2", "qemu-system-riscv64", [], guest.opensbi));
const machines = await Promise.all(
  monitors.map(async (monitor) => ({
    name: monitor.name,
    machine: await BenchMachine.boot(monitor, {
      harts: 1,
      memoryMib: 512,
      kernel: guest.kernel,
      initrd: built.initrd,
    }),
  })),
);
const parse = (text: string) => {
  const match = /^(\S+) (\d+) ([0-9a-f]{16})$/m.exec(text);
  if (!match) throw new Error(`no result in ${text}`);
  return { ns: Number(match[2]), sum: match[3] };
};
for (const program of chosen as Kernel[]) {
  const n = given.quick ? Math.max(1, Math.round(program.n / 50)) : program.n;
  for (let round = 0; round < rounds; round++) {
    const native = parse(execFileSync(built.native, [program.name, `${n}`], { encoding: "utf8" }));
    const cells = [`native ${(native.ns / 1e9).toFixed(3)}`];
    for (const { name, machine } of machines) {
      const result = parse(await machine.run(`wbench ${program.name} ${n}`));
      if (result.sum !== native.sum)
        throw new Error(`${program.name}: ${name} ${result.sum}, native ${native.sum}`);
      cells.push(`${name} ${(result.ns / 1e9).toFixed(3)}`);
    }
    console.log(program.name, cells.join("  "));
  }
}
for (const { name, machine } of machines) {
  console.log(name, "peak", await machine.peakMib());
  await machine.end();
}
process.exit(0);
