// A cpio archive in the "newc" format, which Linux unpacks as its initramfs
// (Documentation/driver-api/early-userspace/buffer-format.rst). All files belong to root and have time 0, so
// that the same input gives the same bytes.
import { encodeUtf8 } from "../base/text.ts";

export type CpioEntry =
  | { readonly name: string; readonly type: "directory" }
  | {
      readonly name: string;
      readonly type: "file";
      readonly bytes: Uint8Array;
      readonly executable?: boolean;
    }
  | { readonly name: string; readonly type: "link"; readonly target: string }
  | { readonly name: string; readonly type: "device"; readonly major: number; readonly minor: number };

const MODES = { directory: 0o40755, file: 0o100644, link: 0o120777, device: 0o20600 } as const;

function member(
  inode: number,
  mode: number,
  name: string,
  data: Uint8Array,
  major = 0,
  minor = 0,
): Uint8Array[] {
  const path = encodeUtf8(`${name}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, path.length, 0];
  const header = encodeUtf8(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  const pad = (length: number): Uint8Array => new Uint8Array((4 - (length % 4)) % 4);
  return [header, path, pad(header.length + path.length), data, pad(data.length)];
}

/** Writes entries in the given order; a directory must precede its contents. Names have no leading slash. */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const none = new Uint8Array();
  const parts = entries.flatMap((entry, inode) => {
    const mode = MODES[entry.type] | (entry.type === "file" && entry.executable ? 0o111 : 0);
    const data =
      entry.type === "file" ? entry.bytes : entry.type === "link" ? encodeUtf8(entry.target) : none;
    const [major, minor] = entry.type === "device" ? [entry.major, entry.minor] : [0, 0];
    return member(inode + 1, mode, entry.name, data, major, minor);
  });
  return Buffer.concat([...parts, ...member(0, 0, "TRAILER!!!", none)]);
}
