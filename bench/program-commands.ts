// The command lines of the bench's programs in the guest and on the host, and their output.
import { hosted } from "../tools/unpacked.ts";
import { DATA, type Program, SPEED_BYTES } from "./programs.ts";

export interface Result {
  readonly nanoseconds: number;
  /** Processor time of the process on this host, with all its threads. */
  readonly cpuNanoseconds: number;
  /** Undefined if the output is a measurement. */
  readonly checksum: string | undefined;
}

/** The native programs of this host. */
export interface Host {
  readonly wbench: string;
  /** The folder of Debian's packages, if available. */
  readonly packages: string | undefined;
  /** The file for the placeholder DATA. */
  readonly data: string;
}

const iterations = (n: number, scale: number): string => String(Math.max(1, Math.round(n * scale)));

/**
 * A command line for the guest's shell. `scale` applies to the iterations of kernels; commands do all of
 * their work.
 */
export function guestCommand(program: Program, scale: number): string {
  if (program.kind === "kernel") return `wbench ${program.name} ${iterations(program.n, scale)}`;
  const words = program.argv.map((word) => (word === DATA ? "/data" : `'${word}'`));
  const command = `chroot /debian ${words.join(" ")}`;
  // openssl reports its progress on stderr.
  return program.kind === "speed" ? `${command} 2>/dev/null` : `wbench run ${program.name} ${command}`;
}

/** The arguments of the same program on the host; undefined if the host lacks it. */
export function hostCommand(program: Program, scale: number, host: Host): string[] | undefined {
  if (program.kind === "kernel") return [host.wbench, program.name, iterations(program.n, scale)];
  if (host.packages === undefined) return undefined;
  const [name, ...rest] = program.argv.map((word) => (word === DATA ? host.data : word));
  const command = [...hosted(host.packages, name as string), ...rest];
  return program.kind === "speed" ? command : [host.wbench, "run", program.name, ...command];
}

/**
 * `cpuNanoseconds` is the monitor's; without it the program's own time is used. Throws if there is no result.
 */
export function parseResult(program: Program, text: string, cpuNanoseconds?: number): Result {
  if (program.kind === "speed") {
    const rate = /^\+F:\d+:[^:]+:([\d.]+)$/m.exec(text)?.[1];
    if (rate === undefined) throw new Error(`openssl tells no rate: ${text.trim()}`);
    const seconds = SPEED_BYTES / Number(rate);
    // It counts for one second, which is its computing time; the start of the process adds to it.
    return {
      nanoseconds: seconds * 1e9,
      cpuNanoseconds: seconds * (cpuNanoseconds ?? 1e9),
      checksum: undefined,
    };
  }
  const match = /^(\S+) (\d+) ([0-9a-f]{16}) (\d+)$/m.exec(text);
  if (match?.[1] !== program.name) throw new Error(`no result in: ${text.trim()}`);
  return {
    nanoseconds: Number(match[2]),
    cpuNanoseconds: cpuNanoseconds ?? Number(match[4]),
    checksum: match[3],
  };
}
