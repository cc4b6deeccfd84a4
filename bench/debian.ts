// The Debian packages for the bench: the guest's programs (riscv64), the same programs for this host, and a
// newer QEMU.
import { needX64, qemu, unpacked } from "../tools/unpacked.ts";

const PROGRAM_PACKAGES = ["gzip", "xz-utils", "openssl", "python3.13-minimal"];

const programs = (architecture: string): Promise<string> =>
  unpacked({ name: "programs", architecture, packages: PROGRAM_PACKAGES });

export const guestPrograms = (): Promise<string> => programs("riscv64");

export async function hostPrograms(): Promise<string> {
  needX64();
  return programs("amd64");
}

/** The newest QEMU of the backports: its command with the arguments that precede all others. */
export const newQemu = (): Promise<string[]> => qemu("11.1", "riscv64");
