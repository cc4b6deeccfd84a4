// The machines to compare: a machine under Wherry or QEMU, driven over its console and QMP. It is stopped
// except while a program runs in it, so that only one machine computes at a time; the clock of a stopped
// machine stands still.
import { setTimeout as sleep } from "node:timers/promises";
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { PerfInfo } from "../src/monitor/perf-commands.ts";
import { directory } from "../test/support/cases.ts";
import { until } from "../test/support/wait.ts";
import { Console } from "../test/support/machine.ts";
import { QmpClient } from "../test/support/qmp-client.ts";
import { WHERRY } from "./figures.ts";

const TREE = fileURLToPath(new URL("..", import.meta.url));
const START_MS = 60_000;
const BOOT_MS = 600_000;
const PROGRAM_MS = 600_000;
const PROMPT = /wherry:~# /;
const APPEND = "console=ttyS0 quiet";
const ROOT = "root=/dev/vda rw";

/** A monitor and its command line. */
export interface Monitor {
  readonly name: string;
  readonly command: string;
  arguments(machine: Hardware): string[];
}

export interface Hardware {
  readonly harts: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly initrd: string;
  /** A raw image whose root file system the guest mounts, instead of living in its initial ramdisk. */
  readonly disk?: string;
  /** The shell's, if it is not that of the initial ramdisk. */
  readonly prompt?: RegExp;
  /** Variables of the monitor's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Paths of the sockets. */
  readonly qmp: string;
  readonly console: string;
}

const commandLine = (disk: string | undefined): string => (disk === undefined ? APPEND : `${ROOT} ${APPEND}`);

/** Wherry of this tree, or of another `tree` (a clone that was built), under this Node. */
export function wherryMonitor(engine: string, tree?: string): Monitor {
  return {
    name: tree === undefined ? WHERRY : `${WHERRY} in ${basename(tree)}`,
    command: process.execPath,
    arguments: ({ harts, memoryMib, kernel, initrd, disk, qmp, console }) => [
      ...[
        join(tree ?? TREE, "dist/cli/main.js"),
        "run",
        "--paused",
        "--smp",
        `${harts}`,
        "--memory",
        `${memoryMib}M`,
      ],
      ...["--kernel", kernel, "--initrd", initrd, "--append", commandLine(disk)],
      ...(disk === undefined ? [] : ["--rng", "--drive", `file=${disk},format=raw`]),
      ...["--qmp", `unix:${qmp}`, "--serial", `unix:${console}`],
      ...(engine === "" ? [] : ["--engine", engine]),
    ],
  };
}

/** `command` is QEMU and the arguments that precede the others. All QEMUs run the same firmware. */
export function qemuMonitor(name: string, command: readonly string[], firmware: string): Monitor {
  const [program, ...prefix] = command;
  return {
    name,
    command: program as string,
    arguments: ({ harts, memoryMib, kernel, initrd, disk, qmp, console }) => [
      ...prefix,
      ...["-machine", "virt", "-smp", `${harts}`, "-m", `${memoryMib}M`, "-display", "none", "-S"],
      ...["-bios", firmware, "-kernel", kernel, "-initrd", initrd, "-append", commandLine(disk)],
      ...(disk === undefined
        ? []
        : [
            ...["-global", "virtio-mmio.force-legacy=false", "-device", "virtio-rng-device"],
            ...[
              "-drive",
              `file=${disk},format=raw,if=none,id=root`,
              "-device",
              "virtio-blk-device,drive=root",
            ],
          ]),
      ...["-qmp", `unix:${qmp},server=on,wait=off`, "-serial", `unix:${console},server=on,wait=off`],
    ],
  };
}

/** A command that has ended. */
export interface Timed {
  readonly seconds: number;
  readonly guestSeconds: number;
  /** `cksum` of its output. */
  readonly checksum: string;
}

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

let serialNumber = 0;

export class BenchMachine {
  readonly #child: ChildProcess;
  readonly #qmp: QmpClient;
  readonly #console: Console;
  /** Time from the start of the process to the shell's prompt. */
  bootSeconds = 0;
  /** Processor time until then. */
  bootCpuSeconds = 0;

  private constructor(child: ChildProcess, qmp: QmpClient, console: Console) {
    this.#child = child;
    this.#qmp = qmp;
    this.#console = console;
  }

