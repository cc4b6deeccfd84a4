// An image behind HTTP, read by ranges (RFC 9110 §14) through a cache of blocks. It is pinned by its ETag, or
// its Last-Modified: an image that changes on the server while it is read is an error, not a mixture.
import { BlockError, type BlockFile } from "./block-file.ts";

const BLOCK = 1 << 16;
const MAX_BLOCKS = 1024;
/** Blocks of one request at most. */
const MAX_RUN = 16;
const TRIES = 3;
const TIMEOUT_MS = 30_000;

/** The part of a fetch's response that is used. */
export interface RangeResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  readonly body: {
    getReader(): {
      read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
      cancel(): Promise<void>;
    };
  } | null;
}

/** The platform's `fetch` with a time-out. */
export type FetchRange = (
  url: string,
  headers: Readonly<Record<string, string>>,
  timeoutMs: number,
) => Promise<RangeResponse>;

/** A reason to try again: the connection, not the answer, is at fault. */
class Interrupted extends Error {}

/** A file behind HTTP, read by ranges and cached, at most 64 MiB. */
export class HttpFile implements BlockFile {
  readonly name: string;
  readonly readonly: boolean = true;
  readonly size: number;
  /** The ETag, or else the time of the last change. */
  readonly version: string;
  readonly #fetchRange: FetchRange;
  readonly #blocks = new Map<number, Uint8Array>();
  readonly #loading = new Map<number, Promise<void>>();
  #lastEnd = 0;
  #runLength = 1;

  private constructor(url: string, fetchRange: FetchRange, size: number, version: string) {
    this.name = url;
    this.#fetchRange = fetchRange;
    this.size = size;
    this.version = version;
  }

  /** Rejects with BlockError if the server does not have it, or gives no ranges or no version. */
  static async open(url: string, fetchRange: FetchRange): Promise<HttpFile> {
    const { response } = await request(url, fetchRange, 0, 1, undefined);
    const total = /^bytes 0-0\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
    const version = versionOf(response);
    if (total === undefined || version === undefined) {
      const what = total === undefined ? "the image's size" : "an ETag or Last-Modified";
      throw new BlockError("block.http", `${url}: the server does not tell ${what}`);
    }
    return new HttpFile(url, fetchRange, Number(total), version);
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    const inside = Math.max(0, Math.min(target.length, this.size - offset));
    target.fill(0, inside);
    for (let done = 0; done < inside; ) {
      const at = (offset + done) % BLOCK;
      const index = (offset + done - at) / BLOCK;
      const part = target.subarray(done, Math.min(inside, done + BLOCK - at));
      const block = this.#blocks.get(index);
      if (block === undefined) {
        await (this.#loading.get(index) ?? this.#load(index, Math.ceil((offset + inside) / BLOCK)));
        continue;
      }
      this.#blocks.delete(index);
      this.#blocks.set(index, block);
      part.set(block.subarray(at, at + part.length));
      done += part.length;
    }
  }

  /** Loads the block, and as many after it as are read one after the other. */
  #load(index: number, wanted: number): Promise<void> {
    this.#runLength = index === this.#lastEnd ? Math.min(this.#runLength * 2, MAX_RUN) : 1;
    const limit = Math.min(
      Math.ceil(this.size / BLOCK),
      Math.max(index + this.#runLength, Math.min(wanted, index + MAX_RUN)),
    );
    let end = index + 1;
    while (end < limit && !this.#blocks.has(end) && !this.#loading.has(end)) end++;
    this.#lastEnd = end;
    const loading = this.#fetch(index, end).finally(() => {
      for (let i = index; i < end; i++) this.#loading.delete(i);
    });
    for (let i = index; i < end; i++) this.#loading.set(i, loading);
    return loading;
  }

  async #fetch(first: number, end: number): Promise<void> {
    const start = first * BLOCK;
    const length = Math.min(end * BLOCK, this.size) - start;
    const { bytes } = await request(this.name, this.#fetchRange, start, length, this.version);
    for (let at = 0; at < length; at += BLOCK) {
      this.#blocks.set(first + at / BLOCK, bytes.slice(at, at + BLOCK));
    }
    for (const other of this.#blocks.keys()) {
      if (this.#blocks.size <= MAX_BLOCKS) break;
      this.#blocks.delete(other);
    }
  }

  #refuse(): Promise<never> {
    return Promise.reject(new BlockError("block.http", `${this.name}: can only be read`));
  }
  write(): Promise<void> {
    return this.#refuse();
  }
  truncate(): Promise<void> {
    return this.#refuse();
  }
  async flush(): Promise<void> {}
  async close(): Promise<void> {
    this.#blocks.clear();
  }
}

/** A weak ETag does not promise equal bytes. */
function versionOf({ headers }: RangeResponse): string | undefined {
  const tag = headers.get("etag");
  return (tag === null || tag.startsWith("W/") ? headers.get("last-modified") : tag) ?? undefined;
}

async function request(
  url: string,
  fetchRange: FetchRange,
  start: number,
  length: number,
  version: string | undefined,
): Promise<{ readonly response: RangeResponse; readonly bytes: Uint8Array }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await tryRequest(url, fetchRange, start, length, version);
    } catch (cause) {
      if (cause instanceof BlockError) throw cause;
      if (attempt < TRIES) continue;
      // A fetch that fails has the reason in its cause.
      const { message, cause: inner } = cause as Error;
      const why = inner instanceof Error ? `${message}: ${inner.message}` : message;
      throw new BlockError("block.http", `${url}: bytes ${start}-${start + length - 1}: ${why}`, { cause });
    }
  }
}

async function tryRequest(
  url: string,
  fetchRange: FetchRange,
  start: number,
  length: number,
  version: string | undefined,
): Promise<{ readonly response: RangeResponse; readonly bytes: Uint8Array }> {
  const range = `bytes=${start}-${start + length - 1}`;
  const headers = { range, "accept-encoding": "identity" };
  const response = await fetchRange(url, headers, TIMEOUT_MS);
  const fail = async (why: string): Promise<never> => {
    await response.body?.getReader().cancel();
    throw new BlockError("block.http", `${url}: ${why}`);
  };
  if (response.status >= 500) throw new Interrupted(`the server answers ${response.status}`);
  if (response.status === 200)
    await fail("the server does not give parts of files (ranges): download the image");
  if (response.status === 416) await fail("is empty, or shorter than it was");
  if (response.status !== 206) await fail(`the server answers ${response.status}`);
  const found = versionOf(response);
  if (version !== undefined && found !== version)
    await fail(`has changed on the server: it was ${version}, now it is ${found ?? "of no version"}`);
  const reader = response.body?.getReader();
  const bytes = new Uint8Array(length);
  let done = 0;
  for (;;) {
    const piece = await reader?.read();
    if (piece?.value === undefined || piece.done) break;
    if (done + piece.value.length > length) {
      await reader?.cancel();
      throw new BlockError("block.http", `${url}: the server sends more than the ${length} bytes asked for`);
    }
    bytes.set(piece.value, done);
    done += piece.value.length;
  }
  if (done < length) throw new Interrupted(`the server sends ${done} bytes instead of ${length}`);
  return { response, bytes };
}
