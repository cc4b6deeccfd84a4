// This process's streams, and its terminal, as those of a command in the guest (`wherry exec`).
import type { GuestProcess } from "../../agent/guest.ts";
import type { TerminalSize } from "../../agent/guest-terminal.ts";
import { makeRaw } from "../../node/terminal.ts";

/** This terminal's, or that of a terminal which says nothing. */
export function terminalSize(): TerminalSize {
  const { columns, rows } = process.stdout.isTTY ? process.stdout : process.stderr;
  return { cols: columns || 80, rows: rows || 24 };
}

/** All keys go to the command, and each new size. Returns what restores the terminal. */
export function useTerminal(of: GuestProcess): () => void {
  const { stdin } = process;
  let [isBusy, isOutdated] = [false, false];
  const follow = async (): Promise<void> => {
    isOutdated = true;
    if (isBusy) return;
    isBusy = true;
    // Of many sizes on the way, the last one counts.
    while (isOutdated) {
      isOutdated = false;
      const { cols, rows } = terminalSize();
      await of.resize(cols, rows).catch(() => {});
    }
    isBusy = false;
  };
  const resized = (): void => void follow();
  const restore = (): void => {
    process.off("SIGWINCH", resized);
    process.off("exit", restore);
    if (stdin.isTTY) stdin.setRawMode(false);
  };
  if (stdin.isTTY) makeRaw(stdin);
  process.on("SIGWINCH", resized);
  // Also after an error that nobody expected.
  process.on("exit", restore);
  return restore;
}

/** Input to its end; a terminal's only if the command has one. */
export async function feed(to: GuestProcess, hasTerminal: boolean): Promise<void> {
  if (hasTerminal || !process.stdin.isTTY)
    for await (const piece of process.stdin) await to.write(piece as Buffer);
  await to.endInput();
}

/** Output to its end. */
export async function show(from: GuestProcess, stream: "out" | "err", to: NodeJS.WriteStream): Promise<void> {
  for await (const piece of from.output(stream))
    if (!to.write(piece)) await new Promise((resolve) => to.once("drain", resolve));
}
