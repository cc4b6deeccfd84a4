// The installed QEMU as an oracle for the board: its device tree, its devices' registers (over qtest, with
// the harts stopped), and its saved streams. Without it, tests are skipped with a message; in CI that is an
// error.
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";
import { on, once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { createInterface } from "node:readline";

const QEMU = "qemu-system-riscv64";

function qemuVersion(): string | undefined {
  const { status, stdout } = spawnSync(QEMU, ["--version"], { encoding: "utf8" });
  return status === 0 ? /version ([\d.]+)/.exec(stdout)?.[1] : undefined;
}

/** The reason for skipping the oracle's tests, if any. */
export const noOracle = ((): string | undefined => {
  const version = qemuVersion();
  if (version?.startsWith("7.2")) return undefined;
  const why = `${QEMU} 7.2 is not installed (found ${version ?? "none"})`;
  if (env["CI"] === "true") throw new Error(why);
  console.warn(`skipped: ${why}`);
  return why;
})();

const COMMON = ["-machine", "virt", "-display", "none", "-nodefaults", "-serial", "null"];

/** The device tree for a raw kernel with this command line. */
export function qemuDeviceTree(append: string, args: readonly string[]): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), "wherry-board-"));
  try {
    const dtb = join(directory, "dtb");
    const kernel = join(directory, "kernel");
    writeFileSync(kernel, new Uint8Array(64));
    const boot = ["-bios", "none", "-kernel", kernel, "-append", append];
    const { stderr } = spawnSync(QEMU, [...COMMON, "-machine", `virt,dumpdtb=${dtb}`, ...boot, ...args]);
    if (!existsSync(dtb)) throw new Error(`QEMU wrote no device tree: ${stderr}`);
    return new Uint8Array(readFileSync(dtb));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A stopped machine whose devices `read` and `write` access. */
export class QemuBoard {
  readonly #directory = mkdtempSync(join(tmpdir(), "wherry-board-"));
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #waiting: ((line: string) => void)[] = [];
  #monitor: Socket | undefined;

  constructor(args: readonly string[] = []) {
    const monitor = `unix:${join(this.#directory, "monitor")},server,wait=on`;
    const own = ["-S", "-qtest", "stdio", "-qtest-log", "none", "-monitor", monitor];
    this.#child = spawn(QEMU, [...COMMON, ...own, ...args]);
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      if (!line.startsWith("IRQ")) this.#waiting.shift()?.(line);
    });
  }

  #command(command: string): Promise<string> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin.write(`${command}\n`);
    });
  }

  async read(guestPhys: number, size: 1 | 2 | 4): Promise<number> {
    const answer = await this.#command(`read${{ 1: "b", 2: "w", 4: "l" }[size]} 0x${guestPhys.toString(16)}`);
    return Number(answer.split(" ")[1]);
  }

  async write(guestPhys: number, size: 1 | 2 | 4, value: number): Promise<void> {
    const width = { 1: "b", 2: "w", 4: "l" }[size];
    await this.#command(`write${width} 0x${guestPhys.toString(16)} 0x${value.toString(16)}`);
  }

  /** One command of the human monitor; resolves when it is done. */
  async #hmp(command: string): Promise<void> {
    this.#monitor ??= await this.#connect();
    const monitor = this.#monitor;
    const prompt = nextPrompt(monitor);
    monitor.write(`${command}\n`);
    await prompt;
  }

  async #connect(): Promise<Socket> {
    for (;;) {
      const socket = connect(join(this.#directory, "monitor"));
      try {
        await Promise.all([once(socket, "connect"), nextPrompt(socket)]);
        socket.on("error", () => {}); // QEMU was ended
        return socket;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  async reset(): Promise<void> {
    await this.#hmp("system_reset");
    // QEMU resets in a later iteration of its main loop.
    for (let i = 0; i < 2; i++) await this.#hmp("info status");
  }

  /** The stream that QEMU saves of the machine's present state. */
  async stream(): Promise<Uint8Array> {
    const path = join(this.#directory, "stream");
    await this.#hmp(`migrate "exec:cat > ${path}"`);
    return new Uint8Array(readFileSync(path));
  }

  close(): void {
    this.#monitor?.destroy();
    this.#child.kill();
    rmSync(this.#directory, { recursive: true });
  }
}

/** Waits for the monitor's prompt, which follows its answer. */
async function nextPrompt(monitor: Socket): Promise<void> {
  let text = "";
  for await (const [data] of on(monitor, "data", { close: ["close", "end"] })) {
    text += String(data);
    if (text.endsWith("(qemu) ")) return;
  }
  throw new Error(`QEMU's monitor has gone: ${text}`);
}
