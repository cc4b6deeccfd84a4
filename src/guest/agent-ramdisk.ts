// The ramdisk of `wherry guest fetch` with Debian's qemu-guest-agent: the program and the libraries that it
// needs, as they are in their packages, in a second archive after the first, and an init that starts it again
// when it ends.
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { encodeUtf8 } from "../base/text.ts";
import { type CpioEntry, cpio } from "./cpio.ts";
import { eachEntry } from "./deb-package.ts";
import { defaultCache, withMirrors } from "./debian-archive.ts";
import type { DebianGuest, DebianGuestOptions } from "./debian-guest.ts";
import { Resolver } from "./dependencies.ts";
import { GuestError } from "./guest-error.ts";
import { readIndex } from "./packages-index.ts";
import { writeAtomically } from "./unpacked-guest.ts";

const AGENT = "qemu-guest-agent";
/** Has `script`, for commands that want a terminal; busybox has none. */
const TERMINALS = "bsdutils";
const LIBRARIES = "lib/riscv64-linux-gnu";
export const INITTAB: URL = new URL("../../guests/debian/inittab", import.meta.url);

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

/** What the agent calls to end the guest; busybox has no such program. */
const SHUTDOWN = `#!/bin/sh
case " $* " in
  *" -r "*) exec reboot ;;
  *) exec poweroff ;;
esac
`;

/** Regular files and links of packages, by their paths without /usr. */
export type PackedFiles = ReadonlyMap<string, Uint8Array | string>;

/** The archive's path. Rejects with GuestError. */
export async function agentRamdisk(guest: DebianGuest, options: DebianGuestOptions = {}): Promise<string> {
  const { onProgress = () => {} } = options;
  const [initrd, inittab] = [await readFile(guest.initrd), await readFile(INITTAB, "utf8")];
  const key = createHash("sha256")
    .update(initrd)
    .update(inittab)
    .update(START + SHUTDOWN + TERMINALS)
    .digest("hex")
    .slice(0, 16);
  const target = join(dirname(guest.initrd), `agent-${key}.cpio`);
  if (!options.refresh && existsSync(target)) return target;
  const cache = options.cache ?? defaultCache();
  const directory = join(cache, `debian-${guest.suite}`);
  const packages = join(cache, "packages");
  await mkdir(packages, { recursive: true });
  const index = (what: string, done: number, total: number): void =>
    onProgress({ step: "index", what, done, total });
  const files = await withMirrors(
    directory,
    guest.suite,
    { ...options, offline: true },
    index,
    async (archive) => {
      const found = new Map<string, Uint8Array | string>();
      for (const entry of new Resolver(await readIndex(archive.index)).resolve([AGENT, TERMINALS])) {
        const path = join(packages, basename(entry.filename));
        const report = (done: number, total: number): void =>
          onProgress({ step: "download", what: entry.name, done, total });
        await archive.fetch(entry, path, report);
        await eachEntry(path, "data", async ({ name, header, read }) => {
          const short = name.replace(/^usr\/lib\//, "lib/");
          if (!/^(usr\/sbin\/qemu-ga|usr\/bin\/script|lib\/riscv64-linux-gnu\/[^/]+\.so[.\d]*)$/.test(short))
            return;
          if (header.type === "file") found.set(short, await read());
          else if (header.type === "symlink") found.set(short, header.linkname ?? "");
        });
      }
      return found;
    },
  );
  await writeAtomically(target, agentArchive(initrd, files, inittab));
  return target;
}

/** `initrd` and an archive with the agent, of these files. Throws GuestError if a library is missing. */
export function agentArchive(initrd: Uint8Array, files: PackedFiles, inittab: string): Buffer {
  const program = (name: string, bytes: Uint8Array): CpioEntry => ({
    ...{ name, type: "file", executable: true },
    bytes,
  });
  const file = (from: string, path: string): Uint8Array => {
    const found = files.get(path);
    if (found instanceof Uint8Array) return found;
    throw new GuestError("guest.deb", `${from} has no ${path}`);
  };
  const [agent, script] = [file(AGENT, "usr/sbin/qemu-ga"), file(TERMINALS, "usr/bin/script")];
  const libraries = new Map<string, Uint8Array>();
  const add = (bytes: Uint8Array): void => {
    for (const name of neededLibraries(bytes)) {
      if (libraries.has(name)) continue;
      const library = fileAt(files, `${LIBRARIES}/${name}`);
      libraries.set(name, library);
      add(library);
    }
  };
  add(agent);
  add(script);
  const loader = [...libraries.keys()].find((name) => name.startsWith("ld-linux-"));
  return Buffer.concat([
    initrd,
    cpio([
      { name: LIBRARIES, type: "directory" },
      ...[...libraries].map(([name, bytes]) => program(`${LIBRARIES}/${name}`, bytes)),
      ...(loader === undefined
        ? []
        : [
            {
              ...{ name: `lib/${loader}`, type: "link" as const },
              target: `${basename(LIBRARIES)}/${loader}`,
            },
          ]),
      program("usr/sbin/qemu-ga", agent),
      program("usr/bin/script", script),
      program("usr/sbin/agent", encodeUtf8(START)),
      program("sbin/shutdown", encodeUtf8(SHUTDOWN)),
      program("etc/inittab", encodeUtf8(`${inittab}::respawn:/usr/sbin/agent\n`)),
    ]),
  ]);
}

function fileAt(files: PackedFiles, path: string, links = 0): Uint8Array {
  const found = files.get(path);
  if (found instanceof Uint8Array) return found;
  if (found === undefined || links > 8)
    throw new GuestError("guest.deb", `${AGENT} needs ${basename(path)}, which no package of it has`);
  const name = found.replace(/^(\/usr)?\/lib\//, "lib/");
  return fileAt(files, name === found ? join(dirname(path), found) : name, links + 1);
}

/** The shared libraries that an ELF file names (DT_NEEDED), for a 64-bit little-endian one. */
function neededLibraries(elf: Uint8Array): string[] {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const [PT_LOAD, PT_DYNAMIC, DT_NEEDED, DT_STRTAB] = [1, 2, 1, 5];
  const segments = Array.from({ length: view.getUint16(0x38, true) }, (_, i) => {
    const at = u64(0x20) + i * view.getUint16(0x36, true);
    return { type: view.getUint32(at, true), offset: u64(at + 8), address: u64(at + 16), size: u64(at + 32) };
  });
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  if (dynamic === undefined) return [];
  const entries: (readonly [number, number])[] = [];
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16)
    entries.push([u64(at), u64(at + 8)]);
  const table = entries.find(([tag]) => tag === DT_STRTAB)?.[1] ?? 0;
  const holder = segments.find(
    ({ type, address, size }) => type === PT_LOAD && table >= address && table < address + size,
  );
  if (holder === undefined) return [];
  const strings = holder.offset + table - holder.address;
  return entries
    .filter(([tag]) => tag === DT_NEEDED)
    .map(([, at]) => {
      const start = strings + at;
      return Buffer.from(elf.subarray(start, elf.indexOf(0, start))).toString("latin1");
    });
}
