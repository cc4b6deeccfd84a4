// `wherry run` and `wherry restore`: one machine in this process until it ends.
import { constants } from "node:os";
import { EXIT } from "./cli-error.ts";
import type { MachineOptions } from "./machine-options.ts";
import { startMachine } from "./start-machine.ts";

/** Runs the machine to its end and gives the exit code. */
export async function run(options: MachineOptions): Promise<number> {
  const running = await startMachine(options);
  let signalled: number | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    signalled ??= constants.signals[signal];
    running.quit("host-signal");
  };
  const signals: NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, onSignal);
  try {
    const end = await running.ended;
    if (end.kind === "guest-failed" || end.kind === "incoming-failed")
      process.stderr.write(`wherry: ${end.message}\n`);
    if (signalled !== undefined) return EXIT.SIGNAL + signalled;
    if (end.kind === "guest-failed") return EXIT.GUEST;
    return end.kind === "incoming-failed" ? EXIT.FAILURE : EXIT.OK;
  } finally {
    await running.close();
    for (const signal of signals) process.off(signal, onSignal);
  }
}
