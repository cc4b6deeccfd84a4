// The network between two Debian guests, with iperf3 of Debian's packages: TCP with its retransmissions, and
// UDP as fast as the sender can, with the frames that the wire lost and the datagrams that were lost with
// those that the receiving guest's own buffers dropped; under Wherry and under QEMU with the same wire, in
// turns. The first round is that of code which has just been translated, or not yet.
//   node bench/network.ts [--seconds N] [--rounds N] [--tree CLONE] [--qemu 11.1|none]
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { directory, options } from "../test/support/cases.ts";
import { qemu, type QemuRelease, unpacked } from "../tools/unpacked.ts";
import { compileGuest, writeInitramfs } from "./build.ts";
import { spread } from "./figures.ts";
import { BenchMachine, type Hardware, type Monitor, qemuMonitor, wherryMonitor } from "./machines.ts";

const given = options({ seconds: 5, rounds: 4, tree: "", qemu: "11.1" });
const guest = await fetchDebianGuest();
const iperf3 = await unpacked({ name: "iperf3", architecture: "riscv64", packages: ["iperf3"] });
const initrd = join(directory, "initrd");
await writeInitramfs(initrd, guest.initrd, await compileGuest(), iperf3);

type End = "listen" | "connect";
type Wired = (end: End, port: number) => Monitor;

