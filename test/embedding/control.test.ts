// A program moves its machines, asks their monitor, hears their events, and ends calls by signals: with the
// guest that echoes its console.
import { createServer } from "node:net";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test, vi } from "vitest";
import {
  createMachine,
  Machine,
  type MachineOptions,
  type NodeMachine,
  type QmpEvent,
} from "../../src/node/index.ts";
import { QmpClient } from "../support/qmp-client.ts";
import { echoKernel } from "../support/life-cycle.ts";

const directory = mkdtempSync(join(tmpdir(), "wherry-control-"));
afterAll(() => rmSync(directory, { recursive: true }));
const HARDWARE = { harts: 1, memoryBytes: 8 << 20, engine: "interpreter" } as const;
const kernel = echoKernel();

async function make(options: Partial<MachineOptions> = {}): Promise<NodeMachine> {
  const machine = await createMachine({ ...HARDWARE, kernel, ...options });
  onTestFinished(() => machine.close());
  return machine;
}
const code = (value: string) => expect.objectContaining({ code: value });

test("a machine moves to another one of the process, whose console goes on", async () => {
  const source = await make();
  await source.start();
  let text = "";
  const warnings: string[] = [];
  const move = `unix:${join(directory, "move")}`;
  const arriving = Promise.withResolvers<string>();
  const incoming = Machine.incoming(move, {
    ...HARDWARE,
    onConsole: (bytes) => (text += Buffer.from(bytes).toString()),
    onWarning: (message) => void warnings.push(message),
    onListening: arriving.resolve,
  });
  expect(await arriving.promise).toBe(move);
  const statuses = new Set<string>();
  const result = await source.migrate(move, { onProgress: ({ status }) => statuses.add(status) });
  expect(result.transferredBytes).toBeGreaterThan(1000);
  expect(result.downtimeMs).toBeLessThanOrEqual(result.totalTimeMs);
  expect([...statuses]).toContain("completed");
  await using destination = await incoming;
  expect([source.runState, destination.runState]).toEqual(["postmigrate", "running"]);
  await expect(source.start()).rejects.toThrow("runs at its destination");
  destination.write("xq");
  expect((await destination.ended).kind).toBe("shutdown");
  expect([text, warnings]).toEqual(["x", []]);
});

test("into a file, and on from it", async () => {
  const source = await make();
  await source.start();
  const file = `file:${join(directory, "saved")}`;
  await source.migrate(file);
  await using next = await Machine.incoming(file, { engine: "interpreter" });
  next.write("q");
  expect((await next.ended).kind).toBe("shutdown");
});

test("a move that fails leaves the machine here", async () => {
  const source = await make();
  await source.start();
  const refusal = await source.migrate(`unix:${join(directory, "nobody")}`).catch((error) => error);
  expect(refusal).toEqual(code("migration.failed"));
  expect(refusal.message).toContain("no process listens there");
  await expect(source.migrate("tcp:nowhere")).rejects.toEqual(code("qmp.error"));
  await expect(source.migrate(move(), { profile: "qemu-1.0" })).rejects.toThrow("There is no profile");
  expect(source.runState).toBe("running");
  await expect(Machine.incoming("ftp:x", HARDWARE)).rejects.toEqual(code("qmp.error"));
  await expect(Machine.incoming(move(), { ...HARDWARE, state: "x" } as never)).rejects.toThrow("state");
  await expect(Machine.incoming(`file:${join(directory, "none")}`, HARDWARE)).rejects.toThrow("cannot open");
});
const move = (): string => `unix:${join(directory, "other")}`;

test("signals end what waits: an arrival, a move, a save, a restore, a call in the queue", async () => {
  const now = AbortSignal.abort(new Error("no"));
  const aborted = code("machine.aborted");
  await expect(createMachine({ ...HARDWARE, kernel, signal: now })).rejects.toEqual(aborted);

  const arrival = new AbortController();
  const listening = Promise.withResolvers<string>();
  const options = { ...HARDWARE, signal: arrival.signal, onListening: listening.resolve };
  const incoming = Machine.incoming(move(), options);
  await listening.promise;
  arrival.abort();
  await expect(incoming).rejects.toEqual(aborted);
  // The address is free again.
  const silent = createServer((socket) => void socket.on("error", () => {}));
  await new Promise<void>((resolve) => silent.listen(join(directory, "other"), resolve));
  onTestFinished(() => void silent.close());

  const machine = await make();
  await machine.start();
  const connected = new Promise<void>((resolve) =>
    silent.once("connection", (socket) => {
      socket.on("error", () => {});
      resolve();
    }),
  );
  const moving = new AbortController();
  const moved = machine.migrate(move(), { signal: moving.signal });
  await connected;
  // It waits for its turn.
  const queue = new AbortController();
  const pausing = machine.pause({ signal: queue.signal });
  queue.abort();
  await expect(pausing).rejects.toEqual(aborted);
  moving.abort();
  await expect(moved).rejects.toEqual(aborted);
  expect(machine.runState).toBe("running");

  const file = join(directory, "aborted");
  await expect(machine.saveTo(file, { signal: now })).rejects.toEqual(aborted);
  const saving = new AbortController();
  const saved = machine.saveTo(file, { signal: saving.signal });
  await new Promise(setImmediate);
  saving.abort();
  // It may have been complete by then.
  const outcome = await saved.then(
    () => "saved",
    (error: { code: string }) => error.code,
  );
  expect(["saved", "machine.aborted"]).toContain(outcome);
  expect(readdirSync(directory).includes("aborted")).toBe(outcome === "saved");
  expect(machine.runState).toBe("running");

  const state = await machine.save();
  await expect(Machine.restore(state, { signal: now })).rejects.toEqual(aborted);
  const restoring = new AbortController();
  const restored = Machine.restore(state, { signal: restoring.signal });
  restoring.abort();
  await expect(restored).rejects.toEqual(aborted);
});

