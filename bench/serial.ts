// The serial console of a Debian guest on one hart: how fast a file of 300 KB is printed, under Wherry and
// QEMU in turns.
//   node bench/serial.ts [--rounds N] [--tree CLONE] [--qemu 11.1|none]
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { options } from "../test/support/cases.ts";
import { qemu, type QemuRelease } from "../tools/unpacked.ts";
import { show, spread } from "./figures.ts";
import { BenchMachine, type Monitor, qemuMonitor, wherryMonitor } from "./machines.ts";

const given = options({ rounds: 5, tree: "", qemu: "11.1" });
const guest = await fetchDebianGuest();
const hardware = { harts: 1, memoryMib: 512, kernel: guest.kernel, initrd: guest.initrd };
const monitors: Monitor[] = [wherryMonitor("")];
if (given.tree !== "") monitors.push(wherryMonitor("", given.tree));
if (given.qemu !== "none") {
  const command = await qemu(given.qemu as QemuRelease, "riscv64");
  monitors.push(qemuMonitor(`QEMU ${given.qemu}`, command, guest.opensbi));
}

const LINE = "0123456789".repeat(7);
const COUNT = 4000;
const machines: BenchMachine[] = [];
for (const monitor of monitors) {
  const machine = await BenchMachine.boot(monitor, hardware);
  await machine.run(`i=0; while [ $i -lt ${COUNT} ]; do echo ${LINE} $i; i=$((i+1)); done > /tmp/lines`);
  machines.push(machine);
}
const rates = monitors.map((): number[] => []);
for (let round = 0; round < given.rounds; round++) {
  for (const [i, machine] of machines.entries()) {
    const began = performance.now();
    const { text } = await machine.run("cat /tmp/lines");
    if (!text.includes(`${LINE} ${COUNT - 1}\n`)) throw new Error(`${monitors[i]!.name} lost lines`);
    rates[i]!.push(text.length / (performance.now() - began));
  }
}
for (const machine of machines) await machine.end();

const medians = rates.map((rate) => spread(rate).median);
console.log("| | serial output | of QEMU's |\n|---|---|---|");
for (const [i, { name }] of monitors.entries()) {
  const ratio = given.qemu === "none" ? "–" : `${(medians[i]! / medians.at(-1)!).toFixed(2)}×`;
  console.log(`| ${name} | ${show(spread(rates[i]!), 0, "kB/s")} | ${ratio} |`);
}
process.exit(0);
