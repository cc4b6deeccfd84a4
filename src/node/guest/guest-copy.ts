// Files and directories between this host and a guest, by its agent: contents and permission bits. Left out:
// owners, times, links (what a symbolic link of this host leads to is copied; one of the guest is skipped).
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { messageOf } from "../../base/errors.ts";
import { AgentError } from "../../agent/agent-error.ts";
import type { AgentOptions } from "../../agent/agent-client.ts";
import type { Guest } from "../../agent/guest.ts";

const PIECE_BYTES = 256 * 1024;

/** Copies a file, or a directory with what is in it, into the guest. Rejects with AgentError. */
export async function hostToGuest(
  guest: Guest,
  from: string,
  to: string,
  options: AgentOptions = {},
): Promise<void> {
  const there = await onHost(from, stat(from));
  const mode = there.mode & 0o777;
  if (!there.isDirectory()) {
    await guest.writeFile(to, createReadStream(from, { highWaterMark: PIECE_BYTES }), { ...options, mode });
    return;
  }
  await guest.mkdir(to, options);
  for (const name of await onHost(from, readdir(from)))
    await hostToGuest(guest, join(from, name), `${to}/${name}`, options);
}

/** Copies a file, or a directory with what is in it, out of the guest. Rejects with AgentError. */
export async function guestToHost(
  guest: Guest,
  from: string,
  to: string,
  options: AgentOptions = {},
): Promise<void> {
  const { kind, mode } = await guest.stat(from, options);
  if (kind === "directory") {
    await onHost(to, mkdir(to, { recursive: true }));
    for (const { name, kind: entry } of await guest.readdir(from, options)) {
      // The guest is not trusted: a name must not lead out of the directory.
      if (name === "." || name === ".." || name.includes("/")) continue;
      if (entry !== "symlink" && entry !== "other")
        await guestToHost(guest, `${from}/${name}`, join(to, name), options);
    }
    return;
  }
  const pieces = Readable.from(guest.pieces(from, options));
  await onHost(to, pipeline(pieces, createWriteStream(to, { mode: 0o600 })));
  // Without set-user-ID and the like, and what the umask forbids: the guest is not trusted.
  await onHost(to, chmod(to, mode & 0o777 & ~process.umask()));
}

async function onHost<T>(path: string, work: Promise<T>): Promise<T> {
  return work.catch((cause: unknown) => {
    if (cause instanceof AgentError) throw cause;
    throw new AgentError("agent.host-file", `${path}: ${messageOf(cause)}`, { cause });
  });
}
