// What the bench runs: kernels of our own (bench/programs) and commands of Debian's packages, with the number of
// iterations that keeps QEMU busy for a second or two. `quick` is what CI runs.

export type Program = Kernel | Command | Speed;

interface Common {
  readonly name: string;
  /** Of the guest; 1 if not given. */
  readonly harts?: number;
}

/** A kernel of `wbench`. */
export interface Kernel extends Common {
  readonly kind: "kernel";
  readonly n: number;
}

/** A command of a Debian package, timed from the outside; its output must be the same everywhere. */
export interface Command extends Common {
  readonly kind: "command";
  readonly argv: readonly string[];
}

/** `openssl speed`, which tells bytes per second. */
export interface Speed extends Common {
  readonly kind: "speed";
  readonly argv: readonly string[];
}

const kernel = (name: string, n: number, harts = 1): Kernel => ({ kind: "kernel", name, n, harts });

export const PROGRAMS: readonly Program[] = [
  kernel("xorshift", 800),
  kernel("sieve", 150),
  kernel("crc32", 2500),
  kernel("fib", 400),
];
