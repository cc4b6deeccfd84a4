// Output that cannot be written: its reader has gone, or its disk is full.
import { constants } from "node:os";
import type { Writable } from "node:stream";
import { CliError, EXIT } from "./cli-error.ts";

/** EIO: the terminal was closed. */
const GONE = ["EPIPE", "EIO", "ERR_STREAM_DESTROYED"];

let onGone: (() => void) | undefined;

/** Calls `listener`, perhaps often, when the reader of the output has gone. Without it, the process ends. */
export function surviveLostOutput(listener: () => void): void {
  onGone = listener;
}

/** Ends the process by `exit` after an error of one of the streams. `report` prints it. */
export function watchOutput(
  streams: readonly Writable[],
  report: (error: CliError) => number,
  exit: (code: number) => void,
): void {
  for (const stream of streams) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (onGone !== undefined && GONE.includes(error.code ?? "")) onGone();
      else if (error.code === "EPIPE") exit(EXIT.SIGNAL + constants.signals.SIGPIPE);
      else exit(report(new CliError(`standard output: ${error.message}`, { cause: error })));
    });
  }
}
