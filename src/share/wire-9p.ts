// The wire of 9P2000.L (Plan 9's intro(5), and the diod project's protocol.md for the messages of .L):
// numbers, and a reader and a writer of messages. Integers are little-endian, strings are bytes after a u16
// length.
import { byteString, bytesOf } from "./byte-string.ts";
import { FileError } from "./linux-errno.ts";

/** Types of requests; a reply's is one more. */
export const T = {
  STATFS: 8,
  LOPEN: 12,
  LCREATE: 14,
  SYMLINK: 16,
  MKNOD: 18,
  RENAME: 20,
  READLINK: 22,
  GETATTR: 24,
  SETATTR: 26,
  XATTRWALK: 30,
  XATTRCREATE: 32,
  READDIR: 40,
  FSYNC: 50,
  LOCK: 52,
  GETLOCK: 54,
  LINK: 70,
  MKDIR: 72,
  RENAMEAT: 74,
  UNLINKAT: 76,
  VERSION: 100,
  AUTH: 102,
  ATTACH: 104,
  FLUSH: 108,
  WALK: 110,
  READ: 116,
  WRITE: 118,
  CLUNK: 120,
  REMOVE: 122,
} as const;
export const RLERROR = 7;

/** size[4] type[1] tag[2] */
export const HEADER_BYTES = 7;
export const MIN_MSIZE = 4096;
export const MAX_MSIZE = 512 << 10;
export const NO_FID = 0xffff_ffff;
export const MAX_WALK = 16;
export const NAME_MAX = 255;
export const PATH_MAX = 4096;
export const VERSION = "9P2000.L";

// Flags of Tlopen and Tlcreate: Linux's asm-generic numbers.
export const OPEN_ACCESS = 3;
export const OPEN_WRONLY = 1;
export const OPEN_CREAT = 0o100;
export const OPEN_EXCL = 0o200;
export const OPEN_TRUNC = 0o1000;
export const OPEN_APPEND = 0o2000;
export const OPEN_DSYNC = 0o10000;
export const OPEN_DIRECTORY = 0o200000;
export const OPEN_SYNC = 0o4010000;

/** Types in st_mode. */
export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

export const QID_DIRECTORY = 0x80;
export const QID_SYMLINK = 0x02;

/** A file's identity: the same `path`, the same file; another `version`, other contents. */
export interface Qid {
  readonly type: number;
  readonly version: number;
  readonly path: bigint;
}

/** Reads the body of a request, which is hostile: past its end, EPROTO. */
export class MessageReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = HEADER_BYTES;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) throw new FileError("EPROTO");
    this.#at += length;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }
  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }
  string(): string {
    return byteString(this.bytes(this.u16()));
  }
}

/** Writes a message, whose size is set at its end. */
export class MessageWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = HEADER_BYTES;

  constructor(type: number, tag: number, capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
    this.#view.setUint8(4, type);
    this.#view.setUint16(5, tag, true);
  }

  get length(): number {
    return this.#length;
  }

  #grow(length: number): number {
    const at = this.#length;
    this.#length += length;
    if (this.#length > this.#bytes.length) {
      const next = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.length));
      next.set(this.#bytes.subarray(0, at));
      this.#bytes = next;
      this.#view = new DataView(next.buffer);
    }
    return at;
  }

  u8(value: number): this {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }
  u16(value: number): this {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
    return this;
  }
  u32(value: number): this {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
    return this;
  }
  u64(value: bigint): this {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value, true);
    return this;
  }
  bytes(value: Uint8Array): this {
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
    return this;
  }
  string(value: string): this {
    return this.u16(value.length).bytes(bytesOf(value));
  }
  qid({ type, version, path }: Qid): this {
    return this.u8(type).u32(version).u64(path);
  }

  /**
   * A u32 count, and that many bytes of which `fill` returns how many it has filled, in the message itself.
   */
  async data(count: number, fill: (target: Uint8Array) => Promise<number>): Promise<this> {
    const at = this.#grow(4 + count);
    const filled = await fill(this.#bytes.subarray(at + 4, at + 4 + count));
    this.#view.setUint32(at, filled, true);
    this.#length = at + 4 + filled;
    return this;
  }

  finish(): Uint8Array<ArrayBuffer> {
    this.#view.setUint32(0, this.#length, true);
    return this.#bytes.subarray(0, this.#length);
  }
}
