// `npm run check:debian`: `wherry run debian` makes a machine, whose guest installs a package with apt-get
// and serves a shared directory with it, which the host reaches through a forwarded port and writes to as
// well. SIGTERM saves it, the next run continues it, it powers off, and boots again: all is there. The image
// is an ext4 file system without faults that holds no secret that copies would share.
//   --mirror URL; without network but apt-get's, the packages come through that
import { execFileSync, spawnSync } from "node:child_process";
import { mkdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { aptSources } from "../../src/guest/apt-sources.ts";
import { defaultCache, selectPackages } from "../../src/guest/debian-image.ts";
import { DEFAULT_SUITE } from "../../src/guest/debian-suite.ts";
import { fetchText } from "../../src/guest/download.ts";
import { aptMirror } from "../../tools/apt-mirror.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, debian, seeWords, shell } from "../support/debian.ts";
import { killAll, Machine, wherry } from "../support/machine.ts";

const given = options({ mirror: "" });
const BUILD_MS = 10 * 60_000;
const UPDATE_MS = 10 * 60_000;
const NAME = "web";
const PACKAGE = "busybox";
const cache = join(directory, "cache");
const shared = join(directory, "shared");
const image = join(directory, "debian.img");

interface Source {
  /** Options of `wherry run debian` that name the mirror. */
  readonly args: readonly string[];
  /** The mirror on the host's loopback, for the guest: `HOST:PORT`. */
  readonly loopback?: string;
  close(): void;
}

async function source(): Promise<Source> {
  if (given.mirror !== "") return { args: ["--mirror", given.mirror], close: () => {} };
  const [known] = await aptSources();
  const isReached = await fetchText(`${known?.uri}/dists/${DEFAULT_SUITE}/InRelease`).then(
    () => true,
    () => false,
  );
  if (isReached) return { args: [], close: () => {} };
  const root = join(directory, "apt");
  await mkdir(root);
  const mirror = await aptMirror(root, DEFAULT_SUITE, async (_, index) => {
    const { all } = await selectPackages(index, [PACKAGE]);
    // The guest's apt-get looks for the compressed index, which this mirror lacks; it takes this one's word.
    const names = new Set(all.map(({ name }) => name));
    const stanzas = (await readFile(index, "utf8")).split("\n\n");
    const known = stanzas.filter((stanza) => names.has(/^Package: (.*)$/m.exec(stanza)?.[1] ?? ""));
    await writeFile(join(root, "mirror/Packages"), `${known.join("\n\n")}\n`);
    return all.map(({ name, version }) => `${name}=${version}`);
  });
  return {
    args: ["--mirror", mirror.url, "--keyring", mirror.keyring],
    loopback: new URL(mirror.url).host,
    close: () => mirror.close(),
  };
}

/** A port of the loopback that nobody has. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

const debugfs = (command: string): string =>
  execFileSync("debugfs", ["-R", command, image], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });

async function build({ args }: Source): Promise<string> {
  await mkdir(cache);
  // The kernel is there already.
  for (const name of [`debian-${DEFAULT_SUITE}`, "packages"]) {
    await mkdir(join(defaultCache(), name), { recursive: true });
    await symlink(join(defaultCache(), name), join(cache, name));
  }
  const { code, err } = await wherry(["guest", "debian", "--cache", cache, ...args, image], BUILD_MS);
  if (code !== 0) throw new Error(`guest debian: exit code ${code}: ${err.slice(-2000)}`);
  const { status, stdout, stderr } = spawnSync("e2fsck", ["-fn", image], { encoding: "utf8" });
  if (status !== 0) throw new Error(`e2fsck -fn: ${status}: ${stdout}${stderr}`);
  if (debugfs("cat /etc/machine-id") !== "") throw new Error("the image has a machine-id");
  if (/ssh_host/.test(debugfs("ls /etc/ssh"))) throw new Error("the image has SSH host keys");
  if (debugfs("ls /var/lib/wherry").includes("configure")) throw new Error("the build's files are left");
  const root = debugfs("cat /etc/shadow").split("\n")[0] ?? "";
  if (!/^root:[*!]/.test(root)) throw new Error(`root has a password: ${root}`);
  return "e2fsck finds nothing; neither machine-id nor keys nor a password";
}

const { args, loopback, close } = await source();
const port = await freePort();

/** Runs the machine, and waits for root's prompt. */
async function start(): Promise<Machine> {
  const allow = loopback === undefined ? "" : `,allow=10.0.2.2:${loopback.split(":")[1]}`;
  const machine = await Machine.start([
    ...["run", "debian", "--name", NAME, "--cache", cache, ...args, "--smp", "2"],
    ...["--net", `user,hostfwd=tcp:127.0.0.1:${port}-:8000${allow}`, "--share", `path=${shared},tag=work`],
  ]);
  // A machine that goes on is at its prompt already.
  const again = setInterval(() => machine.console.type("\n"), 2000);
  await seeWords(machine.console, /root@web:\S*# /, BOOT_MS).finally(() => clearInterval(again));
  return machine;
}

async function expectIn({ console }: Machine, command: string, expected: RegExp): Promise<string> {
  const found = await shell(console, command);
  if (!expected.test(found)) throw new Error(`${command}: expected ${expected}, found '${found}'`);
  return found;
}

async function isWhole(machine: Machine): Promise<string> {
  await shell(
    machine.console,
    "dmesg -n 1; export PAGER=cat TERM=dumb; bind 'set enable-bracketed-paste off'",
  );
  await expectIn(machine, "dpkg --configure -a && dpkg --audit && echo nothing left", /^nothing left$/);
  await expectIn(machine, "dpkg -l | tail -n +6 | grep -vc ^ii || true", /^0$/);
  await expectIn(machine, "df -BM / | tail -n 1 | awk '{print $2}'", /^3[89]\d\dM$/);
  await expectIn(machine, "wc -c < /etc/machine-id; hostname", /^33\s+web$/);
  await expectIn(
    machine,
    "stat -c '%a %U' /tmp /root /etc/shadow | tr '\\n' ' '",
    /^1777 root 700 root 640 root/,
  );
  return await expectIn(machine, "uname -r", /^\d/);
}

async function installs(machine: Machine): Promise<string> {
  if (loopback !== undefined) {
    const list = `deb [trusted=yes] http://10.0.2.2:${loopback.split(":")[1]} ./`;
    await shell(machine.console, `cd /etc/apt/sources.list.d; rm *; echo '${list}' > mirror.list; cd`);
  }
  const from = machine.console.text.length;
  machine.console.type(
    `apt-get update -q && apt-get install -q -y --no-install-recommends ${PACKAGE}; echo apt-get: $?.\n`,
  );
  const [, status] = await seeWords(machine.console, /apt-get: (\d+)\./, UPDATE_MS, from);
  if (status !== "0") throw new Error(`apt-get: ${machine.console.text.slice(from).slice(-1500)}`);
  return await expectIn(machine, `dpkg-query -W -f '\${db:Status-Abbrev} \${Version}' ${PACKAGE}`, /^ii/);
}

async function fetched(path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/${path}`, { signal: AbortSignal.timeout(60_000) });
  return (await response.text()).trim();
}

async function serves(machine: Machine): Promise<string> {
  await writeFile(join(shared, "host.txt"), "from the host\n");
  const mount = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 work /mnt";
  await shell(machine.console, `${mount} && cat /mnt/host.txt && echo from the guest > /mnt/guest.txt`);
  await shell(machine.console, "cp /etc/machine-id /root/first-id; busybox httpd -p 8000 -h /mnt");
  const found = await fetched("host.txt");
  if (found !== "from the host") throw new Error(`port ${port} has '${found}'`);
  const guest = await readFile(join(shared, "guest.txt"), "utf8");
  if (guest !== "from the guest\n") throw new Error(`guest.txt: '${guest}'`);
  return "the host has the guest's file, and reads its own by the guest's server";
}

async function goesOn(machine: Machine): Promise<Machine> {
  await shell(machine.console, "WORD=kept");
  machine.child.kill("SIGTERM");
  const { code } = await machine.ends(BOOT_MS);
  if (code !== 143) throw new Error(`ended with ${code}: ${machine.complaints}`);
  const next = await start();
  await expectIn(next, "echo $WORD", /^kept$/);
  await writeFile(join(shared, "later.txt"), "written while it slept\n");
  const found = await fetched("later.txt");
  if (found !== "written while it slept") throw new Error(`port ${port} has '${found}'`);
  return next;
}

async function powerOff(machine: Machine): Promise<void> {
  machine.console.type("poweroff\n");
  const { code, signal } = await machine.ends(BOOT_MS);
  if (code !== 0) throw new Error(`ended with ${code ?? signal}: ${machine.complaints}`);
  const state = await stat(join(cache, "machines", `${NAME}.state`)).catch(() => undefined);
  if (state !== undefined) throw new Error("a machine that has powered off is still saved");
}

const cases = new Cases(`check-debian (Linux ${debian.version})`, 6);
try {
  let machine: Machine | undefined;
  const step = (name: string, limitMs: number, work: (running: Machine) => Promise<string>) =>
    cases.run(name, limitMs, async () => {
      if (machine === undefined) throw new Error("there is no machine");
      return work(machine);
    });
  await mkdir(shared);
  if (await cases.run("guest debian", BUILD_MS, () => build({ args, close }))) {
    await cases.run("run debian", BUILD_MS, async () => {
      machine = await start();
      return isWhole(machine);
    });
    await step("apt-get update, install", UPDATE_MS, installs);
    await step("share and hostfwd", BOOT_MS, serves);
    await step("saved by SIGTERM, goes on", 2 * BOOT_MS, async (running) => {
      machine = await goesOn(running);
      return "with its shell, its share and its server";
    });
    await step("power-off, boot", 3 * BOOT_MS, async (running) => {
      await powerOff(running);
      machine = await start();
      await expectIn(machine, `dpkg-query -W -f '\${db:Status-Abbrev}' ${PACKAGE}`, /^ii/);
      await expectIn(machine, "cmp /etc/machine-id /root/first-id && echo same", /^same$/);
      await powerOff(machine);
      return "all is there";
    });
  }
} finally {
  killAll();
  close();
}
cases.end();
