// `npm run check:agent`: commands and files in Debian by its qemu-guest-agent, unchanged: from a program and
// from the command line, with an agent that is killed, and over a save, a restore and a move.
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { createMachine, Machine as Machines, type NodeMachine } from "../../dist/node/index.js";
import { agentInitrd } from "../support/agent-guest.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { BOOT_MS, debian } from "../support/debian.ts";
import { killAll, Machine, wherry } from "../support/machine.ts";
import { finishedMove } from "./move.ts";
import { Random } from "../support/random.ts";

const { seed } = options({});
const random = new Random(seed);
const STEP_MS = 180_000;
const cases = new Cases(`check:agent --seed ${seed}`, 12);
// Names are those of this check.
process.env["XDG_RUNTIME_DIR"] = directory;

const initrd = join(directory, "initrd");
const disk = join(directory, "disk");
writeFileSync(disk, "");
truncateSync(disk, 32 << 20);
await agentInitrd(initrd);

function expect(what: string, found: unknown, wanted: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(wanted))
    throw new Error(`${what}: expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`);
}
const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => "none",
    (error: { code?: string }) => error.code,
  );
/** Processes whose environment names the directory. */
const openedBy = (path: string): string[] =>
  readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, "latin1").includes(path);
    } catch {
      return false;
    }
  });
const randomBytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => random.int(256));

async function commands(vm: NodeMachine): Promise<void> {
  const { exitCode, stdout, stderr } = await vm.exec("sh", {
    args: ["-c", 'cat; pwd; echo "$A" >&2; exit 7'],
    cwd: "/tmp",
    env: { A: "b  c" },
    input: "in\n",
  });
  expect("exec", [exitCode, stdout, stderr], [7, "in\n/tmp\n", "b  c\n"]);
  expect("no such program", (await vm.exec("nosuch")).exitCode, 127);
}

let vm!: NodeMachine;
let snapshot!: Uint8Array;
const booted = await cases.run("exec from a program", BOOT_MS, async () => {
  vm = await createMachine({
    ...{ harts: 2, memoryBytes: 256 << 20, agent: true },
    ...{ kernel: readFileSync(debian.kernel), initrd: readFileSync(initrd), append: "console=ttyS0" },
  });
  await vm.start();
  await vm.exec("true", { waitMs: BOOT_MS });
  await commands(vm);
  return "input, output, directory, variables, exit codes";
});
if (booted) {
  await cases.run("files", STEP_MS, async () => {
    const bytes = randomBytes(300_001);
    const host = join(directory, "tree");
    mkdirSync(join(host, "sub"), { recursive: true });
    writeFileSync(join(host, "sub", "a b"), bytes, { mode: 0o751 });
    await vm.fs.copyIn(host, "/tmp/tree");
    expect("readdir", await vm.fs.readdir("/tmp/tree/sub"), [{ name: "a b", kind: "file" }]);
    const { kind, size, mode } = await vm.fs.stat("/tmp/tree/sub/a b");
    expect("stat", [kind, size, mode], ["file", bytes.length, 0o751]);
    await vm.fs.copyOut("/tmp/tree", join(directory, "back"));
    if (Buffer.compare(readFileSync(join(directory, "back/sub/a b")), bytes) !== 0)
      throw new Error("the file came back otherwise");
    await vm.fs.rm("/tmp/tree", { recursive: true });
    await vm.fs.mkdir("/tmp/x/y");
    await vm.fs.writeFile("/tmp/x/y/z", "text ü");
    expect("text", await vm.fs.readFile("/tmp/x/y/z", { encoding: "utf8" }), "text ü");
    expect("missing", await codeOf(vm.fs.readFile("/nosuch")), "agent.command");
    expect("missing", await codeOf(vm.fs.stat("/nosuch")), "agent.failed");
    return `${bytes.length} bytes in and out`;
  });
  await cases.run("streams, kill, limits", STEP_MS, async () => {
    let got = 0;
    const big = await vm.exec("sh", {
      args: ["-c", "seq 100000"],
      onStdout: (piece) => (got += piece.length),
    });
    expect("seq", [big.exitCode, got], [0, 588_895]);
    await using cat = await vm.spawn("cat");
    const writer = cat.stdin.getWriter();
    const reader = cat.stdout.getReader();
    for (const word of ["one", "two"]) {
      await writer.write(Buffer.from(word));
      const { value } = await reader.read();
      expect("echo", Buffer.from(value ?? []).toString(), word);
    }
    await writer.close();
    expect("cat", await cat.exitCode, 0);
    await using sleeper = await vm.spawn("sh", { args: ["-c", "sleep 1000; true"] });
    await sleeper.kill("TERM");
    expect("killed", await sleeper.exitCode, 143);
    expect(
      "time-out",
      await codeOf(vm.exec("sleep", { args: ["1000"], timeoutMs: 300 })),
      "agent.exec-timeout",
    );
    const abort = new AbortController();
    const aborted = codeOf(vm.exec("sleep", { args: ["1000"], signal: abort.signal }));
    setTimeout(() => abort.abort(), 300);
    expect("abort", await aborted, "agent.aborted");
    const left = await vm.exec("sh", { args: ["-c", "pgrep sleep; ls -A /tmp"] });
    if (/^\d/m.test(left.stdout)) throw new Error(`something is left: ${left.stdout}`);
    return `${got} bytes of output, echo, TERM, time-out, abort: nothing is left`;
  });
  await cases.run("a terminal: size, keys, Ctrl-C", STEP_MS, async () => {
    await using shell = await vm.spawn("sh", { pty: { cols: 91, rows: 33 } });
    const keys = shell.stdin.getWriter();
    const reader = shell.stdout.getReader();
    let text = "";
    const until = async (wanted: string): Promise<void> => {
      while (!text.includes(wanted)) {
        const { value, done } = await reader.read();
        if (done) throw new Error(`the end before ${wanted}: ${JSON.stringify(text)}`);
        text += Buffer.from(value ?? []).toString();
      }
      text = "";
    };
    const type = (line: string) => keys.write(Buffer.from(line));
    await type("stty size\r");
    await until("\r\n33 91\r\n");
    await shell.resize(100, 40);
    await type("stty size; sleep 1000 || echo interrupted\r");
    await until("\r\n40 100\r\n");
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await type("\x03");
    await type("exit 3\r");
    expect("the shell's end", await shell.exitCode, 3);
    return "two sizes, an interrupt, exit code 3";
  });
  await cases.run("an agent that is killed comes back", STEP_MS, async () => {
    const lost = codeOf(vm.exec("sleep", { args: ["1000"] }));
    await vm.exec("sh", { args: ["-c", "(sleep 1; killall -9 qemu-ga) >/dev/null 2>&1 &"] });
    const code = await lost;
    if (!["agent.restarted", "agent.process-lost"].includes(String(code))) throw new Error(`code ${code}`);
    await commands(vm);
    return `${code}, then it works again`;
  });
  await cases.run("a command goes on over a snapshot, here and in the copy", STEP_MS, async () => {
    const running = vm.exec("sh", { args: ["-c", "sleep 3; echo done"] });
    const interfaces = JSON.stringify(await vm.agentCommand("guest-network-get-interfaces"));
    if (!interfaces.includes('"lo"')) throw new Error(interfaces);
    const pid = Number((await vm.exec("pgrep", { args: ["-n", "-x", "sleep"] })).stdout);
    snapshot = await vm.snapshot();
    const copy = await Machines.restore(snapshot, { agent: true });
    await commands(copy);
    expect("alive in the copy", (await copy.exec("kill", { args: ["-0", String(pid)] })).exitCode <= 1, true);
    await copy.close();
    expect("the result here", (await running).stdout, "done\n");
    const closed = vm.exec("sleep", { args: ["1000"] });
    const code = codeOf(closed);
    await vm.close();
    expect("closed", await code, "agent.closed");
    return "the original has the result, the copy answers";
  });
}

