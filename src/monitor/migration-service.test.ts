// The service on fake machines: moves between two of them, files in memory, and refusals.
import { expect, test } from "vitest";
import { FakeMachine, World } from "../../test/support/fake-machine.ts";
import { PROFILE, qemuDestination, QemuFakeMachine } from "../../test/support/fake-qemu.ts";
import { FakeNetwork, memorySink, memorySource } from "../../test/support/fake-network.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import { hurriedEnvironment } from "../../test/migration/hurried-environment.ts";
import type { MigrationAddress } from "./migration-address.ts";
import { until } from "../../test/support/wait.ts";
import {
  MigrationService,
  type MigrationTransport,
  type StreamMigrationAddress,
} from "./migration-service.ts";

const socket = { transport: "unix", path: "/move" } as const;
const file = (path: string): MigrationAddress => ({ transport: "file", path, offset: 0 });
const pathOf = (address: StreamMigrationAddress) => (address.transport === "file" ? address.path : "");

/** One network and one file system for all services of a test. */
function setUp() {
  const network = new FakeNetwork();
  const files = new Map<string, Uint8Array>();
  const transport: MigrationTransport = {
    connect: () => network.connect(),
    async listen(address, onChannel) {
      network.listener = onChannel;
      return {
        address,
        async close() {
          network.listener = undefined;
        },
      };
    },
    async openSource(address) {
      const bytes = files.get(pathOf(address));
      if (bytes === undefined) throw new Error(`no file ${pathOf(address)}`);
      return memorySource(bytes);
    },
    async openSink(address) {
      const sink = memorySink();
      const commit = sink.commit.bind(sink);
      sink.commit = async () => {
        await commit();
        files.set(pathOf(address), sink.committed ?? new Uint8Array(0));
      };
      return sink;
    },
  };
  const world = new World();
  const service = (
    options: { expectsArrival?: boolean; autostart?: boolean; clock?: RestoreClock; busy?: boolean } = {},
  ) => {
    const busy = options.busy === true ? { ramPages: 1000, dirtyPerMs: 100 } : {};
    const machine = new FakeMachine({ world, seed: 1, ...busy });
    const arrivals: (string | undefined)[] = [];
    const dropped: string[] = [];
    const warnings: string[] = [];
    machine.onRestored = (clock) => clock;
    const migration = new MigrationService(machine, {
      transport,
      expectsArrival: options.expectsArrival ?? false,
      autostart: options.autostart ?? true,
      clock: options.clock,
      onWarning: (message) => warnings.push(message),
      onArrival: (error) => arrivals.push(error?.message),
      onDropped: ({ message }) => dropped.push(message),
    });
    const events: string[] = [];
    migration.onChange((change) =>
      events.push(change.event === "status" ? change.status : `pass ${change.pass}`),
    );
    return { machine, migration, arrivals, dropped, warnings, events };
  };
  return { network, files, service, transport };
}

test.each([
  { saved: "running", paused: false, decisions: [], state: "running" },
  { saved: "running", paused: false, decisions: [false], state: "paused" },
  { saved: "running", paused: true, decisions: [], state: "paused" },
  { saved: "running", paused: true, decisions: [true], state: "running" },
  { saved: "paused", paused: false, decisions: [], state: "paused" },
  { saved: "paused", paused: false, decisions: [true], state: "running" },
  { saved: "paused", paused: true, decisions: [false, true], state: "running" },
  { saved: "paused", paused: false, decisions: [true, false], state: "paused" },
  { saved: "prelaunch", paused: false, decisions: [true], state: "running" },
  { saved: "shutdown", paused: false, decisions: [true], state: "shutdown" },
] as const)("what runs after it has arrived: $saved, $paused, $decisions", async (row) => {
  const { service, files } = setUp();
  const source = service();
  if (row.saved !== "prelaunch") await source.machine.start();
  if (row.saved === "paused" || row.saved === "shutdown") await source.machine.stop(row.saved);
  await source.migration.save("state");
  expect(files.size).toBe(1);
  await source.machine.stop("shutdown");
  await source.machine.inactivateDrives();
  const destination = service({ expectsArrival: true, autostart: !row.paused });
  destination.machine.runState.set("inmigrate");
  for (const runs of row.decisions) destination.migration.decideStart(runs);
  await destination.migration.incoming(file("state"));
  await until(10_000, "it arrives", () => destination.arrivals.length > 0);
  expect(destination.machine.runState.current).toBe(row.state);
  await destination.machine.stop("shutdown");
});

