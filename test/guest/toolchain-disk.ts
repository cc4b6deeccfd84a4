// A disk with Debian's gcc and make for the guest: an ext4 file system in a raw image, written by src/ext4
// from the unpacked packages.
import {
  closeSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
} from "node:fs";
import { writeSync } from "node:fs";
import { join } from "node:path";
import { type Directory, directory } from "../../src/ext4/ext4-tree.ts";
import { Ext4Writer } from "../../src/ext4/ext4-writer.ts";
import { unpacked } from "../../tools/unpacked.ts";

const BYTES = 512 * 2 ** 20;
const OWNER = { uid: 0, gid: 0, mtime: 1_700_000_000, xattrs: new Map<string, Uint8Array>() };
/** Most of the packages' bytes, and nothing that C needs. */
const LEFT_OUT =
  /\/(share|lto1|lto-wrapper|.*lto-dump.*|lib[atlu]+san\b.*|.*gprof.*|lib(stdc\+\+|itm|gomp)\b.*)$/;
/** Debian's merged /usr, and mount points. */
const LINKS = { bin: "usr/bin", lib: "usr/lib", sbin: "usr/sbin" };
const EMPTY = ["dev", "proc", "tmp", "work", "out"];

/** Writes the image to a new file. */
export async function toolchainDisk(path: string): Promise<void> {
  const packages = ["gcc", "make", "libc6-dev"];
  const top = await unpacked({ name: "build", architecture: "riscv64", packages });
  const fd = openSync(path, "wx");
  ftruncateSync(fd, BYTES);
  const sink = {
    async write(offset: number, bytes: Uint8Array): Promise<void> {
      writeSync(fd, bytes, 0, bytes.length, offset);
    },
  };
  const identity = { uuid: new Uint8Array(16).fill(1), hashSeed: new Uint8Array(16).fill(2) };
  const writer = new Ext4Writer(sink, BYTES, { ...identity, label: "tools", time: OWNER.mtime });
  const read = async (from: string): Promise<Directory> => {
    const node = directory({ ...OWNER, mode: 0o755 });
    for (const entry of readdirSync(from, { withFileTypes: true })) {
      const name = join(from, entry.name);
      if (LEFT_OUT.test(name)) continue;
      if (entry.isDirectory()) node.entries.set(entry.name, await read(name));
      else if (entry.isSymbolicLink())
        node.entries.set(entry.name, { ...OWNER, kind: "symlink", mode: 0o777, target: readlinkSync(name) });
      else {
        const mode = statSync(name).mode & 0o777;
        node.entries.set(entry.name, {
          ...{ ...OWNER, kind: "file", mode },
          data: await writer.store(readFileSync(name)),
        });
      }
    }
    return node;
  };
  const root = await read(top);
  for (const [name, target] of Object.entries(LINKS))
    root.entries.set(name, { ...OWNER, kind: "symlink", mode: 0o777, target });
  for (const name of EMPTY) root.entries.set(name, directory({ ...OWNER, mode: 0o755 }));
  await writer.finish(root);
  closeSync(fd);
}
