// File system calls of Linux that Node does not have (extended attributes, mknod, times to the nanosecond),
// made by one perl process (Debian's perl-base, which is essential) that lives as long as it is needed. It
// reaches this process's open directories as /proc/PID/fd/N. Without perl, or on another system, every call
// rejects with EOPNOTSUPP.
import { type ChildProcess, spawn } from "node:child_process";
import { bytesOf } from "../../share/byte-string.ts";
import { ERRNO, type ErrorName, FileError } from "../../share/linux-errno.ts";
import type { HostPlace } from "./rooted-paths.ts";

/** Numbers of system calls: asm-generic's (riscv64, arm64, loongarch64), and x86-64's. */
const GENERIC = {
  setxattr: 5,
  lsetxattr: 6,
  getxattr: 8,
  lgetxattr: 9,
  llistxattr: 12,
  lremovexattr: 15,
  mknodat: 33,
  utimensat: 88,
};
const X86_64: typeof GENERIC = {
  setxattr: 188,
  lsetxattr: 189,
  getxattr: 191,
  lgetxattr: 192,
  llistxattr: 195,
  lremovexattr: 198,
  mknodat: 259,
  utimensat: 280,
};
const CALLS: Readonly<Partial<Record<NodeJS.Architecture, typeof GENERIC>>> = {
  arm64: GENERIC,
  riscv64: GENERIC,
  loong64: GENERIC,
  x64: X86_64,
};

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
/** tv_nsec: leave the time as it is; take the present time. */
const UTIME_OMIT = 0x3fff_fffe;
const UTIME_NOW = 0x3fff_ffff;

/**
 * Reads requests: u32 length, u32 number of the system call, u32 size of a buffer to be filled, then each
 * argument as a byte: `s` with a u32 length and bytes, `i` with an i64, `b` for the buffer. Answers with u32
 * length, u32 errno, and what the buffer was filled with.
 */
const SCRIPT = String.raw`
use strict;
binmode STDIN; binmode STDOUT;
$| = 1;
sub take { my $n = shift; my $all = ""; while (length($all) < $n) { my $got = sysread STDIN, $all, $n - length($all), length($all); exit 0 unless $got; } return $all }
for (;;) {
  my $request = take(unpack "V", take(4));
  my ($call, $size) = unpack "VV", $request;
  my $at = 8; my @arguments; my $buffer = "\0" x ($size || 1); my $is_filled = 0;
  while ($at < length $request) {
    my $kind = substr $request, $at++, 1;
    if ($kind eq "s") { my $n = unpack "V", substr $request, $at, 4; push @arguments, substr $request, $at + 4, $n; $at += 4 + $n }
    elsif ($kind eq "i") { push @arguments, 0 + unpack "q<", substr $request, $at, 8; $at += 8 }
    else { push @arguments, $buffer; $is_filled = @arguments }
  }
  $! = 0;
  my @given = @arguments;
  my $result = syscall $call, @given;
  my $errno = $result < 0 ? $! + 0 : 0;
  my $data = $is_filled && $errno == 0 ? substr($given[$is_filled - 1], 0, $result) : "";
  my $answer = pack("V", $errno) . $data;
  syswrite STDOUT, pack("V", length $answer) . $answer;
}
`;

const BUFFER = Symbol("the buffer to be filled");
type Argument = Uint8Array | number | bigint | typeof BUFFER;

const NAMES = new Map<number, ErrorName>(Object.entries(ERRNO).map(([name, n]) => [n, name as ErrorName]));
const MAX_XATTR = 65536;

