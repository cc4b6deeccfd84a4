// The Debian guest with Debian's qemu-guest-agent, as it is in the package: its program and libraries in a
// second archive after the guest's initial ramdisk, and busybox's init, which starts it again when it ends.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeUtf8 } from "../../src/base/text.ts";
import { type CpioEntry, cpio } from "../../src/guest/cpio.ts";
import { unpacked } from "../../tools/unpacked.ts";
import { debian } from "./debian.ts";

const LIBRARIES = [
  ...["ld-linux-riscv64-lp64d.so.1", "libc.so.6", "libm.so.6", "libatomic.so.1", "libcap.so.2"],
  ...["libglib-2.0.so.0", "libgmodule-2.0.so.0", "libpcre2-8.so.0", "libudev.so.1", "libnuma.so.1"],
  "liburing.so.2",
];

/** The guest has no udev, which makes /dev/virtio-ports. */
const START = `#!/bin/sh
modprobe virtio_console
while true; do
  for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] &&
      exec /usr/sbin/qemu-ga -t /run -m virtio-serial -p "/dev/\${port##*/}"
  done
  sleep 1
done
`;

/** Writes the initial ramdisk to a file. */
export async function agentInitrd(path: string): Promise<void> {
  const folder = await unpacked({ name: "agent", architecture: "riscv64", packages: ["qemu-guest-agent"] });
  const file = (name: string, from: string): CpioEntry => ({
    ...{ name, type: "file", executable: true },
    bytes: readFileSync(join(folder, from)),
  });
  const text = (name: string, content: string): CpioEntry => ({
    ...{ name, type: "file", executable: true },
    bytes: encodeUtf8(content),
  });
  const inittab = readFileSync(new URL("../../guests/debian/inittab", import.meta.url), "utf8");
  const archive = cpio([
    { name: "lib/riscv64-linux-gnu", type: "directory" },
    ...LIBRARIES.map((name) => file(`lib/riscv64-linux-gnu/${name}`, `usr/lib/riscv64-linux-gnu/${name}`)),
    {
      ...{ name: "lib/ld-linux-riscv64-lp64d.so.1", type: "link" },
      target: "riscv64-linux-gnu/ld-linux-riscv64-lp64d.so.1",
    },
    file("usr/sbin/qemu-ga", "usr/sbin/qemu-ga"),
    text("usr/sbin/agent", START),
    text("etc/inittab", `${inittab}::respawn:/usr/sbin/agent\n`),
  ]);
  writeFileSync(path, Buffer.concat([readFileSync(debian.initrd), archive]));
}
