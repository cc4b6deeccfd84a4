// A tar archive (POSIX.1-1988 ustar, pax headers of POSIX.1-2001 and GNU's long names) as a read-only tree.
// Owners, modes, times, links, device nodes and extended attributes (SCHILY.xattr) are those of the archive.
// Left out: sparse files, multi-volume archives, compression.
import { WherryError } from "../base/errors.ts";
import { ignoreRefusal, makeParents, safePath } from "./archive-paths.ts";
import { byteString, byteStringOf, bytesOf } from "./byte-string.ts";
import type { Owner } from "./file-tree.ts";
import { FileError } from "./linux-errno.ts";
import { MemoryTree, type MemoryTreeOptions } from "./memory-tree.ts";
import { OPEN_EXCL, OPEN_WRONLY, S_IFDIR } from "./wire-9p.ts";
import { decodeUtf8 } from "../base/text.ts";

export class TarError extends WherryError {}

const BLOCK = 512;
const XATTR_PREFIX = "SCHILY.xattr.";
/** Types of device nodes by the header's type flag. */
const NODES: Readonly<Record<string, number>> = { "3": 0o020000, "4": 0o060000, "6": 0o010000 };

interface Member {
  readonly type: string;
  readonly name: string;
  readonly target: string;
  readonly mode: number;
  readonly owner: Owner;
  readonly mtimeNs: bigint;
  readonly device: number;
  readonly data: Uint8Array;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

/** The archive's files. Rejects with TarError, which names the offset, if it is damaged. */
export async function tarTree(archive: Uint8Array): Promise<MemoryTree> {
  const tree = new MemoryTree({ readonly: true, isArchive: true, maxBytes: Number.MAX_SAFE_INTEGER });
  const made = new Set<string>();
  const links: Member[] = [];
  const times: [path: string, mtimeNs: bigint][] = [];
  for (const member of members(archive)) {
    const path = safePath(member.name);
    if (path === undefined || (path === "" && member.type !== "5")) continue;
    await makeParents(tree, path, made);
    if (member.type === "1") {
      links.push(member);
      continue;
    }
    await add(tree, path, member).catch((cause: unknown) => {
      if (!(cause instanceof FileError)) throw cause;
      throw new TarError("tar.path", `the archive's ${member.name} has no place: ${cause.code}`, { cause });
    });
    for (const [name, value] of member.xattrs) await tree.setXattr(path, name, value, 0);
    times.push([path, member.mtimeNs]);
  }
  for (const { name, target } of links) {
    const [path, existing] = [safePath(name), safePath(target)];
    if (path === undefined || existing === undefined) continue;
    await tree.remove(path, false).catch(() => {});
    await tree.makeLink(path, existing).catch(() => {
      throw new TarError("tar.link", `the archive's ${name} is a link to ${target}, which is not in it`);
    });
  }
  // Last: what is made in a directory changes its time.
  for (const [path, time] of times)
    await tree.change(path, { atimeNs: time, mtimeNs: time }).catch(ignoreRefusal);
  return tree;
}

async function add(tree: MemoryTree, path: string, member: Member): Promise<void> {
  const { type, mode, owner, target, data, device } = member;
  if (type === "5") {
    await tree.makeDirectory(path, mode, owner).catch(ignoreRefusal);
    await tree.change(path, { mode, ...owner });
    return;
  }
  const before = await tree.attributes(path).catch(() => undefined);
  if (before !== undefined && (before.mode & 0o170000) !== S_IFDIR) await tree.remove(path, false);
  if (type === "2") await tree.makeSymlink(path, target, owner);
  else if (type in NODES) await tree.makeNode(path, (NODES[type] ?? 0) | mode, device, owner);
  else {
    const file = await tree.create(path, OPEN_WRONLY | OPEN_EXCL, mode, owner);
    await file.write(0, data);
    await file.close();
  }
}

function* members(archive: Uint8Array): Generator<Member> {
  let pax = new Map<string, Uint8Array>();
  let global = new Map<string, Uint8Array>();
  let [longName, longTarget] = ["", ""];
  for (let at = 0; at < archive.length; ) {
    const header = archive.subarray(at, at + BLOCK);
    if (header.every((byte) => byte === 0)) return;
    const fail = (what: string): never => {
      throw new TarError("tar.header", `the tar archive is damaged at offset ${at}: ${what}`);
    };
    if (header.length < BLOCK) fail(`a header of ${header.length} bytes`);
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
    const field = (from: number, length: number): number => octal(header, from, length);
    if (field(148, 8) !== sum) fail(`its header's checksum is ${field(148, 8)}, expected ${sum}`);
    const text = (from: number, length: number): string =>
      byteString(header.subarray(from, from + length)).split("\0", 1)[0] ?? "";
    const type = text(156, 1) || "0";
    const own = (key: string): Uint8Array | undefined => pax.get(key) ?? global.get(key);
    const size = number(own("size"), field(124, 12));
    const data = archive.subarray(at + BLOCK, at + BLOCK + size);
    if (data.length < size) fail(`${size} bytes of data expected, found ${data.length}`);
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
    if (type === "x") pax = paxRecords(data, fail);
    else if (type === "g") global = new Map([...global, ...paxRecords(data, fail)]);
    else if (type === "L") longName = byteString(data).split("\0", 1)[0] ?? "";
    else if (type === "K") longTarget = byteString(data).split("\0", 1)[0] ?? "";
    else {
      const isUstar = text(257, 6).startsWith("ustar");
      const prefix = isUstar && header[262] === 0 ? text(345, 155) : "";
      const path = own("path");
      const link = own("linkpath");
      const xattrs = [...global, ...pax].filter(([key]) => key.startsWith(XATTR_PREFIX));
      const [major, minor] = isUstar ? [field(329, 8), field(337, 8)] : [0, 0];
      yield {
        type: type === "7" ? "0" : type,
        name: path
          ? byteString(path)
          : longName || (prefix === "" ? text(0, 100) : `${prefix}/${text(0, 100)}`),
        target: link ? byteString(link) : longTarget || text(157, 100),
        mode: field(100, 8) & 0o7777,
        owner: { uid: number(own("uid"), field(108, 8)), gid: number(own("gid"), field(116, 8)) },
        mtimeNs: timeNs(own("mtime"), field(136, 12)),
        device: ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0,
        data: type === "0" || type === "7" ? data : new Uint8Array(),
        xattrs: new Map(xattrs.map(([key, value]) => [key.slice(XATTR_PREFIX.length), value])),
      };
      pax = new Map();
      [longName, longTarget] = ["", ""];
    }
  }
}

/** An octal number, or GNU's base-256 one. */
function octal(header: Uint8Array, from: number, length: number): number {
  const bytes = header.subarray(from, from + length);
  if ((bytes[0] ?? 0) & 0x80) return bytes.subarray(1).reduce((value, byte) => value * 256 + byte, 0);
  return Number.parseInt(byteString(bytes).replaceAll("\0", " ").trim() || "0", 8);
}

function number(record: Uint8Array | undefined, header: number): number {
  const value = record === undefined ? header : Number(decodeUtf8(record));
  return Number.isSafeInteger(value) && value >= 0 ? value : header;
}

function timeNs(record: Uint8Array | undefined, header: number): bigint {
  const [, seconds, fraction = ""] = /^(-?\d+)(?:\.(\d+))?$/.exec(record ? decodeUtf8(record) : "") ?? [];
  if (seconds === undefined) return BigInt(header) * 1_000_000_000n;
  return BigInt(seconds) * 1_000_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts all of it. */
function paxRecords(data: Uint8Array, fail: (what: string) => never): Map<string, Uint8Array> {
  const records = new Map<string, Uint8Array>();
  for (let at = 0; at < data.length && data[at] !== 0; ) {
    const space = data.indexOf(0x20, at);
    const length = Number(byteString(data.subarray(at, Math.max(space, at))));
    const equals = data.indexOf(0x3d, space);
    if (!(length > 0) || at + length > data.length || space < 0 || equals < 0 || equals >= at + length)
      return fail(`a pax record at ${at} of its header`);
    records.set(byteString(data.subarray(space + 1, equals)), data.subarray(equals + 1, at + length - 1));
    at += length;
  }
  return records;
}

/** A tree of these files, named by their paths: a page's way to give files to a guest. */
export async function filesTree(
  files: Readonly<Record<string, Uint8Array | string>>,
  options: MemoryTreeOptions,
): Promise<MemoryTree> {
  const made = new Set<string>();
  const tree = new MemoryTree(options);
  for (const [name, contents] of Object.entries(files)) {
    const path = safePath(byteStringOf(name));
    if (path === undefined || path === "")
      throw new TarError("tar.path", `${name} is not the path of a file`);
    await makeParents(tree, path, made);
    const file = await tree.create(path, OPEN_WRONLY | OPEN_EXCL, 0o644, { uid: 0, gid: 0 });
    await file.write(0, typeof contents === "string" ? bytesOf(byteStringOf(contents)) : contents);
    await file.close();
  }
  return tree;
}
