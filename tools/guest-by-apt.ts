// The Debian guest for CI, where only apt-get and npm have network access: apt-get fetches the archive's
// signed index and the packages into a directory with a mirror's layout, which is served on loopback to
// `fetchDebianGuest`. That verifies the index again. Usage: npx node tools/guest-by-apt.ts
import { createReadStream } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { DEFAULT_SUITE } from "../src/guest/debian-suite.ts";
import { separateApt } from "./apt.ts";

const PACKAGES = ["linux-image-riscv64", "busybox-static", "opensbi"];
const INDEX = `dists/${DEFAULT_SUITE}/main/binary-riscv64/Packages`;
const RELEASE = `dists/${DEFAULT_SUITE}/InRelease`;

const root = await mkdtemp(join(tmpdir(), "wherry-apt-"));

try {
  const mirror = join(root, "mirror");
  const { uri: base, keyring, lists, archives, run } = await separateApt(root, "riscv64", [DEFAULT_SUITE]);
  for (const name of await readdir(lists)) {
    const path = [RELEASE, INDEX].find((p) => name.endsWith(p.replaceAll("/", "_")));
    if (path === undefined) continue;
    await mkdir(join(mirror, dirname(path)), { recursive: true });
    await copyFile(join(lists, name), join(mirror, path));
  }
  // The kernel package is the dependency of the meta package.
  const kernel = /^Depends: (linux-image-\S+)/m.exec(run("apt-cache", "show", "linux-image-riscv64"))?.[1];
  if (kernel === undefined) throw new Error("linux-image-riscv64 depends on no kernel");
  const wanted = [...PACKAGES, kernel];
  const uris = run("apt-get", "download", "--print-uris", ...wanted);
  run("apt-get", "download", "-q", ...wanted);
  for (const [, uri, file] of uris.matchAll(/^'(\S+)' (\S+)/gm)) {
    const path = join(mirror, decodeURIComponent((uri as string).slice(base.length)));
    await mkdir(dirname(path), { recursive: true });
    await rename(join(archives, file as string), path);
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
  const guest = await fetchDebianGuest({ mirror: `http://127.0.0.1:${port}`, keyring, refresh: true });
  server.close();
  console.log(`Debian guest: Linux ${guest.version} in ${dirname(guest.kernel)}`);
} finally {
  await rm(root, { recursive: true, force: true });
}
