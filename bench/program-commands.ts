// How a program of the bench is started in the guest and on the host, and what it prints.
import { hosted } from "../tools/unpacked.ts";
import { DATA, type Program, SPEED_BYTES } from "./programs.ts";

export interface Result {
  readonly nanoseconds: number;
  /** Of the process on this host, with all its threads. */
  readonly cpuNanoseconds: number;
  /** Undefined where the output is a measurement itself. */
  readonly checksum: string | undefined;
}

/** What this host runs natively. */
export interface Host {
  readonly wbench: string;
  /** The folder of Debian's packages, if they could be had. */
  readonly packages: string | undefined;
  /** The file that stands for DATA. */
  readonly data: string;
}

const iterations = (n: number, scale: number): string => String(Math.max(1, Math.round(n * scale)));

/** A line for the guest's shell. `scale`: of a kernel's iterations; commands do all of their work. */
export function guestCommand(program: Program, scale: number): string {
  if (program.kind === "kernel") return `wbench ${program.name} ${iterations(program.n, scale)}`;
  const words = program.argv.map((word) => (word === DATA ? "/data" : `'${word}'`));
  const command = `chroot /debian ${words.join(" ")}`;
  // openssl says on stderr what it is doing.
  return program.kind === "speed" ? `${command} 2>/dev/null` : `wbench run ${program.name} ${command}`;
}

/** The same on the host, as arguments; undefined if it has not got the program. */
export function hostCommand(program: Program, scale: number, host: Host): string[] | undefined {
  if (program.kind === "kernel") return [host.wbench, program.name, iterations(program.n, scale)];
  if (host.packages === undefined) return undefined;
  const [name, ...rest] = program.argv.map((word) => (word === DATA ? host.data : word));
  const command = [...hosted(host.packages, name as string), ...rest];
  return program.kind === "speed" ? command : [host.wbench, "run", program.name, ...command];
}

/** `cpuNanoseconds`: of the monitor; without it, what the program says of itself. Throws if there is no result. */
export function parseResult(program: Program, text: string, cpuNanoseconds?: number): Result {
  if (program.kind === "speed") {
    const rate = /^\+F:\d+:[^:]+:([\d.]+)$/m.exec(text)?.[1];
    if (rate === undefined) throw new Error(`openssl tells no rate: ${text.trim()}`);
    const seconds = SPEED_BYTES / Number(rate);
    // It counts for a second, so that long it computes; the process's start counts against it.
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