  /** Boots to the shell's prompt, then stops the machine. */
  static async boot(monitor: Monitor, hardware: Omit<Hardware, "qmp" | "console">): Promise<BenchMachine> {
    const stem = join(directory, `bench${serialNumber++}`);
    const sockets = { qmp: `${stem}.qmp`, console: `${stem}.console` };
    const start = performance.now();
    const args = monitor.arguments({ ...hardware, ...sockets });
    const child = spawn(monitor.command, args, {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, ...hardware.environment },
    });
    children.add(child);
    let complaints = "";
    child.stderr?.on("data", (text) => (complaints += text));
    child.once("error", (error) => (complaints += error.message));
    child.once("close", () => children.delete(child));
    try {
      const connected = async <T>(connect: () => Promise<T>): Promise<T> =>
        until(START_MS, `${monitor.name} listens`, () => {
          if (child.exitCode !== null || child.pid === undefined) throw new Error("it ended");
          return connect().catch(() => undefined);
        });
      const console = await connected(() => Console.connect(sockets.console));
      const qmp = await connected(() => QmpClient.connect(sockets.qmp));
      // The machine may be created shortly after its sockets.
      await until(START_MS, `${monitor.name} starts`, () =>
        qmp.execute("cont").then(
          () => true,
          () => undefined,
        ),
      );
      await console.see(hardware.prompt ?? PROMPT, BOOT_MS);
      const machine = new BenchMachine(child, qmp, console);
      machine.bootSeconds = (performance.now() - start) / 1000;
      machine.bootCpuSeconds = (await machine.cpuNanoseconds()) / 1e9;
      await qmp.execute("stop");
      return machine;
    } catch (cause) {
      child.kill("SIGKILL");
      throw new Error(`${monitor.name} does not boot: ${(cause as Error).message} ${complaints.trim()}`, {
        cause,
      });
    }
  }

  /** The output of a command of the guest's shell. The machine runs only meanwhile. */
  async run(command: string): Promise<{ text: string; cpuNanoseconds: number }> {
    const before = await this.cpuNanoseconds();
    await this.resume();
    const text = await this.ask(command);
    await this.stop();
    return { text, cpuNanoseconds: (await this.cpuNanoseconds()) - before };
  }

  async resume(): Promise<void> {
    await this.#qmp.execute("cont");
  }

  async stop(): Promise<void> {
    await this.#qmp.execute("stop");
  }

  /** Stops the machine and all threads of its process, so that nothing of it takes time meanwhile. */
  async freeze(): Promise<void> {
    await this.stop();
    this.#child.kill("SIGSTOP");
  }

  async thaw(): Promise<void> {
    this.#child.kill("SIGCONT");
    await this.resume();
  }

  /**
   * Runs a command of the guest's bash and times it by the host's clock: from the arrival of a line that the
   * guest prints before it to that of one that it prints after it. The guest's clock is read as well.
   */
  async time(command: string): Promise<Timed> {
    const from = this.#console.text.length;
    const mark = `-${from}`;
    this.#console.type(
      `echo b''egin${mark}; t=$EPOCHREALTIME; s=$({ ${command}; echo $? >/dev/shm/status; } 2>/dev/shm/errors </dev/null | cksum); u=$EPOCHREALTIME; ` +
        `echo e''nd${mark}; r=$(cat /dev/shm/status); [ $r = 0 ] || cat /dev/shm/errors; echo r''esult=$r $t $u $s.\n`,
    );
    const result = /result=(\d+) (\S+) (\S+) (\d+ \d+)\.\r?\n/;
    const [, status, begun, ended, checksum = ""] = await this.#console.see(result, PROGRAM_MS, from);
    const text = this.#console.text.slice(from);
    const arrival = (word: string): number => {
      const at = new RegExp(`^${word}${mark}\r?\n`, "m").exec(text);
      if (at === null) throw new Error(`${command}: no line '${word}${mark}'`);
      return this.#console.arrival(from + at.index + at[0].length);
    };
    if (status !== "0") throw new Error(`${command}: ended with ${status}: ${text.slice(-400).trim()}`);
    return {
      seconds: (arrival("end") - arrival("begin")) / 1000,
      guestSeconds: Number(ended) - Number(begun),
      checksum,
    };
  }

  async startPerf(): Promise<void> {
    await this.#qmp.execute("x-wherry-perf", { enable: true });
  }

  async takePerf(): Promise<PerfInfo> {
    const info = await this.#qmp.execute<PerfInfo>("x-wherry-query-perf");
    await this.#qmp.execute("x-wherry-perf", { enable: false });
    return info;
  }

  /** The output of a command while the machine runs. */
  async ask(command: string): Promise<string> {
    const from = this.#console.text.length;
    const mark = `end-${from}`;
    // The quotes keep the echo of the line from matching the mark.
    this.#console.type(`${command}; echo e''nd-${from}=$?\n`);
    const ended = await this.#console.see(new RegExp(`${mark}=(\\d+)`), PROGRAM_MS, from);
    const text = this.#console.text.slice(from, from + ended.index).replaceAll("\r", "");
    if (ended[1] !== "0") throw new Error(`${command}: ended with ${ended[1]}: ${text.trim()}`);
    return text.slice(text.indexOf("\n") + 1);
  }

  /** The same with profiling, which costs a little. Wherry only. */
  async runCounted(command: string): Promise<PerfInfo> {
    await this.startPerf();
    await this.run(command);
    return this.takePerf();
  }

  /** Processor time of the process so far, all threads, as the kernel counts it (in steps of 10 ms). */
  async cpuNanoseconds(): Promise<number> {
    const fields = (await readFile(`/proc/${this.#child.pid}/stat`, "utf8")).replace(/.*\) /s, "").split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 1e7;
  }

  /** Resident memory of the process, now and at its peak, in MiB. */
  async memory(): Promise<{ now: number; peak: number }> {
    const status = await readFile(`/proc/${this.#child.pid}/status`, "utf8");
    const mib = (name: string): number =>
      Number(new RegExp(`${name}:\\s*(\\d+) kB`).exec(status)?.[1]) / 1024;
    return { now: mib("VmRSS"), peak: mib("VmHWM") };
  }

  /** The guest's own end. */
  async powerOff(): Promise<void> {
    this.#console.type("poweroff\n");
    await this.#ended();
  }

  /** Ends the machine as its user does, so that it can store what it keeps between runs. */
  async quit(): Promise<void> {
    await this.#qmp.execute("quit").catch(() => {});
    await this.#ended();
  }

  async #ended(): Promise<void> {
    await until(BOOT_MS, "the machine's end", () => !children.has(this.#child));
    await this.end();
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    this.#qmp.close();
    this.#console.close();
    while (children.has(this.#child)) await sleep(5);
  }
}
