// A peer process's identity, which distinguishes its death from a lost connection: the kernel's boot id, PID
// namespace, PID, and start time in clock ticks (proc(5)). Two processes of one running kernel never share
// all four.
import { readFileSync, readlinkSync } from "node:fs";

/**
 * State and start time of a process of this namespace; undefined if the PID does not exist. Throws on other
 * failures.
 */
function statOf(pid: string): { state: string; startTime: string } | undefined {
  try {
    // The second field is the name in parentheses, which may contain any character.
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return { state: fields[0] ?? "", startTime: fields[19] ?? "" };
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/** The identity of this process; undefined if the platform does not provide it. */
export function ownIdentity(): string | undefined {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    const space = readlinkSync("/proc/self/ns/pid");
    const start = statOf(String(process.pid))?.startTime;
    return start === undefined ? undefined : [boot, space, process.pid, start].join(" ");
  } catch {
    return undefined;
  }
}

/**
 * True only if that process has certainly ended: it belonged to this kernel and namespace, and no longer
 * exists.
 */
export function hasExited(identity: string): boolean {
  const [boot, space, pid, start] = identity.split(" ");
  const [ownBoot, ownSpace] = ownIdentity()?.split(" ") ?? [];
  if (ownBoot === undefined || boot !== ownBoot || space !== ownSpace || !/^\d+$/.test(pid ?? ""))
    return false;
  try {
    const now = statOf(pid as string);
    return now === undefined || now.startTime !== start || now.state === "Z" || now.state === "X";
  } catch {
    return false;
  }
}
