// A console whose reader stops: a guest that prints without end waits, memory does not grow, and the machine
// can be stopped, saved and ended; when the reader goes on, no byte is lost or doubled.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createReadStream, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { buildPrinter, checkLines } from "../support/printer.ts";
import { FIRMWARE, isInstalled, QEMU, reaches } from "../migration/opensbi.ts";
import { QmpClient } from "../support/qmp-client.ts";
import { until, within } from "../support/wait.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
/** How long the reader reads nothing. */
const STALL_MS = process.env["WHERRY_FULL"] === "1" ? 30_000 : 3000;
/** What the guest can print meanwhile: the limit, and what pipes, a terminal and this process keep. */
const MAX_AHEAD = 600_000;

let directory: string;
let serialNumber = 0;
const children = new Set<ChildProcess>();
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "wherry-stalled-"));
  for (const by of ["uart", "sbi"] as const) await writeFile(join(directory, by), buildPrinter(by));
});
afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
});
afterAll(() => rm(directory, { recursive: true }));

/** The reader of a console. */
class Reader {
  text = "";
  readonly ended: Promise<void>;
  readonly #stream: Readable;

  constructor(stream: Readable) {
    this.#stream = stream;
    stream.setEncoding("latin1");
    stream.on("data", (text: string) => {
      this.text += text;
    });
    stream.on("error", () => {});
    this.ended = new Promise((resolve) => stream.once("close", resolve));
  }
  stop(): void {
    this.#stream.pause();
  }
  goOn(): void {
    this.#stream.resume();
  }
  async sees(bytes: number): Promise<void> {
    const from = this.text.length;
    await until(60_000, `${bytes} bytes of output`, () => this.text.length >= from + bytes);
  }
}

interface Started {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  readonly qmp: QmpClient;
  readonly reader: Reader;
  readonly errors: () => string;
}

/** What stands between the process and the reader. */
const BACKENDS: Record<string, (args: string[]) => { command: string[]; reader?: () => Promise<Readable> }> =
  {
    pipe: (args) => ({ command: args }),
    terminal: (args) => ({
      command: ["script", "-qec", args.map((word) => `'${word}'`).join(" "), "/dev/null"],
    }),
    fifo(args) {
      execFileSync("mkfifo", [join(directory, "fifo")]);
      const path = join(directory, "fifo");
      return {
        command: [...args, "--serial", `file:${path}`],
        reader: async () => createReadStream(path).on("close", () => void rm(path, { force: true })),
      };
    },
    "unix socket": (args) => {
      const path = join(directory, "console");
      return {
        command: [...args, "--serial", `unix:${path}`],
        reader: () =>
          until(60_000, "the console's socket", async () => {
            const socket = connect({ path });
            return await new Promise<Readable | undefined>((resolve) => {
              socket.once("connect", () => resolve(socket)).once("error", () => resolve(undefined));
            });
          }),
      };
    },
  };

const start = (backend: string, ...args: string[]): Promise<Started> =>
  launch(backend, (qmp) => [process.execPath, MAIN, ...args, "--memory", "8M", "--qmp", `unix:${qmp}`]);

async function launch(backend: string, commandLine: (qmp: string) => string[]): Promise<Started> {
  const socket = join(directory, `qmp${serialNumber++}`);
  const line = commandLine(socket);
  const made = BACKENDS[backend]?.(line);
  const [program = "", ...rest] = made?.command ?? [];
  const child = spawn(program, rest, { cwd: directory, stdio: ["pipe", "pipe", "pipe"] });
  children.add(child);
  let errors = "";
  child.stderr?.on("data", (text) => (errors += text));
  const exit = new Promise<number | null>((resolve) => {
    child.once("exit", (code) => {
      children.delete(child);
      resolve(code);
    });
  });
  const reader = new Reader((await made?.reader?.()) ?? (child.stdout as Readable));
  const qmp = await until(60_000, "QMP", () => QmpClient.connect(socket).catch(() => undefined));
  return { child, exit, qmp, reader, errors: () => errors };
}

/** The resident memory of a process and its children, in MB. */
function residentMb(pid: number | undefined): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
  const own = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(own) / 1000 + children.reduce((sum, id) => sum + (id === "" ? 0 : residentMb(Number(id))), 0);
}

