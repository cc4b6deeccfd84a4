// `npm run check:share`: a Debian guest mounts a directory of the host and works in it (files, links,
// renames, attributes, locks, 5,000 entries, a tree in a tar archive), while the machine is saved, restored
// and moved between processes; at the end the host has the same tree as the archive. What the host removes
// while the machine is saved is stale in the guest, and named.
//   --moves N, --files N in the tree, --seed S
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, debian, debianHardware, prompt, shell } from "../support/debian.ts";
import { killAll, Machine } from "../support/machine.ts";
import { Random } from "../support/random.ts";
import { until } from "../support/wait.ts";
import { moveLine, finishedMove } from "./move.ts";

const given = options({ moves: 2, files: 150 });
const random = new Random(given.seed);
const cases = new Cases(`a shared directory, seed ${given.seed}`, 6 + given.moves);
const STEP_MS = 180_000;
const root = join(directory, "share");
const SHARE = ["--share", `path=${root},tag=work`];
const MOUNT = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 work /mnt";

/** Of all files below: types, contents, targets. */
function hashOf(top: string): string {
  const hash = createHash("sha256");
  const walk = (path: string): void => {
    for (const entry of readdirSync(join(top, path), { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const name = join(path, entry.name);
      hash.update(`${name}\0`);
      if (entry.isDirectory()) walk(name);
      else
        hash.update(entry.isSymbolicLink() ? readlinkSync(join(top, name)) : readFileSync(join(top, name)));
    }
  };
  walk("");
  return hash.digest("hex");
}

/** A tree of random files, and an archive of it in the share. */
function makeTree(): string {
  const top = join(directory, "tree");
  for (let i = 0; i < given.files; i++) {
    const folder = join(top, `d${random.int(8)}`, `e${random.int(4)}`);
    mkdirSync(folder, { recursive: true });
    const bytes = Buffer.alloc(
      random.oneIn(10) ? random.int(300_000) : random.int(6000),
      `${i}${random.u32()}`,
    );
    writeFileSync(join(folder, `f${i}`), bytes);
    if (random.oneIn(5)) symlinkSync(`../f${i}`, join(folder, `l${i}`));
  }
  execFileSync("tar", ["-C", top, "-cf", join(root, "tree.tar"), "."]);
  return hashOf(top);
}

function expect(what: string, found: unknown, expected: unknown): void {
  if (found !== expected)
    throw new Error(`${what}: found ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
}

mkdirSync(root, { recursive: true });
const tree = makeTree();
let machine!: Machine;

async function move(): Promise<string> {
  const path = join(directory, `move-${random.u32()}`);
  const there = await Machine.start([
    "run",
    ...debianHardware(1, "builtin"),
    ...SHARE,
    "--incoming",
    `unix:${path}`,
  ]);
  const report = await finishedMove(machine, there);
  await machine.quit();
  machine = there;
  await until(30_000, "it runs there", async () =>
    (await machine.status()) === "running" ? true : undefined,
  );
  return moveLine(report);
}

async function saveAndRestore(meanwhile = (): void => {}): Promise<void> {
  const path = join(directory, "saved");
  await machine.qmp.execute("x-wherry-save", { file: path });
  await machine.quit();
  meanwhile();
  machine = await Machine.start(["restore", path, ...SHARE]);
  await until(30_000, "it runs again", async () =>
    (await machine.status()) === "running" ? true : undefined,
  );
  rmSync(path);
}

const booted = await cases.run("boot and mount", BOOT_MS, async () => {
  const guest = ["--kernel", debian.kernel, "--initrd", debian.initrd, "--append", "console=ttyS0 panic=-1"];
  machine = await Machine.start(["run", ...debianHardware(1, "builtin"), ...guest, ...SHARE], {
    fromFirstByte: true,
  });
  await prompt(machine.console);
  await shell(machine.console, `stty cols 2000; ${MOUNT}`);
  return shell(machine.console, "grep work /proc/mounts");
});
if (booted) {
  await cases.run("files, links, renames, attributes, from both sides", STEP_MS, async () => {
    writeFileSync(join(root, "from-host"), "host\n");
    expect("a file of the host", await shell(machine.console, "cat /mnt/from-host"), "host");
    await shell(
      machine.console,
      "cd /mnt && mkdir a && echo guest > a/g && ln a/g a/h && ln -s a/g s && mv a b && chmod 640 b/g",
    );
    expect("its contents", readFileSync(join(root, "b/h"), "utf8"), "guest\n");
    expect("its mode", statSync(join(root, "b/g")).mode & 0o777, 0o640);
    expect("a symlink", readlinkSync(join(root, "s")), "a/g");
    await shell(
      machine.console,
      "touch -d '2001-02-03 04:05:06' b/g; dd if=/dev/urandom of=big bs=64k count=64 2>/dev/null; sync",
    );
    const [sum] = (await shell(machine.console, "md5sum big")).split(" ");
    expect(
      "4 MiB",
      sum,
      createHash("md5")
        .update(readFileSync(join(root, "big")))
        .digest("hex"),
    );
    await shell(
      machine.console,
      "flock b/g -c 'flock -n b/g true && exit 1 || exit 0'; rm -r b s big; mkfifo p; rm p; cd",
    );
    return readdirSync(root).sort().join(" ");
  });
  await cases.run("5,000 entries", STEP_MS, async () => {
    mkdirSync(join(root, "many"));
    for (let i = 0; i < 5000; i++) writeFileSync(join(root, "many", `entry-${i}`), "");
    // The shell reads the directory, and asks for no file's attributes.
    const count = await shell(machine.console, "cd /mnt/many; set -- entry-*; echo $#; cd /mnt");
    expect("entries", count, "5000");
    rmSync(join(root, "many"), { recursive: true });
    return count;
  });
  // Work that goes on over saves and moves: a tree is unpacked, and a file and a directory are open.
  await shell(
    machine.console,
    "mkdir /mnt/out; exec 7>>/mnt/log 6</mnt/from-host; (tar -xf /mnt/tree.tar -C /mnt/out && echo done > /mnt/out.done) > /tmp/tar 2>&1 & true",
  );
  for (let i = 0; i < given.moves; i++)
    await cases.run(`move ${i + 1} of ${given.moves}`, STEP_MS, async () => {
      const line = await move();
      await shell(machine.console, `echo move ${i} >&7`);
      expect("the log's last line", readFileSync(join(root, "log"), "utf8").split("\n").at(-2), `move ${i}`);
      return line;
    });
  await cases.run("save and restore", STEP_MS, async () => {
    await saveAndRestore();
    await shell(machine.console, "echo restored >&7");
    if (machine.complaints.includes("ESTALE")) throw new Error(machine.complaints);
    return readFileSync(join(root, "log"), "utf8").split("\n").at(-2) ?? "";
  });
  await cases.run("the tree that was unpacked meanwhile is the host's", STEP_MS, async () => {
    await shell(
      machine.console,
      "while [ ! -f /mnt/out.done ] && [ ! -s /tmp/tar ]; do sleep 1; done; cat /tmp/tar",
    );
    expect("hash of the tree", hashOf(join(root, "out")), tree);
    return tree.slice(0, 16);
  });
  await cases.run("what the host has removed is stale, and named", STEP_MS, async () => {
    await saveAndRestore(() => unlinkSync(join(root, "from-host")));
    const said = await shell(machine.console, "cat <&6 2>&1 || true");
    if (!/[Ss]tale/.test(said)) throw new Error(`the guest said: ${said}`);
    if (!/share work: .*from-host \(ENOENT\)/.test(machine.complaints)) throw new Error(machine.complaints);
    await shell(machine.console, "cd; exec 6<&- 7>&-; umount /mnt");
    return machine.complaints.trim();
  });
  await machine.quit();
}
killAll();
cases.end();