await cases.run("file systems freeze around a snapshot; time, interfaces, shutdown", BOOT_MS, async () => {
  const devices = (file: string) => ({
    ...{ agent: true, rng: true, net: { user: {} } },
    drives: [{ file, readonly: false, forceChanged: true }],
  });
  await using frozen = await createMachine({
    ...{ harts: 1, memoryBytes: 128 << 20, ...devices(disk), append: "console=ttyS0 quiet" },
    ...{ kernel: readFileSync(debian.kernel), initrd: readFileSync(initrd) },
  });
  await frozen.start();
  const prepare = "modprobe ext4 && mke2fs -q /dev/vda && mkdir -p /mnt && mount /dev/vda /mnt";
  const made = await frozen.exec("sh", {
    args: ["-c", `${prepare} && echo before >/mnt/file`],
    waitMs: BOOT_MS,
  });
  expect("mount", made.exitCode, 0);
  expect("status before", await frozen.agentCommand("guest-fsfreeze-status"), "thawed");
  const state = await frozen.snapshot({ freeze: true });
  copyFileSync(disk, `${disk}2`);
  expect("status here", await frozen.agentCommand("guest-fsfreeze-status"), "thawed");
  await frozen.fs.writeFile("/mnt/file", "after");
  await using copy = await Machines.restore(state, devices(`${disk}2`));
  while ((await copy.agentCommand("guest-fsfreeze-status")) !== "thawed")
    await new Promise((resolve) => setTimeout(resolve, 100));
  expect("the copy's file", await copy.fs.readFile("/mnt/file", { encoding: "utf8" }), "before\n");
  await copy.fs.writeFile("/mnt/file", "in the copy");
  await copy.setTime(new Date("2031-02-03T04:05:06Z"));
  const date = await copy.exec("date", { args: ["-u", "+%Y-%m-%dT%H"] });
  expect("its time", date.stdout, "2031-02-03T04\n");
  await copy.setTime();
  const now = Number((await copy.exec("date", { args: ["+%s"] })).stdout) * 1000;
  if (Math.abs(now - Date.now()) > 60_000)
    throw new Error(`the guest's time is ${new Date(now).toISOString()}`);
  const interfaces = await copy.interfaces();
  expect("interfaces", interfaces.map(({ name }) => name).sort(), ["eth0", "lo"]);
  expect("its address", interfaces.find(({ name }) => name === "eth0")?.mac, "52:54:00:12:34:56");
  expect("the end", (await copy.shutdown()).kind, "shutdown");
  return "thawed on both sides, the clock is set, the copy powers off";
});
await cases.run("examples/agent-sandbox.ts", STEP_MS * 2, async () => {
  const example = join(import.meta.dirname, "../../examples/agent-sandbox.ts");
  const rooms = join(directory, "sandbox");
  mkdirSync(rooms);
  const env = { ...process.env, TMPDIR: rooms, XDG_RUNTIME_DIR: rooms };
  const args = ["--machines", "4", "--seconds", "30", "--kernel", debian.kernel, "--initrd", initrd];
  const { stdout } = await promisify(execFile)(process.execPath, [example, ...args], { env });
  expect("what is left of it", readdirSync(rooms, { recursive: true }), []);
  expect("processes", openedBy(rooms), []);
  return stdout.trim().split("\n").slice(-2).join("; ");
});

