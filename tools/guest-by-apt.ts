// The Debian guest for CI, where only apt-get and npm have network access, from a mirror on loopback. Usage:
// npx node tools/guest-by-apt.ts
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { DEFAULT_SUITE } from "../src/guest/debian-suite.ts";
import { aptMirror } from "./apt-mirror.ts";

const PACKAGES = ["linux-image-riscv64", "busybox-static", "opensbi"];

const root = await mkdtemp(join(tmpdir(), "wherry-apt-"));

try {
  const mirror = await aptMirror(root, DEFAULT_SUITE, async (apt) => {
    // The kernel package is the dependency of the meta package.
    const meta = apt.run("apt-cache", "show", "linux-image-riscv64");
    const kernel = /^Depends: (linux-image-\S+)/m.exec(meta)?.[1];
    if (kernel === undefined) throw new Error("linux-image-riscv64 depends on no kernel");
    return [...PACKAGES, kernel];
  });
  const guest = await fetchDebianGuest({ mirror: mirror.url, keyring: mirror.keyring, refresh: true });
  mirror.close();
  console.log(`Debian guest: Linux ${guest.version} in ${dirname(guest.kernel)}`);
} finally {
  await rm(root, { recursive: true, force: true });
}
