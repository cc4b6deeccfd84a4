// `npm run check:whole-machine`: a Debian guest with all that a machine can have (two harts, user network,
// shared directories, a qcow2 disk on a base, the guest's agent) builds C programs with Debian's gcc and make
// while it is saved, restored and moved between processes, by QMP and by the command line, over unix sockets
// and tcp. After each: commands run in it, files go through the share in both directions, what was open on
// share and disk is as it was (appending, random reads and writes, a directory half read, a lock), names are
// asked and connections made, in both directions. At the end all builds have given the same objects, and the
// disk is clean.
//   --count N saves and moves, --files N in the program, --seed S
import { execFileSync } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { agentInitrd } from "../support/agent-guest.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, debian, prompt, shell } from "../support/debian.ts";
import { killAll, Machine, wherry } from "../support/machine.ts";
import { Random } from "../support/random.ts";
import { until } from "../support/wait.ts";
import { finishedMove, listening, moveLine, query } from "./move.ts";
import { toolchainDisk } from "./toolchain-disk.ts";

const given = options({ count: 5, files: 8 });
const random = new Random(given.seed);
const STEP_MS = 1_800_000;
/** Debian: gcc-riscv64-linux-gnu and libc6-dev-riscv64-cross, qemu-utils, e2fsprogs. */
const [COMPILER, QEMU_IMG, E2FSCK] = ["riscv64-linux-gnu-gcc", "qemu-img", "e2fsck"] as const;
const ENTRIES = 4000;
/** In each file. */
const FUNCTIONS = 3;
const cases = new Cases(
  `a whole machine, saved and moved ${given.count} times, seed ${given.seed}`,
  given.count + 4,
);
// Names are those of this check.
process.env["XDG_RUNTIME_DIR"] = directory;

function expect(what: string, found: unknown, expected: unknown): void {
  if (found !== expected)
    throw new Error(`${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

// ---- what the host has ----

const shared = join(directory, "work");
const listed = join(directory, "listed");
const overlay = join(directory, "disk.qcow2");

/** A program of many files, and how to build it: half of the objects on the share, half on the disk. */
function writeSources(): void {
  const folder = join(shared, "src");
  mkdirSync(folder);
  const names = Array.from({ length: given.files }, (_, i) => `f${i}`);
  for (const [i, name] of names.entries()) {
    const lines = Array.from(
      { length: FUNCTIONS },
      (_, n) =>
        `unsigned ${name}_${n}(unsigned x) {\n` +
        `  unsigned table[8] = {${Array.from({ length: 8 }, () => `${random.u32()}u`).join(", ")}};\n` +
        `  for (int i = 0; i < ${1 + random.int(60)}; i++)\n` +
        `    x = (x << ${1 + random.int(15)}) ^ table[(x >> ${random.int(29)}) & 7] ^ strlen(names[i % 3]);\n` +
        `  return x * ${random.u32() | 1}u;\n}\n`,
    );
    const all = Array.from({ length: FUNCTIONS }, (_, n) => `x = ${name}_${n}(x);`).join(" ");
    const text =
      `#include <string.h>\nstatic const char *const names[] = {"${name}", "of ${given.files}", "${i}"};\n${lines.join("")}` +
      `unsigned ${name}(unsigned x) { ${all} return x; }\n`;
    writeFileSync(join(folder, `${name}.c`), text);
  }
  writeFileSync(
    join(folder, "main.c"),
    `#include <stdio.h>\n${names.map((name) => `unsigned ${name}(unsigned);`).join("\n")}\n` +
      `int main(void) { unsigned x = 1; ${names.map((name) => `x = ${name}(x);`).join(" ")} ` +
      `printf("%08x\\n", x); return 0; }\n`,
  );
  const objects = [...names, "main"].map((name, i) => `${i % 2 === 0 ? "/work/obj" : "/out/obj"}/${name}.o`);
  writeFileSync(
    join(folder, "Makefile"),
    `/out/program: ${objects.join(" ")}\n\tgcc -o $@ $^\n` +
      `/work/obj/%.o: %.c\n\tgcc -O1 -c -o $@ $<\n/out/obj/%.o: %.c\n\tgcc -O1 -c -o $@ $<\n`,
  );
  // What the builds do, one after another, each from nothing: sums of all objects and what the program says.
  writeFileSync(
    join(shared, "builds"),
    `#!/bin/sh
n=0
while [ ! -e /mnt/work/stop ]; do
  rm -rf /mnt/work/obj /disk/out/*; mkdir /mnt/work/obj /disk/out/obj
  chroot /disk make -s -j2 -C /work/src > /tmp/make 2>&1 || { cp /tmp/make /mnt/work/failed; exit 1; }
  { chroot /disk /out/program; cd /disk; sha256sum out/obj/*.o out/program work/obj/*.o; } > /tmp/sums 2>&1
  mv /tmp/sums /mnt/work/sums.$n
  n=$((n + 1))
done
touch /mnt/work/stopped
`,
    { mode: 0o755 },
  );
}

