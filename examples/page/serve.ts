// Serves the page on loopback: the page itself, the package's modules as they are (no bundler), and a kernel.
// The two headers make the page cross-origin isolated: without them a browser gives it no shared memory.
//   npm run pulse -- tmp/pulse.bin && npx node examples/page/serve.ts tmp/pulse.bin
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname } from "node:path";
import { argv } from "node:process";

const [, , kernel = "tmp/pulse.bin", port = "8080"] = argv;
const HERE = new URL("./", import.meta.url);
/** dist of the package: the directory above that of `wherry/browser`'s module. */
const MODULES = new URL("../", import.meta.resolve("wherry/browser"));

const TYPES: Readonly<Record<string, string>> = { ".html": "text/html", ".js": "text/javascript" };

function fileOf(path: string): URL | string {
  if (path === "/kernel") return kernel;
  if (path.startsWith("/wherry/")) return new URL(path.slice("/wherry/".length), MODULES);
  return new URL(path === "/" ? "index.html" : path.slice(1), HERE);
}

const server = createServer((request, response) => {
  // URL takes `..` out of the path.
  const { pathname } = new URL(request.url ?? "/", "http://localhost");
  const headers = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Content-Type": TYPES[pathname === "/" ? ".html" : extname(pathname)] ?? "application/octet-stream",
  };
  readFile(fileOf(pathname)).then(
    (body) => response.writeHead(200, headers).end(body),
    () => response.writeHead(404, headers).end("not found\n"),
  );
});
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
});
