// Debian as the demo's guest. Its workload is the witness (guests/debian/witness.s): one process for each
// hart counts, keeps patterns in registers and checks memory, files and pipes; it prints a line each second,
// and a verdict at the end.
import type { DebianGuest } from "../../guest/debian-guest.ts";
import { withoutKernelLog } from "../../guest/kernel-log.ts";
import type { ConsoleClient } from "../machine/console-client.ts";
import type { DemoGuest, GuestProof } from "./demo-guest.ts";

const BOOT_TIMEOUT_MS = 600_000;
const LINE_TIMEOUT_MS = 120_000;
const PROMPT = /^wherry:.*# /m;
// The shell's prompt may precede it on the same line.
const LINE = /witness: n=\d+ .*gap_us=(\d+) maxgap_us=\d+ mem=ok file=ok\r?$/m;
const PASS = /witness: PASS [^\n]*\n/;
// Up to the end of the line, since the text may be incomplete.
const FAIL = /witness: FAIL [^\n]*\n/;
/** The number of the witness's lines before the move, which give the usual delay. */
const LINES_BEFORE = 3;

/** Console output on the way to the shell, and the progress that it marks. */
const MILESTONES: readonly (readonly [RegExp, number])[] = [
  [/ttyS0\] enabled/, 0.35],
  [/Loaded X\.509 cert/, 0.5],
  [/evm: HMAC attrs/, 0.6],
  [/Freeing unused kernel image/, 0.8],
  [/Run \/init/, 0.9],
];

export function debianGuest(guest: DebianGuest, harts: number): DemoGuest {
  return {
    title: `Debian (Linux ${guest.version}) on ${harts} ${harts === 1 ? "hart" : "harts"}`,
    machineArgs: ["--smp", String(harts), "--memory", "512M", "--rng"],
    bootArgs: ["--kernel", guest.kernel, "--initrd", guest.initrd, "--append", "console=ttyS0"],
    async boot(console, progress) {
      const stop = console.onOutput(() => {
        const seen = console.textFrom(0);
        progress(Math.max(0, ...MILESTONES.filter(([pattern]) => pattern.test(seen)).map(([, far]) => far)));
      });
      try {
        await console.waitFor(PROMPT, BOOT_TIMEOUT_MS, 0, withoutKernelLog);
        progress(1);
      } finally {
        stop();
      }
    },
    async startWork(console) {
      const from = console.position;
      console.type("witness &\n");
      for (let i = 0; i < LINES_BEFORE; i++) await line(console);
      return worstGapMs(console.textFrom(from));
    },
    async prove(console, before) {
      let failed = await line(console, 0);
      const gapMs = worstGapMs(`${before}${console.textFrom(0)}`);
      // A line printed entirely here shows that all of its processes run.
      failed ??= await line(console);
      const from = console.position;
      console.type("touch /run/witness.stop\n");
      const end = await console.waitFor(either(PASS, FAIL), LINE_TIMEOUT_MS, from, withoutKernelLog);
      const pass = PASS.exec(end[0]);
      const what =
        "the counters of all processes, registers, clock, memory, files and pipes are as they must be";
      const proof: GuestProof = { ok: pass !== null, gapMs, detail: pass === null ? end[0].trim() : what };
      return failed === undefined ? proof : { ok: false, gapMs, detail: failed };
    },
    // The shell replies to an empty line with a prompt.
    greet: (console) => console.type("\n"),
  };
}

/** Waits for a line of the witness. Returns its error message, if any. */
async function line(console: ConsoleClient, from?: number): Promise<string | undefined> {
  const match = await console.waitFor(either(LINE, FAIL), LINE_TIMEOUT_MS, from, withoutKernelLog);
  return FAIL.exec(match[0])?.[0].trim();
}

function either(a: RegExp, b: RegExp): RegExp {
  return new RegExp(`(?:${a.source})|(?:${b.source})`, "m");
}

function worstGapMs(output: string): number {
  const gaps = [...withoutKernelLog(output).matchAll(new RegExp(LINE.source, "gm"))].map(
    ([, us]) => Number(us) / 1000,
  );
  return Math.max(0, ...gaps);
}
