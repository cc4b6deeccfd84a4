// The bench's programs: our own kernels (bench/programs) and commands of Debian's packages, with iterations
// that take QEMU about a second.

interface Common {
  readonly name: string;
  /** The harts that the guest must have. */
  readonly harts: number;
}

/** A kernel of `wbench`, run `n` times. */
export interface Kernel extends Common {
  readonly kind: "kernel";
  readonly n: number;
}

/**
 * A command of a Debian package, timed from outside. Its output is the same everywhere. DATA is replaced by
 * the file.
 */
export interface Command extends Common {
  readonly kind: "command";
  readonly argv: readonly string[];
}

/** `openssl speed`, which counts for a second; its time is that of SPEED_BYTES at the reported rate. */
export interface Speed extends Common {
  readonly kind: "speed";
  readonly argv: readonly string[];
}

export type Program = Kernel | Command | Speed;

export const DATA = "@data";
export const SPEED_BYTES = 2 ** 24;

const kernel = (name: string, n: number, harts = 1): Kernel => ({ kind: "kernel", name, n, harts });
const command = (name: string, ...argv: string[]): Command => ({ kind: "command", name, argv, harts: 1 });
const speed = (name: string, cipher: string): Speed => ({
  kind: "speed",
  name,
  argv: ["openssl", "speed", "-elapsed", "-mr", "-seconds", "1", "-bytes", "16384", "-evp", cipher],
  harts: 1,
});

const PYTHON = [
  "d = {}",
  "[d.__setitem__(i * 7919 % 5003, d.get(i % 5003, 0) + i) for i in range(60000)]",
  "w = sorted(str(i * i % 10007) for i in range(20000))",
  "f = lambda n: n if n < 2 else f(n - 1) + f(n - 2)",
  'print(sum(d.values()), len("".join(w)), f(16), sum(i * 0.5 for i in range(50000)))',
].join("; ");

/** One line for each; the head of its source says what it exercises. */
export const PROGRAMS: readonly Program[] = [
  kernel("mix", 7000),
  kernel("sieve", 120),
  kernel("crc32", 3500),
  kernel("fib", 250),
  kernel("calls", 15),
  kernel("gotos", 45),
  kernel("strings", 3500),
  kernel("memcpy", 600),
  kernel("hash", 45),
  kernel("chase", 45),
  kernel("sort", 150),
  kernel("sha256", 250),
  kernel("xorshift", 700),
  kernel("json", 350),
  kernel("matmul", 180),
  kernel("nbody", 700),
  kernel("mandelbrot", 140),
  kernel("fft", 1100),
  kernel("fma", 500),
  command("gzip", "gzip", "-9", "-n", "-c", DATA, DATA, DATA, DATA, DATA),
  command("xz", "xz", "-1", "-T1", "-c", DATA),
  speed("openssl-sha256", "sha256"),
  speed("openssl-aes", "aes-128-cbc"),
  command("python3", "python3.13", "-S", "-I", "-c", PYTHON),
  kernel("syscall", 1300),
  kernel("forkexec", 200),
  kernel("switch", 80),
  kernel("fault", 12),
  kernel("scale-1", 3000, 2),
  kernel("scale-2", 3000, 2),
  kernel("lock", 1500, 2),
  kernel("ipi", 60, 2),
  kernel("wake", 100, 2),
];
