// A mirror on loopback for where only apt-get and npm have network access, as in CI: apt-get fetches the
// archive's signed index and the packages into a directory with a mirror's layout. Who reads from it verifies
// the index again.
import { createReadStream } from "node:fs";
import { copyFile, mkdir, readdir, rename, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join, normalize } from "node:path";
import { separateApt, type Apt } from "./apt.ts";

export interface AptMirror {
  /** Of the mirror's root. */
  readonly url: string;
  readonly keyring: string;
  close(): void;
}

/** A mirror of `suite` below `root` with the packages that `choose` names, given the path of the index. */
export async function aptMirror(
  root: string,
  suite: string,
  choose: (apt: Apt, index: string) => Promise<readonly string[]>,
): Promise<AptMirror> {
  const mirror = join(root, "mirror");
  const index = `dists/${suite}/main/binary-riscv64/Packages`;
  const apt = await separateApt(root, "riscv64", [suite]);
  for (const name of await readdir(apt.lists)) {
    const path = [`dists/${suite}/InRelease`, index].find((p) => name.endsWith(p.replaceAll("/", "_")));
    if (path === undefined) continue;
    await mkdir(join(mirror, dirname(path)), { recursive: true });
    await copyFile(join(apt.lists, name), join(mirror, path));
  }
  const wanted = await choose(apt, join(mirror, index));
  const uris = apt.run("apt-get", "download", "--print-uris", ...wanted);
  apt.run("apt-get", "download", "-q", ...wanted);
  for (const [, uri, file] of uris.matchAll(/^'(\S+)' (\S+)/gm)) {
    const path = join(mirror, decodeURIComponent((uri as string).slice(apt.uri.length)));
    await mkdir(dirname(path), { recursive: true });
    await rename(join(apt.archives, file as string), path);
  }
  const server = createServer((request, response) => {
    const path = join(mirror, normalize(decodeURIComponent(request.url ?? "/")));
    stat(path).then(
      ({ size }) => {
        response.writeHead(200, { "content-length": size });
        createReadStream(path).pipe(response);
      },
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, keyring: apt.keyring, close: () => server.close() };
}