test("an arrival that is aborted when the machine is here already keeps it", async () => {
  const source = await make();
  await source.start();
  const abort = new AbortController();
  const address = `unix:${join(directory, "late")}`;
  const listening = Promise.withResolvers<string>();
  const incoming = Machine.incoming(address, {
    ...{ ...HARDWARE, signal: abort.signal, onListening: listening.resolve },
    onRunState: (state) => state === "running" && abort.abort(),
  });
  await listening.promise;
  await source.migrate(address);
  await using destination = await incoming;
  expect([abort.signal.aborted, source.runState, destination.runState]).toEqual([
    ...[true, "postmigrate", "running"],
  ]);
  // It can move on.
  await destination.migrate(`file:${join(directory, "late-state")}`);
});

test("close: calls that follow are refused at once, moves under way and in the queue end", async () => {
  const silent = createServer((socket) => void socket.on("error", () => {}));
  const address = join(directory, "silent");
  await new Promise<void>((resolve) => silent.listen(address, resolve));
  onTestFinished(() => void silent.close());
  const machine = await make();
  await machine.qmp("query-status");
  const moves = Promise.allSettled([1, 2].map(() => machine.migrate(`unix:${address}`)));
  const qmp = join(directory, "closing-qmp");
  const serving = machine.serveQmp(`unix:${qmp}`).catch((error) => error);
  await Promise.resolve();
  const closing = machine.close();
  await expect(machine.start()).rejects.toEqual(code("machine.closed"));
  await closing;
  expect((await moves).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(await serving).toEqual(code("machine.closed"));
  expect(readdirSync(directory)).not.toContain("closing-qmp");
});

test("a frozen snapshot of a guest without an agent ends with its signal", async () => {
  const machine = await make({ agent: true });
  await machine.start();
  const signal = AbortSignal.timeout(50);
  await expect(machine.snapshot({ freeze: true, signal })).rejects.toEqual(code("agent.aborted"));
});

test("listeners that throw end nothing; what one move is given is not the next one's", async () => {
  const errors = vi.spyOn(console, "error").mockImplementation(() => {});
  onTestFinished(() => errors.mockRestore());
  const abort = new AbortController();
  const incoming = Machine.incoming(`unix:${join(directory, "throws")}`, {
    ...{ ...HARDWARE, signal: abort.signal },
    onListening() {
      setImmediate(() => abort.abort());
      throw new Error("no");
    },
  });
  await expect(incoming).rejects.toEqual(code("machine.aborted"));
  expect(errors).toHaveBeenCalledOnce();

  const machine = await make();
  const limits = { downtimeLimitMs: 7, maxBandwidth: 1 << 30 };
  await expect(machine.migrate(`unix:${join(directory, "nobody")}`, limits)).rejects.toThrow("no process");
  expect(await machine.qmp("query-migrate-parameters")).toMatchObject({
    ...{ "downtime-limit": 300, "max-bandwidth": 128 << 20 },
  });
});

test("the monitor answers the program and other processes; events are heard until that is ended", async () => {
  const machine = await make();
  const events: QmpEvent[] = [];
  const stop = await machine.onEvent((event) => events.push(event));
  await machine.start();
  expect(await machine.qmp("query-status")).toEqual({ running: true, status: "running" });
  await expect(machine.qmp("nosuch")).rejects.toThrow("The command nosuch has not been found");
  await expect(machine.qmp("device_add", { driver: "x" })).rejects.toEqual(code("qmp.error"));
  const cycle: { self?: object } = {};
  cycle.self = cycle;
  await expect(machine.qmp("query-status", cycle)).rejects.toEqual(code("options.value"));

  const address = await machine.serveQmp(`unix:${join(directory, "qmp")}`);
  expect(address).toBe(`unix:${join(directory, "qmp")}`);
  const client = await QmpClient.connect(join(directory, "qmp"));
  await client.execute("stop");
  expect(machine.runState).toBe("paused");
  client.close();
  stop();
  await machine.start();
  expect(events.map(({ event }) => event)).toEqual(["RESUME", "STOP"]);
  await machine.qmp("quit");
  expect(await machine.ended).toEqual({ kind: "shutdown", message: "host-qmp-quit" });
  await machine.close();
  await expect(machine.qmp("query-status")).rejects.toEqual(code("machine.closed"));
  expect(readdirSync(directory)).not.toContain("qmp");
});
