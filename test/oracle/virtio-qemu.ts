// Replays the virtio scenarios on QEMU's devices (its qtest interface; the one hart spins on traps) and writes
// the sections that QEMU saves to test/virtio/fixtures/qemu-virtio.json. A local check, not run in CI:
//   node test/oracle/virtio-qemu.ts
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MockDriver, type Operation, SLOT_ADDRESS, testHost } from "../virtio/mock-driver.ts";
import { DISK_BYTES, type DeviceName, makeDevice, scenarios } from "../virtio/scenarios.ts";

const QEMU = "qemu-system-riscv64";
const directory = mkdtempSync(join(tmpdir(), "wherry-oracle-"));
const disk = join(directory, "disk.img");
writeFileSync(disk, "");
truncateSync(disk, DISK_BYTES);

const devices: Record<DeviceName, readonly string[]> = {
  blk: [
    "-drive",
    `file=${disk},format=raw,if=none,id=d`,
    "-device",
    "virtio-blk-device,drive=d,serial=wherry",
  ],
  "blk-mq": [
    "-drive",
    `file=${disk},format=raw,if=none,id=d`,
    "-device",
    "virtio-blk-device,drive=d,num-queues=4",
  ],
  rng: ["-device", "virtio-rng-device"],
  console: [
    ...["-device", "virtio-serial-device,max_ports=1", "-chardev", "null,id=c"],
    ...["-device", "virtconsole,chardev=c"],
  ],
  net: [
    ...["-netdev", "hubport,hubid=0,id=n"],
    ...["-device", "virtio-net-device,netdev=n,mac=52:54:00:12:34:56"],
  ],
};

/** Lines over a unix socket: one command, one reply. */
class Lines {
  readonly #socket: Socket;
  #rest = "";
  #waiting: ((line: string) => void) | undefined;
  readonly #lines: string[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) => {
      this.#rest += bytes.toString();
      const lines = this.#rest.split("\n");
      this.#rest = lines.pop() ?? "";
      this.#lines.push(...lines);
      this.#pump();
    });
  }
  static async open(path: string): Promise<Lines> {
    for (let i = 0; ; i++) {
      const socket = connect(path);
      const ok = await new Promise((resolve) => {
        socket.once("connect", () => resolve(true));
        socket.once("error", () => resolve(false));
      });
      if (ok) return new Lines(socket);
      if (i > 100) throw new Error(`cannot connect to ${path}`);
      await sleep(50);
    }
  }
  #pump(): void {
    if (this.#waiting === undefined || this.#lines.length === 0) return;
    const take = this.#waiting;
    this.#waiting = undefined;
    take(this.#lines.shift() ?? "");
  }
  line(): Promise<string> {
    return new Promise((resolve) => {
      this.#waiting = resolve;
      this.#pump();
    });
  }
  send(text: string): void {
    this.#socket.write(`${text}\n`);
  }
  close(): void {
    this.#socket.destroy();
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function qmp(lines: Lines, execute: string, args: object = {}): Promise<Record<string, unknown>> {
  lines.send(JSON.stringify({ execute, arguments: args }));
  for (;;) {
    const reply = JSON.parse(await lines.line()) as { return?: Record<string, unknown>; error?: object };
    if (reply.error !== undefined) throw new Error(`${execute}: ${JSON.stringify(reply.error)}`);
    if (reply.return !== undefined) return reply.return;
  }
}

function qtestCommand(operation: Operation): string {
  if ("read" in operation) return `readl ${SLOT_ADDRESS + operation.read}`;
  if ("write" in operation) return `writel ${SLOT_ADDRESS + operation.write} ${operation.value}`;
  const { guestPhys, bytes } = operation;
  return `write ${guestPhys} ${bytes.length} 0x${Buffer.from(bytes).toString("hex")}`;
}

async function saved(device: DeviceName, legacy: boolean, log: readonly Operation[]): Promise<Buffer> {
  const sockets = {
    qtest: join(directory, "qtest"),
    qmp: join(directory, "qmp"),
    out: join(directory, "out"),
  };
  for (const path of Object.values(sockets)) rmSync(path, { force: true });
  const child = spawn(QEMU, [
    ...["-M", "virt", "-m", "32M", "-display", "none", "-bios", "none", "-nodefaults"],
    ...["-global", `virtio-mmio.force-legacy=${legacy}`],
    ...["-qtest", `unix:${sockets.qtest},server=on,wait=off`, "-qtest-log", "none"],
    ...["-qmp", `unix:${sockets.qmp},server=on,wait=off`],
    ...devices[device],
  ]);
  child.stderr.on("data", (text) => process.stderr.write(text));
  const monitor = await Lines.open(sockets.qmp);
  const qtest = await Lines.open(sockets.qtest);
  await monitor.line();
  await qmp(monitor, "qmp_capabilities");
  for (const operation of log) {
    const command = qtestCommand(operation);
    qtest.send(command);
    const reply = await qtest.line();
    if (!reply.startsWith("OK")) throw new Error(`${command}: ${reply}`);
    // What the driver waits for in Wherry happens here while it sleeps.
    if ("write" in operation && operation.write === 0x50) await sleep(20);
  }
  await sleep(50);
  await qmp(monitor, "stop");
  await qmp(monitor, "migrate", { uri: `exec:cat > ${sockets.out}` });
  while ((await qmp(monitor, "query-migrate"))["status"] !== "completed") await sleep(20);
  monitor.send('{"execute":"quit"}');
  await new Promise((resolve) => child.once("exit", resolve));
  qtest.close();
  monitor.close();
  return readFileSync(sockets.out);
}

/** The bytes of the virtio section: from after its header to its footer. */
function section(stream: Buffer): { idstr: string; version: number; bytes: Buffer } {
  const start = stream.indexOf("virtio-mmio@");
  const length = stream[start - 1] ?? 0;
  const idstr = stream.subarray(start, start + length).toString();
  const data = start + length + 8;
  const footer = Buffer.concat([Buffer.of(0x7e), stream.subarray(start - 5, start - 1)]);
  return {
    idstr,
    version: stream.readUInt32BE(start + length + 4),
    bytes: stream.subarray(data, stream.indexOf(footer, data)),
  };
}

/** Hex with runs: `00*16384` is that many zero bytes. */
function packed(bytes: Buffer): string {
  const parts: string[] = [];
  for (let i = 0; i < bytes.length; ) {
    let n = 1;
    while (i + n < bytes.length && bytes[i + n] === bytes[i]) n++;
    const byte = bytes.toString("hex", i, i + 1);
    parts.push(n >= 8 ? ` ${byte}*${n} ` : byte.repeat(n));
    i += n;
  }
  return parts.join("").trim().replace(/ +/g, " ");
}

const fixtures: Record<string, { idstr: string; version: number; bytes: string }> = {};
for (const { name, device, legacy, run } of scenarios) {
  const host = testHost({ legacy });
  const driver = new MockDriver(host, makeDevice(device, host));
  await run(driver);
  const found = section(await saved(device, legacy, driver.log));
  fixtures[name] = { ...found, bytes: packed(found.bytes) };
  process.stdout.write(`${name}: ${found.idstr} version ${found.version}, ${found.bytes.length} bytes\n`);
}
rmSync(directory, { recursive: true });
const version = execFileSync(QEMU, ["--version"]).toString().split("\n")[0];
const file = new URL("../virtio/fixtures/qemu-virtio.json", import.meta.url);
writeFileSync(file, `${JSON.stringify({ source: version, fixtures }, null, 2)}\n`);
