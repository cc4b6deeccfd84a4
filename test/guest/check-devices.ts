// `npm run check:devices`: a Debian guest uses its devices: disk, entropy, network, clock, console,
// power-off. Two guests are connected by a network and one of them is moved; a machine is killed, and its
// disks must have all writes that it reported to its guest, ext4's journal on a qcow2 image recovers, and
// discard has freed space; a guest panics and finds its devices reset; a
// guest has virtio-mmio version 1.
//   --only guests|killed|legacy|hotplug for one part; --harts H and --seconds S for hotplug
import { setTimeout as sleep } from "node:timers/promises";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { withoutKernelLog } from "../../src/guest/kernel-log.ts";
import { createMachine } from "../../src/node/index.ts";
import { Random } from "../support/random.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { until } from "../support/wait.ts";
import { BOOT_MS, debian, debianHardware, prompt, seeWords, shell } from "../support/debian.ts";
import { Console, killAll, Machine, wherry } from "../support/machine.ts";
import { finishedMove, moveLine } from "./move.ts";

const given = options({ only: "", harts: 4, seconds: 15 });
const random = new Random(given.seed);
const MIB = 2 ** 20;
const STEP_MS = 120_000;

const parts: Record<string, { readonly cases: number; readonly run: () => Promise<void> }> = {
  guests: { cases: 10, run: twoGuests },
  killed: { cases: 6, run: killed },
  legacy: { cases: 2, run: legacy },
  hotplug: { cases: 3, run: hotplug },
};
const wanted = Object.entries(parts).filter(([name]) => given.only === "" || name === given.only);
const cases = new Cases(
  `devices of Debian guests, seed ${given.seed}`,
  wanted.reduce((sum, [, part]) => sum + part.cases, 0),
);
// ---- common parts of the cases ----

/** A raw image with this content, filled up with zeros. */
function image(name: string, bytes: number, content = ""): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  truncateSync(path, bytes);
  return path;
}

/** The output of `seq FIRST LAST`. */
function seq(first: number, last: number): string {
  return `${Array.from({ length: last - first + 1 }, (_, i) => first + i).join("\n")}\n`;
}

function md5(data: string | Uint8Array): string {
  return createHash("md5").update(data).digest("hex");
}

