// A zip archive as a read-only tree: stored and deflated members, zip64, and of what Info-ZIP adds modes,
// symbolic links, owners and times. Members are what the central directory lists. Left out: encryption, other
// compression methods, archives in several files.
import { WherryError } from "../base/errors.ts";
import { ignoreRefusal, makeParents, safePath } from "./archive-paths.ts";
import { byteString, readable } from "./byte-string.ts";
import { FileError } from "./linux-errno.ts";
import { MemoryTree } from "./memory-tree.ts";
import { OPEN_EXCL, OPEN_WRONLY, PATH_MAX, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "./wire-9p.ts";

export class ZipError extends WherryError {}

/** Undoes raw deflate. Rejects if the data is damaged or gives more than `size` bytes. */
export type Inflate = (packed: Uint8Array, size: number) => Promise<Uint8Array>;

const END = { SIGNATURE: 0x0605_4b50, BYTES: 22, MAX_COMMENT: 0xffff } as const;
const LOCATOR64 = { SIGNATURE: 0x0706_4b50, BYTES: 20 } as const;
const END64 = { SIGNATURE: 0x0606_4b50, BYTES: 56 } as const;
const MEMBER = { SIGNATURE: 0x0201_4b50, BYTES: 46 } as const;
const LOCAL = { SIGNATURE: 0x0403_4b50, BYTES: 30 } as const;
const METHOD = { STORED: 0, DEFLATED: 8 } as const;
const ENCRYPTED = 1;
/** The system on which the member was added; its mode is in the upper half of the external attributes. */
const UNIX = 3;
/** Extra fields: sizes beyond 32 bits; times; owners. */
const EXTRA = { ZIP64: 1, TIMES: 0x5455, OWNERS: 0x7875 } as const;
/** 32 bits that say: look in the zip64 field. */
const ALL_ONES = 0xffff_ffff;
const MAX_MEMBERS = 1 << 20;
/** Of MS-DOS's attributes, the lower half of the external ones. */
const DOS_DIRECTORY = 0x10;
/** Of all members, unpacked: they are kept in memory. */
const MAX_BYTES = 2 ** 31;
const NS = 1_000_000_000n;

/** Whether bytes begin as a zip archive does, of which all have a member first, or none. */
export function isZip(start: Uint8Array): boolean {
  if (start.length < 4) return false;
  const signature = viewOf(start).getUint32(0, true);
  return signature === LOCAL.SIGNATURE || signature === END.SIGNATURE;
}

interface Member {
  readonly name: string;
  readonly method: number;
  readonly isEncrypted: boolean;
  readonly sum: number;
  readonly packedSize: number;
  readonly size: number;
  /** Of the local header. */
  readonly offset: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
}

/**
 * The archive's files. Rejects with ZipError, which names the offset or the member, if it is damaged or has
 * what is left out.
 */
export async function zipTree(archive: Uint8Array, inflate: Inflate): Promise<MemoryTree> {
  const tree = new MemoryTree({ readonly: true, isArchive: true, maxBytes: 2 * MAX_BYTES });
  const made = new Set<string>();
  const times: [path: string, mtimeNs: bigint][] = [];
  let total = 0;
  for (const member of members(archive)) {
    const path = safePath(member.name);
    const isDirectory = (member.mode & S_IFMT) === S_IFDIR;
    if (path === undefined || (path === "" && !isDirectory)) continue;
    total += member.size;
    if (total > MAX_BYTES)
      throw new ZipError("zip.size", `the zip archive's files are more than ${MAX_BYTES / 2 ** 20} MiB`);
    try {
      await makeParents(tree, path, made);
      await add(tree, path, member, archive, inflate);
    } catch (cause) {
      if (!(cause instanceof FileError)) throw cause;
      if (cause.code === "ENOSPC") throw new ZipError("zip.size", "the zip archive has too many files");
      const what = `the zip archive's ${readable(member.name)} has no place: ${cause.code}`;
      throw new ZipError("zip.damaged", what, { cause });
    }
    times.push([path, member.mtimeNs]);
  }
  // Last: what is made in a directory changes its time.
  for (const [path, time] of times)
    await tree.change(path, { atimeNs: time, mtimeNs: time }).catch(ignoreRefusal);
  return tree;
}

async function add(
  tree: MemoryTree,
  path: string,
  member: Member,
  archive: Uint8Array,
  inflate: Inflate,
): Promise<void> {
  const { mode, uid, gid } = member;
  const type = mode & S_IFMT;
  if (type === S_IFDIR) {
    if (path !== "") await tree.makeDirectory(path, mode & 0o7777, { uid, gid }).catch(ignoreRefusal);
    return await tree.change(path, { mode: mode & 0o7777, uid, gid }).catch(ignoreRefusal);
  }
  const data = await contents(archive, member, inflate);
  // A member that comes again replaces the first one.
  await tree.remove(path, false).catch(ignoreRefusal);
  if (type === S_IFLNK && data.length >= PATH_MAX) throw new FileError("ENAMETOOLONG");
  if (type === S_IFLNK) return await tree.makeSymlink(path, byteString(data), { uid, gid });
  const file = await tree.create(path, OPEN_WRONLY | OPEN_EXCL, mode & 0o7777, { uid, gid });
  await file.write(0, data);
  await file.close();
}

async function contents(archive: Uint8Array, member: Member, inflate: Inflate): Promise<Uint8Array> {
  const { name, method, isEncrypted, sum, packedSize, size, offset } = member;
  const fail = (code: string, what: string, cause?: unknown): never => {
    throw new ZipError(code, `the zip archive's ${readable(name)} ${what}`, { cause });
  };
  if (isEncrypted) fail("zip.unsupported", "is encrypted: unpack it, and share the directory");
  if (method !== METHOD.STORED && method !== METHOD.DEFLATED)
    fail("zip.unsupported", `is compressed by method ${method}, expected deflate: pack it with zip(1)`);
  const view = viewOf(archive);
  if (offset + LOCAL.BYTES > archive.length || view.getUint32(offset, true) !== LOCAL.SIGNATURE)
    fail("zip.damaged", `has no header at offset ${offset}`);
  const start = offset + LOCAL.BYTES + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
  const packed = archive.subarray(start, start + packedSize);
  if (packed.length < packedSize)
    fail("zip.damaged", `is cut off after ${packed.length} of ${packedSize} bytes`);
  let data = packed;
  if (method === METHOD.DEFLATED)
    try {
      data = await inflate(packed, size);
    } catch (error) {
      fail("zip.damaged", "cannot be unpacked", error);
    }
  if (data.length !== size) fail("zip.damaged", `has ${data.length} bytes, expected ${size}`);
  if (crc32(data) !== sum) fail("zip.damaged", "has another checksum than it should have");
  return data;
}

/** The central directory: its offset, its size, how many members, and how far all offsets are off. */
function directory(archive: Uint8Array): { from: number; count: number; shift: number } {
  const view = viewOf(archive);
  const lowest = Math.max(0, archive.length - END.BYTES - END.MAX_COMMENT);
  for (let at = archive.length - END.BYTES; at >= lowest; at--) {
    if (view.getUint32(at, true) !== END.SIGNATURE) continue;
    if (at + END.BYTES + view.getUint16(at + 20, true) > archive.length) continue;
    let [count, bytes, offset] = [
      view.getUint16(at + 10, true),
      view.getUint32(at + 12, true),
      view.getUint32(at + 16, true),
    ];
    let end = at;
    const locator = at - LOCATOR64.BYTES;
    if (locator >= 0 && view.getUint32(locator, true) === LOCATOR64.SIGNATURE) {
      end = Number(view.getBigUint64(locator + 8, true));
      if (end + END64.BYTES > locator || view.getUint32(end, true) !== END64.SIGNATURE)
        throw new ZipError("zip.damaged", `the zip archive has no zip64 end at offset ${end}`);
      [count, bytes, offset] = [32, 40, 48].map((field) => Number(view.getBigUint64(end + field, true))) as [
        number,
        number,
        number,
      ];
    }
    // Something, such as a program that unpacks it, may precede the archive.
    const from = end - bytes;
    if (from < offset || from < 0) break;
    return { from, count, shift: from - offset };
  }
  throw new ZipError("zip.damaged", "the zip archive has no end: expected a central directory at its end");
}

function* members(archive: Uint8Array): Generator<Member> {
  const view = viewOf(archive);
  const { from, count, shift } = directory(archive);
  if (count > MAX_MEMBERS)
    throw new ZipError("zip.size", `the zip archive has ${count} members, expected at most ${MAX_MEMBERS}`);
  let at = from;
  for (let n = 0; n < count; n++) {
    const fail = (what: string): never => {
      throw new ZipError("zip.damaged", `the zip archive is damaged at offset ${at}: ${what}`);
    };
    if (at + MEMBER.BYTES > archive.length || view.getUint32(at, true) !== MEMBER.SIGNATURE)
      fail(`expected member ${n + 1} of ${count}`);
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) =>
      view.getUint16(at + field, true),
    ) as [number, number, number];
    const extraAt = at + MEMBER.BYTES + nameBytes;
    const next = extraAt + extraBytes + commentBytes;
    if (next > archive.length) fail("its lengths");
    const name = byteString(archive.subarray(at + MEMBER.BYTES, extraAt));
    const extras = extraFields(archive.subarray(extraAt, extraAt + extraBytes));
    const wide = wideFields(extras.get(EXTRA.ZIP64));
    // Only those that are all ones are in the zip64 field, in this order.
    const [size, packedSize, offset] = [24, 20, 42].map((field) => {
      const short = view.getUint32(at + field, true);
      return short === ALL_ONES ? (wide.shift() ?? short) : short;
    }) as [number, number, number];
    const attributes = view.getUint32(at + 38, true);
    const isDirectory = name.endsWith("/") || (attributes & DOS_DIRECTORY) !== 0;
    const isUnix = view.getUint8(at + 5) === UNIX && attributes >>> 16 !== 0;
    yield {
      name,
      method: view.getUint16(at + 10, true),
      isEncrypted: (view.getUint16(at + 8, true) & ENCRYPTED) !== 0,
      sum: view.getUint32(at + 16, true),
      packedSize,
      size,
      offset: offset + shift,
      mode: modeOf(isUnix ? attributes >>> 16 : 0, isDirectory),
      ...owners(extras.get(EXTRA.OWNERS)),
      mtimeNs: timeOf(extras.get(EXTRA.TIMES), view.getUint32(at + 12, true)),
    };
    at = next;
  }
}