function compileHolder(): void {
  const source = join(import.meta.dirname, "holder.c");
  const flags = ["-O1", "-static", "-Wall", "-Werror"];
  execFileSync(COMPILER, [...flags, source, "-o", join(shared, "holder")], { stdio: "pipe" });
}

for (const each of [shared, listed]) mkdirSync(each);
for (let i = 0; i < ENTRIES; i++) writeFileSync(join(listed, `e${String(i).padStart(5, "0")}`), "");
writeSources();
compileHolder();
await toolchainDisk(join(directory, "base.img"));
execFileSync(QEMU_IMG, ["create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", overlay]);
const initrd = join(directory, "initrd");
await agentInitrd(initrd);
const server = createServer((_, answer) => answer.end("hello from the host\n")).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const { port } = server.address() as AddressInfo;

// ---- the machine ----

const HARDWARE = ["--smp", "2", "--memory", "256M"];
const PARTS = [
  ...["--drive", `file=${overlay},format=qcow2`, "--agent"],
  ...["--share", `path=${shared},tag=work`, "--share", `path=${listed},tag=listed`],
  ...["--net", `user,allow=10.0.2.2:${port},hostfwd=tcp:127.0.0.1:0-:80`],
];
let machine!: Machine;
let name = "vm0";
let generation = 0;
const nextName = (): string => (name = `vm${++generation}`);

async function cli(...args: string[]): Promise<string> {
  const { code, out, err } = await wherry(args, STEP_MS);
  if (code !== 0) throw new Error(`wherry ${args.join(" ")}: ${code}: ${err.trim()}`);
  return out;
}
const inGuest = (script: string): Promise<string> => cli("exec", name, "--", "sh", "-c", script);

async function runs(): Promise<void> {
  await until(30_000, "it runs", async () => ((await machine.status()) === "running" ? true : undefined));
}

/** The next process takes the machine over by a move. */
async function move(address: string, byCli: boolean): Promise<string> {
  const from = name;
  const there = await Machine.start([
    ...["run", ...HARDWARE, ...PARTS, "--name", nextName(), "--incoming", address],
  ]);
  if (byCli) await cli("migrate", await listening(there), "--qmp", from);
  else await finishedMove(machine, there);
  const report = await query(machine);
  if (byCli) await cli("quit", "--qmp", from);
  await machine.quit();
  machine = there;
  return moveLine(report);
}

async function saveAndRestore(byCli: boolean): Promise<string> {
  const file = join(directory, "saved");
  if (byCli) {
    await cli("stop", "--qmp", name);
    await cli("save", file, "--qmp", name);
    await cli("quit", "--qmp", name);
  } else {
    await machine.qmp.execute("stop");
    await machine.qmp.execute("migrate", { uri: `file:${file}` });
    await until(STEP_MS, "it is saved", async () => {
      const { status, ...rest } = await query(machine);
      if (status === "failed") throw new Error(`the save failed: ${rest["error-desc"]}`);
      return status === "completed" ? true : undefined;
    });
  }
  await machine.quit();
  machine = await Machine.start(["restore", file, ...PARTS, "--name", nextName()]);
  // It was stopped when it was saved.
  await (byCli ? cli("cont", "--qmp", name) : machine.qmp.execute("cont"));
  rmSync(file);
  return "stopped, saved, restored";
}

const unix = (): string => `unix:${join(directory, `move-${random.u32()}`)}`;
const ways: Readonly<Record<string, () => Promise<string>>> = {
  "move over unix by QMP": () => move(unix(), false),
  "save and restore by the command line": () => saveAndRestore(true),
  "move over tcp by the command line": () => move("tcp:127.0.0.1:0", true),
  "move over tcp by QMP": () => move("tcp:127.0.0.1:0", false),
  "save and restore by QMP": () => saveAndRestore(false),
  "move over unix by the command line": () => move(unix(), true),
};

/** All that must go on, in this process of the machine. */
async function allGoesOn(step: string): Promise<string> {
  if (machine.complaints !== "") throw new Error(machine.complaints.trim());
  // Files that were open.
  const held = await shell(machine.console, `echo ${step} >&9; read -r line <&8; echo "$line"`);
  if (!held.startsWith(`ok ${step} `)) throw new Error(`the open files: ${held}`);
  expect("the log's last line", readFileSync(join(shared, "log"), "utf8").split("\n").at(-2), step);
  // New files, in both directions, by a command in the guest.
  const word = `word ${random.u32()}`;
  writeFileSync(join(shared, "from-host"), `${word}\n`);
  const said = await inGuest(
    `cat /mnt/work/from-host; echo "${word}" > /mnt/work/from-guest
     nslookup nowhere.example 10.0.2.3 2>&1 | grep -o NXDOMAIN | head -n 1; wget -q -O - http://10.0.2.2:${port}/`,
  );
  expect("the file, the name, the page", said, `${word}\nNXDOMAIN\nhello from the host\n`);
  expect("a file of the guest", readFileSync(join(shared, "from-guest"), "utf8"), `${word}\n`);
  const usernet = await machine.qmp.execute<string>("human-monitor-command", {
    "command-line": "info usernet",
  });
  const forwarded = /TCP\[HOST_FORWARD\] +127\.0\.0\.1:(\d+)/.exec(usernet)?.[1];
  const answer = await fetch(`http://127.0.0.1:${forwarded}/index.html`);
  expect("the guest's page", await answer.text(), "hello from the guest\n");
  if (existsSync(join(shared, "failed"))) throw new Error(readFileSync(join(shared, "failed"), "utf8"));
  return held;
}