/** Until it answers. */
interface Waiter {
  readonly resolve: (data: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

export class PerlCalls {
  readonly #calls = process.platform === "linux" ? CALLS[process.arch] : undefined;
  readonly #waiters: Waiter[] = [];
  #child: ChildProcess | undefined;
  #isMissing = false;
  #input = Buffer.alloc(0);

  /** False if it is known that no call can be made. */
  get isAvailable(): boolean {
    return this.#calls !== undefined && !this.#isMissing;
  }

  async getXattr(place: HostPlace, name: string): Promise<Uint8Array> {
    const call = place.isLink === true ? "getxattr" : "lgetxattr";
    return this.#call(call, [pathOf(place), bytesOf(name), BUFFER, MAX_XATTR], MAX_XATTR);
  }
  /** Each name is followed by a NUL. */
  async listXattrs(place: HostPlace): Promise<Uint8Array> {
    return this.#call("llistxattr", [pathOf(place), BUFFER, MAX_XATTR], MAX_XATTR);
  }
  async setXattr(place: HostPlace, name: string, value: Uint8Array, flags: number): Promise<void> {
    const call = place.isLink === true ? "setxattr" : "lsetxattr";
    await this.#call(call, [pathOf(place), bytesOf(name), value, value.length, flags]);
  }
  async removeXattr(place: HostPlace, name: string): Promise<void> {
    await this.#call("lremovexattr", [pathOf(place), bytesOf(name)]);
  }
  async makeNode(place: HostPlace, mode: number, device: number): Promise<void> {
    await this.#call("mknodat", [AT_FDCWD, pathOf(place), mode, device]);
  }
  async setTimes(
    place: HostPlace,
    atimeNs: bigint | "now" | undefined,
    mtimeNs: typeof atimeNs,
  ): Promise<void> {
    const times = Buffer.alloc(32);
    for (const [i, time] of [atimeNs, mtimeNs].entries()) {
      const ns = 1_000_000_000n;
      const part =
        typeof time === "bigint" ? ((time % ns) + ns) % ns : time === "now" ? UTIME_NOW : UTIME_OMIT;
      times.writeBigInt64LE(typeof time === "bigint" ? (time - BigInt(part)) / ns : 0n, 16 * i);
      times.writeBigInt64LE(BigInt(part), 16 * i + 8);
    }
    await this.#call("utimensat", [
      AT_FDCWD,
      pathOf(place),
      times,
      place.isLink === true ? 0 : AT_SYMLINK_NOFOLLOW,
    ]);
  }

  async #call(name: keyof typeof GENERIC, given: readonly Argument[], size = 0): Promise<Uint8Array> {
    const call = this.#calls?.[name];
    if (call === undefined || this.#isMissing) throw new FileError("EOPNOTSUPP");
    const parts: Uint8Array[] = [words(call, size)];
    for (const argument of given) {
      if (argument === BUFFER) parts.push(Buffer.from("b"));
      else if (argument instanceof Uint8Array) parts.push(Buffer.from("s"), words(argument.length), argument);
      else {
        const number = Buffer.alloc(9, "i");
        number.writeBigInt64LE(BigInt(argument), 1);
        parts.push(number);
      }
    }
    const request = Buffer.concat(parts);
    const child = this.#started();
    const answer = new Promise<Uint8Array>((resolve, reject) => this.#waiters.push({ resolve, reject }));
    this.#keepAlive(true);
    child.stdin?.write(Buffer.concat([words(request.length), request]));
    return await answer;
  }

  #started(): ChildProcess {
    if (this.#child !== undefined) return this.#child;
    const child = spawn("perl", ["-e", SCRIPT], { stdio: ["pipe", "pipe", "ignore"] });
    this.#child = child;
    this.#input = Buffer.alloc(0);
    const gone = (code: ErrorName): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      for (const { reject } of this.#waiters.splice(0)) reject(new FileError(code));
    };
    child.on("error", () => {
      this.#isMissing = true;
      gone("EOPNOTSUPP");
    });
    child.on("close", () => gone("EIO"));
    child.stdin?.on("error", () => {});
    child.stdout?.on("data", (bytes: Buffer) => this.#answer(bytes));
    return child;
  }

  /** Only a call under way keeps this process alive. */
  #keepAlive(on: boolean): void {
    const { stdin, stdout } = this.#child ?? {};
    // Pipes are sockets in Node, which its types do not tell.
    for (const one of [this.#child, stdin, stdout] as (NodeJS.RefCounted | null | undefined)[])
      if (on) one?.ref();
      else one?.unref();
  }

  #answer(bytes: Buffer): void {
    this.#input = Buffer.concat([this.#input, bytes]);
    while (this.#input.length >= 4) {
      const length = this.#input.readUInt32LE(0);
      if (this.#input.length < 4 + length) return;
      const errno = this.#input.readUInt32LE(4);
      const data = this.#input.subarray(8, 4 + length);
      this.#input = this.#input.subarray(4 + length);
      const waiter = this.#waiters.shift();
      if (errno === 0) waiter?.resolve(new Uint8Array(data));
      else waiter?.reject(new FileError(NAMES.get(errno) ?? "EIO"));
      if (this.#waiters.length === 0) this.#keepAlive(false);
    }
  }

  close(): void {
    this.#child?.stdin?.end();
    this.#child?.kill();
  }
}

function pathOf({ foreign }: HostPlace): Buffer {
  if (foreign === undefined) throw new FileError("EOPNOTSUPP");
  return foreign;
}

function words(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, 4 * i);
  return bytes;
}
