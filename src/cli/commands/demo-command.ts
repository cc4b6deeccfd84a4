// `wherry demo`: boots a guest in one process, moves it to a second process while it works, lets the guest
// check itself, and connects its console to the user. Without a terminal on stdin it ends after the check.
import { mkdtempSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { GuestError } from "../../guest/guest-error.ts";
import { EXIT } from "../output/cli-error.ts";
import { type Options, text } from "../options/command-line.ts";
import { move, type MigrationReport } from "./control-commands.ts";
import type { DemoGuest, GuestProof } from "./demo-guest.ts";
import { debianGuest } from "./demo-debian.ts";
import { pulseGuest } from "./demo-pulse.ts";
import { fetchWithProgress } from "./guest-command.ts";
import { MachineProcess } from "../machine/machine-process.ts";
import { number } from "../options/option-values.ts";
import { bytesText, durationText, startProgress } from "../output/progress-bar.ts";

export const demoOptions = {
  smp: { value: "N", parse: number(1, 8), help: "number of harts (default 4)" },
  guest: {
    value: "debian|pulse",
    parse: guestName,
    help: "which guest (default debian, or pulse where no mirror is reached)",
  },
  mirror: {
    value: "URL",
    parse: text,
    help: "Debian mirror (default: the one in this machine's apt sources)",
  },
  cache: {
    value: "DIR",
    parse: text,
    help: "directory of downloads (default: a directory of the user's cache)",
  },
} satisfies Options;

function guestName(name: string): "debian" | "pulse" {
  if (name !== "debian" && name !== "pulse") throw new Error("expected debian or pulse");
  return name;
}

export interface DemoChoice {
  readonly harts: number;
  readonly guest: "debian" | "pulse" | undefined;
  readonly mirror: string | undefined;
  readonly cache: string | undefined;
}

/** Runs the demo and returns the exit code. */
export async function demo(choice: DemoChoice): Promise<number> {
  // On every exit: the machines end with us (machine-process.ts), and the directory with their sockets is
  // removed.
  const directory = mkdtempSync(join(tmpdir(), "wherry-demo-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"] as const) {
    process.on(signal, () => process.exit(EXIT.SIGNAL + constants.signals[signal]));
  }
  const guest = await chooseGuest(choice, directory);
  const { destination, report, proof } = await bootAndMove(guest, directory);
  say(summary(guest, report, proof));
  if (!proof.ok) {
    await destination.quit();
    return EXIT.GUEST;
  }
  if (process.stdin.isTTY) {
    say("This is the moved guest's console. Ctrl-A x ends it, Ctrl-A h shows the keys.");
    const attached = destination.console.attach();
    guest.greet(destination.console);
    await attached;
    say("");
  }
  await destination.quit();
  return EXIT.OK;
}

/** Errors after which this machine cannot get Debian. */
const NO_DEBIAN = ["guest.mirror", "guest.keyring", "guest.packages"];

/** Debian, or pulse if Debian is not available and was not requested by name. */
async function chooseGuest(choice: DemoChoice, directory: string): Promise<DemoGuest> {
  if (choice.guest === "pulse") return pulseGuest(directory, choice.harts);
  try {
    const { mirror, cache } = choice;
    return debianGuest(await fetchWithProgress({ mirror, cache }), choice.harts);
  } catch (error) {
    const unreachable = error instanceof GuestError && NO_DEBIAN.includes(error.code);
    if (!unreachable || choice.guest === "debian") throw error;
    say(`No Debian: ${error.message}.\nContinuing with pulse, Wherry's own small guest.`);
    return pulseGuest(directory, choice.harts);
  }
}

interface Moved {
  readonly destination: MachineProcess;
  readonly report: MigrationReport;
  readonly proof: GuestProof;
}

async function bootAndMove(guest: DemoGuest, directory: string): Promise<Moved> {
  const source = await MachineProcess.start("source", directory, [
    ...guest.machineArgs,
    ...guest.bootArgs,
    "--paused",
  ]);
  say(`${guest.title}: process ${source.pid} runs it`);
  const booting = startProgress("boot");
  try {
    await source.qmp.execute("cont");
    await guest.boot(source.console, (done) => booting.update(done, 1));
  } finally {
    booting.stop();
  }
  say("it is up; its workload starts");
  const usualGapMs = await guest.startWork(source.console);

  const address = `unix:${join(directory, "move")}`;
  const destination = await MachineProcess.start("destination", directory, [
    ...guest.machineArgs,
    "--incoming",
    address,
  ]);
  const moveFrom = source.console.position;
  say(`moving it to process ${destination.pid} while it works`);
  const report = await move(source.qmp, address, {}, "move");
  await source.quit();
  say(`process ${source.pid} is gone; the guest checks itself`);
  const proof = await guest.prove(destination.console, source.console.textFrom(moveFrom));
  return { destination, report, proof: judge(proof, usualGapMs, report.downtime ?? 0) };
}

/**
 * On a host with fewer cores than the guest has harts, or with other work, a hart also stops while it waits
 * for a core: half a second was measured on one busy core. A clock that jumped or a lost timer takes longer.
 */
const TOLERATED_GAP_MS = 5000;

/** The guest may have stopped for the downtime and for the usual delay on this host, not longer. */
function judge(proof: GuestProof, usualGapMs: number, downtimeMs: number): GuestProof {
  const limitMs = downtimeMs + Math.max(TOLERATED_GAP_MS, 4 * usualGapMs);
  if (!proof.ok || proof.gapMs <= limitMs) return proof;
  const detail = `it stood still for ${durationText(proof.gapMs)}, the downtime was ${durationText(downtimeMs)}`;
  return { ...proof, ok: false, detail };
}

function summary(guest: DemoGuest, report: MigrationReport, proof: GuestProof): string {
  const { ram } = report;
  const host = durationText(report.downtime ?? 0);
  const rows = [
    ["downtime", `${durationText(proof.gapMs)} as the guest saw it, ${host} as the host saw it`],
    ["total time", durationText(report["total-time"] ?? 0)],
    ["sent", `${bytesText(ram?.transferred ?? 0)} for ${bytesText(ram?.total ?? 0)} of memory`],
    [
      "rounds",
      `${ram?.["dirty-sync-count"] ?? 0}; ${ram?.normal ?? 0} pages sent, ${ram?.duplicate ?? 0} were zero`,
    ],
    ["check", proof.ok ? `passed: ${proof.detail}` : `FAILED: ${proof.detail}`],
  ];
  const table = rows.map(([name, value]) => `  ${name?.padEnd(11)}${value}`).join("\n");
  const note =
    "  (The guest's figure is its longest pause around the move: the downtime, and waits for a busy host's cores.)";
  return `\n${guest.title}, moved while it worked\n${table}\n${note}\n`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
