// A machine that outlives its runs. When its user ends it from outside, it is saved beside its disk, and the
// next run continues it. When its guest has powered off, the next run starts from a saved boot: the same
// machine, saved in its initial ramdisk before the guest had looked at any disk, so that any disk fits.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdir, readdir, realpath, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { messageOf, WherryError } from "../../base/errors.ts";
import type { MachineOptions } from "../options/machine-options.ts";
import { UsageError } from "../output/cli-error.ts";
import { packageVersion } from "../../node/channels/package-version.ts";
import { BootGate } from "./boot-gate.ts";
import type { MachineEnd } from "./machine-quit.ts";
import type { RunningMachine, StartHooks } from "./start-machine.ts";

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
  if (!existsSync(statePath(disk))) return undefined;
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

/** Files of a save that was killed. */
function removeParts(disk: string): void {
  const state = statePath(disk);
  for (const name of readdirSync(dirname(state)))
    if (name.startsWith(`.${basename(state)}.`) && name.endsWith(".tmp"))
      rmSync(join(dirname(state), name), { force: true });
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
  /** The guest has run: its disk has gone on. */
  #hasRun = false;
  #hasFailed = false;
  #savingBoot: Promise<void> = Promise.resolve();

  /** `options`: of a machine that boots. Throws UsageError if a saved one has another shape. */
  constructor(given: ResidentOptions, options: MachineOptions) {
    this.#given = given;
    this.#options = options;
    const { name, disk, forceBoot } = given;
    const shape = shapeOf(options);
    this.#kept = forceBoot ? undefined : readKept(disk);
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
  async begin(): Promise<{ readonly options: MachineOptions; readonly hooks: StartHooks }> {
    const boot = this.#boot;
    const hasBoot = boot !== undefined && (await stat(boot).catch(() => undefined)) !== undefined;
    this.#from = this.#kept !== undefined ? "kept" : hasBoot ? "boot" : "cold";
    const path = this.#from === "kept" ? statePath(this.#given.disk) : boot;
    const gate: StartHooks["gate"] = (console) =>
      (this.#gate = new BootGate(console, {
        line: this.#given.line,
        isWaiting: this.#from === "boot",
        isOpen: this.#from === "kept",
        shown: this.#from === "kept" ? this.#kept?.lastLine : undefined,
        onMark: () => (this.#savingBoot = this.#keepBoot()),
      }));
    const hooks: StartHooks = { gate, onName: () => this.#named() };
    if (this.#from === "cold" || path === undefined) return { options: this.#options, hooks };
    if (this.#from === "boot") await utimes(path, new Date(), new Date()).catch(() => {});
    const incoming = { transport: "file", path, offset: 0 } as const;
    // The machine's memory has kernel and command line, also for a reboot.
    const clock = this.#from === "kept" ? "host" : "stop";
    const moved = { kernel: undefined, initrd: undefined, append: "", incoming, clock } as const;
    return { options: { ...this.#options, ...moved }, hooks };
  }

  /** Nobody else runs or saves the machine from now on. */
  #named(): void {
    const { name, disk, forceBoot } = this.#given;
    if (forceBoot) forget(disk);
    else if (readKept(disk)?.saved !== this.#kept?.saved)
      throw new UsageError(`${name} was in use while this run began, and is another one now: run it again`);
    removeParts(disk);
    const file = this.#options.drives.find(({ snapshot }) => snapshot === true)?.file;
    if (file !== undefined)
      process.stderr.write(
        `wherry: ${file}: snapshot=on: once the guest has written to it, ${name} cannot be saved while it runs: ` +
          "power it off in the guest\n",
      );
  }

  started(running: RunningMachine): void {
    this.#running = running;
    const { runState } = running.machine;
    const look = (): void => {
      if (!runState.running || this.#hasRun) return;
      this.#hasRun = true;
      // A record that another run has made belongs to that one.
      if (readKept(this.#given.disk)?.saved === this.#kept?.saved) forget(this.#given.disk);
    };
    runState.onChange(look);
    look();
  }

  /**
   * What was saved cannot be loaded: says so. Returns whether the machine can start without it. What ran in
   * the guest is the user's: it is given up only if the disk has gone on without it.
   */
  async failed(error: unknown, message: string): Promise<boolean> {
    const { name, disk } = this.#given;
    const { code, message: why } = reasonOf(error);
    const say = (next: string) => process.stderr.write(`wherry: ${message}\nwherry: ${next}\n`);
    if (this.#from === "kept") {
      const path = statePath(disk);
      if (code !== "disk.changed" || !why.startsWith(`${await realpath(disk)}: `)) {
        say(`${name} is still saved: mend that, or add --force-boot to forget what ran, and boot`);
        return false;
      }
      await rename(path, `${path}.old`);
      forget(disk);
      this.#kept = undefined;
      say(`${name} boots anew (what was saved is now ${path}.old)`);
      return true;
    }
    // Not the saved boot's fault.
    if (this.#from === "cold" || code.startsWith("file-block.")) {
      process.stderr.write(`wherry: ${message}\n`);
      return false;
    }
    await rm(this.#boot as string, { force: true });
    say(`${name} boots anew`);
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

  /**
   * The user has ended the machine: saves it, unless its user does not want to wait. Returns false if that
   * failed and it goes on.
   */
  async keep(running: RunningMachine, { message }: MachineEnd): Promise<boolean> {
    const { name } = this.#given;
    const { runState } = running.machine;
    if (message === "host-qmp-quit") return true;
    if (runState.current === "inmigrate") await running.giveUpArrival();
    if (!this.#hasRun) {
      if (this.#from === "kept") process.stderr.write(`\r\nwherry: ${name} is still saved\r\n`);
      return true;
    }
    if (runState.current === "shutdown" || runState.current === "internal-error") return true;
    process.stderr.write(
      `\r\nwherry: saving ${name}; the same again ends it at once, as a power failure does\r\n`,
    );
    const boots = `${name} is not saved, it boots the next time`;
    const [isOver, said] = await Promise.race([
      this.#store(running).then(
        () => [true, `${name} is saved: \`wherry run debian\` continues it`] as const,
        (error: unknown) => {
          const why = messageOf(error);
          if (this.#hasFailed) return [true, `${boots}: ${why}`] as const;
          const next =
            "it goes on; the same again ends it, as a power failure does, if it cannot be saved then";
          return [false, `${name} is not saved: ${why}; ${next}`] as const;
        },
      ),
      running.quitAgain.then(() => [true, boots] as const),
    ]);
    this.#hasFailed = !isOver;
    process.stderr.write(`wherry: ${said}\r\n`);
    return isOver;
  }

  async #store(running: RunningMachine): Promise<void> {
    const { disk } = this.#given;
    await this.#savingBoot;
    await running.store(statePath(disk));
    const record: Kept = {
      shape: shapeOf(this.#options),
      saved: Date.now(),
      lastLine: this.#gate?.lastLine ?? "",
    };
    try {
      await writeFile(`${recordPath(disk)}.tmp`, JSON.stringify(record), { mode: 0o600 });
      await rename(`${recordPath(disk)}.tmp`, recordPath(disk));
    } catch (error) {
      // The disk goes on.
      for (const path of [statePath(disk), `${recordPath(disk)}.tmp`]) await rm(path, { force: true });
      await running.machine.start();
      throw error;
    }
  }
}

/** Why a load failed: the migration's error has it as its cause. */
function reasonOf(error: unknown): { readonly code: string; readonly message: string } {
  const reason = error instanceof WherryError && error.cause instanceof WherryError ? error.cause : error;
  return { code: reason instanceof WherryError ? reason.code : "", message: messageOf(reason) };
}

async function removeOld(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".state"));
  const found = await Promise.all(
    names.map(async (name) => ({ name, at: (await stat(join(directory, name))).mtimeMs })),
  );
  for (const { name } of found.toSorted((a, b) => b.at - a.at).slice(KEPT_BOOTS))
    await rm(join(directory, name), { force: true });
}
