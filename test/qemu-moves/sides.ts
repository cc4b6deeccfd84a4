// A monitor of the journey, a QEMU of some release or Wherry, as a child process: QMP, the console with the
// host time of each piece, and complete cleanup.
import { setTimeout as sleep } from "node:timers/promises";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type QemuRelease, qemu } from "../../tools/unpacked.ts";
import { until } from "../support/wait.ts";
import { QmpClient } from "../support/qmp-client.ts";
import type { Guest } from "./guest.ts";
import type { Chunk } from "./journal.ts";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
const START_MS = 60_000;
export const MEMORY_MIB = 128;

export type Kind = "qemu" | "wherry";

/** Properties that both sides of a move share. */
export interface Hardware {
  /** Release of the QEMUs, which a Wherry moves to or from. */
  readonly release: QemuRelease;
  readonly harts: number;
  readonly disk: string;
  /** HOST:PORT of the network's other end. */
  readonly wire: string;
  /** virtio-mmio version 1, QEMU's default. */
  readonly legacy: boolean;
  /** Path of OpenSBI. */
  readonly firmware: string;
}

interface Sockets {
  readonly qmp: string;
  /** QEMU's: HOST:PORT that it connects to. Wherry's: the path that it listens at. */
  readonly console: string;
  readonly virtio: string;
}

async function qemuCommand(
  hardware: Hardware,
  guest: Guest | undefined,
  sockets: Sockets,
): Promise<string[]> {
  const { release, harts, disk, wire, legacy } = hardware;
  const what =
    guest === undefined
      ? ["-incoming", "defer"]
      : ["-S", "-kernel", guest.kernel, "-initrd", guest.initrd, "-append", guest.append];
  return [
    ...(await qemu(release, "riscv64")),
    ...[
      "-machine",
      "virt",
      "-smp",
      `${harts}`,
      "-m",
      `${MEMORY_MIB}M`,
      "-display",
      "none",
      "-monitor",
      "none",
    ],
    ...(legacy ? [] : ["-global", "virtio-mmio.force-legacy=false"]),
    ...["-drive", `file=${disk},format=raw,if=none,id=disk,cache=writethrough`],
    ...["-device", "virtio-blk-device,drive=disk"],
    ...["-netdev", `socket,id=wire,connect=${wire}`, "-device", "virtio-net-device,netdev=wire"],
    ...[
      "-device",
      "virtio-rng-device",
      "-chardev",
      `socket,id=second,path=${sockets.virtio},server=on,wait=off`,
    ],
    ...["-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=second"],
    ...["-qmp", `unix:${sockets.qmp},server=on,wait=off`, "-serial", `tcp:${sockets.console}`],
    ...["-bios", hardware.firmware, ...what],
  ];
}

async function wherryCommand(
  hardware: Hardware,
  guest: Guest | undefined,
  sockets: Sockets,
): Promise<string[]> {
  const { release, harts, disk, wire, legacy } = hardware;
  const what =
    guest === undefined
      ? ["--incoming", "defer"]
      : [
          "--paused",
          "--isa",
          `qemu-${release}`,
          "--kernel",
          guest.kernel,
          "--initrd",
          guest.initrd,
          "--append",
          guest.append,
        ];
  return [
    ...[process.execPath, MAIN, "run", "--smp", `${harts}`, "--memory", `${MEMORY_MIB}M`],
    ...["--drive", `file=${disk}`, "--net", `socket:connect=${wire}`, "--rng"],
    ...["--console", `unix:${sockets.virtio}`],
    ...(legacy ? ["--virtio", "legacy"] : []),
    ...["--qmp", `unix:${sockets.qmp}`, "--serial", `unix:${sockets.console}`],
    ...["--firmware", hardware.firmware, ...what],
  ];
}

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) kill(child);
});

/** Includes the commands that it started for `exec:`, which may wait for ever for their other end. */
function kill({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // The process has exited.
  }
}

let serialNumber = 0;