/** Devices, FIFOs and sockets are regular files, as unzip(1) makes them. */
function modeOf(unix: number, isDirectory: boolean): number {
  if (isDirectory || (unix & S_IFMT) === S_IFDIR) return S_IFDIR | (unix & 0o7777 || 0o755);
  const type = (unix & S_IFMT) === S_IFLNK ? S_IFLNK : S_IFREG;
  return type | (unix & 0o7777 || 0o644);
}

function extraFields(bytes: Uint8Array): Map<number, Uint8Array> {
  const fields = new Map<number, Uint8Array>();
  const view = viewOf(bytes);
  for (let at = 0; at + 4 <= bytes.length; ) {
    const end = at + 4 + view.getUint16(at + 2, true);
    fields.set(view.getUint16(at, true), bytes.subarray(at + 4, end));
    at = end;
  }
  return fields;
}

function wideFields(bytes: Uint8Array = new Uint8Array()): number[] {
  const view = viewOf(bytes);
  return Array.from({ length: Math.min(3, bytes.length >> 3) }, (_, i) =>
    Number(view.getBigUint64(8 * i, true)),
  );
}

/** Version 1: the length of each number, and the number. */
function owners(bytes: Uint8Array = new Uint8Array()): { uid: number; gid: number } {
  const numbers: number[] = [];
  for (let at = 1; at < bytes.length && numbers.length < 2; at += 1 + (bytes[at] ?? 0)) {
    const digits = bytes.subarray(at + 1, at + 1 + (bytes[at] ?? 0));
    numbers.push(digits.reduceRight((value, digit) => value * 256 + digit, 0));
  }
  const [uid = 0, gid = 0] = numbers.map((value) => (value <= ALL_ONES ? value : 0));
  return { uid, gid };
}

/** The field's first bit says that it has the time of modification; MS-DOS's has no zone: taken for UTC. */
function timeOf(field: Uint8Array | undefined, dos: number): bigint {
  if (field !== undefined && field.length >= 5 && (field[0] ?? 0) & 1)
    return BigInt(viewOf(field).getInt32(1, true)) * NS;
  const [date, time] = [dos >>> 16, dos & 0xffff];
  const ms = Date.UTC(
    1980 + (date >>> 9),
    ((date >>> 5) & 15) - 1,
    date & 31,
    time >>> 11,
    (time >>> 5) & 63,
    (time & 31) * 2,
  );
  return BigInt(ms) * 1_000_000n;
}

const viewOf = ({ buffer, byteOffset, length }: Uint8Array): DataView =>
  new DataView(buffer, byteOffset, length);

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb8_8320 : value >>> 1;
  return value;
});

/** CRC-32 as in ISO 3309. */
function crc32(bytes: Uint8Array): number {
  let value = ALL_ONES;
  for (let i = 0; i < bytes.length; i++)
    value = (TABLE[(value ^ (bytes[i] as number)) & 0xff] as number) ^ (value >>> 8);
  return (value ^ ALL_ONES) >>> 0;
}
