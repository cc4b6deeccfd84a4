// The Debian guest of the checks: where it is, and its shell on the console.
import { type DebianGuest, fetchDebianGuest } from "../../src/guest/debian-guest.ts";
import { withoutKernelLog } from "../../src/guest/kernel-log.ts";
import { type Console, Machine } from "./machine.ts";

export const BOOT_MS = 600_000;
const COMMAND_MS = 300_000;
const PROMPT = /wherry:\S*# /;
/**
 * Without reports of stalls and lockups, which only mean that a busy host is slow. Matches a BUG to the end
 * of its line, since its kind may not have arrived yet.
 */
export const DEAD = /Kernel panic|Oops[: ]|BUG: (?!soft lockup|workqueue lockup)[^\n]*\n|Unable to handle/;

/** Waits for a program's output. Rejects if the kernel prints an error. */
export function seeWords(
  console: Console,
  pattern: RegExp,
  limitMs: number,
  from = 0,
): Promise<RegExpExecArray> {
  return console.see(pattern, limitMs, from, { refuse: DEAD, view: withoutKernelLog });
}

export type Firmware = "builtin" | "opensbi";

export const debian: DebianGuest = await fetchDebianGuest();

/** Options of the machine that both ends of a move or save share. */
export function debianHardware(harts: number, firmware: Firmware): string[] {
  return [
    ...["--smp", String(harts), "--memory", "256M"],
    ...(firmware === "builtin" ? [] : ["--firmware", debian.opensbi]),
  ];
}

export function bootDebian(
  harts: number,
  firmware: Firmware,
  { append = "", initrd = debian.initrd } = {},
): Promise<Machine> {
  const kernel = ["--kernel", debian.kernel, "--initrd", initrd];
  const command = ["--append", `console=ttyS0 panic=-1 ${append}`.trim()];
  return Machine.start(["run", ...debianHardware(harts, firmware), ...kernel, ...command], {
    fromFirstByte: true,
  });
}

/** Waits for the shell's prompt. */
export async function prompt(console: Console, from = 0): Promise<void> {
  await seeWords(console, PROMPT, BOOT_MS, from);
}

/** Types a command and returns its output, without the command's echo. Throws on a status other than 0. */
export async function shell(console: Console, command: string): Promise<string> {
  const from = console.text.length;
  // The backslashes keep the command's echo from matching.
  console.type(`echo \\<\\<; ${command}; echo \\>\\>$?\n`);
  const ran = /^<<\r?\n([^]*?)>>(\d+)\r?\n/m;
  const [, output = "", status] = await seeWords(console, ran, COMMAND_MS, from);
  if (status !== "0") throw new Error(`${command}: status ${status}: ${output.trim()}`);
  return output.replaceAll("\r", "").trim();
}