export class Side {
  readonly kind: Kind;
  readonly name: string;
  readonly qmp: QmpClient;
  readonly chunks: Chunk[] = [];
  /** Output on the virtio console; this process is the other end and echoes all of it. */
  words = "";
  /** Error output of the process. */
  readonly complaints: () => string;
  readonly #child: ChildProcess;
  readonly #console: Socket;
  readonly #second: Socket;

  private constructor(
    kind: Kind,
    name: string,
    child: ChildProcess,
    qmp: QmpClient,
    console: Socket,
    second: Socket,
    complaints: () => string,
  ) {
    this.kind = kind;
    this.name = name;
    this.#child = child;
    this.qmp = qmp;
    this.#console = console;
    this.#second = second;
    this.complaints = complaints;
    console.setEncoding("latin1");
    console.on("data", (text: string) => this.chunks.push({ at: Date.now(), text }));
    console.on("error", () => {});
    second.setEncoding("latin1");
    second.on("data", (text: string) => {
      this.words += text;
      second.write(text);
    });
    second.on("error", () => {});
  }

  /** Not running yet: with a guest it waits for `cont`, without one for `migrate-incoming`. */
  static async start(
    kind: Kind,
    hardware: Hardware,
    guest: Guest | undefined,
    folder: string,
  ): Promise<Side> {
    const name = `${serialNumber++}-${kind}`;
    const path = (what: string): string => join(folder, `${name}.${what}`);
    const caller = kind === "qemu" ? await listen() : undefined;
    const served = caller?.address ?? path("console");
    const sockets = { qmp: path("qmp"), console: served, virtio: path("virtio") };
    const [program, ...args] = await (kind === "qemu" ? qemuCommand : wherryCommand)(
      hardware,
      guest,
      sockets,
    );
    const child = spawn(program as string, args, { stdio: ["ignore", "ignore", "pipe"], detached: true });
    children.add(child);
    let said = "";
    child.stderr?.on("data", (text) => (said += text));
    child.once("error", (error) => (said += error.message));
    child.once("close", () => children.delete(child));
    const reach = <T>(what: string, one: () => Promise<T | undefined>): Promise<T> =>
      until(START_MS, `${name}: ${what}`, () => {
        if (!children.has(child))
          throw new Error(`${name} has ended: ${said.trim()}\n${[program, ...args].join(" ")}`);
        return one().catch(() => undefined);
      });
    try {
      const console = await reach("console", async () =>
        caller === undefined ? connected(served) : caller.socket(),
      );
      const second = await reach("virtio console", () => connected(sockets.virtio));
      const qmp = await reach("QMP", () => QmpClient.connect(sockets.qmp));
      return new Side(kind, name, child, qmp, console, second, () => said.trim());
    } catch (error) {
      kill(child);
      throw error;
    }
  }

  type(text: string): void {
    this.#console.write(text);
  }

  /** Host time in ms of the last event of that name. */
  eventTime(name: string): number | undefined {
    const stamp = this.qmp.events.findLast(({ event }) => event === name)?.timestamp;
    return stamp === undefined ? undefined : stamp.seconds * 1000 + stamp.microseconds / 1000;
  }

  async status(): Promise<string> {
    return (await this.qmp.execute<{ status: string }>("query-status")).status;
  }

  get ended(): boolean {
    return !children.has(this.#child);
  }

  async end(): Promise<void> {
    kill(this.#child);
    this.qmp.close();
    this.#console.destroy();
    this.#second.destroy();
    while (!this.ended) await sleep(5);
  }
}

/**
 * Waits for one connection. A console of QEMU's is better TCP than a unix socket: with bytes one by one in it
 * that one is full after 278, and what a full one leaves in the UART's FIFO QEMU still sends after it has
 * saved it.
 */
async function listen(): Promise<{ address: string; socket: () => Socket | undefined }> {
  const server = createServer();
  let found: Socket | undefined;
  server.once("connection", (socket) => {
    found = socket.on("error", () => {});
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.unref();
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, socket: () => found };
}

async function connected(path: string): Promise<Socket> {
  const socket = connect({ path });
  await once(socket, "connect");
  socket.on("error", () => {}); // its "close" tells enough
  return socket;
}