function expect(what: string, found: unknown, expected: unknown): void {
  if (found === expected) return;
  throw new Error(`${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

/** A free port below the ephemeral range, so that no other process gets it by chance. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + random.int(10_000);
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("listening", () => resolve(true));
      server.once("error", () => resolve(false));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

function boot(harts: number, devices: readonly string[], append = ""): Promise<Machine> {
  const guest = ["--kernel", debian.kernel, "--initrd", debian.initrd];
  const command = ["--append", `console=ttyS0 panic=-1 ${append}`.trim()];
  return Machine.start(["run", ...debianHardware(harts, "builtin"), ...guest, ...command, ...devices], {
    fromFirstByte: true,
  });
}

/** Waits for the shell and sets a terminal width at which its line editor keeps long commands on one line. */
async function ready(console: Console, from = 0): Promise<void> {
  await prompt(console, from);
  await shell(console, "stty cols 2000");
}

/** The first word of a command's output. */
async function word(console: Console, command: string): Promise<string> {
  return (await shell(console, command)).split(/\s/)[0] ?? "";
}

/** Runs a command that must fail; returns its output. */
async function refused(console: Console, command: string): Promise<string> {
  return shell(console, `if ${command} 2>&1; then false; else true; fi`);
}

/** Waits until the process ends by itself. */
async function endsWith(machine: Machine, code: number): Promise<void> {
  const exit = await machine.ends(60_000);
  if (exit.code !== code) throw new Error(`ended with ${exit.code ?? exit.signal}: ${machine.complaints}`);
}

const MOUNT = "modprobe ext4 && mount -t ext4 /dev/vda /mnt";
/** The checksum of all files. */
const FILES = "(cd /mnt; find a busybox -type f | sort | xargs md5sum | md5sum)";
/** Makes a file system with files; returns their checksum. */
async function makeFiles(console: Console): Promise<string> {
  await shell(console, `mke2fs -q /dev/vda > /dev/null`);
  return await fillFiles(console);
}

async function fillFiles(console: Console): Promise<string> {
  await shell(console, MOUNT);
  await shell(
    console,
    "mkdir /mnt/a; for i in 1 2 3 4 5 6 7 8; do head -c ${i}0001 /dev/urandom > /mnt/a/$i; done; cp /bin/busybox /mnt",
  );
  await shell(console, "sync");
  return word(console, FILES);
}

// ---- two guests and a network ----

async function twoGuests(): Promise<void> {
  const [data, fixed, third] = [
    image("data", 64 * MIB),
    image("fixed", MIB, seq(1, 9999)),
    image("third", 4 * MIB),
  ];
  const port = await freePort();
  const drives = [`file=${data}`, `file=${fixed},readonly=on`, `file=${third}`].flatMap((d) => [
    "--drive",
    d,
  ]);
  const wire = ["--net", `socket:connect=127.0.0.1:${port},mac=52:54:00:00:00:02`];
  let a!: Machine;
  let b!: Machine;

  const booted = await cases.run("two guests boot", BOOT_MS, async () => {
    const first = [...drives, "--net", `socket:listen=127.0.0.1:${port}`, "--rng"];
    [a, b] = await Promise.all([boot(2, first, "iomem=relaxed"), boot(1, wire)]);
    await Promise.all([ready(a.console), ready(b.console)]);
    return "both are in their shells";
  });
  if (!booted) return;

  await cases.run("disks", STEP_MS, async () => {
    const disks = await shell(
      a.console,
      "cd /sys/block; for d in vd*; do echo $d $(cat $d/size $d/ro $d/serial); done; cd",
    );
    expect("disks", disks.replaceAll("\n", ", "), "vda 131072 0, vdb 2048 1, vdc 8192 0");
    const text = seq(1, 9999);
    expect("contents", await word(a.console, `head -c ${text.length} /dev/vdb | md5sum`), md5(text));
    return "sizes, read-only mark, contents of three";
  });

  await cases.run("a read-only disk", STEP_MS, async () => {
    await refused(a.console, "dd if=/dev/zero of=/dev/vdb count=1 conv=fsync");
    await refused(a.console, "mke2fs -q /dev/vdb");
    const text = seq(1, 9999);
    expect("image", md5(readFileSync(fixed).subarray(0, text.length)), md5(text));
    return "refuses writes";
  });

  await cases.run("a file system", STEP_MS, async () => {
    const before = await makeFiles(a.console);
    await shell(a.console, `umount /mnt && echo 3 > /proc/sys/vm/drop_caches && ${MOUNT}`);
    expect("files after mounting again", await word(a.console, FILES), before);
    await shell(a.console, `mv /mnt/a/8 /tmp && sync && fstrim /mnt && umount /mnt && ${MOUNT}`);
    await shell(a.console, "cp /tmp/8 /mnt/a && sync && echo 3 > /proc/sys/vm/drop_caches");
    expect("files after trimming", await word(a.console, FILES), before);
    await shell(a.console, "blkdiscard /dev/vdc && seq 1 20000 | dd of=/dev/vdc conv=fsync 2> /dev/null");
    const written = seq(1, 20_000);
    expect("image after discard", md5(readFileSync(third).subarray(0, written.length)), md5(written));
    return "same files after umount, trim and drop_caches";
  });

  await cases.run("entropy", STEP_MS, async () => {
    expect("source", await word(a.console, "cat /sys/class/misc/hw_random/rng_current"), "virtio_rng.0");
    const sums = await shell(
      a.console,
      "for i in 1 2; do head -c 4096 /dev/hwrng | tee /tmp/r | md5sum; done",
    );
    expect("different draws", new Set(sums.split("\n")).size, 2);
    const kinds = await word(a.console, "hexdump -ve '/1 \"%d\\n\"' /tmp/r | sort -u | wc -l");
    if (Number(kinds) < 250) throw new Error(`4096 random bytes have ${kinds} values`);
    return `${kinds} values in 4096 bytes`;
  });

  await cases.run("clock and alarm", STEP_MS, async () => {
    // The difference of a guest time from the host's time during the query. Both the time and the clock have
    // a resolution of one second.
    const off = async (what: string, ask: () => Promise<number>): Promise<string> => {
      const began = Date.now() / 1000;
      const found = await ask();
      const ended = Date.now() / 1000;
      const seconds = found < began ? found - began : Math.max(0, found - ended);
      if (!(Math.abs(seconds) < 3))
        throw new Error(`${what} is ${found}, the host's time ${began} to ${ended}`);
      return seconds.toFixed(1);
    };
    const guestOff = await off("the guest's time", async () => Number(await word(a.console, "date +%s")));
    const rtcOff = await off("the RTC", async () => {
      const time = await shell(a.console, "TZ=UTC hwclock -u -r");
      return Date.parse(`${time.replace(/ +0\.0+ seconds$/, "")} UTC`) / 1000;
    });
    // The driver has no wakealarm, but it has an interrupt handler.
    const irqs = "awk '/rtc/ { print $2 + $3 }' /proc/interrupts";
    expect("alarms before", await word(a.console, irqs), "0");
    const low = "t=$(devmem 0x101000); h=$(devmem 0x101004)";
    const alarm =
      "n=$((h * 4294967296 + t + 1000000000)); devmem 0x10100c 32 $((n >> 32)); devmem 0x101010 32 1";
    await shell(a.console, `${low}; ${alarm}; devmem 0x101008 32 $((n & 4294967295))`);
    await shell(a.console, `until [ $(${irqs}) -gt 0 ]; do sleep 0.1; done; sleep 1`);
    expect("alarms", await word(a.console, irqs), "1");
    return `guest ${guestOff} s, RTC ${rtcOff} s off; the alarm rang once`;
  });

  await cases.run("console", 3 * STEP_MS, async () => {
    const { console } = a;
    const text = seq(1, 20_000).slice(0, 100_000);
    const from = console.text.length;
    // In parts: the guest's kernel buffers 64 kB for a reader that is not scheduled, and drops the rest.
    const part = "echo READY$i; head -c 25000 >> /tmp/paste";
    console.type(
      `stty raw -echo; for i in 0 1 2 3; do ${part}; done; stty sane; stty cols 2000; echo DONE\n`,
    );
    let pasted = 0;
    for (let i = 0; i < 4; i++) {
      await seeWords(console, new RegExp(`\\nREADY${i}`), 60_000, from);
      const began = performance.now();
      console.type(text.slice(i * 25_000, (i + 1) * 25_000));
      await seeWords(console, i < 3 ? new RegExp(`\\nREADY${i + 1}`) : /\nDONE\r?\n/, 60_000, from);
      pasted += performance.now() - began;
    }
    expect("a paste of 100 kB", await word(console, "md5sum /tmp/paste"), md5(text));
    const start = performance.now();
    const before = console.text.length;
    // Long lines: each line end costs the guest one more interrupt.
    console.type("seq 1 165000 | tr '\\n' ' '; echo EN''D\n");
    const [printed] = await seeWords(console, /\n1 2 [^]*END/, 2 * STEP_MS, before);
    const expected = `\n${seq(1, 165_000).replaceAll("\n", " ")}END`;
    expect("1 MB of output", md5(printed), md5(expected));
    const rate = 1.04e6 / (performance.now() - start);
    return `100 kB in: ${(1e5 / pasted).toFixed(0)} kB/s, 1 MB out: ${rate.toFixed(0)} kB/s`;
  });

  await cases.run("a wire between two guests", STEP_MS, async () => {
    const up = (machine: Machine, last: number): Promise<string> =>
      shell(
        machine.console,
        `ip addr add 10.0.0.${last}/24 dev eth0 && ip link set eth0 up && mkdir -p /tmp/www`,
      );
    await Promise.all([up(a, 1), up(b, 2)]);
    const pings = await shell(a.console, "ping -c 3 -W 5 10.0.0.2");
    if (!pings.includes("3 packets received")) throw new Error(pings);
    const sums: string[] = [];
    for (const { console } of [a, b]) {
      await shell(console, "head -c 2000000 /dev/urandom > /tmp/www/f && httpd -h /tmp/www");
      sums.push(await word(console, "md5sum /tmp/www/f"));
    }
    const got = (machine: Machine, last: number): Promise<string> =>
      word(machine.console, `wget -q -O - http://10.0.0.${last}/f | md5sum`);
    const began = performance.now();
    const [atA, atB] = await Promise.all([got(a, 2), got(b, 1)]);
    expect("file from b", atA, sums[1]);
    expect("file from a", atB, sums[0]);
    return `ping, 2 MB each way at once: ${(4000 / (performance.now() - began)).toFixed(1)} MB/s in all`;
  });

  await cases.run("a guest moves with its wire", STEP_MS, async () => {
    // The side that connects can move: its new process retries until the listener's old peer has
    // disconnected. The transfer continues until /tmp/stop exists, so that a fast guest does not finish
    // before the move.
    const send = "#!/bin/sh\\nwhile [ ! -f /tmp/stop ]; do cat /tmp/www/f; done | tee /tmp/copy\\n";
    await shell(a.console, `mkfifo /tmp/copy; printf '${send}' > /tmp/send; chmod +x /tmp/send`);
    await shell(a.console, "md5sum < /tmp/copy > /tmp/sent & nc -l -p 9000 -e /tmp/send < /dev/null & true");
    await shell(a.console, "until netstat -ltn | grep -q :9000; do sleep 0.1; done");
    const sent = async (): Promise<number> =>
      Number(await word(a.console, "cat /sys/class/net/eth0/statistics/tx_bytes"));
    const flows = async (when: string): Promise<void> => {
      const before = await sent();
      await until(STEP_MS, `${when}: 500 kB`, async () => (await sent()) > before + 500_000);
    };
    const from = b.console.text.length;
    b.console.type("(nc 10.0.0.1 9000 < /dev/null | md5sum > /tmp/sum; touch /tmp/got) & n=0; ");
    b.console.type("while [ ! -f /tmp/got ]; do seq -s ' ' $n $((n+499)); n=$((n+500)); done; ");
    b.console.type("wait; cat /tmp/sum; echo EN''D\n");
    const destination = await Machine.start([
      ...["run", ...debianHardware(1, "builtin"), ...wire, "--incoming", `unix:${join(directory, "move")}`],
    ]);
    await flows("before the move");
    const report = await finishedMove(b, destination);
    const began = performance.now();
    const source = b;
    b = destination;
    await source.quit();
    await flows("after the move");
    await shell(a.console, "touch /tmp/stop");
    await seeWords(b.console, /\nEND/, STEP_MS);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    const printed = withoutKernelLog(source.console.text.slice(from) + b.console.text);
    const lines = [...printed.matchAll(/\n([\d ]+)(?=\r?\n)/g)].map(([, line]) => line);
    const wrong = lines.findIndex(
      (line, i) =>
        line !==
        seq(500 * i, 500 * i + 499)
          .trim()
          .replaceAll("\n", " "),
    );
    if (wrong >= 0) throw new Error(`line ${wrong} of what it printed on both sides: ${lines[wrong]}`);
    const sum = await word(a.console, "until [ -s /tmp/sent ]; do sleep 0.1; done; cat /tmp/sent");
    if (!printed.includes(`\n${sum}  -`)) throw new Error(`the transfer's checksum is not ${sum}`);
    return `${moveLine(report)}; the transfer went on for ${seconds} s, intact, as ${lines.length} long lines meanwhile`;
  });

  await cases.run("ways out", BOOT_MS, async () => {
    const from = b.console.text.length;
    b.console.type("reboot -f\n");
    // Its kernel came with it.
    const { index } = await b.console.see(/Linux version/, BOOT_MS, from);
    await ready(b.console, from + index);
    b.console.type("poweroff -f\n");
    await endsWith(b, 0);
    await shell(a.console, "sync");
    a.console.type("halt -f\n");
    await endsWith(a, 0);
    return "halt: 0; a moved guest reboots, and powers off: 0";
  });
}

