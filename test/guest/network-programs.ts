// By hand, `node test/guest/network-programs.ts`: programs that people use, in a Debian guest on `--net
// user`. git clone over HTTP; curl: HTTP, HTTPS with an authority of the test's own, many connections,
// a large file; python's http.server behind hostfwd. All servers are on the host's loopback. Needs git and
// openssl.
//   --mib N of the large file
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { join } from "node:path";
import { unpacked } from "../../tools/unpacked.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, debian, prompt, shell } from "../support/debian.ts";
import { killAll, Machine } from "../support/machine.ts";
import { Random } from "../support/random.ts";
import { until } from "../support/wait.ts";

const given = options({ mib: 100 });
const STEP_MS = 120_000;
const CONNECTIONS = 60;
const cases = new Cases(`everyday programs on a user network, seed ${given.seed}`, 6);
const programs = await unpacked({
  ...{ name: "net-programs", architecture: "riscv64" },
  packages: ["curl", "git", "openssh-server", "python3"],
});
const random = new Random(given.seed);
const piece = Buffer.from(Uint32Array.from({ length: 1 << 18 }, () => random.u32()).buffer);
const sha = createHash("sha256");
for (let i = 0; i < given.mib; i++) sha.update(piece);
const large = sha.digest("hex");

// A repository as any web server has it.
const work = join(directory, "work");
const git = (...words: string[]): string =>
  execFileSync("git", ["-c", "user.name=a", "-c", "user.email=a@example.com", ...words], {
    encoding: "utf8",
  }).trim();
mkdirSync(work);
git("init", "-q", work);
for (let i = 0; i < 20; i++) writeFileSync(join(work, `file-${i}`), piece.subarray(i * 4096, (i + 1) * 4096));
git("-C", work, "add", ".");
git("-C", work, "commit", "-q", "-m", "first");
const bare = join(directory, "repo.git");
git("clone", "-q", "--bare", work, bare);
git("-C", bare, "update-server-info");

const answer: RequestListener = (question, reply) => {
  const url = question.url?.split("?")[0] ?? "/";
  if (url === "/large") {
    let left = given.mib;
    const more = (): void => {
      while (left-- > 0) if (!reply.write(piece)) return void reply.once("drain", more);
      reply.end();
    };
    reply.setHeader("content-length", given.mib * piece.length);
    return more();
  }
  if (!url.startsWith("/repo.git/") || url.includes("..")) return void reply.end(`this is ${url}\n`);
  try {
    reply.end(readFileSync(join(directory, url)));
  } catch {
    reply.writeHead(404).end();
  }
};
async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1").unref();
  await new Promise((resolve) => server.once("listening", resolve));
  return (server.address() as AddressInfo).port;
}
const [key, certificate] = [join(directory, "key.pem"), join(directory, "ca.pem")];
execFileSync(
  "openssl",
  [
    ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=host".split(" "),
    ..."-addext subjectAltName=IP:10.0.2.2".split(" "),
    ...["-keyout", key, "-out", certificate],
  ],
  { stdio: "ignore" },
);
const port = await listening(createServer(answer));
const secure = await listening(
  createTlsServer({ key: readFileSync(key), cert: readFileSync(certificate) }, answer),
);

