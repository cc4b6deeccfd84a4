// The lock of a disk image: QEMU's (`file.locking`), so that Wherry and QEMU exclude each other. Each user of
// an image holds read locks on single bytes of it: byte 100+P for each permission P that it uses, and 200+P
// for each that it does not share. It may use P if nobody else holds 200+P, and refuse to share P if nobody
// else holds 100+P. The locks belong to the open file description (F_OFD_SETLK): the kernel drops them when
// the file is closed or the process dies, however it dies. Left out: the permissions that only block jobs and
// resizing use.
import type { FileHandle } from "node:fs/promises";
import { messageOf, WherryError } from "../base/errors.ts";
import { perl } from "./perl.ts";

export class ImageLockError extends WherryError {}

const uses = (permission: number): number => 100 + permission;
const keeps = (permission: number): number => 200 + permission;
const READ = 0;
const WRITE = 1;

/**
 * `read`: no other may write. `shared-read`: others may. `write`: no other may write, or read but as that.
 */
export type ImageUse = "read" | "shared-read" | "write";

/** The bytes that a user holds, and those that no other may hold. */
const LOCKS: Readonly<Record<ImageUse, readonly [own: readonly number[], foreign: readonly number[]]>> = {
  write: [
    [uses(READ), uses(WRITE), keeps(WRITE)],
    [keeps(READ), keeps(WRITE), uses(WRITE)],
  ],
  read: [
    [uses(READ), keeps(WRITE)],
    [keeps(READ), uses(WRITE)],
  ],
  "shared-read": [[uses(READ)], [keeps(READ)]],
};

/** The exit status of SCRIPT if another holds a byte; its output is then the byte. */
const HELD = 75;

/**
 * Locks, then looks, as QEMU does. Two that start at once may both see the other one, so each gives up its
 * locks and tries again after a random time. Numbers: Linux's F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_WRLCK and
 * F_UNLCK, and its struct flock on 64-bit machines.
 */
const SCRIPT = `
my ($own, $foreign) = map { [split /,/] } @ARGV;
sub lock_byte {
  my ($call, $type, $byte) = @_;
  my $flock = pack "s s x4 q q i x4", $type, 0, $byte, 1, 0;
  fcntl($file, $call, $flock) or die "$!\\n";
  return unpack "s", $flock;
}
my @held;
for my $try (1 .. 8) {
  lock_byte(37, 0, $_) for @$own;
  @held = grep { lock_byte(36, 1, $_) != 2 } @$foreign or exit 0;
  lock_byte(37, 2, $_) for @$own;
  select undef, undef, undef, rand 0.02;
}
print $held[-1];
exit ${HELD};
`;

/** Takes the lock for `use` on an open image; it is released when the file is closed. */
export async function lockImage(path: string, handle: FileHandle, use: ImageUse): Promise<void> {
  const fail = (why: string, cause?: unknown): never => {
    const what = use === "write" ? "writing" : "reading";
    throw new ImageLockError("file-block.lock", `${path}: cannot be locked for ${what}: ${why}`, { cause });
  };
  const unlocked = "locking=off opens it without a lock";
  const result = await perl(handle, SCRIPT, ...LOCKS[use].map(String)).catch((cause: unknown) =>
    fail(`perl (package perl-base) does not run: ${messageOf(cause)}; ${unlocked}`, cause),
  );
  if (result.status === 0) return;
  if (result.status !== HELD) fail(`${result.error || `perl ended with ${result.status}`}; ${unlocked}`);
  const how =
    Number(result.output) === uses(WRITE) ? "for writing" : use === "write" ? "for reading" : "alone";
  fail(
    `another process, or another drive of this machine, has it open ${how}: end that one, or copy the image` +
      (use === "read" ? "; readonly=on,force-share=on reads it while it changes" : ""),
  );
}
