// A QEMU that writes a stream: started with a table's arguments, controlled by QMP on its standard streams,
// queried at the stopped point, and migrated into a file.
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { type Json, QmpClient, type Reply } from "./qmp-client.ts";

type Members = Record<string, Json>;

/** Start of riscv64's RAM. */
const RAM_BASE = 0x8000_0000;
/** Follows the monitor's own answer immediately. */
const MIGRATION_LIMIT_MS = 120_000;

/** QEMU's answers, by QMP command or human monitor command. Commands that a release lacks are omitted. */
export interface Answers {
  readonly qmp: Record<string, Json>;
  readonly hmp: Record<string, string>;
  /** SHA-256 of riscv64's RAM. */
  readonly memory?: string;
  /** Path of a virtio device → its x-query-virtio-status and x-query-virtio-queue-status by queue. */
  readonly virtio: Record<string, { readonly status: Json; readonly queues: Json[] }>;
}

export class QemuProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #qmp: QmpClient;
  #errors = "";
  #closed = false;

  constructor(command: readonly string[]) {
    const [program = "", ...args] = command;
    this.#child = spawn(program, [...args, "-display", "none", "-monitor", "none", "-qmp", "stdio"]);
    this.#child.stderr.on("data", (data: Buffer) => {
      this.#errors = (this.#errors + data.toString()).slice(-2000);
    });
    this.#child.on("close", () => {
      this.#closed = true;
    });
    this.#qmp = new QmpClient(this.#child.stdout, this.#child.stdin, () => `QEMU ended: ${this.#errors}`);
  }

  /** Resolves to the command's return value. Rejects with QEMU's error. */
  async execute(command: string, args: Members = {}): Promise<Json> {
    try {
      return await this.#qmp.execute(command, args);
    } catch (cause) {
      throw new Error(`${command}: ${(cause as Error).message}`, { cause });
    }
  }
  /** Sends a raw request; returns the whole answer. */
  ask(request: string): Promise<Reply> {
    return this.#qmp.ask(request);
  }
  async human(line: string): Promise<string> {
    return String(await this.execute("human-monitor-command", { "command-line": line }));
  }
  async capabilities(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    const capabilities = names.map((capability) => ({ capability, state: true }));
    await this.execute("migrate-set-capabilities", { capabilities });
  }
  async status(): Promise<Members> {
    return (await this.execute("query-migrate")) as Members;
  }
  /** Waits until the migration has reached one of the states. Rejects if it fails. */
  async migration(...wanted: string[]): Promise<Members> {
    const end = Date.now() + MIGRATION_LIMIT_MS;
    for (;;) {
      const info = await this.status();
      const state = String(info["status"]);
      if (wanted.includes(state)) return info;
      if (["failed", "cancelled"].includes(state) || Date.now() > end) {
        throw new Error(`expected the migration to be ${wanted.join(" or ")}, found ${JSON.stringify(info)}`);
      }
      await sleep(20);
    }
  }

  /** Queries a stopped machine. `scratch` is a path for its RAM. */
  async answers(scratch: string): Promise<Answers> {
    const qmp: Record<string, Json> = {};
    const hmp: Record<string, string> = {};
    const virtio: Record<string, { status: Json; queues: Json[] }> = {};
    const commands = ["version", "target", "status", "cpus-fast", "memory-size-summary", "block", "pci"];
    for (const name of [...commands, "migrate-capabilities", "migrate-parameters", "current-machine"]) {
      await this.execute(`query-${name}`).then(
        (answer) => {
          qmp[`query-${name}`] = answer;
        },
        () => {},
      );
    }
    for (const line of [
      "registers -a",
      "qtree",
      "mtree -f",
      "pci",
      "irq",
      "pic",
      "roms",
      "ramblock",
      "virtio",
    ]) {
      await this.human(`info ${line}`).then(
        (answer) => {
          hmp[`info ${line}`] = answer;
        },
        () => {},
      );
    }
    // Debian's 11.1 crashes on x-query-virtio-status, for any device.
    const dies = JSON.stringify(qmp["query-version"]).includes('"major":11');
    const devices = (await this.execute("x-query-virtio").catch(() => [])) as Members[];
    for (const { path = "" } of dies ? [] : devices) {
      const status = (await this.execute("x-query-virtio-status", { path })) as Members;
      const queues: Json[] = [];
      for (let queue = 0; queue < Number(status["num-vqs"]); queue++) {
        queues.push(await this.execute("x-query-virtio-queue-status", { path, queue }).catch(() => null));
      }
      virtio[String(path)] = { status, queues };
    }
    return { qmp, hmp, virtio, ...(await this.#memory(qmp, scratch)) };
  }

  async #memory(qmp: Record<string, Json>, scratch: string): Promise<{ memory?: string }> {
    if ((qmp["query-target"] as Members)["arch"] !== "riscv64") return {};
    const size = (qmp["query-memory-size-summary"] as Members)["base-memory"] ?? 0;
    await this.execute("pmemsave", { val: RAM_BASE, size, filename: scratch });
    const hash = createHash("sha256");
    for await (const part of createReadStream(scratch)) hash.update(part as Buffer);
    await rm(scratch);
    return { memory: hash.digest("hex") };
  }

  get errors(): string {
    return this.#errors;
  }
  async end(): Promise<void> {
    if (this.#closed) return;
    const closed = once(this.#child, "close");
    this.#child.kill("SIGKILL");
    await closed;
  }
}
