// A Debian guest and a server of this host by the user network: iperf3's TCP to the guest and from it, under
// Wherry with the MTU that its DHCP tells and with 1500, and under QEMU's `-netdev user`.
//   node bench/user-network.ts [--seconds N] [--qemu 11.1|none]
import { join } from "node:path";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { directory, options } from "../test/support/cases.ts";
import { qemu, type QemuRelease, unpacked } from "../tools/unpacked.ts";
import { compileGuest, writeInitramfs } from "./build.ts";
import { Iperf3Server, type Iperf3Test } from "./iperf3-server.ts";
import { BenchMachine, type Hardware, type Monitor, qemuMonitor, wherryMonitor } from "./machines.ts";

const given = options({ seconds: 8, qemu: "11.1" });
const guest = await fetchDebianGuest();
const iperf3 = await unpacked({ name: "iperf3", architecture: "riscv64", packages: ["iperf3"] });
const initrd = join(directory, "initrd");
await writeInitramfs(initrd, guest.initrd, await compileGuest(), iperf3);

let last: Iperf3Test = { bytes: 0, seconds: 1 };
const { port } = await Iperf3Server.listen((test) => {
  last = test;
});

interface Case {
  readonly monitor: Monitor;
  readonly mtu: number;
}
const withArguments = (monitor: Monitor, more: readonly string[]): Monitor => ({
  ...monitor,
  arguments: (hardware: Hardware) => [...monitor.arguments(hardware), ...more],
});
const ours = withArguments(wherryMonitor(""), ["--net", "user,host-loopback=on"]);
const cases: Case[] = [
  { monitor: ours, mtu: 65_520 },
  { monitor: ours, mtu: 1500 },
];
if (given.qemu !== "none") {
  const command = await qemu(given.qemu as QemuRelease, "riscv64");
  const monitor = withArguments(qemuMonitor(`QEMU ${given.qemu}`, command, guest.opensbi), [
    ...["-global", "virtio-mmio.force-legacy=false"],
    ...["-netdev", "user,id=n", "-device", "virtio-net-device,netdev=n"],
  ]);
  cases.push({ monitor, mtu: 1500 });
}

/** Mbit/s, and seconds of the machine's processor time for a GB. */
async function measure(machine: BenchMachine, more: string): Promise<{ rate: number; cpu: number }> {
  const before = await machine.cpuNanoseconds();
  await machine.ask(`chroot /debian /usr/bin/iperf3 -c 10.0.2.2 -p ${port} -i 0 -t ${given.seconds} ${more}`);
  const { bytes, seconds } = last;
  return { rate: (bytes * 8) / 1e6 / seconds, cpu: ((await machine.cpuNanoseconds()) - before) / bytes };
}

console.log("| | MTU | to the guest, Mbit/s | CPU s/GB | from the guest, Mbit/s | CPU s/GB |");
console.log("|---|---|---|---|---|---|");
const results: { down: number; up: number }[] = [];
for (const { monitor, mtu } of cases) {
  const hardware = { harts: 1, memoryMib: 256, kernel: guest.kernel, initrd };
  const machine = await BenchMachine.boot(monitor, hardware);
  try {
    await machine.resume();
    await machine.ask(
      "mkdir -p /debian/dev /debian/tmp && mount -o bind /dev /debian/dev && " +
        `ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 mtu ${mtu} up && ip route add default via 10.0.2.2`,
    );
    const down = await measure(machine, "-R");
    const up = await measure(machine, "");
    results.push({ down: down.rate, up: up.rate });
    const cells = [down, up].flatMap(({ rate, cpu }) => [rate.toFixed(0), cpu.toFixed(1)]);
    console.log(`| ${monitor.name} | ${mtu} | ${cells.join(" | ")} |`);
  } finally {
    await machine.end();
  }
}
const theirs = results[2];
if (theirs !== undefined) {
  for (const [i, { down, up }] of results.slice(0, 2).entries()) {
    const ratio = `${(down / theirs.down).toFixed(2)}× to the guest, ${(up / theirs.up).toFixed(2)}× from it`;
    console.log(`\nMTU ${cases[i]!.mtu}: ${ratio}, of QEMU's`);
  }
}
process.exit(0);
