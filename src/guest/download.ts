// Downloads from a mirror: streamed to disk, checked by SHA-256, and renamed into place. A later process
// continues a partial file that an ended process left; concurrent processes do not interfere.
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { messageOf } from "../base/errors.ts";
import { GuestError } from "./guest-error.ts";
import type { IndexFile } from "./debian-release.ts";

/** Bytes done and in total. */
export type OnBytes = (done: number, total: number) => void;

const MAX_REDIRECTS = 5;
const IDLE_TIMEOUT_MS = 60_000;
/** How often a transfer is tried, and the pause in between. */
const ATTEMPTS = 4;
const RETRY_MS = 300;

/** One GET. Rejects with the connection's error, or when no data arrives for IDLE_TIMEOUT_MS. */
function get(url: URL, headers: Record<string, string>, signal?: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const send = url.protocol === "https:" ? https.get : http.get;
    const sent = send(url, { headers, timeout: IDLE_TIMEOUT_MS, ...(signal && { signal }) }, resolve);
    sent.on("timeout", () => sent.destroy(new Error(`no data for ${IDLE_TIMEOUT_MS / 1000} seconds`)));
    sent.on("error", reject);
  });
}

/** A GET that follows redirects. The caller reads the body. Throws GuestError "guest.mirror". */
async function request(
  url: string,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<IncomingMessage> {
  let at = url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    let response: IncomingMessage;
    try {
      response = await get(new URL(at), headers, signal);
    } catch (cause) {
      if (signal?.aborted) throw cause;
      throw new GuestError("guest.mirror", `cannot reach the mirror for ${at}: ${messageOf(cause)}`, {
        cause,
      });
    }
    const status = response.statusCode ?? 0;
    if (status === 200 || status === 206) return response;
    response.resume();
    const { location } = response.headers;
    if (status < 300 || status >= 400 || location === undefined) {
      throw new GuestError(
        "guest.mirror",
        `the mirror answers ${status} ${response.statusMessage} for ${at}`,
      );
    }
    at = new URL(location, at).href;
  }
  throw new GuestError("guest.mirror", `more than ${MAX_REDIRECTS} redirections from ${url}`);
}

/** A small file as text. Throws GuestError "guest.mirror". */
export async function fetchText(url: string, signal?: AbortSignal): Promise<string> {
  const response = await request(url, {}, signal);
  return Buffer.concat(await response.toArray()).toString("utf8");
}

async function fileHash(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Takes over the partial file of a process that has ended; if several try, rename decides. */
async function adoptPartial(path: string, part: string): Promise<number> {
  const prefix = `${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    const pid = /^(\d+)\.[0-9a-f-]+\.part$/.exec(
      name.startsWith(prefix) ? name.slice(prefix.length) : "",
    )?.[1];
    if (pid === undefined || isAlive(Number(pid))) continue;
    try {
      await rename(join(dirname(path), name), part);
      return (await stat(part)).size;
    } catch {
      // Another process has taken it.
    }
  }
  return 0;
}

/**
 * Downloads `url` to `path` with the expected size and hash; does nothing if the file exists already. Throws
 * GuestError "guest.mirror" or "guest.checksum".
 */
export async function download(
  url: string,
  path: string,
  expected: IndexFile,
  onBytes: OnBytes = () => {},
  signal?: AbortSignal,
): Promise<void> {
  const present = await stat(path).catch(() => undefined);
  if (present?.size === expected.size && (await fileHash(path)) === expected.sha256) return;
  await mkdir(dirname(path), { recursive: true });
  const part = `${path}.${process.pid}.${randomUUID()}.part`;
  const kept = await adoptPartial(path, part);
  let wrong = await persistently(url, part, kept < expected.size ? kept : 0, expected, onBytes, signal);
  if (wrong && kept > 0) wrong = await transfer(url, part, 0, expected, onBytes, signal);
  if (wrong) {
    await rm(part, { force: true });
    throw new GuestError("guest.checksum", `${url} is damaged or was replaced: ${wrong}`);
  }
  await rename(part, path);
}

/** `transfer`, continued where the connection broke off; not if the mirror refuses or cannot be reached. */
async function persistently(
  url: string,
  part: string,
  from: number,
  expected: IndexFile,
  onBytes: OnBytes,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  for (let attempt = 1, at = from; ; attempt++) {
    try {
      return await transfer(url, part, at, expected, onBytes, signal);
    } catch (error) {
      const size = (await stat(part).catch(() => undefined))?.size ?? 0;
      if (attempt === ATTEMPTS || signal?.aborted || size <= (attempt === 1 ? 0 : at)) throw error;
      at = Math.min(size, expected.size - 1);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/**
 * Transfers the file and reports what is wrong with it, if anything. An interrupted transfer keeps the
 * partial file.
 */
async function transfer(
  url: string,
  part: string,
  from: number,
  expected: IndexFile,
  onBytes: OnBytes,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const response = await request(url, from > 0 ? { range: `bytes=${from}-` } : {}, signal);
  let done = response.statusCode === 206 ? from : 0;
  const file = await open(part, done > 0 ? "a" : "w");
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      await file.write(chunk);
      onBytes((done += chunk.length), expected.size);
      if (done > expected.size) break;
    }
    await file.sync();
  } catch (cause) {
    if (signal?.aborted) throw cause;
    throw new GuestError(
      "guest.mirror",
      `the transfer of ${url} broke off at byte ${done}: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  } finally {
    await file.close();
  }
  if (done !== expected.size)
    return `expected ${expected.size} bytes, found ${done > expected.size ? "more" : done}`;
  const found = await fileHash(part);
  return found === expected.sha256 ? undefined : `expected SHA-256 ${expected.sha256}, found ${found}`;
}
