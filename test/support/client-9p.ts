// A 9P2000.L client for tests: one method for each message, on a server in the same process. An Rlerror
// rejects with its error's name, such as ENOENT.
import { ERRNO } from "../../src/share/linux-errno.ts";
import { type ShareServer } from "../../src/share/share-server.ts";
import { MessageReader, MessageWriter, NO_FID, type Qid, RLERROR, T } from "../../src/share/wire-9p.ts";

const NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

export interface Stat {
  readonly qid: Qid;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: bigint;
  readonly device: bigint;
  readonly size: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export interface Listed {
  readonly qid: Qid;
  readonly cookie: bigint;
  readonly type: number;
  readonly name: string;
}

export const SET = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 0x10,
  MTIME: 0x20,
  ATIME_SET: 0x80,
  MTIME_SET: 0x100,
};
export const O = { RDONLY: 0, WRONLY: 1, RDWR: 2, CREAT: 0o100, EXCL: 0o200, TRUNC: 0o1000, APPEND: 0o2000 };
export const DIRECTORY = 0o200000;

const readQid = (reply: MessageReader): Qid => ({
  type: reply.u8(),
  version: reply.u32(),
  path: reply.u64(),
});

export class Client9p {
  readonly #server: ShareServer;
  #tag = 0;
  #fids = 0;
  msize = 512 << 10;

  constructor(server: ShareServer) {
    this.#server = server;
  }

