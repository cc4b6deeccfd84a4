// A terminal for a command in the guest. The agent has none, and so `script` of util-linux makes one: it
// passes on between the terminal and the streams that the command would have had (docs/decisions/0020).
import { AgentError } from "./agent-error.ts";

/** A terminal's size in characters. */
export interface TerminalSize {
  readonly cols: number;
  readonly rows: number;
}

/** As the kernel keeps it. */
const MAX_SIZE = 0xffff;

/** Throws AgentError. */
export function checkSize(cols: unknown, rows: unknown): void {
  for (const [name, value] of Object.entries({ cols, rows }))
    if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > MAX_SIZE)
      throw new AgentError(
        "agent.argument",
        `${name}: expected a whole number from 1 to ${MAX_SIZE}, found ${String(value)}`,
      );
}

/** Fails unless the guest can make a terminal. */
export const HAS_TERMINALS = `script --version 2>/dev/null | grep -q util-linux || {
echo "a terminal needs the program script of util-linux (Debian's package bsdutils)" >&2; exit 1; }`;

/**
 * The words that run a command on a terminal. Files in `directory` tell where it is, and whose process leads
 * its session. script's own input is no terminal, so that it has switched echo off.
 */
export function onTerminal(
  directory: string,
  { cols, rows }: TerminalSize,
  command: string,
  args: readonly string[],
): [string, ...string[]] {
  const program = inQuotes(command);
  const run = `stty sane cols ${cols} rows ${rows}
readlink /proc/$$/fd/0 >${directory}/tty; echo $$ >${directory}/leader
command -v -- ${program} >/dev/null || { printf '%s: not found\\n' ${program} >&2; exit 127; }
exec ${[command, ...args].map(inQuotes).join(" ")}`;
  // Whatever shell the guest's SHELL is.
  return ["script", "-qefc", `exec /bin/sh -c ${inQuotes(run)}`, "/dev/null"];
}

/** Directory, process of `script`, columns, rows. A program that starts late has its size all the same. */
export const RESIZE = `until [ -s "$1/tty" ] || ! kill -0 "$2" 2>/dev/null; do sleep 0.05 2>/dev/null || sleep 1; done
[ ! -s "$1/tty" ] || stty -F "$(cat "$1/tty")" cols "$3" rows "$4" 2>/dev/null || ! kill -0 "$2" 2>/dev/null`;

/**
 * Signal, process of `script`, directory: sends it to all processes of the terminal's session. SIGKILL ends
 * `script` as well.
 */
export const KILL_SESSION = `p=$(cat "$3/leader" 2>/dev/null)
if [ -n "$p" ]; then
all=$(cat /proc/[0-9]*/stat 2>/dev/null | awk -v s="$p" '{ pid = $1; sub(/.*\\) /, ""); if ($4 == s) print pid }')
kill -s "$1" \${all:-$p} 2>/dev/null
fi
[ -n "$p" ] && [ "$1" != KILL ] || kill -s "$1" "$2" 2>/dev/null || ! kill -0 "$2" 2>/dev/null`;

const inQuotes = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