const withArguments = (monitor: Monitor, more: readonly string[]): Monitor => ({
  ...monitor,
  arguments: (hardware: Hardware) => [...monitor.arguments(hardware), ...more],
});
const mac = (end: End): string => `52:54:00:00:00:0${end === "listen" ? 1 : 2}`;
const monitors: Wired[] = [
  (end, port) =>
    withArguments(wherryMonitor("", given.tree === "" ? undefined : given.tree), [
      "--net",
      `socket:${end}=127.0.0.1:${port},mac=${mac(end)}`,
    ]),
];
if (given.qemu !== "none") {
  const command = await qemu(given.qemu as QemuRelease, "riscv64");
  monitors.push((end, port) =>
    withArguments(qemuMonitor(`QEMU ${given.qemu}`, command, guest.opensbi), [
      ...["-global", "virtio-mmio.force-legacy=false", "-netdev", `socket,id=n,${end}=127.0.0.1:${port}`],
      ...["-device", `virtio-net-device,netdev=n,mac=${mac(end)}`],
    ]),
  );
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const IPERF3 = "chroot /debian /usr/bin/iperf3";
const number = (text: string, pattern: RegExp): number => {
  const found = pattern.exec(text);
  if (found === null) throw new Error(`no ${pattern} in ${text}`);
  return Number(found[1]);
};

interface Result {
  readonly tcp: number;
  readonly retransmitted: number;
  /** Processor time of both machines for a GB by TCP. */
  readonly cpuPerGb: number;
  readonly udp: number;
  readonly lostFrames: number;
  readonly lostPercent: number;
}

/** Two machines on one wire. They stand still except in their rounds, so that they do not share the cores. */
class Pair {
  readonly name: string;
  readonly #a: BenchMachine;
  readonly #b: BenchMachine;

  private constructor(name: string, a: BenchMachine, b: BenchMachine) {
    this.name = name;
    this.#a = a;
    this.#b = b;
  }

  static async boot(wired: Wired): Promise<Pair> {
    const port = await freePort();
    const hardware = { harts: 1, memoryMib: 256, kernel: guest.kernel, initrd };
    const a = await BenchMachine.boot(wired("listen", port), hardware);
    const b = await BenchMachine.boot(wired("connect", port), hardware);
    const pair = new Pair(wired("listen", 0).name, a, b);
    await pair.#running(async () => {
      const up = (last: number): string =>
        `mkdir -p /debian/dev /debian/tmp && mount -o bind /dev /debian/dev && ip addr add 10.0.0.${last}/24 dev eth0 && ip link set eth0 up`;
      await Promise.all([a.ask(up(1)), b.ask(up(2))]);
      await b.ask(`(while :; do ${IPERF3} -s -1; done > /tmp/server 2>&1 &)`);
      await a.ask("ping -c 2 10.0.0.2");
    });
    return pair;
  }

  round(): Promise<Result> {
    return this.#running(() => this.#measure());
  }

  async end(): Promise<void> {
    await Promise.all([this.#a.end(), this.#b.end()]);
  }

  async #running<T>(task: () => Promise<T>): Promise<T> {
    await Promise.all([this.#a.resume(), this.#b.resume()]);
    const done = await task();
    await Promise.all([this.#a.stop(), this.#b.stop()]);
    return done;
  }

  async #measure(): Promise<Result> {
    const [a, b] = [this.#a, this.#b];
    const client = `${IPERF3} -c 10.0.0.2 -i 0 -f m -t ${given.seconds}`;
    // The server may not yet listen again.
    const run = (command: string): Promise<string> =>
      a.ask(`for i in 1 2 3 4 5; do sleep 1; ${command} && break; done`);
    const cpu = async (): Promise<number> => (await a.cpuNanoseconds()) + (await b.cpuNanoseconds());
    const before = await cpu();
    const tcp = await run(client);
    const cpuSeconds = ((await cpu()) - before) / 1e9;
    const frames = async (): Promise<number> => {
      const counted = async (machine: BenchMachine, name: string): Promise<number> =>
        Number(/\d+/.exec(await machine.ask(`cat /sys/class/net/eth0/statistics/${name}_packets`))?.[0]);
      return (await counted(a, "tx")) - (await counted(b, "rx"));
    };
    const lostBefore = await frames();
    const udp = await run(`${client} -u -b 0 -l 1400`);
    await a.ask("sleep 2");
    return {
      tcp: number(tcp, /([\d.]+) Mbits\/sec +receiver/),
      cpuPerGb: (cpuSeconds * 1000) / number(tcp, /([\d.]+) MBytes [^\n]*receiver/),
      retransmitted: number(tcp, /Mbits\/sec +(\d+) +sender/),
      udp: number(udp, /([\d.]+) Mbits\/sec [^\n]*receiver/),
      lostFrames: (await frames()) - lostBefore,
      lostPercent: number(udp, /\(([\d.e+-]+)%\) +receiver/),
    };
  }
}

console.log(
  "| round | | TCP, Mbit/s | CPU s/GB | retransmitted | UDP received, Mbit/s | lost frames | lost datagrams |",
);
console.log("|---|---|---|---|---|---|---|---|");
const pairs: Pair[] = [];
for (const wired of monitors) pairs.push(await Pair.boot(wired));
const rounds: Result[][] = [];
for (let round = 0; round < given.rounds; round++) {
  const results: Result[] = [];
  for (const pair of pairs) {
    const result = await pair.round();
    results.push(result);
    const { tcp, cpuPerGb, retransmitted, udp, lostFrames, lostPercent } = result;
    console.log(
      `| ${round} | ${pair.name} | ${tcp} | ${cpuPerGb.toFixed(0)} | ${retransmitted} | ${udp} | ${lostFrames} | ${lostPercent} % |`,
    );
  }
  rounds.push(results);
}
await Promise.all(pairs.map((pair) => pair.end()));
const ratios = (of: (result: Result) => number): number[] =>
  rounds.flatMap(([ours, theirs]) =>
    ours === undefined || theirs === undefined ? [] : [of(ours) / of(theirs)],
  );
if (pairs.length === 2) {
  const text = (of: (result: Result) => number): string => {
    const [first, ...warm] = ratios(of);
    const later = warm.length === 0 ? "" : `, then ${spread(warm).median.toFixed(2)}×`;
    return `${(first as number).toFixed(2)}× in the first round${later}`;
  };
  console.log(`\nof QEMU's: TCP ${text(({ tcp }) => tcp)}; UDP ${text(({ udp }) => udp)}`);
  console.log(`processor time for a GB by TCP: ${text(({ cpuPerGb }) => cpuPerGb)}`);
}
process.exit(0);
