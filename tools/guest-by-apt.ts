// The Debian guest for CI, where only apt-get and npm may reach out: apt-get fetches the archive's signed index and
// the packages into a directory laid out like a mirror, which is served on loopback to `fetchDebianGuest`.
// The index is verified again on the way. Usage: node tools/guest-by-apt.ts
import { execFileSync } from "node:child_process";
import { createReadStream } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { aptSources } from "../src/guest/apt-sources.ts";
import { DEFAULT_SUITE, fetchDebianGuest } from "../src/guest/debian.ts";

const PACKAGES = ["linux-image-riscv64", "busybox-static", "opensbi"];
const INDEX = `dists/${DEFAULT_SUITE}/main/binary-riscv64/Packages`;
const RELEASE = `dists/${DEFAULT_SUITE}/InRelease`;

const [source] = await aptSources();
if (source === undefined) throw new Error("the machine's apt sources name no Debian mirror");
const root = await mkdtemp(join(tmpdir(), "wherry-apt-"));

try {
  const mirror = join(root, "mirror");
  const lists = join(root, "lists");
  const archives = join(root, "archives");
  for (const directory of [join(lists, "partial"), join(archives, "partial"), mirror]) {
    await mkdir(directory, { recursive: true });
  }
  const keyring = source.signedBy ?? "/usr/share/keyrings/debian-archive-keyring.gpg";
  const list = join(root, "sources.list");
  await writeFile(list, `deb [arch=riscv64 signed-by=${keyring}] ${source.uri} ${DEFAULT_SUITE} main\n`);
  const settings = {
    "APT::Architecture": "riscv64",
    "APT::Architectures": "riscv64",
    "APT::Sandbox::User": "root",
    "Acquire::GzipIndexes": "false",
    "Acquire::Languages": "none",
    "Dir::Cache::Archives": archives,
    "Dir::Cache::pkgcache": "",
    "Dir::Cache::srcpkgcache": "",
    "Dir::Etc::SourceList": list,
    "Dir::Etc::SourceParts": "-",
    "Dir::State::Lists": lists,
    "Dir::State::status": "/dev/null",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const apt = (command: string, ...args: string[]): string =>
    execFileSync(command, [...flags, ...args], { cwd: archives, encoding: "utf8", maxBuffer: 2 ** 24 });

  apt("apt-get", "update", "-q");
  for (const name of await readdir(lists)) {
    const path = [RELEASE, INDEX].find((p) => name.endsWith(p.replaceAll("/", "_")));
    if (path === undefined) continue;
    await mkdir(join(mirror, dirname(path)), { recursive: true });
    await copyFile(join(lists, name), join(mirror, path));
  }
  // The kernel's package proper is what the meta package depends on.
  const kernel = /^Depends: (linux-image-\S+)/m.exec(apt("apt-cache", "show", "linux-image-riscv64"))?.[1];
  if (kernel === undefined) throw new Error("linux-image-riscv64 depends on no kernel");
  const wanted = [...PACKAGES, kernel];
  const uris = apt("apt-get", "download", "--print-uris", ...wanted);
  apt("apt-get", "download", "-q", ...wanted);
  for (const [, uri, file] of uris.matchAll(/^'(\S+)' (\S+)/gm)) {
    const path = join(mirror, decodeURIComponent((uri as string).slice(source.uri.length)));
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
