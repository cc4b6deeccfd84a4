// Which process a peer is, so that its death can be told from a lost way to it: boot id of the kernel, PID namespace,
// PID, and start time in clock ticks (proc(5)). Two processes of one running kernel never share all four.
import { readFileSync, readlinkSync } from "node:fs";

/** State and start time of a process of this namespace; undefined if there is none with this PID. Throws on other failures. */
function statOf(pid: string): { state: string; startTime: string } | undefined {
  try {
    // The second field is the name in parentheses, and may hold anything.
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return { state: fields[0] ?? "", startTime: fields[19] ?? "" };
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/** This process, or undefined where the platform cannot tell. */
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

/** True only if that process has certainly ended: it was of this kernel and namespace, and is no more. */
export function isGone(identity: string): boolean {
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
