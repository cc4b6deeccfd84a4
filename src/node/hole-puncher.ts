// Holes in a file of this host: fallocate(2), which Node does not have. A perl process (perl-base, as for
// locks) makes them. It starts with the first hole, and ends with the file, or with this process, however
// that ends.
import { type ChildProcess, spawn } from "node:child_process";
import type { FileHandle } from "node:fs/promises";
import type { Socket } from "node:net";

/** The number of the system call on Linux. */
const FALLOCATE: Readonly<Record<string, number>> = { x64: 285, arm64: 47, riscv64: 47, loong64: 47 };

/**
 * For each line `OFFSET LENGTH`, a line with 1 if there is a hole. The file is opened anew, so that the locks
 * end with this process. 3 is FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE.
 */
const SCRIPT = `
use strict;
open(my $file, "+<", "/proc/self/fd/3") or exit 1;
my $other;
open($other, "<&=", 3) and close $other;
$| = 1;
while (<STDIN>) {
  my ($at, $length) = split;
  print syscall($ARGV[0], fileno $file, 3, $at + 0, $length + 0) == 0 ? "1\\n" : "0\\n";
}
`;

export class HolePuncher {
  readonly #handle: FileHandle;
  #child: ChildProcess | undefined;
  /** Those whose answers are still to come, in order. */
  readonly #waiting: ((isDone: boolean) => void)[] = [];
  #isImpossible: boolean;

  constructor(handle: FileHandle) {
    this.#handle = handle;
    this.#isImpossible = process.platform !== "linux" || FALLOCATE[process.arch] === undefined;
  }

  /** Resolves with false if the range is as it was: there is no perl, or the file system cannot do it. */
  punch(offset: number, length: number): Promise<boolean> {
    if (this.#isImpossible || length === 0) return Promise.resolve(length === 0);
    const child = (this.#child ??= this.#start());
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) === 1) (child.stdout as Socket | null)?.ref();
      child.stdin?.write(`${offset} ${length}\n`);
    });
  }

  #start(): ChildProcess {
    const child = spawn("perl", ["-e", SCRIPT, "--", String(FALLOCATE[process.arch])], {
      stdio: ["pipe", "pipe", "ignore", this.#handle.fd],
    });
    const giveUp = (): void => {
      this.#isImpossible = true;
      for (const answer of this.#waiting.splice(0)) answer(false);
    };
    child.on("error", giveUp);
    child.on("close", giveUp);
    child.stdin?.on("error", () => {});
    child.stdout?.on("data", (bytes: Buffer) => {
      // A line is two bytes, which may come apart.
      for (const byte of bytes) if (byte !== 10) this.#waiting.shift()?.(byte === 49);
      if (this.#waiting.length === 0) (child.stdout as Socket | null)?.unref();
    });
    // A process that only waits for this one may end.
    for (const part of [child, child.stdin as Socket | null, child.stdout as Socket | null]) part?.unref();
    return child;
  }

  close(): void {
    this.#child?.stdin?.end();
  }
}
