// A disk that fills up: a small tmpfs in the machines' own mount namespace, or, if none can be mounted, a
// limit on the size of files that their process writes.
import { spawnSync } from "node:child_process";
import { rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const TMPFS_BYTES = 32 << 20;
/** The limit must leave room for the guest's disk. */
const LEAST_FILE_SIZE = 4 << 20;

export interface SmallDisk {
  readonly means: string;
  /** The command that starts machines. */
  readonly wrap: readonly string[];
  /** The disk's directory as seen from outside the machine's process. */
  seenFrom(pid: number): string;
  /**
   * Fills the disk except for about `room` bytes; returns the free bytes, and a function that frees the rest.
   */
  fill(pid: number, room: number): { room: number; undo(): void };
}

export function smallDisk(path: string): SmallDisk {
  const mount = `mount -t tmpfs -o size=${TMPFS_BYTES} tmpfs '${path}' && exec "$@"`;
  for (const user of [[], ["--user", "--map-root-user"]]) {
    const wrap = ["unshare", ...user, "--mount", "sh", "-c", mount, "sh"];
    if (run(...wrap, "true") !== 0) continue;
    const seenFrom = (pid: number): string => `/proc/${pid}/root${path}`;
    return {
      means: "tmpfs",
      wrap,
      seenFrom,
      fill(pid, room) {
        const filler = join(seenFrom(pid), "filler");
        const { bavail, bsize } = statfsSync(seenFrom(pid));
        writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - room)));
        return { room, undo: () => rmSync(filler) };
      },
    };
  }
  const limit = (pid: number, bytes: number | "unlimited"): void => {
    if (run("prlimit", "--pid", String(pid), `--fsize=${bytes}:`) !== 0) throw new Error("prlimit fails");
  };
  return {
    means: "limited file size",
    wrap: [],
    seenFrom: () => path,
    fill(pid, wanted) {
      const room = Math.max(wanted, LEAST_FILE_SIZE);
      limit(pid, room);
      return { room, undo: () => limit(pid, "unlimited") };
    },
  };
}

function run(...[program, ...args]: string[]): number | null {
  return spawnSync(program as string, args).status;
}
