// The Debian guest with Debian's qemu-guest-agent, from packages that apt has fetched.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { agentArchive, INITTAB } from "../../src/guest/agent-ramdisk.ts";
import { unpacked } from "../../tools/unpacked.ts";
import { debian } from "./debian.ts";

const LIBRARIES = "lib/riscv64-linux-gnu";

/** Writes the initial ramdisk to a file. */
export async function agentInitrd(path: string): Promise<void> {
  const folder = await unpacked({
    name: "agent",
    architecture: "riscv64",
    packages: ["qemu-guest-agent", "bsdutils"],
  });
  const names = readdirSync(join(folder, "usr", LIBRARIES)).filter((name) => /\.so[.\d]*$/.test(name));
  const files = new Map<string, Uint8Array>();
  for (const name of ["sbin/qemu-ga", "bin/script", ...names.map((each) => `${LIBRARIES}/${each}`)]) {
    const file = join(folder, "usr", name);
    // A link may lead out of the packages.
    if (existsSync(file)) files.set(name.replace(/^s?bin/, "usr/$&"), readFileSync(file));
  }
  writeFileSync(path, agentArchive(readFileSync(debian.initrd), files, readFileSync(INITTAB, "utf8")));
}