function expect(what: string, found: unknown, expected: unknown): void {
  if (found !== expected)
    throw new Error(`${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

let guest!: Machine;
/** A program of Debian's; what follows a pipe is the guest's own busybox. */
const run = (command: string): Promise<string> => shell(guest.console, `chroot /debian ${command}`);

const booted = await cases.run("the guest boots, with its programs on a share", BOOT_MS, async () => {
  guest = await Machine.start(
    [
      ...["run", "--smp", "1", "--memory", "512M", "--kernel", debian.kernel, "--initrd", debian.initrd],
      ...["--append", "console=ttyS0 panic=-1", "--share", `path=${programs},tag=programs,readonly=on`],
      ...["--net", `user,allow=10.0.2.2:${port},allow=10.0.2.2:${secure},hostfwd=tcp:127.0.0.1:0-:8000`],
    ],
    { fromFirstByte: true },
  );
  await prompt(guest.console);
  await shell(guest.console, "stty cols 2000");
  await shell(guest.console, "ip link set eth0 up; udhcpc -q -n -i eth0 > /dev/null 2>&1");
  // Programs come from the share; what they write is in memory.
  await shell(guest.console, "mkdir -p /debian /debian/usr /debian/etc /debian/tmp /debian/dev /debian/proc");
  await shell(
    guest.console,
    "mkdir /share; mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,ro,cache=loose programs /share",
  );
  await shell(
    guest.console,
    "mount -o bind /share/usr /debian/usr; for d in bin lib sbin; do ln -s usr/$d /debian/$d; done",
  );
  await shell(
    guest.console,
    "mount -t proc proc /debian/proc; mount -o bind /dev /debian/dev; cp -r /share/etc/ssl /debian/etc 2>/dev/null; true",
  );
  const authority = readFileSync(certificate).toString("base64");
  await shell(guest.console, `echo ${authority} | base64 -d > /debian/tmp/ca.pem`);
  return await run("curl --version | head -1");
});
if (!booted) {
  killAll();
  cases.end();
}

await cases.run("curl by HTTP and HTTPS", STEP_MS, async () => {
  expect("http", await run(`curl -sS http://10.0.2.2:${port}/a`), "this is /a");
  expect("https", await run(`curl -sS --cacert /tmp/ca.pem https://10.0.2.2:${secure}/b`), "this is /b");
  const stranger = await run(`curl -sS https://10.0.2.2:${secure}/b 2>&1; true`);
  if (!/certificate/.test(stranger)) throw new Error(`an unknown authority: ${stranger}`);
  return "with the authority's certificate only";
});

await cases.run("git clone", STEP_MS, async () => {
  await run(`git clone -q http://10.0.2.2:${port}/repo.git /tmp/clone 2>&1`);
  expect("commit", await run("git -C /tmp/clone rev-parse HEAD"), git("-C", work, "rev-parse", "HEAD"));
  expect("changes", await run("git -C /tmp/clone status --porcelain"), "");
  return "the same commit";
});

await cases.run(`${given.mib} MiB`, STEP_MS, async () => {
  const began = performance.now();
  const sum = await run(`curl -sS http://10.0.2.2:${port}/large | sha256sum`);
  expect("hash", sum.split(" ")[0], large);
  return `the same hash, ${Math.round((performance.now() - began) / 1000)} s`;
});

await cases.run(`${CONNECTIONS} connections at once`, STEP_MS, async () => {
  const urls = `http://10.0.2.2:${port}/[1-${CONNECTIONS}]`;
  const text = await run(
    `curl -sS -Z --parallel-immediate --parallel-max ${CONNECTIONS} "${urls}" | sort -u | wc -l`,
  );
  expect("answers", Number(text), CONNECTIONS);
  return "each its own answer";
});

await cases.run("python's http.server behind hostfwd", STEP_MS, async () => {
  const [rule] =
    (await guest.qmp.execute<string>("human-monitor-command", { "command-line": "info usernet" })).match(
      /127\.0\.0\.1:?\s*(\d+)/g,
    ) ?? [];
  const at = Number(/(\d+)$/.exec(rule ?? "")?.[1]);
  await shell(guest.console, "mkdir /debian/tmp/www && echo from python > /debian/tmp/www/index.html");
  await shell(
    guest.console,
    "(chroot /debian /usr/bin/python3 -m http.server -d /tmp/www 8000 > /dev/null 2>&1 &)",
  );
  const pages = await until(STEP_MS, "it answers", async () => {
    const one = (): Promise<string> => fetch(`http://127.0.0.1:${at}/`).then((reply) => reply.text());
    return Promise.all([1, 2, 3, 4, 5].map(one)).catch(() => undefined);
  });
  expect("pages", new Set(pages).size === 1 && pages[0], "from python\n");
  return "five clients";
});

await guest.quit();
cases.end();
