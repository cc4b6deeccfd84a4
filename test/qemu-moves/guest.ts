// The guest of the moves: Debian's kernel, and its initramfs with `traveller` appended, which runs on the
// console instead of a shell. One build serves both monitors; the firmware is OpenSBI from Debian's package,
// in M-mode on both sides.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cpio } from "../../src/guest/cpio.ts";
import { debian } from "../support/debian.ts";

const SOURCE = fileURLToPath(new URL("./traveller.c", import.meta.url));
const COMPILER = "riscv64-linux-gnu-gcc";
/** Without contraction, every compiler gives the same sums. Small enough to boot in 128 MiB. */
const FLAGS = ["-O1", "-frounding-math", "-ffp-contract=off", "-static", "-pthread", "-Wall", "-Werror"];

const INITTAB = `ttyS0::once:/usr/bin/traveller
::ctrlaltdel:/sbin/reboot
`;

export interface Guest {
  readonly kernel: string;
  readonly initrd: string;
  readonly firmware: string;
  readonly append: string;
}

/** Builds the guest in `folder`. */
export function buildGuest(folder: string): Guest {
  const program = join(folder, "traveller");
  try {
    execFileSync(COMPILER, [...FLAGS, SOURCE, "-o", program, "-lm"], { stdio: "pipe" });
  } catch (cause) {
    const words = (cause as { stderr?: Buffer }).stderr?.toString() ?? "";
    throw new Error(`${COMPILER} (gcc-riscv64-linux-gnu, libc6-dev-riscv64-cross): ${words}`, { cause });
  }
  const first = readFileSync(debian.initrd);
  const padding = Buffer.alloc(-first.length & 511);
  const added = cpio([
    { name: "usr/bin/traveller", type: "file", bytes: readFileSync(program), executable: true },
    { name: "etc/inittab", type: "file", bytes: Buffer.from(INITTAB) },
  ]);
  const initrd = join(folder, "initrd");
  writeFileSync(initrd, Buffer.concat([first, padding, added]));
  return {
    kernel: debian.kernel,
    initrd,
    firmware: debian.opensbi,
    // The kernel's messages are read from /dev/kmsg, so they do not interrupt the numbered lines.
    append: "console=ttyS0 loglevel=2 panic=-1",
  };
}
