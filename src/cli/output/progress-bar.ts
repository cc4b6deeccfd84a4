// Progress on stderr: a bar on a terminal, a plain line now and then otherwise (logs, CI).
import cliProgress from "cli-progress";

export interface Progress {
  /** `done` and `total` in the same unit; `detail` is shown after the bar. */
  update(done: number, total: number, detail?: string): void;
  /** Ends the line. Harmless when repeated. */
  stop(): void;
}

/** Plain lines come at most this often. */
const PLAIN_INTERVAL_MS = 1000;

/** Starts one. `label` says what is going on, such as `download`. */
export function startProgress(label: string, stream: NodeJS.WriteStream = process.stderr): Progress {
  return stream.isTTY === true ? bar(label, stream) : plain(label, stream);
}

function bar(label: string, stream: NodeJS.WriteStream): Progress {
  const single = new cliProgress.SingleBar({
    format: `${label.padEnd(10)} {bar} {percentage}%  {detail}`,
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 28,
    hideCursor: true,
    linewrap: false,
    stream,
  });
  // The cursor, line wrap and a line of its own for what follows come back on every way out.
  const showCursor = () => stream.write("\x1b[?25h\x1b[?7h\n");
  let active = false;
  return {
    update(done, total, detail = "") {
      const size = Math.max(1, total);
      if (!active) {
        active = true;
        process.once("exit", showCursor);
        single.start(size, 0, { detail });
      }
      single.setTotal(size);
      single.update(Math.min(done, size), { detail });
    },
    stop() {
      if (!active) return;
      active = false;
      single.stop();
      process.off("exit", showCursor);
    },
  };
}

function plain(label: string, stream: NodeJS.WriteStream): Progress {
  let last = Number.NEGATIVE_INFINITY;
  let written = "";
  let latest = "";
  const print = () => {
    if (latest !== written) stream.write(`${latest}\n`);
    written = latest;
  };
  return {
    update(done, total, detail = "") {
      const percent = Math.floor((100 * Math.min(done, total)) / Math.max(1, total));
      latest = `${label}: ${percent}%${detail === "" ? "" : `  ${detail}`}`;
      if (performance.now() - last < PLAIN_INTERVAL_MS) return;
      last = performance.now();
      print();
    },
    stop: print,
  };
}

/** 12.3 MiB */
export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** 812 ms, 3.4 s */
export function durationText(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
