// Serves the browser page on loopback, with a guest to boot: pulse, Debian (`--debian`), or `--kernel FILE
// [--initrd FILE] [--append TEXT]` as for `wherry run`; `--port N` overrides port 8080. Sends the headers for
// cross-origin isolation, without which a browser gives a page no shared memory.
import { access, constants, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { argv, env } from "node:process";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { messageOf, WherryError } from "../src/base/errors.ts";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { buildPulse } from "../src/guest/pulse-guest.ts";

const ROOT = join(import.meta.dirname, "..");
const PAGE = "/src/browser/page";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".map": "application/json",
  ".bin": "application/octet-stream",
};

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cache-Control": "no-store",
};

export interface BrowserServer {
  /** The URL of the page, such as `http://127.0.0.1:8080/`. */
  readonly url: string;
  close(): Promise<void>;
}

export interface BrowserServerOptions {
  /** Default: any free port. */
  readonly port?: number;
  /** More files, served as /guests/NAME. */
  readonly guests?: Readonly<Record<string, string>>;
}

/** Builds pulse and serves the output of `tsc -b`. */
export async function serveBrowser(options: BrowserServerOptions = {}): Promise<BrowserServer> {
  const pulse = await buildPulse();
  const guests = new Map(Object.entries(options.guests ?? {}));
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? "/", "http://localhost").pathname);
    answer(path, pulse, guests).then(
      (body) => {
        const type = TYPES[path === "/" ? ".html" : extname(path)] ?? "application/octet-stream";
        response.writeHead(200, { ...HEADERS, "Content-Type": type }).end(body);
      },
      () => response.writeHead(404, HEADERS).end("not found\n"),
    );
  });
  const asked = options.port ?? 0;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why = cause.code === "EADDRINUSE" ? "another process has it" : cause.message;
      const advice = `npm run browser -- --port N takes another, 0 any free one`;
      reject(new WherryError("browser.port", `cannot use port ${asked}: ${why}; ${advice}`, { cause }));
    });
    server.listen(asked, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** `path` begins with a slash and has no `..`, which URL and normalize ensure. */
async function answer(
  path: string,
  pulse: Uint8Array,
  guests: ReadonlyMap<string, string>,
): Promise<Uint8Array> {
  if (path === "/guests/pulse.bin") return pulse;
  const guest = guests.get(path.replace(/^\/guests\//, ""));
  if (guest !== undefined) return readFile(guest);
  if (path === "/") return readFile(join(ROOT, PAGE, "index.html"));
  if (path === "/style.css") return readFile(join(ROOT, PAGE, path));
  return readFile(join(ROOT, "dist", path));
}

function portOf(text: string): number {
  if (/^[0-9]{1,5}$/.test(text) && Number(text) <= 65535) return Number(text);
  throw new WherryError("browser.port", `--port ${text}: expected a number up to 65535`);
}

/** Serves until the process ends. */
async function main(): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    options: { port: text, kernel: text, initrd: text, append: text, debian: { type: "boolean" } },
  });
  const {
    kernel,
    initrd,
    append = "",
  } = values.debian ? { append: "console=ttyS0", ...(await fetchDebianGuest()) } : values;
  for (const file of [kernel, initrd]) if (file !== undefined) await access(file, constants.R_OK);
  const server = await serveBrowser({
    port: portOf(values.port ?? "8080"),
    guests: {
      ...(kernel === undefined ? {} : { kernel }),
      ...(initrd === undefined ? {} : { initrd }),
    },
  });
  const query = new URLSearchParams({
    kernel: "/guests/kernel",
    append,
    memory: "512",
    ...(initrd === undefined ? {} : { initrd: "/guests/initrd" }),
  });
  const address = kernel === undefined ? server.url : `${server.url}?${query}`;
  console.log(`Wherry's page is at ${address} (Ctrl-C ends it)`);
}

if (import.meta.url === pathToFileURL(argv[1] ?? "").href) {
  await main().catch((error: unknown) => {
    console.error(`browser: ${messageOf(error)}`);
    if (env["WHERRY_DEBUG"]) console.error(error);
    process.exitCode = 1;
  });
}
