// What makes an unpacked Debian a machine of its own: console, disk, network, names, and the scripts of
// guests/debian. Nothing that copies of an image may not share: guests/debian/first-boot makes that.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { RootFiles } from "./root-files.ts";

const SOURCES = fileURLToPath(new URL("../../guests/debian/", import.meta.url));

const FSTAB = `# <file system> <mount point> <type> <options> <dump> <pass>
/dev/vda / ext4 errors=remount-ro,noatime 0 0
`;

const HOSTS = `127.0.0.1\tlocalhost
127.0.1.1\tdebian
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
`;

// The pattern takes the card only if there is one. Nobody waits for the lease: dhcp would, and for the
// seconds in which another machine could object to the address.
const INTERFACES = `auto lo
iface lo inet loopback

auto /eth0
iface eth0 inet manual
\tup dhcpcd --noarp --background --quiet $IFACE
\tdown dhcpcd --exit $IFACE || true
`;

/** Of QEMU's user network; a DHCP client replaces it. */
const RESOLV_CONF = "nameserver 10.0.2.3\n";

// agetty of util-linux.
const AUTOLOGIN = "--autologin root --noclear";
const INITTAB = `id:2:initdefault:
si::sysinit:/usr/lib/wherry/sysinit
~~:S:wait:/sbin/sulogin
${[0, 1, 2, 3, 4, 5, 6].map((level) => `l${level}:${level}:wait:/etc/init.d/rc ${level}`).join("\n")}
z6:6:respawn:/sbin/sulogin
ca:12345:ctrlaltdel:/sbin/shutdown -t1 -a -r now
pf::powerfail:/sbin/shutdown -h +0
T0:2345:respawn:/sbin/agetty ${AUTOLOGIN} ttyS0 115200,38400,9600 linux
`;
const GETTY = `[Service]
ExecStart=
ExecStart=-/sbin/agetty ${AUTOLOGIN} --keep-baud 115200,57600,38400,9600 %I linux
`;
const FIRST_BOOT_UNIT = `[Unit]
Description=What must differ between copies of an image
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target ssh.service sysinit.target

[Service]
Type=oneshot
ExecStart=/etc/init.d/wherry-first-boot start

[Install]
WantedBy=sysinit.target
`;
// systemd gives up after 90 s, also the console's login; on a busy host a boot takes longer.
const TIMEOUTS = `[Manager]
DefaultDeviceTimeoutSec=15min
DefaultTimeoutStartSec=15min
`;
const NETWORKD = `[Match]
Name=e*

[Network]
DHCP=yes
`;

export interface RootSettings {
  readonly suite: string;
  /** URL of the archive, for the guest's apt. */
  readonly mirror: string;
  /**
   * What the guest is to configure: names of packages whose preinst is to run, and those that must work
   * before others are installed.
   */
  readonly toDo: { readonly preinst: readonly string[]; readonly essential: readonly string[] } | undefined;
}

/** Text of the files that these settings come from: a changed one makes another image. */
export async function settingsText(): Promise<string> {
  const scripts = await Promise.all(
    ["configure", "first-boot", "sysinit"].map((name) => readFile(SOURCES + name, "utf8")),
  );
  return [
    FSTAB,
    HOSTS,
    INTERFACES,
    RESOLV_CONF,
    INITTAB,
    GETTY,
    FIRST_BOOT_UNIT,
    TIMEOUTS,
    NETWORKD,
    ...scripts,
  ].join("\0");
}

export async function writeSettings(files: RootFiles, settings: RootSettings): Promise<void> {
  for (const [path, mode] of [
    ["proc", 0o555],
    ["sys", 0o555],
    ["dev", 0o755],
    ["run", 0o755],
    ["tmp", 0o1777],
  ] as const)
    files.makeDirectory(path, mode);
  files.makeDirectory("usr/lib/modules");
  // The kernel opens the console before it mounts anything on /dev.
  files.device("dev/console", 5, 1, 0o600);
  files.device("dev/null", 1, 3, 0o666);
  await files.write("etc/fstab", FSTAB);
  await files.write("etc/hostname", "debian\n");
  await files.write("etc/hosts", HOSTS);
  await files.write("etc/resolv.conf", RESOLV_CONF);
  await files.write("etc/network/interfaces", INTERFACES);
  await files.write("etc/machine-id", "");
  await files.write("etc/inittab", INITTAB);
  await files.write("etc/systemd/system/serial-getty@.service.d/autologin.conf", GETTY);
  const unit = "etc/systemd/system/wherry-first-boot.service";
  await files.write(unit, FIRST_BOOT_UNIT);
  files.link("etc/systemd/system/sysinit.target.wants/wherry-first-boot.service", `/${unit}`);
  await files.write("etc/systemd/system.conf.d/wherry.conf", TIMEOUTS);
  await files.write("etc/systemd/network/80-wherry.network", NETWORKD);
  await files.write("usr/lib/wherry/sysinit", await readFile(`${SOURCES}sysinit`), 0o755);
  files.link("etc/mtab", "../proc/self/mounts");
  await files.write("etc/init.d/wherry-first-boot", await readFile(`${SOURCES}first-boot`), 0o755);
  const keyring = ["pgp", "gpg"]
    .map((suffix) => `usr/share/keyrings/debian-archive-keyring.${suffix}`)
    .find((path) => files.find(path) !== undefined);
  const source = [
    "Types: deb",
    `URIs: ${settings.mirror}`,
    `Suites: ${settings.suite}`,
    "Components: main",
    ...(keyring === undefined ? [] : [`Signed-By: /${keyring}`]),
  ];
  await files.write("etc/apt/sources.list.d/debian.sources", `${source.join("\n")}\n`);
  const { toDo } = settings;
  if (toDo === undefined) return;
  const own = "var/lib/wherry";
  await files.write(`${own}/configure`, await readFile(`${SOURCES}configure`), 0o755);
  await files.write(`${own}/preinst`, toDo.preinst.map((each) => `${each}\n`).join(""));
  await files.write(`${own}/essential`, toDo.essential.map((each) => `${each}\n`).join(""));
}
