// Records the session in docs/qemu.md: Debian starts in the newest QEMU of Debian's backports, moves to
// Wherry while it works, shows the effect, and moves back. The record has the output of the programs and the
// guest in this order, and the commands that ran without the folders of files. `node
// tools/record-qemu-moves.ts > FILE`.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QmpClient } from "../src/cli/machine/qmp-client.ts";
import { fetchDebianGuest } from "../src/guest/debian-guest.ts";
import { qemu } from "./unpacked.ts";
import { until } from "../test/support/wait.ts";

const LIMIT_MS = 600_000;
const WHERRY = join(import.meta.dirname, "../bin/wherry");
const PROFILE = "qemu-11.1";
// oxlint-disable-next-line no-control-regex -- an escape sequence may follow
const PROMPT = /wherry:\S*# (?:\x1b\[6n)?$/;

const directory = mkdtempSync(join(tmpdir(), "wherry-record-"));
const children: ChildProcess[] = [];
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});
const at = (name: string) => join(directory, name);

const say = (text: string) => process.stdout.write(`${text}\n`);
/** A command line as a reader would type it: without folders, and if long, broken before options. */
function shown(words: readonly string[]): string {
  const lines = [""];
  for (const word of words.map((w) => w.replaceAll(`${directory}/`, "").replace(/^\/.*\//, ""))) {
    const last = lines.at(-1) ?? "";
    if (last.length + word.length > 100 && word.startsWith("-")) lines.push(`    ${word}`);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines.join(" \\\n");
}

/** Repeats `ask` until it answers. */
function answer<T>(what: string, ask: () => Promise<T | undefined> | T | undefined): Promise<T> {
  return until(LIMIT_MS, what, () => Promise.resolve(ask()).catch(() => undefined));
}

/** The guest's console, connected to one of its monitors. */
class Console {
  text = "";
  readonly #socket: Socket;
  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8").on("data", (text: string) => (this.text += text));
    socket.on("error", () => {});
  }
  static open(path: string): Promise<Console> {
    return answer(
      `the console ${path}`,
      () =>
        new Promise<Console | undefined>((resolve) => {
          const socket = connect({ path });
          socket.once("connect", () => resolve(new Console(socket)));
          socket.once("error", () => resolve(undefined));
        }),
    );
  }
  async wait(what: RegExp): Promise<void> {
    await answer(`${what} on the console, found ${this.text.slice(-300)}`, () => what.test(this.text));
  }
  /** Types a line, waits for its output, and shows both. */
  async type(line: string, end: RegExp): Promise<void> {
    this.text = "";
    this.#socket.write(`${line}\r`);
    await this.wait(end);
    this.show();
  }
  show(): void {
    // The shell queries the cursor position before its prompt.
    const text = this.text.replaceAll("\x1b[6n", "").replaceAll("\r", "").trim();
    for (const line of text === "" ? [] : text.split("\n")) say(`guest| ${line}`.trimEnd());
    this.text = "";
  }
}

function start(words: readonly string[], label = words): void {
  say(`$ ${shown(label)} &`);
  const [program = "", ...args] = words;
  children.push(spawn(program, args, { stdio: ["ignore", "inherit", "inherit"] }));
}

function runWherry(...args: string[]): void {
  say(`$ ${shown(["wherry", ...args])}`);
  const output = execFileSync(WHERRY, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  say(output.trim().replaceAll(`${directory}/`, ""));
}

async function ask(client: QmpClient, command: string, args: Record<string, string> = {}): Promise<unknown> {
  const answer = await client.execute(command, args);
  return answer;
}

const guest = await fetchDebianGuest({});
const qemuCommand = await qemu("11.1", "riscv64");
const image = at("disk.img");
writeFileSync(image, "");
truncateSync(image, 64 * 2 ** 20);

function qemuWords(name: string, rest: readonly string[]): string[] {
  return [
    ...["-M", "virt", "-smp", "2", "-m", "512M", "-bios", guest.opensbi],
    ...["-drive", `if=none,id=disk,format=raw,file=${image}`, "-device", "virtio-blk-device,drive=disk"],
    ...["-device", "virtio-rng-device", "-display", "none", "-monitor", "none"],
    ...["-serial", `unix:${at(`${name}.console`)},server=on,wait=off`],
    ...["-qmp", `unix:${at(`${name}.qmp`)},server=on,wait=off`, ...rest],
  ];
}
const startQemu = (name: string, rest: readonly string[]) =>
  start([...qemuCommand, ...qemuWords(name, rest)], ["qemu-system-riscv64", ...qemuWords(name, rest)]);
const client = (name: string) =>
  answer(`QMP of ${name}`, () => QmpClient.connect({ kind: "unix", path: at(`${name}.qmp`) }));

startQemu("a", ["-kernel", guest.kernel, "-initrd", guest.initrd, "-append", "console=ttyS0"]);
const first = await Console.open(at("a.console"));
await first.wait(PROMPT);
first.text = "";
await first.type("stty cols 200; modprobe ext4; dmesg -n 1", PROMPT);
await first.type("mke2fs -q /dev/vda > /dev/null; mount /dev/vda /mnt", PROMPT);
await first.type(
  "dd if=/dev/urandom of=/mnt/data bs=1M count=16 2> /dev/null; sync; md5sum /mnt/data",
  PROMPT,
);
await first.type(
  'n=0; while sleep 1; do n=$((n+1)); echo "tick $n, up $(cut -d. -f1 /proc/uptime) s"; done &',
  /tick 2, up \d+/,
);

start([
  ...[WHERRY, "run", "--smp", "2", "--memory", "512M", "--firmware", guest.opensbi, "--virtio", "legacy"],
  ...[
    "--drive",
    `file=${image}`,
    "--rng",
    "--serial",
    `unix:${at("w.console")}`,
    "--qmp",
    `unix:${at("w.qmp")}`,
  ],
  ...["--incoming", `unix:${at("there")}`],
]);
const wherry = await client("w");
const second = await Console.open(at("w.console"));
const source = await client("a");
first.show();
say(`QMP of QEMU: {"execute": "migrate", "arguments": {"uri": "unix:there"}}`);
await ask(source, "migrate", { uri: `unix:${at("there")}` });
const info = await answer("the move is complete", async () => {
  const { status, downtime } = (await ask(source, "query-migrate")) as { status: string; downtime?: number };
  return status === "completed" ? { status, downtime } : undefined;
});
say(`QMP of QEMU: query-migrate: ${JSON.stringify(info)}`);
await answer("it runs in Wherry", async () =>
  ((await ask(wherry, "query-status")) as { status: string }).status === "running" ? true : undefined,
);
first.show();
await second.wait(/tick \d+, up \d+[\s\S]*tick \d+/);
second.show();
await second.type("echo 3 > /proc/sys/vm/drop_caches; md5sum /mnt/data; dmesg | tail -n 2", PROMPT);
await ask(source, "quit");

runWherry("migrate", "--explain", "--profile", PROFILE, "--qmp", `unix:${at("w.qmp")}`);
startQemu("b", ["-incoming", `unix:${at("back")}`]);
const third = await Console.open(at("b.console"));
second.show();
runWherry("migrate", `unix:${at("back")}`, "--profile", PROFILE, "--qmp", `unix:${at("w.qmp")}`);
await third.wait(/tick \d+, up \d+[\s\S]*tick \d+/);
second.show();
third.show();
await third.type("md5sum /mnt/data; dmesg | tail -n 2; kill %1", PROMPT);
process.exit(0);