/** True also of a process that its parent has not waited for. */
function hasEnded(pid: number | undefined): boolean {
  try {
    return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}

const answered = <T>(what: string, work: Promise<T>): Promise<T> => within(20_000, what, work);

test.each([
  ["pipe", "uart"],
  ["pipe", "sbi"],
  ["terminal", "uart"],
  ["fifo", "uart"],
  ["unix socket", "uart"],
])("%s, %s: a stalled reader", async (backend, kernel) => {
  const source = await start(backend, "run", "--kernel", kernel);
  const { reader, qmp } = source;
  await reader.sees(200_000);
  reader.stop();
  await sleep(500);
  const before = { length: reader.text.length, mb: residentMb(source.child.pid) };
  await sleep(STALL_MS);
  expect(residentMb(source.child.pid) - before.mb).toBeLessThan(40);
  await answered("status", qmp.execute("query-status"));
  await answered("stop", qmp.execute("stop"));
  const file = join(directory, `${backend}-${kernel}.sav`);
  await answered("migrate", qmp.execute("migrate", { uri: `file:${file}` }));
  await reaches(qmp, "completed", "query-migrate");
  reader.goOn();
  // All that the guest printed before the stop, and no more.
  await answered("quit", qmp.execute("quit"));
  expect(await answered("exit", source.exit)).toBe(0);
  await answered("the end of the output", reader.ended);
  expect(reader.text.length - before.length).toBeLessThan(MAX_AHEAD);
  expect(source.errors()).toBe("");

  // The saved machine goes on with the next byte; the reader stops once more, for good.
  const target = await start(backend, "restore", file);
  await reaches(target.qmp, "paused");
  await target.qmp.execute("cont");
  await target.reader.sees(200_000);
  target.reader.stop();
  const whole = reader.text + target.reader.text;
  expect(checkLines(`\n${whole}`).first).toBe(0);
  await sleep(500);
  const [hart] = await target.qmp.execute<{ "thread-id": number }[]>("query-cpus-fast");
  await answered("quit", target.qmp.execute("quit"));
  await until(20_000, "the end", () => hasEnded(hart?.["thread-id"]));
  // `script` waits for the reader itself.
  target.reader.goOn();
  expect(await answered("exit", target.exit)).toBe(0);
});

describe.runIf(isInstalled())("beside QEMU 7.2", () => {
  const wherry = (...args: string[]): Promise<Started> =>
    launch("pipe", (qmp) => [
      ...[process.execPath, MAIN, ...args, "--memory", "32M", "--firmware", FIRMWARE, "--virtio", "legacy"],
      ...["--isa", "qemu-7.2", "--qmp", `unix:${qmp}`],
    ]);
  const qemu = (...args: string[]): Promise<Started> =>
    launch("pipe", (qmp) => [
      ...[QEMU, "-machine", "virt", "-m", "32M", "-bios", FIRMWARE, "-display", "none", "-monitor", "none"],
      ...["-serial", "stdio", "-qmp", `unix:${qmp},server=on,wait=off`, ...args],
    ]);

  /** Stalls its console, then stops it; saves it for the other. Returns the growth of its memory in MB. */
  async function stalledAndSaved(
    { child, qmp, reader }: Started,
    save: () => Promise<void>,
  ): Promise<number> {
    await reader.sees(200_000);
    reader.stop();
    await sleep(500);
    const before = residentMb(child.pid);
    await sleep(STALL_MS);
    const grown = residentMb(child.pid) - before;
    await answered("stop", qmp.execute("stop"));
    await answered("save", save());
    return grown;
  }
  const numbered = (text: string): string => `\n${text.slice(text.search(/(?<=\n)00000000\r?\n/))}`;
  async function goesOn(target: Started, text: string): Promise<void> {
    await reaches(target.qmp, "paused");
    await target.qmp.execute("cont");
    await target.reader.sees(100_000);
    expect(checkLines(numbered(text + target.reader.text)).first).toBe(0);
  }

  test("memory grows no more than QEMU's, and the bytes in the UART move both ways", async () => {
    const ours = await wherry("run", "--kernel", "uart");
    const forQemu = join(directory, "for-qemu");
    const oursGrown = await stalledAndSaved(ours, async () => {
      await ours.qmp.execute("x-wherry-save", { file: forQemu, profile: "qemu-7.2" });
    });
    ours.reader.goOn();
    await ours.qmp.execute("quit");
    await answered("the end of the output", ours.reader.ended);
    await goesOn(await qemu("-incoming", `exec:cat ${forQemu}`), ours.reader.text);

    const theirs = await qemu("-kernel", join(directory, "uart"));
    const fromQemu = join(directory, "from-qemu");
    const theirsGrown = await stalledAndSaved(theirs, async () => {
      await theirs.qmp.execute("migrate", { uri: `exec:cat > ${fromQemu}` });
      await reaches(theirs.qmp, "completed", "query-migrate");
    });
    // Before its reader goes on: a stopped QEMU still sends what its UART holds, which is in the stream too.
    theirs.child.kill("SIGKILL");
    theirs.reader.goOn();
    await answered("the end of the output", theirs.reader.ended);
    await goesOn(await wherry("restore", fromQemu), theirs.reader.text);
    expect(oursGrown).toBeLessThan(theirsGrown + 40);
  });
});