  /** Sends any bytes; resolves with the reply's. */
  raw(message: Uint8Array, room = this.msize): Promise<Uint8Array> {
    return new Promise((resolve) => this.#server.request(message, room, (reply) => resolve(reply.slice())));
  }

  async call(
    type: number,
    fill: (message: MessageWriter) => unknown,
    tag: number = this.#tag++ & 0x7fff,
  ): Promise<MessageReader> {
    const message = new MessageWriter(type, tag);
    fill(message);
    const reply = await this.raw(message.finish());
    const view = new DataView(reply.buffer);
    if (view.getUint32(0, true) !== reply.length)
      throw new Error(`a reply of ${reply.length} bytes tells another size`);
    if (view.getUint16(5, true) !== tag) throw new Error("a reply with another tag");
    const body = new MessageReader(reply);
    if (reply[4] === RLERROR) {
      const errno = body.u32();
      throw new Error(NAMES.get(errno) ?? `errno ${errno}`);
    }
    if (reply[4] !== type + 1) throw new Error(`a reply of type ${reply[4]} to ${type}`);
    return body;
  }

  newFid(): number {
    return ++this.#fids;
  }

  async version(msize = this.msize, version = "9P2000.L"): Promise<string> {
    const reply = await this.call(T.VERSION, (m) => m.u32(msize).string(version), 0xffff);
    this.msize = reply.u32();
    return reply.string();
  }
  async attach(uid = 0): Promise<number> {
    const fid = this.newFid();
    await this.call(T.ATTACH, (m) => m.u32(fid).u32(NO_FID).string("user").string("").u32(uid));
    return fid;
  }
  async walkQids(fid: number, to: number, names: readonly string[]): Promise<Qid[]> {
    const reply = await this.call(T.WALK, (m) => {
      m.u32(fid).u32(to).u16(names.length);
      for (const name of names) m.string(name);
    });
    return Array.from({ length: reply.u16() }, () => readQid(reply));
  }
  /** To a new fid; rejects with ENOENT if only a part of the path is there. */
  async walk(fid: number, path = ""): Promise<number> {
    const names = path === "" ? [] : path.split("/");
    const to = this.newFid();
    if ((await this.walkQids(fid, to, names)).length < names.length) throw new Error("ENOENT");
    return to;
  }
  async clunk(fid: number): Promise<void> {
    await this.call(T.CLUNK, (m) => m.u32(fid));
  }
  async open(fid: number, flags: number): Promise<Qid> {
    return readQid(await this.call(T.LOPEN, (m) => m.u32(fid).u32(flags)));
  }
  async create(fid: number, name: string, flags = O.RDWR, mode = 0o644, gid = 0): Promise<Qid> {
    return readQid(await this.call(T.LCREATE, (m) => m.u32(fid).string(name).u32(flags).u32(mode).u32(gid)));
  }
  async read(fid: number, offset: number, count: number): Promise<Uint8Array> {
    const reply = await this.call(T.READ, (m) => m.u32(fid).u64(BigInt(offset)).u32(count));
    return reply.bytes(reply.u32()).slice();
  }
  async write(fid: number, offset: number, data: Uint8Array | string): Promise<number> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    const reply = await this.call(T.WRITE, (m) =>
      m.u32(fid).u64(BigInt(offset)).u32(bytes.length).bytes(bytes),
    );
    return reply.u32();
  }
  async getattr(fid: number): Promise<Stat> {
    const reply = await this.call(T.GETATTR, (m) => m.u32(fid).u64(0x7ffn));
    reply.u64();
    const qid = readQid(reply);
    const [mode, uid, gid] = [reply.u32(), reply.u32(), reply.u32()];
    const [links, device, size] = [reply.u64(), reply.u64(), reply.u64()];
    reply.u64();
    reply.u64();
    const time = (): bigint => BigInt.asIntN(64, reply.u64()) * 1_000_000_000n + reply.u64();
    return { qid, mode, uid, gid, links, device, size, atimeNs: time(), mtimeNs: time(), ctimeNs: time() };
  }
  async setattr(
    fid: number,
    valid: number,
    { mode = 0, uid = 0, gid = 0, size = 0, atimeNs = 0n, mtimeNs = 0n } = {},
  ): Promise<void> {
    const ns = 1_000_000_000n;
    await this.call(T.SETATTR, (m) => {
      m.u32(fid).u32(valid).u32(mode).u32(uid).u32(gid).u64(BigInt(size));
      m.u64(atimeNs / ns)
        .u64(atimeNs % ns)
        .u64(mtimeNs / ns)
        .u64(mtimeNs % ns);
    });
  }
  async readdir(fid: number, cookie: bigint, count = 8192): Promise<Listed[]> {
    const reply = await this.call(T.READDIR, (m) => m.u32(fid).u64(cookie).u32(count));
    const found: Listed[] = [];
    for (let left = reply.u32(); left > 0; ) {
      const entry = { qid: readQid(reply), cookie: reply.u64(), type: reply.u8(), name: reply.string() };
      left -= 24 + entry.name.length;
      found.push(entry);
    }
    return found;
  }
  /** All names of a directory's fid that is open, without "." and "..", sorted. */
  async names(fid: number, count = 8192): Promise<string[]> {
    const names: string[] = [];
    let cookie = 0n;
    for (;;) {
      const piece = await this.readdir(fid, cookie, count);
      if (piece.length === 0) return names.filter((name) => name !== "." && name !== "..").sort();
      names.push(...piece.map(({ name }) => name));
      cookie = piece.at(-1)?.cookie ?? 0n;
    }
  }
  async mkdir(fid: number, name: string, mode = 0o755, gid = 0): Promise<Qid> {
    return readQid(await this.call(T.MKDIR, (m) => m.u32(fid).string(name).u32(mode).u32(gid)));
  }
  async symlink(fid: number, name: string, target: string, gid = 0): Promise<Qid> {
    return readQid(await this.call(T.SYMLINK, (m) => m.u32(fid).string(name).string(target).u32(gid)));
  }
  async mknod(fid: number, name: string, mode: number, major = 0, minor = 0): Promise<Qid> {
    return readQid(
      await this.call(T.MKNOD, (m) => m.u32(fid).string(name).u32(mode).u32(major).u32(minor).u32(0)),
    );
  }
  async readlink(fid: number): Promise<string> {
    return (await this.call(T.READLINK, (m) => m.u32(fid))).string();
  }
  async link(directory: number, fid: number, name: string): Promise<void> {
    await this.call(T.LINK, (m) => m.u32(directory).u32(fid).string(name));
  }
  async rename(fid: number, directory: number, name: string): Promise<void> {
    await this.call(T.RENAME, (m) => m.u32(fid).u32(directory).string(name));
  }
  async renameat(from: number, name: string, to: number, toName: string): Promise<void> {
    await this.call(T.RENAMEAT, (m) => m.u32(from).string(name).u32(to).string(toName));
  }
  async unlinkat(directory: number, name: string, isDirectory = false): Promise<void> {
    await this.call(T.UNLINKAT, (m) =>
      m
        .u32(directory)
        .string(name)
        .u32(isDirectory ? 0x200 : 0),
    );
  }
  async remove(fid: number): Promise<void> {
    await this.call(T.REMOVE, (m) => m.u32(fid));
  }
  async fsync(fid: number): Promise<void> {
    await this.call(T.FSYNC, (m) => m.u32(fid).u32(0));
  }
  async statfs(fid: number): Promise<{ type: number; blockSize: number }> {
    const reply = await this.call(T.STATFS, (m) => m.u32(fid));
    return { type: reply.u32(), blockSize: reply.u32() };
  }
  async getxattr(fid: number, name: string): Promise<Uint8Array> {
    const to = this.newFid();
    const size = (await this.call(T.XATTRWALK, (m) => m.u32(fid).u32(to).string(name))).u64();
    const value = await this.read(to, 0, Number(size));
    await this.clunk(to);
    return value;
  }
  async setxattr(fid: number, name: string, value: Uint8Array, flags = 0): Promise<void> {
    const to = await this.walk(fid);
    try {
      await this.call(T.XATTRCREATE, (m) => m.u32(to).string(name).u64(BigInt(value.length)).u32(flags));
      if (value.length > 0) await this.write(to, 0, value);
    } finally {
      await this.clunk(to);
    }
  }
  async lock(fid: number, type: number, start: number, length: number, process = 1): Promise<number> {
    const reply = await this.call(T.LOCK, (m) =>
      m.u32(fid).u8(type).u32(0).u64(BigInt(start)).u64(BigInt(length)).u32(process).string("guest"),
    );
    return reply.u8();
  }
  async getlock(fid: number, type: number, start: number, length: number, process = 1): Promise<number> {
    const reply = await this.call(T.GETLOCK, (m) =>
      m.u32(fid).u8(type).u64(BigInt(start)).u64(BigInt(length)).u32(process).string("guest"),
    );
    return reply.u8();
  }
  async flush(tag: number): Promise<void> {
    await this.call(T.FLUSH, (m) => m.u16(tag));
  }
}

/** A client that has attached; its root's fid. */
export async function attached(server: ShareServer, uid = 0): Promise<{ client: Client9p; root: number }> {
  const client = new Client9p(server);
  await client.version();
  return { client, root: await client.attach(uid) };
}
