// `wherry run` and `wherry restore`: run one machine in this process until it ends.
import { constants } from "node:os";
import { EXIT } from "../output/cli-error.ts";
import { messageOf } from "../../base/errors.ts";
import { unblock } from "../../node/output-stream.ts";
import { perfInfo } from "../../monitor/perf-commands.ts";
import type { MachineOptions } from "../options/machine-options.ts";
import { surviveLostOutput } from "../output/lost-output.ts";
import { perfTable } from "../output/perf-table.ts";
import type { Resident } from "../machine/resident.ts";
import { type RunningMachine, type StartHooks, startMachine } from "../machine/start-machine.ts";

const PAUSED = "wherry: the machine is paused, as it was when it was saved: resume it with `wherry cont`\n";

const LAST_WORD_MS = 2000;

/**
 * The options with an initramfs for a kernel of `wherry guest fetch` that shall mount a disk: its drivers are
 * modules.
 */
async function withRootInitrd(options: MachineOptions): Promise<MachineOptions> {
  const { kernel, initrd, append } = options;
  if (kernel === undefined || initrd !== undefined || !/(^| )root=/.test(append)) return options;
  const { rootInitrd } = await import("../../guest/unpacked-guest.ts");
  return { ...options, initrd: await rootInitrd(kernel) };
}

/** Runs the machine to its end and returns the exit code. */
export async function run(given: MachineOptions): Promise<number> {
  return (await runOnce(await withRootInitrd(given))) ?? EXIT.FAILURE;
}

/** The same for a machine that outlives its runs. */
export async function runResident(resident: Resident): Promise<number> {
  for (;;) {
    const { options, hooks } = await resident.begin();
    const code = await runOnce(options, resident, hooks);
    if (code !== undefined) return code;
  }
}

/** Returns nothing if the machine is to be started anew. */
async function runOnce(
  options: MachineOptions,
  resident?: Resident,
  hooks?: StartHooks,
): Promise<number | undefined> {
  unblock(process.stderr);
  let signalled: number | undefined;
  const signals: NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  // During creation there is nothing to lose, and a wait (for a pipe's other end) may never end:
  // process.exit would wait too, for the thread that opens the pipe.
  let quit = (signal: NodeJS.Signals): void => {
    process.emit("exit", EXIT.SIGNAL + constants.signals[signal]);
    for (const one of signals) process.off(one, onSignal);
    process.kill(process.pid, signal);
  };
  const onSignal = (signal: NodeJS.Signals) => {
    signalled ??= constants.signals[signal];
    quit(signal);
  };
  for (const signal of signals) process.on(signal, onSignal);
  // A terminal that was closed: its signal may come later, or not at all.
  if (resident !== undefined) surviveLostOutput(() => onSignal("SIGHUP"));
  const running = await startMachine(options, hooks);
  resident?.started(running);
  let isOver = true;
  quit = (signal) => running.quit(signal);
  // A machine saved while stopped is restored stopped: a silent console needs an explanation.
  if (options.incoming !== undefined && options.incoming !== "defer" && !options.paused) {
    const { runState } = running.machine;
    runState.onChange((next, previous) => {
      if (previous === "inmigrate" && next === "paused") process.stderr.write(PAUSED);
    });
    if (runState.current === "paused") process.stderr.write(PAUSED);
  }
  try {
    let end = await running.ended;
    while (end.kind === "quit" && resident !== undefined && !(await resident.keep(running, end))) {
      signalled = undefined;
      end = await running.goOn();
    }
    if (end.kind === "guest-failed") process.stderr.write(`wherry: ${end.message}\n`);
    if (end.kind === "incoming-failed") {
      isOver = !(await resident?.failed(end.error, named(options, end.message)));
      if (!isOver) return undefined;
      if (resident === undefined) process.stderr.write(`wherry: ${named(options, end.message)}\n`);
    }
    if (signalled !== undefined) return EXIT.SIGNAL + signalled;
    if (end.kind === "guest-failed") return EXIT.GUEST;
    return end.kind === "incoming-failed" ? EXIT.FAILURE : EXIT.OK;
  } finally {
    const perf = running.perf.counting ? perfInfo(running.perf.read()) : undefined;
    const traces = await traced(running, options.trace);
    await running.close();
    if (perf !== undefined) process.stderr.write(perfTable(perf));
    process.stderr.write(traces);
    for (const signal of signals) process.off(signal, onSignal);
    if (resident !== undefined) surviveLostOutput(() => {});
    // A source that has handed over its machine still waits for the destination's confirmation, but not
    // longer than this. Output that nobody has read until now keeps the process for nothing.
    if (isOver)
      setTimeout(() => process.exit(), process.stdout.writableLength > 0 ? 0 : LAST_WORD_MS).unref();
  }
}

/** Messages of a stream name a place in it; for a file, the file name is added. */
function named({ incoming }: MachineOptions, message: string): string {
  const path = typeof incoming === "object" && incoming.transport === "file" ? incoming.path : undefined;
  return path === undefined || message.includes(`${path}:`) ? message : `${path}: ${message}`;
}

/** The translations of the code at these addresses at the end, in hart 0's address space. */
async function traced(machine: RunningMachine, addresses: readonly bigint[] = []): Promise<string> {
  const texts: string[] = [];
  for (const address of addresses) {
    texts.push(await machine.trace(0, address).catch((error) => `wherry: ${messageOf(error)}\n`));
  }
  return texts.join("\n");
}
