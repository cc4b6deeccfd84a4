// The other side of a move hangs and closes nothing: Wherry's process ends on request, and after a move from
// QEMU nothing of the move remains open. A relay that passes all bytes but no end stands for the hanging
// QEMU.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import type { MachineProcess } from "../../src/cli/machine/machine-process.ts";
import { pongMessage } from "../../src/stream/return-path.ts";
import { PING_FINAL, PING_SETUP } from "../../src/stream/wire.ts";
import { fresh, ISA, isInstalled, LIMIT_MS, qemu, reaches, wherry } from "./opensbi.ts";
import { until } from "../support/wait.ts";

/**
 * Less than the time-outs of 10 s and more after which a process would end anyway, and more than a busy host
 * needs. A process that ends sooner is not waited for.
 */
const PROMPT_MS = 8000;

const relays: Server[] = [];
const sockets = new Set<Socket>();
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  for (const relay of relays.splice(0)) relay.close();
});

/** Listens at `from` and forwards bytes to `to`, but not the end of either side. */
async function relay(from: string, to: string): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ path: to, allowHalfOpen: true });
    for (const [a, b] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(a);
      a.on("data", (bytes) => b.write(bytes)).on("error", () => {});
    }
  });
  relays.push(server);
  await new Promise<void>((resolve) => server.listen(from, resolve));
}

/** Sockets of this host with the path: a listener, and its accepted connections. */
const socketsAt = (path: string) =>
  readFileSync("/proc/net/unix", "utf8")
    .split("\n")
    .filter((line) => line.endsWith(` ${path}`)).length;

async function moved(multifd: boolean) {
  const path = fresh("stream");
  const source = await qemu();
  await reaches(source, "running");
  await source.capabilities(["return-path", ...(multifd ? ["multifd"] : [])]);
  const destination = await wherry(["--incoming", `unix:${path}`, ...(multifd ? ["--multifd", "2"] : [])]);
  await relay(`${path}-relay`, path);
  await source.execute("migrate", { uri: `unix:${path}-relay` });
  await reaches(destination.qmp, "running");
  return { path, destination };
}

async function ends(machine: MachineProcess, how: "SIGTERM" | "quit"): Promise<void> {
  if (how === "quit") await machine.qmp.execute("quit");
  else process.kill(machine.pid as number, how);
  const ended = machine.exited.then(() => "ended");
  expect(await Promise.race([ended, sleep(PROMPT_MS, "hangs")])).toBe("ended");
}

describe.runIf(isInstalled())("a peer that hangs", { timeout: LIMIT_MS }, () => {
  test.each([
    ["SIGTERM", false],
    ["SIGTERM", true],
    ["quit", false],
  ] as const)("after a move from QEMU: %s ends the process (multifd %s)", async (how, multifd) => {
    await ends((await moved(multifd)).destination, how);
  });

  test.each([true, false])(
    "after a move from QEMU: no listener or connection is left (multifd %s)",
    async (multifd) => {
      const { path } = await moved(multifd);
      await until(5000, "all is closed", async () => socketsAt(path) === 0);
    },
  );

  test("after a move from Wherry: SIGTERM ends the process", async () => {
    const path = fresh("stream");
    const [source, destination] = [await wherry(), await wherry(["--incoming", `unix:${path}`])];
    await relay(`${path}-relay`, path);
    await source.qmp.execute("migrate", { uri: `unix:${path}-relay` });
    await reaches(source.qmp, "completed", "query-migrate");
    await ends(destination, "SIGTERM");
  });

  test("a connection that says nothing: SIGTERM ends the process", async () => {
    const path = fresh("stream");
    const destination = await wherry(["--incoming", `unix:${path}`]);
    const silent = connect({ path });
    sockets.add(silent);
    await once(silent, "connect");
    silent.on("error", () => {});
    await ends(destination, "SIGTERM");
  });

  test("multifd channels that do not come: SIGTERM ends the process", async () => {
    const path = fresh("stream");
    const source = await qemu();
    const destination = await wherry(["--incoming", `unix:${path}`, "--multifd", "2"]);
    await source.execute("migrate", { uri: `unix:${path}` });
    await reaches(destination.qmp, "active", "query-migrate");
    await sleep(500);
    await ends(destination, "SIGTERM");
  });

  test("a QEMU that was given the whole machine and says nothing: SIGTERM ends the source", async () => {
    const path = fresh("stream");
    const server = createServer((socket) => {
      socket.on("data", () => {}).on("error", () => {});
      for (const cookie of [PING_SETUP, PING_FINAL]) socket.write(pongMessage(cookie));
    });
    relays.push(server);
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const source = await wherry(ISA);
    await source.qmp.execute("migrate", { uri: `unix:${path}`, "x-wherry-profile": "qemu-7.2" });
    await reaches(source.qmp, "device", "query-migrate");
    await sleep(500);
    await ends(source, "SIGTERM");
  });
});