test.each([
  [true, "running"],
  [false, "paused"],
])("a move, autostart %s", async (autostart, state) => {
  const { service } = setUp();
  const source = service();
  const destination = service({ expectsArrival: true, autostart: true });
  if (autostart) await source.machine.stop();
  else await source.machine.start();
  await destination.migration.incoming(socket);
  expect(destination.migration.query()).toEqual({ status: "setup", listening: socket });
  destination.migration.decideStart(autostart);
  await source.migration.start(socket);
  await until(10_000, "it arrives", () => destination.arrivals.length > 0);
  await until(10_000, "the move is completed", () => source.migration.query()?.status === "completed");
  expect(destination.arrivals).toEqual([undefined]);
  expect(destination.machine.runState.current).toBe(state);
  expect(source.machine.startBlocker).toContain("must not run here again");
  expect(source.events).toEqual(expect.arrayContaining(["setup", "active", "pass 1", "device", "completed"]));
  expect(source.events.at(-1)).toBe("completed");
  expect(destination.events).toEqual(["setup", "active", "completed"]);
  if (state === "running") await destination.machine.stop();
});

test("a busy machine is stored: it stops after the first round, and its user's limits stay", async () => {
  const { service, files } = setUp();
  const { machine, migration, events } = service({ busy: true });
  await machine.start();
  migration.setParameters({ maxBandwidthBytesPerSecond: 1, downtimeLimitMs: 0 });
  await migration.store("state");
  expect(events).toEqual(["setup", "active", "pass 1", "device", "completed"]);
  expect([machine.runState.current, files.size]).toEqual(["postmigrate", 1]);
  expect(migration.parameters).toMatchObject({ maxBandwidthBytesPerSecond: 1, downtimeLimitMs: 0 });
});

test("a machine whose process ends while it is loaded does not start", async () => {
  const { service } = setUp();
  const source = service();
  await source.machine.start();
  await source.migration.save("state");
  await source.machine.stop("shutdown");
  await source.machine.inactivateDrives();
  const { machine, migration } = service({ expectsArrival: true });
  machine.runState.set("inmigrate");
  const states: string[] = [];
  machine.runState.onChange((state) => states.push(state));
  let closed: Promise<void> | undefined;
  const activate = machine.activateDrives.bind(machine);
  machine.activateDrives = async () => {
    await activate();
    closed = migration.close();
  };
  await migration.incoming(file("state"));
  await until(10_000, "it is closed", () => closed !== undefined);
  await closed;
  expect(states).toEqual(["paused"]);
});

test("a file's machine hears of the clock that was asked for; a live move with clock=host is refused", async () => {
  const { service } = setUp();
  const source = service();
  await source.migration.save("state");
  const destination = service({ expectsArrival: true, clock: "host" });
  await expect(destination.migration.incoming(socket)).rejects.toThrow("--clock host is for a saved machine");
  await destination.migration.incoming(file("state"));
  await until(10_000, "it arrives", () => destination.arrivals.length > 0);
  expect(destination.warnings).toEqual(["guest time goes on where it stopped: host"]);
});

test("a move without a destination fails, and the machine keeps running", async () => {
  const { service } = setUp();
  const source = service();
  await source.machine.start();
  await source.migration.start(socket);
  await until(10_000, "the move is failed", () => source.migration.query()?.status === "failed");
  expect(source.migration.query()).toMatchObject({ error: expect.stringContaining("refused") });
  expect(source.machine.runState.current).toBe("running");
  await source.machine.stop();
});

