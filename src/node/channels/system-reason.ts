// The reason why the operating system refused a file or socket, without the parts that the surrounding
// message has: Node's own messages repeat the call, the path and the address. Left out: errors that no system
// call raised.
import { existsSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { getSystemErrorMap } from "node:util";
import { messageOf } from "../../base/errors.ts";

/** sockaddr_un has 108 bytes on Linux, 104 elsewhere, the last one zero. */
const MAX_UNIX_PATH = process.platform === "linux" ? 107 : 103;

/** Why a unix socket cannot have that path; undefined if it can. */
export function unixPathFault(path: string): string | undefined {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_UNIX_PATH) return undefined;
  return `the path has ${bytes} bytes, a unix socket's has at most ${MAX_UNIX_PATH}`;
}

/** `no such file or directory (ENOENT)`; for an error that no system call raised, its message. */
export function systemReason(error: unknown): string {
  const { errno, code, syscall } = error as NodeJS.ErrnoException;
  const known = errno === undefined || syscall === undefined ? undefined : getSystemErrorMap().get(errno);
  return known === undefined ? messageOf(error) : `${known[1]} (${code ?? known[0]})`;
}

/** The same for a server that cannot listen. `path` is the path of a unix socket. */
export function listenReason(error: unknown, path?: string): string {
  const { code } = error as NodeJS.ErrnoException;
  if (path !== undefined) {
    const directory = dirname(resolve(path));
    if (!existsSync(directory)) return `there is no directory ${directory}`;
    const there = statSync(path, { throwIfNoEntry: false });
    if (there !== undefined && !there.isSocket()) return `${path} exists and is not a socket`;
  }
  return code === "EADDRINUSE" ? "another process listens there (EADDRINUSE)" : systemReason(error);
}
