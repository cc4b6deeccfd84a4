// Real processes and sockets: half-open and foreign clients at the address of --incoming before a source
// moves its machine there, and a destination that is stopped (SIGSTOP) in the middle of a move.
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { MachineProcess } from "../../src/cli/machine/machine-process.ts";
import { until } from "../support/wait.ts";

const LIMIT_MS = 90_000;
const directory = mkdtempSync(join(tmpdir(), "wherry-half-open-"));
/** Writes one word of each of the 4096 pages from 0x81000000 on, for ever. */
const PROGRAM = `
_start:
  li s0, 0x81000000
  li s1, 0x82000000
  li s2, 4096
again:
  mv t0, s0
page:
  sd t1, 0(t0)
  addi t1, t1, 1
  add t0, t0, s2
  bltu t0, s1, page
  j again
`;
const kernel = join(directory, "kernel");
writeFileSync(kernel, flatBinary(assemble([{ name: "pages.s", text: PROGRAM }], { base: 0x80200000n })));

const machines: MachineProcess[] = [];
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(machines.splice(0).map((machine) => machine.quit()));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let serial = 0;
async function wherry(...args: string[]): Promise<MachineProcess> {
  const machine = await MachineProcess.start(`m${serial++}`, directory, ["--memory", "64M", ...args]);
  machines.push(machine);
  return machine;
}

interface Migration {
  readonly status?: string;
  readonly "error-desc"?: string;
  readonly "socket-address"?: readonly { readonly port: string }[];
}
const migrationOf = async ({ qmp }: MachineProcess) => (await qmp.execute("query-migrate")) as Migration;
const statusOf = async ({ qmp }: MachineProcess) =>
  ((await qmp.execute("query-status")) as { status: string }).status;

describe.each(["tcp", "unix"])("over %s", (transport) => {
  test("half-open and foreign clients do not keep a source out", { timeout: LIMIT_MS }, async () => {
    const path = join(directory, `${transport}.in`);
    const listen = transport === "tcp" ? "tcp:127.0.0.1:0" : `unix:${path}`;
    const destination = await wherry("--incoming", listen);
    const [bound] = (await migrationOf(destination))["socket-address"] ?? [];
    const port = Number(bound?.port ?? 0);
    const client = async (bytes: Uint8Array | string) => {
      const socket = transport === "tcp" ? connect(port, "127.0.0.1") : connect(path);
      sockets.push(socket.on("error", () => {}));
      await once(socket, "connect");
      socket.write(bytes);
      return socket;
    };
    const half = ["Q", "QEVM", "QEVM\0\0\0\x03", "QEVM\0\0\0\x03\x07\0\0\0\x04virt", "\x11\x22\x33\x44"];
    for (const text of half) await client(Buffer.from(text, "latin1"));
    for (const text of half) (await client(Buffer.from(text, "latin1"))).end();
    await client("GET / HTTP/1.1\r\n\r\n");
    await until(LIMIT_MS, "HTTP is named", async () =>
      ((await migrationOf(destination))["error-desc"] ?? "").includes("an HTTP request"),
    );
    expect((await migrationOf(destination)).status).toBe("setup");
    const source = await wherry("--kernel", kernel);
    await source.qmp.execute("migrate-set-parameters", { "downtime-limit": 100_000 });
    const uri = transport === "tcp" ? `tcp:127.0.0.1:${port}` : `unix:${path}`;
    await source.qmp.execute("migrate", { uri });
    const end = await until(LIMIT_MS, "the move ends", async () => {
      const info = await migrationOf(source);
      return ["completed", "failed"].includes(info.status ?? "") ? info : undefined;
    });
    expect(end).toMatchObject({ status: "completed" });
    expect(await statusOf(destination)).toBe("running");
  });
});

test("a destination that is stopped is noticed, said, and given up; the guest runs on", {
  timeout: LIMIT_MS,
}, async () => {
  const path = join(directory, "stopped.in");
  const destination = await wherry("--incoming", `unix:${path}`);
  const source = await wherry("--kernel", kernel);
  await source.qmp.execute("migrate-set-parameters", {
    "downtime-limit": 1,
    "max-bandwidth": 8 << 20,
    "x-wherry-stall-timeout": 8000,
  });
  await source.qmp.execute("migrate", { uri: `unix:${path}` });
  await until(LIMIT_MS, "it is active", async () => (await migrationOf(source)).status === "active");
  process.kill(destination.pid as number, "SIGSTOP");
  try {
    const said = await until(LIMIT_MS, "it is said", async () => (await migrationOf(source))["error-desc"]);
    expect(said).toMatch(/^the destination has accepted no data for .* its process is stopped/);
    expect(await statusOf(source)).toBe("running");
    await until(LIMIT_MS, "it is given up", async () => (await migrationOf(source)).status === "failed");
    expect((await migrationOf(source))["error-desc"]).toMatch(
      /^the destination has accepted no data for 8 s/,
    );
    expect(await statusOf(source)).toBe("running");
  } finally {
    process.kill(destination.pid as number, "SIGCONT");
  }
});