test("save leaves the machine running; the file can be loaded elsewhere", async () => {
  const { service, files } = setUp();
  const source = service();
  await source.machine.start();
  const saving = source.migration.save("state");
  expect(source.migration.saving).toBeDefined();
  await expect(source.migration.save("other")).rejects.toThrow("being saved already");
  await saving;
  expect(source.migration.saving).toBeUndefined();
  expect(source.machine.runState.current).toBe("running");
  await source.machine.stop();
  await source.machine.inactivateDrives();

  const destination = service({ expectsArrival: true });
  await expect(destination.migration.incoming(file("nothing"))).rejects.toThrow("no file nothing");
  expect(destination.warnings).toEqual([]);
  await destination.migration.incoming(file("state"));
  await expect(destination.migration.incoming(file("state"))).rejects.toThrow("already been started");
  await until(10_000, "it arrives", () => destination.arrivals.length > 0);
  expect(destination.arrivals).toEqual([undefined]);
  expect(destination.machine.runState.current).toBe("running");
  await destination.machine.stop();

  files.set("cut", (files.get("state") as Uint8Array).slice(0, 5000));
  const another = service({ expectsArrival: true });
  await another.migration.incoming(file("cut"));
  await until(10_000, "it arrives", () => another.arrivals.length > 0);
  expect(another.arrivals).toEqual([expect.stringContaining("cut")]);
  expect(another.migration.query()).toMatchObject({
    status: "failed",
    error: expect.stringContaining("cut"),
  });
});

test("a move into a file leaves the machine stopped, and the user may resume it, as with QEMU", async () => {
  const { service, files } = setUp();
  const source = service();
  await source.machine.start();
  await source.migration.start(file("state"));
  await until(10_000, "the move is completed", () => source.migration.query()?.status === "completed");
  expect(source.machine.runState.current).toBe("postmigrate");
  expect(source.machine.drivesActive).toBe(false);

  const destination = service({ expectsArrival: true });
  await destination.migration.incoming(file("state"));
  await until(10_000, "it arrives", () => destination.arrivals.length > 0);
  expect(destination.machine.runState.current).toBe("running");
  await destination.machine.stop();
  await destination.machine.inactivateDrives();
  expect(files.size).toBe(1);
  await source.machine.start();
  expect(source.machine.runState.current).toBe("running");
  await source.machine.stop();
});

test("a profile: conditions are explained, refusals reject at once, a save and a move can be loaded by QEMU", async () => {
  const { network, files, transport } = setUp();
  const world = new World();
  const machine = new QemuFakeMachine({ world });
  const migration = new MigrationService(machine, {
    transport,
    expectsArrival: false,
    autostart: true,
    onArrival: () => {},
  });
  await machine.start();
  expect(migration.profiles).toEqual([PROFILE]);
  expect(await migration.explain(PROFILE)).toEqual({ refusals: [], qemu: ["qemu"], wherry: ["wherry"] });
  await expect(migration.explain("qemu-9")).rejects.toThrow(`no profile 'qemu-9': expected ${PROFILE}`);

  machine.profiles.reasons.push({ code: "qemu.x", message: "too large", cure: "make it small" });
  await expect(migration.start(socket, PROFILE)).rejects.toThrow("too large: make it small");
  await expect(migration.save("state", PROFILE)).rejects.toThrow("too large: make it small");
  expect(migration.query()).toBeUndefined();
  expect([...files.keys()]).toEqual([]);

  machine.profiles.reasons.length = 0;
  await migration.save("state", PROFILE);
  expect(machine.runState.current).toBe("running");
  const target = new QemuFakeMachine({ world });
  network.listener = (channel) => void qemuDestination(target, channel);
  migration.profile = PROFILE;
  await migration.start(socket);
  await until(10_000, "the move is completed", () => migration.query()?.status === "completed");
  expect(target.runState.current).toBe("running");
  await target.stop();
  await target.inactivateDrives();
  const saved = memorySource(files.get("state") as Uint8Array);
  expect(await qemuDestination(new QemuFakeMachine({ world }), saved)).toBe(true);
  world.running?.halt();
});

test("closing aborts a move; the machine stays at the source, and a destination without pages waits on", async () => {
  const { service } = setUp();
  const slow = { maxBandwidthBytesPerSecond: 1 };
  for (const end of ["source", "destination"] as const) {
    const source = service();
    const destination = service({ expectsArrival: true });
    source.migration.setParameters(slow);
    await source.machine.start();
    await destination.migration.incoming(socket);
    await source.migration.start(socket);
    await until(10_000, "the move is active", () => source.migration.query()?.status === "active");
    await (end === "source" ? source : destination).migration.close();
    if (end === "source") {
      const isAgain = () => destination.migration.query()?.status === "setup";
      await until(10_000, "the destination waits on", () => isAgain() && destination.dropped.length > 0);
      expect(destination.migration.query()).toMatchObject({
        error: expect.stringContaining("connection was lost"),
      });
      expect(destination.arrivals).toEqual([]);
      expect(destination.machine.runState.current).toBe("inmigrate");
      expect(destination.events).toEqual(["setup", "active", "setup"]);
    } else {
      await until(10_000, "the destination has ended", () => destination.arrivals.length > 0);
      expect(destination.machine.runState.current).toBe("internal-error");
    }
    await until(10_000, "the move ends", () =>
      ["cancelled", "failed"].includes(source.migration.query()?.status ?? ""),
    );
    expect(source.machine.runState.current).toBe("running");
    await source.machine.stop();
    await source.machine.inactivateDrives();
  }
});