// ---- a killed machine ----

/** A tool's output. Throws what it says if it fails, which `check` of leaked clusters does not. */
function tool(name: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(name, args, { encoding: "utf8" });
  if (error !== undefined) throw error;
  if (status === 0 || (args[0] === "check" && status === 3)) return stdout;
  throw new Error(`${name} ${args.join(" ")} ended with ${status}: ${stdout}${stderr}`);
}

/** Bytes that a file takes on the host. */
const spaceOf = (path: string): number => statSync(path).blocks * 512;

async function killed(): Promise<void> {
  // The files are in a qcow2 image over a raw one that has an ext4 with a journal.
  const [base, raw, forgotten] = [
    image("base", 64 * MIB),
    image("raw", 48 * MIB),
    image("forgotten", MIB, "as before"),
  ];
  tool("mke2fs", "-q", "-t", "ext4", base);
  const baseSum = md5(readFileSync(base));
  const files = join(directory, "files.qcow2");
  tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", files);
  const drives = [files, raw, `${forgotten},snapshot=on`].flatMap((file) => ["--drive", `file=${file}`]);
  let machine!: Machine;
  let sum = "";
  let last = 0;
  const start = async (): Promise<void> => {
    machine = await boot(2, drives);
    await ready(machine.console);
  };

  const made = await cases.run("a guest writes", BOOT_MS, async () => {
    await start();
    sum = await fillFiles(machine.console);
    await shell(machine.console, "dd if=/dev/urandom of=/dev/vdc bs=512 count=64 conv=fsync 2> /dev/null");
    return "files in a qcow2 image, synced";
  });
  if (!made) return;

  await cases.run("discard frees space", STEP_MS, async () => {
    const { console } = machine;
    await shell(console, "dd if=/dev/urandom of=/mnt/large bs=1M count=24 conv=fsync 2> /dev/null");
    await shell(console, "dd if=/dev/urandom of=/dev/vdb bs=1M seek=20 count=24 conv=fsync 2> /dev/null");
    const before = [files, raw].map(spaceOf);
    await shell(console, "rm /mnt/large; sync; fstrim /mnt; blkdiscard -o 20M -l 24M /dev/vdb; sync");
    const freed = [files, raw].map((path, i) => (before[i] ?? 0) - spaceOf(path));
    const report = freed.map((bytes) => `${Math.round(bytes / MIB)} MiB`).join(" of the qcow2 image, ");
    if (freed.some((bytes) => bytes < 20 * MIB)) throw new Error(`only ${report} of the raw one were freed`);
    expect("files", await word(console, FILES), sum);
    return `${report} of the raw one`;
  });

  await cases.run("a disk has one writer", STEP_MS, async () => {
    const run = ["run", "--kernel", debian.kernel, "--serial", "none"];
    const second = await wherry([...run, "--drive", `file=${files}`]);
    if (second.code !== 1 || !/cannot be locked for writing: another process/.test(second.err)) {
      throw new Error(`a second machine ended with ${second.code}: ${second.err}`);
    }
    return second.err.trim().replace(directory, "…");
  });

  await cases.run("kill -9", STEP_MS, async () => {
    // Each block is numbered; the guest prints the number when fsync has returned.
    const write =
      "(echo block $i; seq $i 900) | dd of=/dev/vdb bs=4096 seek=$i conv=notrunc,fsync 2> /dev/null" +
      " && seq $i 900 | dd of=/mnt/kept/$i conv=fsync 2> /dev/null";
    await shell(machine.console, "mkdir /mnt/kept; sync");
    const { console } = machine;
    const from = console.text.length;
    console.type(`i=1; while ${write}; do echo at $i; i=$((i + 1)); done\n`);
    await seeWords(console, /\nat 20\r/, 60_000, from);
    await sleep(random.int(1000));
    await machine.kill();
    last = Number([...withoutKernelLog(console.text.slice(from)).matchAll(/\nat (\d+)\r/g)].at(-1)?.[1]);
    const bytes = await readFile(raw);
    for (let i = 1; i <= last; i++) {
      const text = `block ${i}\n${seq(i, 900)}`.slice(0, 4096);
      const found = bytes.subarray(i * 4096, i * 4096 + text.length).toString("latin1");
      if (found !== text) throw new Error(`block ${i} of ${last} is not in the file`);
    }
    tool("qemu-img", "check", files);
    expect("the base", md5(readFileSync(base)), baseSum);
    expect("the disk with snapshot=on", readFileSync(forgotten, "latin1").slice(0, 9), "as before");
    return `all ${last} blocks that the guest had flushed are in the file; qemu-img finds the qcow2 image right`;
  });

  const again = await cases.run("the next boot", BOOT_MS, async () => {
    await start();
    const { console } = machine;
    await shell(console, MOUNT);
    await shell(console, "dmesg | grep 'vda.*recovery complete'");
    expect("files", await word(console, FILES), sum);
    const kept = `for i in $(seq ${last}); do seq $i 900 | cmp - /mnt/kept/$i || echo lost $i; done; echo end`;
    expect("files with fsync", await word(console, kept), "end");
    return `no lock is left, the journal recovers, all files are there, ${last} with fsync`;
  });
  if (!again) return;

  await cases.run("panic, reboot, poweroff", BOOT_MS, async () => {
    const { console } = machine;
    const from = console.text.length;
    console.type("echo c > /proc/sysrq-trigger\n");
    await console.see(/Kernel panic/, BOOT_MS, from);
    const { index } = await console.see(/Linux version/, BOOT_MS, from);
    await ready(console, from + index);
    await shell(console, MOUNT);
    expect("files", await word(console, FILES), sum);
    await shell(console, "umount /mnt");
    console.type("poweroff -f\n");
    await endsWith(machine, 0);
    return "the disk works after the reset; exit code 0";
  });
}

