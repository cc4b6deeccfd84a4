// Holes in a file of this host: fallocate(2), which Node does not have. A perl process (perl-base, as for
// locks) makes them. It starts with the first hole, and ends with the file, or with this process, however
// that ends.
import { type ChildProcess, spawn } from "node:child_process";
import type { FileHandle } from "node:fs/promises";
import type { Socket } from "node:net";

/** The numbers of the system calls on Linux: fallocate and prctl. */
const CALLS: Readonly<Record<string, readonly [number, number]>> = {
  x64: [285, 157],
  arm64: [47, 167],
  riscv64: [47, 167],
  loong64: [47, 167],
};

/**
 * For each line `MODE OFFSET LENGTH`, a line with 1 if fallocate has done it. The file is the inherited one:
 * while there is work, the image stays locked. If the parent is killed, so is this process
 * (PR_SET_PDEATHSIG is 1): what is still in the pipe is not done to an image that others may have.
 */
const SCRIPT = `
use strict;
my ($fallocate, $prctl, $parent) = @ARGV;
syscall($prctl + 0, 1, 9, 0, 0, 0) == 0 && getppid == $parent or exit 1;
open(my $file, "+<&=", 3) or exit 1;
$| = 1;
while (<STDIN>) {
  my ($mode, $at, $length) = split;
  print syscall($fallocate + 0, fileno $file, $mode + 0, $at + 0, $length + 0) == 0 ? "1\\n" : "0\\n";
}
`;

/** FALLOC_FL_KEEP_SIZE with FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE. */
const MODES = { hole: 1 | 2, zeroes: 1 | 16 } as const;

export class HolePuncher {
  readonly #handle: FileHandle;
  #child: ChildProcess | undefined;
  /** Those whose answers are still to come, in order. */
  readonly #waiting: ((isDone: boolean) => void)[] = [];
  #isImpossible: boolean;
  #hasEnded = false;
  #ended: Promise<void> | undefined;

  constructor(handle: FileHandle) {
    this.#handle = handle;
    this.#isImpossible = process.platform !== "linux" || CALLS[process.arch] === undefined;
  }

  /** Resolves with false if the range is as it was: there is no perl, or the file system cannot do it. */
  punch(offset: number, length: number): Promise<boolean> {
    return this.#make("hole", offset, length);
  }

  /** As `punch`, but the range keeps its room in the file system. */
  zero(offset: number, length: number): Promise<boolean> {
    return this.#make("zeroes", offset, length);
  }

  #make(what: keyof typeof MODES, offset: number, length: number): Promise<boolean> {
    if (this.#isImpossible || length === 0) return Promise.resolve(length === 0);
    const child = (this.#child ??= this.#start());
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) === 1) (child.stdout as Socket | null)?.ref();
      child.stdin?.write(`${MODES[what]} ${offset} ${length}\n`);
    });
  }

  #start(): ChildProcess {
    const child = spawn(
      "perl",
      ["-e", SCRIPT, "--", ...(CALLS[process.arch] ?? []).map(String), String(process.pid)],
      {
        stdio: ["pipe", "pipe", "ignore", this.#handle.fd],
      },
    );
    const giveUp = (): void => {
      this.#isImpossible = true;
      for (const answer of this.#waiting.splice(0)) answer(false);
    };
    this.#ended = new Promise((resolve) => {
      const ended = (): void => {
        giveUp();
        this.#hasEnded = true;
        resolve();
      };
      child.on("error", ended);
      child.on("exit", ended);
    });
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

  /** Resolves when the process has ended, and with it its hold of the file's locks. */
  async close(): Promise<void> {
    const child = this.#child;
    if (child === undefined || this.#hasEnded) return;
    // Until then this process must not end.
    child.ref();
    child.stdin?.end();
    await this.#ended;
  }
}
