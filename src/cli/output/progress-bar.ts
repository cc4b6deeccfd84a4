// Progress on stderr: a bar on a terminal, otherwise an occasional plain line (logs, CI).

export interface Progress {
  /** `done` and `total` in the same unit; `detail` is shown after the bar. */
  update(done: number, total: number, detail?: string): void;
  /** Ends the line. May be called more than once. */
  stop(): void;
}

/** Minimum interval between plain lines. */
const PLAIN_INTERVAL_MS = 1000;

/** Starts a progress display. `label` names the work, such as `download`. */
export function startProgress(label: string, stream: NodeJS.WriteStream = process.stderr): Progress {
  return stream.isTTY === true ? bar(label, stream) : plain(label, stream);
}

const BAR_CELLS = 28;
/** Minimum interval between updates of a bar. */
const BAR_INTERVAL_MS = 100;
const HIDE_CURSOR = "\x1b[?25l";
const SHOW_CURSOR = "\x1b[?25h";
const ERASE_TO_END = "\x1b[K";

function bar(label: string, stream: NodeJS.WriteStream): Progress {
  // Restore the cursor and end the line on every exit.
  const showCursor = () => stream.write(`${SHOW_CURSOR}\n`);
  let last = Number.NEGATIVE_INFINITY;
  let latest = "";
  const draw = () => stream.write(`\r${latest.slice(0, (stream.columns ?? 80) - 1)}${ERASE_TO_END}`);
  return {
    update(done, total, detail = "") {
      if (latest === "") {
        process.once("exit", showCursor);
        stream.write(HIDE_CURSOR);
      }
      const part = Math.min(done, total) / Math.max(1, total);
      const cells = "█".repeat(Math.round(BAR_CELLS * part)).padEnd(BAR_CELLS, "░");
      latest = `${label.padEnd(10)} ${cells} ${Math.floor(100 * part)}%  ${detail}`;
      if (performance.now() - last < BAR_INTERVAL_MS) return;
      last = performance.now();
      draw();
    },
    stop() {
      if (latest === "") return;
      draw();
      showCursor();
      process.off("exit", showCursor);
      latest = "";
      last = Number.NEGATIVE_INFINITY;
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
