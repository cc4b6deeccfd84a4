// Replays the virtio scenarios on QEMU's devices (its qtest interface; the one hart spins on traps) and
// writes the sections that QEMU saves to test/virtio/fixtures/qemu-virtio.json. A local check, not run in CI:
//   node test/virtio/make-fixtures.ts
import { setTimeout as sleep } from "node:timers/promises";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { QemuProcess } from "../support/qemu-process.ts";
import { connectUnix } from "../support/qmp-client.ts";
import { MockDriver, type Operation, SLOT_ADDRESS, testBoard } from "../support/mock-driver.ts";
import { DISK_BYTES, type DeviceName, makeDevice, scenarios } from "./scenarios.ts";

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
  serial: [
    ...["-device", "virtio-serial-device"],
    ...[0, 1].flatMap((i) => [
      ...["-chardev", `file,path=/dev/null,id=c${i}`],
      ...["-device", `virtserialport,chardev=c${i},name=org.wherry.test.${i}`],
    ]),
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

function qtestCommand(operation: Operation): string {
  if ("read" in operation) return `readl ${SLOT_ADDRESS + operation.read}`;
  if ("write" in operation) return `writel ${SLOT_ADDRESS + operation.write} ${operation.value}`;
  const { guestPhys, bytes } = operation;
  return `write ${guestPhys} ${bytes.length} 0x${Buffer.from(bytes).toString("hex")}`;
}

async function saved(device: DeviceName, legacy: boolean, log: readonly Operation[]): Promise<Buffer> {
  const qtestPath = join(directory, "qtest");
  const out = join(directory, "out");
  for (const path of [qtestPath, out]) rmSync(path, { force: true });
  const qemu = new QemuProcess([
    ...[QEMU, "-M", "virt", "-m", "32M", "-bios", "none", "-nodefaults"],
    ...["-global", `virtio-mmio.force-legacy=${legacy}`],
    ...["-qtest", `unix:${qtestPath},server=on,wait=off`, "-qtest-log", "none"],
    ...devices[device],
  ]);
  await qemu.execute("qmp_capabilities");
  const qtest = new Lines(await connectUnix(qtestPath));
  for (const operation of log) {
    const command = qtestCommand(operation);
    qtest.send(command);
    const reply = await qtest.line();
    if (!reply.startsWith("OK")) throw new Error(`${command}: ${reply}`);
    // What the driver waits for in Wherry happens here while it sleeps.
    if ("write" in operation && operation.write === 0x50) await sleep(20);
  }
  await sleep(50);
  await qemu.execute("stop");
  await qemu.execute("migrate", { uri: `exec:cat > ${out}` });
  await qemu.migration("completed");
  qtest.close();
  await qemu.end();
  return readFileSync(out);
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
  const board = testBoard({ legacy });
  const driver = new MockDriver(board, makeDevice(device, board));
  await run(driver);
  const found = section(await saved(device, legacy, driver.log));
  fixtures[name] = { ...found, bytes: packed(found.bytes) };
  process.stdout.write(`${name}: ${found.idstr} version ${found.version}, ${found.bytes.length} bytes\n`);
}
rmSync(directory, { recursive: true });
const version = execFileSync(QEMU, ["--version"]).toString().split("\n")[0];
const file = new URL("./fixtures/qemu-virtio.json", import.meta.url);
writeFileSync(file, `${JSON.stringify({ source: version, fixtures }, null, 2)}\n`);