const sums = (): string[] => readdirSync(shared).filter((each) => each.startsWith("sums."));

const booted = await cases.run("boot, mount, start", BOOT_MS, async () => {
  const kernel = ["--kernel", debian.kernel, "--initrd", initrd, "--append", "console=ttyS0 panic=-1"];
  machine = await Machine.start(["run", ...HARDWARE, ...kernel, ...PARTS, "--name", name], {
    fromFirstByte: true,
  });
  await prompt(machine.console);
  const nine = (tag: string, more: string): string =>
    `mkdir /mnt/${tag}; mount -t 9p -o trans=virtio,version=9p2000.L,${more} ${tag} /mnt/${tag}`;
  for (const command of [
    "stty cols 2000; modprobe ext4; mkdir /disk; mount /dev/vda /disk",
    `${nine("work", "msize=512000")}; ${nine("listed", "msize=8192")}; mount --bind /mnt/work /disk/work`,
    "ip link set eth0 up; udhcpc -q -n -i eth0 > /tmp/dhcp 2>&1; mount --bind /dev /disk/dev",
    "mkdir /tmp/www; echo hello from the guest > /tmp/www/index.html; httpd -h /tmp/www",
    "mkfifo /tmp/c /tmp/r; (/mnt/work/holder /mnt/work /mnt/listed /disk < /tmp/c > /tmp/r 2>&1 &); exec 9>/tmp/c 8</tmp/r",
  ])
    await shell(machine.console, command);
  await shell(machine.console, "(/mnt/work/builds > /tmp/builds 2>&1 &)");
  return allGoesOn("step 0");
});
if (booted) {
  await cases.run("a build that nothing disturbs", STEP_MS, async () => {
    await until(STEP_MS, "it ends", () => sums().length > 0 || existsSync(join(shared, "failed")));
    return allGoesOn("step 1");
  });
  for (let i = 0; i < given.count; i++) {
    const all = Object.entries(ways);
    const [way, go] = i < all.length ? all[i]! : random.pick(all);
    // Entries come and go while the directory is being read.
    appendFileSync(join(listed, `x${i}`), "");
    rmSync(join(listed, `x${i - 3}`), { force: true });
    const passed = await cases.run(`${i + 1}: ${way}`, STEP_MS, async () => {
      await new Promise((resolve) => setTimeout(resolve, random.int(2000)));
      const line = await go();
      await runs();
      return `${line}; ${await allGoesOn(`step ${i + 2}`)}; ${sums().length} builds`;
    });
    if (!passed) break;
  }
  await cases.run("all builds gave the same", STEP_MS, async () => {
    writeFileSync(join(shared, "stop"), "");
    await until(STEP_MS, "the last one ends", () =>
      ["stopped", "failed"].some((each) => existsSync(join(shared, each))),
    );
    const end = await allGoesOn("end");
    expect("entries", end.split(" ").at(-1), `entries=${ENTRIES}`);
    const results = sums().map((each) => readFileSync(join(shared, each), "utf8"));
    for (const each of results) expect("sums", each, results[0]);
    expect("objects", results[0]?.split("\n").length, given.files + 4);
    if (!/^[0-9a-f]{8}\n/.test(results[0] ?? "")) throw new Error(results[0]);
    return `${results.length} builds; ${end}`;
  });
  await cases.run("the disk is clean", STEP_MS, async () => {
    const last = "exec 9>&- 8<&-; sleep 1; umount /disk/work /disk/dev; umount /disk";
    await shell(machine.console, `cd /; ${last}; umount /mnt/work /mnt/listed`);
    await machine.quit();
    const raw = join(directory, "disk.raw");
    const image = execFileSync(QEMU_IMG, ["check", overlay], { encoding: "utf8" });
    execFileSync(QEMU_IMG, ["convert", "-O", "raw", overlay, raw]);
    const fsck = execFileSync(E2FSCK, ["-fn", raw], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
    return `${image.split("\n")[0]}; ${fsck.trim().split("\n").at(-1)}`;
  });
}
killAll();
server.close();
cases.end();
