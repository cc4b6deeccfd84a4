// `node test/guest/check-debian.ts`, after a build: `wherry guest debian` builds an image; e2fsck finds
// nothing in it, and it holds no secret that copies would share. It boots to root's shell; all packages are
// installed; dpkg and apt-get work, the file system has grown to the disk's size. After a power-off e2fsck
// finds nothing, and at the next boot all is there.
//   --mirror URL, --include PKG,…; without network but apt-get's, the packages come through that
import { execFileSync, spawnSync } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fetchText } from "../../src/guest/download.ts";
import { aptSources } from "../../src/guest/apt-sources.ts";
import { selectPackages } from "../../src/guest/debian-image.ts";
import { DEFAULT_SUITE } from "../../src/guest/debian-suite.ts";
import { aptMirror } from "../../tools/apt-mirror.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, debian, seeWords, shell } from "../support/debian.ts";
import { killAll, Machine, wherry } from "../support/machine.ts";

const given = options({ mirror: "", include: "" });
const BUILD_MS = 45 * 60_000;
const image = join(directory, "debian.img");
const SIZE_MB = 3000;

/** Options of `wherry guest debian` that name the mirror. */
async function source(): Promise<{ readonly args: readonly string[]; close(): void }> {
  if (given.mirror !== "") return { args: ["--mirror", given.mirror], close: () => {} };
  const [known] = await aptSources();
  const isReached = await fetchText(`${known?.uri}/dists/${DEFAULT_SUITE}/InRelease`).then(
    () => true,
    () => false,
  );
  if (isReached) return { args: [], close: () => {} };
  const root = join(directory, "apt");
  await mkdir(root);
  const include = given.include.split(",").filter((name) => name !== "");
  const mirror = await aptMirror(root, DEFAULT_SUITE, async (_, index) =>
    (await selectPackages(index, include)).all.map(({ name, version }) => `${name}=${version}`),
  );
  return { args: ["--mirror", mirror.url, "--keyring", mirror.keyring], close: () => mirror.close() };
}

async function build(): Promise<string> {
  const { args, close } = await source();
  try {
    const include = given.include === "" ? [] : ["--include", given.include];
    const { code, out, err } = await wherry(
      ["guest", "debian", ...args, ...include, "--size", `${SIZE_MB}M`, image],
      BUILD_MS,
    );
    if (code !== 0) throw new Error(`guest debian: exit code ${code}: ${err.slice(-2000)}`);
    return out.split("\n")[0] ?? "";
  } finally {
    close();
  }
}

function fsck(): string {
  const { status, stdout, stderr } = spawnSync("e2fsck", ["-fn", image], { encoding: "utf8" });
  if (status !== 0) throw new Error(`e2fsck -fn: ${status}: ${stdout}${stderr}`);
  return "e2fsck -fn finds nothing";
}

const debugfs = (command: string): string =>
  execFileSync("debugfs", ["-R", command, image], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });

function holdsNoSecrets(): string {
  if (debugfs("cat /etc/machine-id") !== "") throw new Error("the image has a machine-id");
  if (/ssh_host/.test(debugfs("ls /etc/ssh"))) throw new Error("the image has SSH host keys");
  if (debugfs("ls /var/lib/wherry").includes("configure")) throw new Error("the build's files are left");
  const root = debugfs("cat /etc/shadow").split("\n")[0] ?? "";
  if (!/^root:[*!]/.test(root)) throw new Error(`root has a password: ${root}`);
  return "neither machine-id nor keys nor a password";
}

async function boot(): Promise<Machine> {
  const machine = await Machine.start(
    [
      ...["run", "--smp", "2", "--memory", "512M", "--rng", "--drive", `file=${image}`],
      ...["--kernel", debian.kernel, "--append", "root=/dev/vda rw console=ttyS0 quiet panic=-1"],
    ],
    { fromFirstByte: true },
  );
  await seeWords(machine.console, /root@debian:\S*# /, BOOT_MS);
  await shell(machine.console, "dmesg -n 1; export PAGER=cat TERM=dumb");
  return machine;
}

async function powerOff(machine: Machine): Promise<void> {
  machine.console.type("poweroff\n");
  const { code, signal } = await machine.ends(BOOT_MS);
  if (code !== 0) throw new Error(`ended with ${code ?? signal}: ${machine.complaints}`);
}

/** A package made in the guest: its postinst and trigger run. */
const PACKAGE = [
  "mkdir -p /tmp/p/DEBIAN /tmp/p/usr/share/own",
  "echo works > /tmp/p/usr/share/own/file",
  "printf 'Package: own\\nVersion: 1\\nArchitecture: all\\nMaintainer: m <m@m>\\nDepends: libc6\\nDescription: d\\n' > /tmp/p/DEBIAN/control",
  "printf '#!/bin/sh\\necho configured > /root/own\\n' > /tmp/p/DEBIAN/postinst",
  "chmod 755 /tmp/p/DEBIAN/postinst",
  "dpkg-deb -b /tmp/p /tmp/own.deb",
].join(" && ");

async function works({ console }: Machine): Promise<string> {
  const expect = async (command: string, expected: RegExp): Promise<string> => {
    const found = await shell(console, command);
    if (!expected.test(found)) throw new Error(`${command}: expected ${expected}, found '${found}'`);
    return found;
  };
  await expect("dpkg --configure -a && echo nothing left", /^nothing left$/);
  await expect("dpkg -l | tail -n +6 | grep -vc ^ii || true", /^0$/);
  const apt = await expect("apt-get --version | head -n 1", /^apt \d/);
  await expect("df -BM / | tail -n 1 | awk '{print $2}'", /^2[5-9]\d\dM$/);
  await expect("wc -c < /etc/machine-id", /^33$/);
  await expect("stat -c '%a %U' /tmp /root /etc/shadow | tr '\\n' ' '", /^1777 root 700 root 640 root/);
  await shell(console, PACKAGE);
  await expect("apt-get install -q -y /tmp/own.deb 2>&1 | tail -n 3; cat /root/own", /configured$/);
  await shell(
    console,
    "cp /etc/machine-id /root/first-id; echo kept > /root/kept; rm -rf /tmp/p /tmp/own.deb",
  );
  return apt;
}

async function isThere({ console }: Machine): Promise<string> {
  const found = await shell(
    console,
    "cat /root/kept /usr/share/own/file; dpkg-query -W -f '${db:Status-Abbrev}\\n' own; cmp /etc/machine-id /root/first-id",
  );
  if (found.replaceAll(/\s+/g, " ") !== "kept works ii") throw new Error(`after a reboot: '${found}'`);
  return "all is there after a power-off";
}

const cases = new Cases("check-debian", 4);
try {
  const isBuilt =
    (await cases.run("guest debian", BUILD_MS, build)) &&
    (await cases.run("image", BOOT_MS, async () => `${fsck()}; ${holdsNoSecrets()}`));
  if (isBuilt) {
    await cases.run("first boot", 4 * BOOT_MS, async () => {
      const machine = await boot();
      const said = await works(machine);
      await powerOff(machine);
      return `${said}; ${fsck()}`;
    });
    await cases.run("second boot", 2 * BOOT_MS, async () => {
      const machine = await boot();
      const said = await isThere(machine);
      await powerOff(machine);
      return `${said}; ${fsck()}`;
    });
  }
} finally {
  killAll();
}
cases.end();
