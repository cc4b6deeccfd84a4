// A machine that outlives its runs. When its user ends it from outside, it is saved beside its disk, and the
// next run continues it. When its guest has powered off, the next run starts from a saved boot: the same
// machine, saved in its initial ramdisk before the guest had looked at any disk, so that any disk fits.
import { createHash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { messageOf } from "../../base/errors.ts";
import type { MachineOptions } from "../options/machine-options.ts";
import { UsageError } from "../output/cli-error.ts";
import { packageVersion } from "../../node/channels/package-version.ts";
import { BootGate } from "./boot-gate.ts";
import type { ConsoleGate, MachineEnd, RunningMachine } from "./start-machine.ts";

/** Saved boots that are kept: one for each set of options. */
const KEPT_BOOTS = 4;

/** What the guest sees of its machine, besides the contents of its disks. */
export interface Shape {
  readonly harts: number;
  readonly memoryBytes: number;
  /** What the user calls each device. */
  readonly devices: readonly string[];
}

/** Of a machine that is saved beside its disk. */
interface Kept {
  readonly shape: Shape;
  /** ms since 1970. */
  readonly saved: number;
  readonly lastLine: string;
}

function shapeOf(options: MachineOptions): Shape {
  const { harts, memoryBytes, drives, net, shares = [], serialPorts = [] } = options;
  return {
    harts,
    memoryBytes,
    devices: [
      ...drives.map(({ readonly }) => `--drive${readonly ? " readonly" : ""}`),
      ...(net === undefined ? [] : ["--net"]),
      ...(options.rng ? ["--rng"] : []),
      ...(options.console === undefined ? [] : ["--console"]),
      ...(options.agent === true ? ["--agent"] : []),
      ...serialPorts.map(({ name }) => `--serial-port ${name}`),
      ...shares.map(({ tag }) => `--share ${tag}`),
      ...(options.legacyVirtio === true ? ["--virtio legacy"] : []),
      ...(options.isaExtensions === undefined ? [] : [`--isa ${options.isaExtensions.join("_")}`]),
    ],
  };
}

const shapeText = ({ harts, memoryBytes, devices }: Shape): string =>
  [`--smp ${harts} --memory ${memoryBytes / 2 ** 20}M`, ...devices].join(", ");

/** The shape of the machine that is saved beside `disk`, if there is one. */
export function keptShape(disk: string): Shape | undefined {
  return readKept(disk)?.shape;
}

const statePath = (disk: string): string => disk.replace(/\.img$/, ".state");
const recordPath = (disk: string): string => `${statePath(disk)}.json`;

function readKept(disk: string): Kept | undefined {
  try {
    return JSON.parse(readFileSync(recordPath(disk), "utf8")) as Kept;
  } catch {
    return undefined;
  }
}

function forget(disk: string): void {
  rmSync(recordPath(disk), { force: true });
  rmSync(statePath(disk), { force: true });
}

export interface ResidentOptions {
  readonly name: string;
  /** Its first disk. */
  readonly disk: string;
  /** Directory of saved boots. */
  readonly boots: string;
  /** Words for the initial ramdisk, other in each machine. */
  readonly line: string;
  /** Do not continue a saved machine. */
  readonly forceBoot: boolean;
}

export class Resident {
  readonly #given: ResidentOptions;
  readonly #options: MachineOptions;
  readonly #boot: string | undefined;
  #from: "kept" | "boot" | "cold" = "cold";
  #kept: Kept | undefined;
  #gate: BootGate | undefined;
  #running: RunningMachine | undefined;

  /** `options`: of a machine that boots. Throws UsageError if a saved one has another shape. */
  constructor(given: ResidentOptions, options: MachineOptions) {
    this.#given = given;
    this.#options = options;
    const { name, disk, forceBoot } = given;
    const shape = shapeOf(options);
    if (forceBoot) forget(disk);
    this.#kept = readKept(disk);
    if (this.#kept !== undefined && shapeText(this.#kept.shape) !== shapeText(shape)) {
      const found = `expected the devices that it has (${shapeText(this.#kept.shape)}), found ${shapeText(shape)}`;
      throw new UsageError(
        `${name} was saved while it ran: ${found}. Give the same options, power it off first, or add --force-boot ` +
          "to forget what ran",
      );
    }
    const isPlain = options.icount === undefined && options.rtc === undefined && !options.paused;
    const { kernel, initrd, append, firmware } = options;
    if (isPlain && (firmware ?? "builtin") === "builtin") {
      const all = JSON.stringify([packageVersion(), kernel, initrd, append, shape, options.net?.mac]);
      const key = createHash("sha256").update(all).digest("hex").slice(0, 16);
      this.#boot = join(given.boots, `${key}.state`);
    }
  }

  /** How the machine starts now. */
  async begin(): Promise<{ readonly options: MachineOptions; readonly gate: ConsoleGate }> {
    const boot = this.#boot;
    const hasBoot = boot !== undefined && (await stat(boot).catch(() => undefined)) !== undefined;
    this.#from = this.#kept !== undefined ? "kept" : hasBoot ? "boot" : "cold";
    const path = this.#from === "kept" ? statePath(this.#given.disk) : boot;
    const gate: ConsoleGate = (console) =>
      (this.#gate = new BootGate(console, {
        line: this.#given.line,
        isWaiting: this.#from === "boot",
        isOpen: this.#from === "kept",
        shown: this.#from === "kept" ? this.#kept?.lastLine : undefined,
        onMark: () => this.#keepBoot(),
      }));
    if (this.#from === "cold" || path === undefined) return { options: this.#options, gate };
    if (this.#from === "boot") await utimes(path, new Date(), new Date()).catch(() => {});
    const incoming = { transport: "file", path, offset: 0 } as const;
    // The machine's memory has kernel and command line, also for a reboot.
    const clock = this.#from === "kept" ? "host" : "stop";
    const moved = { kernel: undefined, initrd: undefined, append: "", incoming, clock } as const;
    return { options: { ...this.#options, ...moved }, gate };
  }

  started(running: RunningMachine): void {
    this.#running = running;
    const { runState } = running.machine;
    // The disk goes on from here.
    const look = (): void => {
      if (runState.running) forget(this.#given.disk);
    };
    runState.onChange(look);
    look();
  }

  /** What was saved cannot be loaded. Returns whether the machine can start without it. */
  async failed(message: string): Promise<boolean> {
    if (this.#from === "cold") return false;
    const path = this.#from === "kept" ? statePath(this.#given.disk) : (this.#boot as string);
    const old = this.#from === "kept" ? `${path}.old` : undefined;
    if (old === undefined) await rm(path, { force: true });
    else await rename(path, old).catch(() => {});
    rmSync(recordPath(this.#given.disk), { force: true });
    this.#kept = undefined;
    const kept = old === undefined ? "" : ` (what was saved is now ${old})`;
    process.stderr.write(`wherry: ${message}\nwherry: ${this.#given.name} boots anew${kept}\n`);
    return true;
  }

  /** The guest has come to the gate of its initial ramdisk. */
  async #keepBoot(): Promise<void> {
    const path = this.#boot;
    if (path === undefined || this.#from !== "cold" || this.#running === undefined) return;
    this.#from = "boot";
    try {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await this.#running.save(path);
      await removeOld(dirname(path));
    } catch (error) {
      process.stderr.write(`wherry: the boot is not saved for the next time: ${messageOf(error)}\n`);
    }
  }

  /** The user has ended the machine: saves it, unless its user does not want to wait. */
  async keep(running: RunningMachine, { message }: MachineEnd): Promise<void> {
    const { name, disk } = this.#given;
    if (message === "host-qmp-quit") return;
    process.stderr.write(
      `\r\nwherry: saving ${name}; the same again ends it at once, as a power failure does\r\n`,
    );
    const saved = running.store(statePath(disk)).then(async () => {
      const record = {
        shape: shapeOf(this.#options),
        saved: Date.now(),
        lastLine: this.#gate?.lastLine ?? "",
      };
      await writeFile(`${recordPath(disk)}.tmp`, JSON.stringify(record), { mode: 0o600 });
      await rename(`${recordPath(disk)}.tmp`, recordPath(disk));
      return `${name} is saved: \`wherry run debian\` continues it`;
    });
    const said = await Promise.race([
      saved.catch((error: unknown) => `${name} is not saved, it boots the next time: ${messageOf(error)}`),
      running.quitAgain.then(() => `${name} is not saved, it boots the next time`),
    ]);
    process.stderr.write(`wherry: ${said}\r\n`);
  }
}

async function removeOld(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".state"));
  const found = await Promise.all(
    names.map(async (name) => ({ name, at: (await stat(join(directory, name))).mtimeMs })),
  );
  for (const { name } of found.toSorted((a, b) => b.at - a.at).slice(KEPT_BOOTS))
    await rm(join(directory, name), { force: true });
}
