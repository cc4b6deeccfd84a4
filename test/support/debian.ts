// The Debian guest of the checks: where it is, and its shell on the console.
import { type DebianGuest, fetchDebianGuest } from "../../src/guest/debian-guest.ts";
import { withoutKernelLog } from "../../src/guest/kernel-log.ts";
import { type Console, Machine } from "./machine.ts";

export const BOOT_MS = 300_000;
const COMMAND_MS = 60_000;
const PROMPT = /wherry:\S*# /;
/**
 * Not complaints of stalls and lockups: with more harts than cores, on a busy host, they say that the host is
 * slow. To the end of the line: which BUG it is may still be coming in.
 */
export const DEAD = /Kernel panic|Oops[: ]|BUG: (?!soft lockup|workqueue lockup)[^\n]*\n|Unable to handle/;

/** Waits for something that a program prints. What kernels print when they are in trouble is an error. */
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

/**
 * Types a command and gives its output, without the echo of the command. A status other than 0 is an error.
 */
export async function shell(console: Console, command: string): Promise<string> {
  const from = console.text.length;
  // Backslashes, so that the echo of the command does not look like its output.
  console.type(`echo \\<\\<; ${command}; echo \\>\\>$?\n`);
  const ran = /^<<\r?\n([^]*?)>>(\d+)\r?\n/m;
  const [, output = "", status] = await seeWords(console, ran, COMMAND_MS, from);
  if (status !== "0") throw new Error(`${command}: status ${status}: ${output.trim()}`);
  return output.replaceAll("\r", "").trim();
}