test("a command that stops in the middle of its stream is noticed, one that has not begun is waited for", async () => {
  const { transport } = setUp();
  const machine = new FakeMachine();
  let feed: (length: number) => void = () => {};
  const migration = new MigrationService(machine, {
    transport: {
      ...transport,
      openSource: async () => ({
        ...memorySource(new Uint8Array(0)),
        read: (target: Uint8Array) => {
          target.set([0x51, 0x45, 0x56, 0x4d]);
          return new Promise<number>((resolve) => (feed = resolve));
        },
      }),
    },
    environment: hurriedEnvironment,
    expectsArrival: true,
    autostart: true,
    onArrival: () => {},
  });
  migration.setParameters({ stallTimeoutMs: 1000 });
  await migration.incoming({ transport: "exec", command: "none" });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(migration.query()?.status).toBe("active");
  feed(4);
  await until(10_000, "it is given up", () => migration.query()?.status === "failed");
  expect(migration.query()).toMatchObject({
    error: expect.stringMatching(/the command has sent nothing for 1 s: its process is stopped/),
  });
});

test("a failed arrival ends the process, unless the command said exit-on-error false", async () => {
  for (const exitOnError of [true, false]) {
    const { files, service } = setUp();
    files.set("state", Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const { arrivals, migration } = service({ expectsArrival: true });
    await migration.incoming(file("state"), exitOnError);
    await until(10_000, "it fails", () => migration.query()?.status === "failed");
    expect(migration.query()).toMatchObject({ error: expect.stringContaining("not a saved machine") });
    expect(arrivals.length).toBe(exitOnError ? 1 : 0);
  }
});

test("a move that does not converge is advised on, and no more once it has arrived", async () => {
  const { service } = setUp();
  const source = service({ busy: true });
  const destination = service({ expectsArrival: true, busy: true });
  // All of its memory is dirty after each round, which takes a second.
  source.migration.setParameters({ maxBandwidthBytesPerSecond: 4 << 20, downtimeLimitMs: 1 });
  await source.machine.start();
  await destination.migration.incoming(socket);
  await source.migration.start(socket);
  const advice = () => {
    const info = source.migration.query();
    return info !== undefined && "advice" in info ? info.advice : undefined;
  };
  await until(60_000, "advice", () => advice() !== undefined);
  expect(advice()).toMatch(
    /the move does not converge.*max-bandwidth \(now 4194304 .*downtime-limit \(now 1 ms\)/,
  );
  expect(source.machine.runState.current).toBe("running");
  source.migration.setParameters({ downtimeLimitMs: 60_000 });
  await until(10_000, "it arrives", () => destination.arrivals.length > 0);
  await until(10_000, "it is completed", () => source.migration.query()?.status === "completed");
  expect(advice()).toBeUndefined();
  await destination.machine.stop();
});

test("closing aborts a save, and leaves no file", async () => {
  const { service, files } = setUp();
  const source = service();
  await source.machine.start();
  const saving = expect(source.migration.save("state")).rejects.toThrow("this process is ending");
  await source.migration.close();
  expect(source.migration.saving).toBeUndefined();
  await saving;
  expect([...files]).toEqual([]);
  await source.machine.stop();
});

test("refusals, with QEMU's messages where it has them", async () => {
  const { migration } = setUp().service();
  await expect(migration.incoming(socket)).rejects.toThrow(
    "'-incoming' was not specified on the command line",
  );
  await expect(migration.start(socket, "qemu-1.0")).rejects.toThrow("no profile 'qemu-1.0': expected none");
  await expect(migration.decide("here")).rejects.toThrow("nothing to decide");
  expect(() => migration.setCapability("return-path", false)).toThrow("always on");
  migration.setCapability("events", true);
  expect(migration.capabilities.get("events")).toBe(true);
});