// ---- virtio-mmio version 1 ----

async function legacy(): Promise<void> {
  const file = image("legacy", 16 * MIB);
  const path = join(directory, "legacy.console");
  const clients = new Set<Socket>();
  const machine = await createMachine({
    ...{ harts: 1, memoryBytes: 256 * MIB, legacyVirtio: true, rng: true },
    ...{ kernel: readFileSync(debian.kernel), initrd: readFileSync(debian.initrd), append: "console=ttyS0" },
    drives: [{ file, readonly: false }],
    onConsole: (bytes) => {
      for (const client of clients) client.write(bytes);
    },
  });
  const server = createServer((client) => {
    clients.add(client);
    client.on("data", (bytes: Buffer) => machine.write(bytes));
    // If the peer closes with unread output, this connection is reset.
    client.on("error", () => clients.delete(client));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const console = await Console.connect(path);
  try {
    const booted = await cases.run("a guest with legacy virtio boots", BOOT_MS, async () => {
      await until(10_000, "the console is joined", () => clients.size > 0);
      await machine.start();
      await ready(console);
      return "it is in its shell";
    });
    if (!booted) return;
    await cases.run("legacy disk and entropy", STEP_MS, async () => {
      // VIRTIO_F_VERSION_1 is bit 32 of the features.
      const features = await shell(console, "cut -c33 /sys/bus/virtio/devices/*/features");
      expect("VERSION_1 of both", features.replaceAll("\n", ""), "00");
      const before = await makeFiles(console);
      await shell(console, `umount /mnt && echo 3 > /proc/sys/vm/drop_caches && ${MOUNT}`);
      expect("files after mounting again", await word(console, FILES), before);
      expect("entropy", await word(console, "head -c 1000 /dev/hwrng | wc -c"), "1000");
      await shell(console, "umount /mnt");
      console.type("poweroff -f\n");
      expect("end", (await machine.ended).kind, "shutdown");
      return "files, random bytes, poweroff";
    });
  } finally {
    console.close();
    server.close();
    await machine.close();
  }
}

// ---- harts come and go while the console prints ----

async function hotplug(): Promise<void> {
  const { harts, seconds } = given;
  let machine!: Machine;
  const booted = await cases.run(`${harts} harts boot`, BOOT_MS, async () => {
    machine = await boot(harts, []);
    await ready(machine.console);
    return "they are in their shell";
  });
  if (!booted) return;
  await cases.run("two copies of the guest", BOOT_MS, () => copies(machine, harts));
  await cases.run(`hotplug for ${seconds} s`, STEP_MS + 4 * seconds * 1000, async () => {
    const { console } = machine;
    const all = Array.from({ length: harts - 1 }, (_, i) => i + 1).join(" ");
    const set = (to: number): string =>
      `for c in ${all}; do echo ${to} > /sys/devices/system/cpu/cpu$c/online; done`;
    const time = "$(date +%s)";
    const loop = `n=0; while [ ${time} -lt $end ]; do ${set(0)}; ${set(1)}; n=$((n+1)); done; echo $n > /tmp/n`;
    const from = console.text.length;
    console.type(
      `end=$((${time}+${seconds})); (${loop}) & i=0; while [ ! -f /tmp/n ]; do i=$((i+1)); echo at $i; done; `,
    );
    console.type("wait; echo rounds $(cat /tmp/n) EN''D\n");
    const end = await seeWords(console, /rounds (\d+) END/, STEP_MS + 3 * seconds * 1000, from);
    const printed = withoutKernelLog(console.text.slice(from));
    const lines = [...printed.matchAll(/^at (\d+)\r?$/gm)].map((line) => Number(line[1]));
    const wrong = lines.findIndex((line, i) => line !== i + 1);
    if (wrong >= 0) {
      const near = printed.slice(printed.indexOf(`at ${wrong}\r`)).slice(0, 100);
      throw new Error(`after line ${wrong} the console has ${JSON.stringify(near)}`);
    }
    expect("harts at the end", await word(console, "nproc"), String(harts));
    console.type("poweroff -f\n");
    await endsWith(machine, 0);
    return `${end[1]} rounds of ${harts - 1} harts, ${lines.length} lines meanwhile`;
  });
}

/** Each copy is told that it is one, and draws its own random numbers; `--clock host` adds its time away. */
async function copies({ console, qmp }: Machine, harts: number): Promise<string> {
  const path = join(directory, "copies");
  const uptime = async (from: Console): Promise<number> => Number(await word(from, "cat /proc/uptime"));
  const before = await uptime(console);
  const saved = performance.now();
  await qmp.execute("x-wherry-save", { file: path });
  await sleep(10_000);
  const drawn: string[] = [];
  const lags: number[] = [];
  for (const clock of ["stop", "host"]) {
    const hardware = [...debianHardware(harts, "builtin"), "--clock", clock];
    const copy = await Machine.start(["restore", path, ...hardware], { fromFirstByte: true });
    drawn.push(await word(copy.console, "cat /proc/sys/kernel/random/uuid"));
    const seconds = (performance.now() - saved) / 1000;
    lags.push(seconds - ((await uptime(copy.console)) - before));
    const count =
      "awk '/vmgenid/ { for (i = 2; i <= NF && $i ~ /^[0-9]+$/; i++) n += $i; print n }' /proc/interrupts";
    expect("interrupts of a new generation ID", await word(copy.console, count), "1");
    await copy.quit();
  }
  const [stopped = 0, followed = 0] = lags;
  if (drawn[0] === drawn[1]) throw new Error(`both copies drew ${drawn[0]}`);
  if (stopped < 5 || Math.abs(followed) > 5)
    throw new Error(
      `guest time lags by ${stopped.toFixed(1)} s, with --clock host by ${followed.toFixed(1)} s`,
    );
  return `they drew ${drawn.join(" and ")}; guest time lags by ${stopped.toFixed(1)} s, with --clock host by ${followed.toFixed(1)} s`;
}

for (const [, part] of wanted) {
  await part.run();
  killAll();
}
cases.end();
