// The machine's apt sources: both styles, and which of them are the Debian main archive.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { aptSources } from "./apt-sources.ts";

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-apt-"));
  await mkdir(join(directory, "sources.list.d"));
});
afterEach(() => rm(directory, { recursive: true }));

const write = (name: string, text: string) => writeFile(join(directory, name), text);

it("reads both styles, each mirror once", async () => {
  await write(
    "sources.list",
    `# deb http://commented.example/debian trixie main
deb [arch=amd64 signed-by=/keys/a.gpg] http://one.example/debian/ bookworm main contrib
deb-src http://source.example/debian bookworm main
deb http://one.example/debian bookworm-updates main
deb http://ports.example/debian-ports sid main
deb cdrom:[Debian]/ bookworm main
`,
  );
  await write(
    "sources.list.d/debian.sources",
    `Types: deb deb-src
URIs: https://two.example/mirror/debian
 http://three.example/debian
Suites: bookworm
# a comment
Components: main
Signed-By: /keys/b.gpg

Types: deb
URIs: http://two.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://four.example/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
`,
  );
  await write("sources.list.d/other.list", "deb https://five.example/debian bookworm contrib\n");
  await write("sources.list.d/other.list.save", "deb https://six.example/debian bookworm main\n");
  expect(await aptSources(directory)).toEqual([
    { uri: "http://one.example/debian", signedBy: "/keys/a.gpg" },
    { uri: "https://two.example/mirror/debian", signedBy: "/keys/b.gpg" },
    { uri: "http://three.example/debian", signedBy: "/keys/b.gpg" },
    { uri: "http://four.example/debian", signedBy: undefined },
  ]);
});

it("finds nothing on a machine without apt", async () => {
  expect(await aptSources(join(directory, "nowhere"))).toEqual([]);
});