// ---- the command line, and a move ----

const state = join(directory, "state");
if (snapshot !== undefined) {
  writeFileSync(state, snapshot);
  await cases.run("examples/exec.ts", STEP_MS, async () => {
    const example = join(import.meta.dirname, "../../examples/exec.ts");
    const found = await promisify(execFile)(process.execPath, [example, state, "uname", "-sm"]);
    expect("its output", [found.stdout, found.stderr], ["Linux riscv64\n", ""]);
    return found.stdout.trim();
  });
}
let machine!: Machine;
const restored = await cases.run("wherry restore, exec, cp, ps", STEP_MS, async () => {
  machine = await Machine.start(["restore", state, "--agent", "--name", "first"]);
  const ran = await wherry(["exec", "first", "--", "sh", "-c", "echo out; echo err >&2; exit 9"], STEP_MS);
  expect("exec", [ran.code, ran.out, ran.err], [9, "out\n", "err\n"]);
  const seen = await wherry(["exec", "-t", "first", "--", "sh", "-c", "stty size; tty; exit 4"], STEP_MS);
  expect("exec -t", [seen.code, seen.err], [4, ""]);
  if (!/^24 80\r\n\/dev\/pts\/\d+\r\n$/.test(seen.out))
    throw new Error(`exec -t: ${JSON.stringify(seen.out)}`);
  const file = join(directory, "file");
  writeFileSync(file, randomBytes(1000));
  expect("cp in", (await wherry(["cp", file, "first:/tmp/copied"], STEP_MS)).code, 0);
  expect("cp out", (await wherry(["cp", "first:/tmp/copied", `${file}2`], STEP_MS)).code, 0);
  if (Buffer.compare(readFileSync(file), readFileSync(`${file}2`)) !== 0) throw new Error("cp changed it");
  expect(
    "time-out",
    (await wherry(["exec", "first", "--timeout", "1", "--", "sleep", "99"], STEP_MS)).code,
    124,
  );
  const list = JSON.parse((await wherry(["ps", "--json"])).out) as { name: string; status: string }[];
  expect(
    "ps",
    list.map(({ name, status }) => `${name} ${status}`),
    ["first running"],
  );
  const status = await wherry(["status", "--qmp", "first"]);
  if (!status.out.startsWith("status: running")) throw new Error(status.out + status.err);
  return "exit code 9, both streams, a file in and out, the list";
});
if (restored) {
  await cases.run("a move", STEP_MS, async () => {
    const across = wherry(["exec", "first", "--", "sh", "-c", "sleep 1000"], STEP_MS);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const move = `unix:${join(directory, "move")}`;
    const hardware = ["--smp", "2", "--memory", "256M"];
    const to = await Machine.start(["run", ...hardware, "--agent", "--name", "second", "--incoming", move]);
    await finishedMove(machine, to);
    await machine.quit();
    const { code, err } = await across;
    if (code === 0 || !/^wherry: .+/m.test(err)) throw new Error(`the command's end: ${code} ${err}`);
    const ran = await wherry(["exec", "second", "--", "uname", "-s"], STEP_MS);
    expect("exec", [ran.code, ran.out], [0, "Linux\n"]);
    machine = to;
    return `exec works at the destination; the one across said: ${err.trim().split("\n")[0]}`;
  });
  await cases.run("shutdown by QMP", STEP_MS, async () => {
    const args = { command: "guest-sync", arguments: { id: 5 } };
    expect("guest-sync", await machine.qmp.execute("x-wherry-agent", args), 5);
    await machine.quit();
    expect("names", (await wherry(["ps", "--json"])).out, "[]\n");
    return "the names are free again";
  });
}
killAll();
cases.end();
