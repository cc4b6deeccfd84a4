// Node's channels: files that survive failures (a full disk), sockets, real moves over tcp and unix, and a
// destination process that is killed at random moments.
import { type ChildProcess, execFileSync, fork } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { ConnectError } from "../../src/stream/channel.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { defaultParameters, type MigrationChange } from "../../src/migration/save/outgoing-move.ts";
import { migrateOut } from "../../src/migration/save/move-source.ts";
import {
  connectTo,
  listenAt,
  openFileSink,
  openFileSinkAt,
  openFileSource,
} from "../../src/node/channels/node-channels.ts";
import { nodeEnvironment } from "../../src/node/channels/node-environment.ts";
import { FakeMachine, World } from "../support/fake-machine.ts";
import { seed } from "../support/seed.ts";
import { random } from "../support/random.ts";

const directory = mkdtempSync(join(tmpdir(), "wherry-channels-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("a snapshot file", () => {
  test("replaces the one before only when it is complete", async () => {
    const path = join(directory, "a.wherry");
    writeFileSync(path, "the one before");
    const machine = new FakeMachine({ ramPages: 300, fill: 1 });
    const failing = async () => {
      const sink = await openFileSink(path);
      let writes = 0;
      const write = async (bytes: Uint8Array) => {
        if (++writes > 1) throw new Error("I/O error");
        await sink.channel.write(bytes);
      };
      return { ...sink, channel: { ...sink.channel, write } };
    };
    await expect(saveSnapshot(machine, failing)).rejects.toThrow(/not written: I\/O error/);
    expect(readFileSync(path, "utf8")).toBe("the one before");
    expect(readdirSync(directory)).toEqual(["a.wherry"]);

    await saveSnapshot(machine, () => openFileSink(path));
    expect(readdirSync(directory)).toEqual(["a.wherry"]);
    const target = new FakeMachine({ ramPages: 300, fill: 0 });
    const file = await openFileSource(path);
    await loadSnapshot(target, file);
    await file.close();
    expect(target.memoryHash()).toBe(machine.memoryHash());
  });

  test("may begin in the middle of a file, and leaves what is before it", async () => {
    const path = join(directory, "envelope");
    writeFileSync(path, "what somebody else keeps before it");
    const machine = new FakeMachine({ ramPages: 300, fill: 1 });
    await saveSnapshot(machine, () => openFileSinkAt(path, 4096));
    expect(readFileSync(path).toString("latin1", 0, 34)).toBe("what somebody else keeps before it");
    const target = new FakeMachine({ ramPages: 300, fill: 0 });
    const file = await openFileSource(path, 4096);
    await loadSnapshot(target, file);
    await file.close();
    expect(target.memoryHash()).toBe(machine.memoryHash());
    await expect(openFileSinkAt(join(directory, "none", "a"), 1)).rejects.toThrow(/cannot open .*none.a/);
    await expect(openFileSource("/dev/null", 1)).rejects.toThrow(/is not a file/);
    rmSync(path);
  });

  test("that cannot be created or opened says which", async () => {
    const path = join(directory, "none", "a.wherry");
    await expect(saveSnapshot(new FakeMachine(), () => openFileSink(path))).rejects.toThrow(
      /cannot create .*none/,
    );
    await expect(openFileSource(path)).rejects.toThrow(/cannot open .*none.a.wherry/);
  });

  test("never takes the place of a device or pipe; behind a link it is written where the link leads", async () => {
    const there = join(directory, "links");
    mkdirSync(there);
    execFileSync("mkfifo", [join(there, "fifo")]);
    symlinkSync("fifo", join(there, "to-fifo"));
    for (const name of ["fifo", "to-fifo"]) {
      await expect(openFileSink(join(there, name))).rejects.toThrow(
        /fifo, which is not a regular file: .*exec:/,
      );
      await expect(openFileSinkAt(join(there, name), 4096)).rejects.toThrow(
        /fifo, which is not a regular file/,
      );
    }
    expect(lstatSync(join(there, "fifo")).isFIFO()).toBe(true);
    writeFileSync(join(there, "real"), "the one before");
    symlinkSync("real", join(there, "to-real"));
    await saveSnapshot(new FakeMachine({ ramPages: 3 }), () => openFileSink(join(there, "to-real")));
    expect(lstatSync(join(there, "to-real")).isSymbolicLink()).toBe(true);
    expect(readFileSync(join(there, "real")).toString("latin1", 0, 4)).toBe("QEVM");
    expect(readdirSync(there).sort()).toEqual(["fifo", "real", "to-fifo", "to-real"]);
    rmSync(there, { recursive: true });
  });

  test("on a full disk: a clear error, nothing left behind, the old file whole, the machine runs on", async (context) => {
    const script = join(import.meta.dirname, "full-disk-child.ts");
    const mount = join(directory, "full");
    const shell = 'mkdir -p "$1" && mount -t tmpfs -o size=400k none "$1" && exec "$2" "$3" "$1"';
    try {
      execFileSync("unshare", ["-rm", "true"], { stdio: "ignore" });
    } catch {
      context.skip("no user namespaces here: the full disk is not tested");
      return;
    }
    const output = execFileSync(
      "unshare",
      ["-rm", "sh", "-c", shell, "sh", mount, process.execPath, script],
      {
        encoding: "utf8",
      },
    );
    const result = JSON.parse(output);
    expect(result.error).toMatch(/cannot write .*full.*ENOSPC.*the disk is full/);
    expect(result).toMatchObject({ runState: "running", files: ["a.wherry"], old: "the one before" });
  });
});

describe.each(["tcp", "unix"] as const)("over %s", (transport) => {
  const address = () =>
    transport === "tcp"
      ? ({ transport, host: "127.0.0.1", port: 0 } as const)
      : ({ transport, path: join(directory, `${Math.random()}.sock`) } as const);

  test("a busy machine moves", async () => {
    const world = new World();
    const source = new FakeMachine({ ramPages: 8000, dirtyPerMs: 20, world, seed: 1 });
    const target = new FakeMachine({ ramPages: 8000, dirtyPerMs: 20, world, seed: 2, fill: 0 });
    const destination = new MigrationDestination(target);
    const listener = await listenAt(address(), (channel) => void destination.accept(channel));
    await source.start();
    const changes: MigrationChange[] = [];
    const parameters = { ...defaultParameters, downtimeLimitMs: 5 };
    const move = migrateOut(source, () => connectTo(listener.address), {
      parameters,
      onChange: (change) => changes.push(change),
    });
    const active: number[] = [];
    const watch = setInterval(() => {
      const { status, remainingBytes, transferredBytes } = move.progress;
      if (status === "active" && transferredBytes > 0) active.push(remainingBytes);
    }, 1);
    expect(await move.done).toEqual({ status: "completed" });
    clearInterval(watch);
    expect((await destination.done).status).toBe("arrived");
    await destination.released;
    await listener.close();
    expect(world.violations).toEqual([]);
    expect(world.running).toBe(target);
    target.halt();
    const { progress } = move;
    expect(progress.normalPages + progress.zeroPages).toBeGreaterThan(8000);
    expect(progress.transferredBytes).toBe(progress.precopyBytes + progress.downtimeBytes);
    expect(progress.downtimeMs).toBeGreaterThan(0);
    expect(progress.remainingBytes).toBe(0);
    expect(active.length).toBeGreaterThan(0);
    expect(changes.filter((c) => c.event === "status").map((c) => c.status)).toEqual([
      "active",
      "device",
      "completed",
    ]);
    expect(changes.filter((c) => c.event === "pass").length).toBe(progress.rounds);
  });

  test("the bandwidth limit holds, and a move that does not converge says so and can be cancelled", async () => {
    const world = new World();
    const source = new FakeMachine({ ramPages: 400, dirtyPerMs: 300, world, fill: 1 });
    const target = new FakeMachine({ ramPages: 400, world });
    const destination = new MigrationDestination(target);
    const listener = await listenAt(address(), (channel) => void destination.accept(channel));
    await source.start();
    const parameters = {
      ...defaultParameters,
      downtimeLimitMs: 1,
      maxBandwidthBytesPerSecond: 16 * 1024 * 1024,
      patienceRounds: 2,
    };
    const move = migrateOut(source, () => connectTo(listener.address), { parameters });
    const began = performance.now();
    while (move.progress.advice === undefined) await delay(10);
    const seconds = (performance.now() - began) / 1000;
    expect(move.progress.transferredBytes / seconds).toBeLessThan(20 * 1024 * 1024);
    expect(move.progress.advice).toMatch(/raise downtime-limit \(now 1 ms\) to \d+ ms/);
    expect(move.cancel()).toBe(true);
    expect(await move.done).toEqual({ status: "cancelled" });
    expect(move.cancel()).toBe(false);
    expect(world.running).toBe(source);
    expect((await destination.done).status).toBe("failed");
    await listener.close();
    source.halt();
    expect(world.violations).toEqual([]);
  });

  test("nobody listens: the move fails and the machine has not stood still", async () => {
    const listener = await listenAt(address(), () => {});
    await listener.close();
    await expect(connectTo(listener.address)).rejects.toMatchObject({ code: "channel.refused" });
    const source = new FakeMachine();
    await source.start();
    const result = await migrateOut(source, () => connectTo(listener.address)).done;
    expect(result.status).toBe("failed");
    expect(result.error?.message).toMatch(/no process listens there/);
    expect(source.runState.current).toBe("running");
    source.halt();
  });

  test("junk on the listening address does not disturb a destination that waits", async () => {
    const target = new FakeMachine();
    const destination = new MigrationDestination(target);
    const listener = await listenAt(address(), (channel) => void destination.accept(channel));
    const junk = await connectTo(listener.address);
    await junk.write(Buffer.from("GET / HTTP/1.1\r\n\r\n"));
    await expect(
      junk.read(new Uint8Array(100)).then((n) => n === 0 && Promise.reject(new Error("end"))),
    ).rejects.toThrow();
    expect(destination.state).toBe("listening");
    const source = new FakeMachine();
    expect((await migrateOut(source, () => connectTo(listener.address)).done).status).toBe("completed");
    await listener.close();
  });
});

describe("unix sockets", () => {
  test("left behind by a dead process are replaced, living ones are not", async () => {
    const path = join(directory, "stale.sock");
    const child = fork(join(import.meta.dirname, "destination-child.ts"), [path], {
      stdio: "inherit",
    });
    await new Promise((resolve) => child.once("message", resolve));
    await expect(listenAt({ transport: "unix", path }, () => {})).rejects.toThrow(
      /cannot listen at unix:.*EADDRINUSE/,
    );
    const died = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await died;
    expect(existsSync(path)).toBe(true);
    await expect(connectTo({ transport: "unix", path })).rejects.toBeInstanceOf(ConnectError);
    const listener = await listenAt({ transport: "unix", path }, () => {});
    await listener.close();
  });
});

/** 50 moves with WHERRY_FULL=1. */
test("a destination killed at random moments: the source resumes, or the machine had arrived", {
  timeout: 300_000,
}, async () => {
  const next = random(seed);
  const counts: Record<string, number> = {};
  for (let i = 0; i < (process.env["WHERRY_FULL"] === "1" ? 50 : 8); i++) {
    const path = join(directory, `kill-${i}.sock`);
    const child: ChildProcess = fork(join(import.meta.dirname, "destination-child.ts"), [path], {
      stdio: "inherit",
    });
    const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    await new Promise((resolve) => child.once("message", resolve));
    let arrived = false;
    child.on("message", (m) => {
      if (m === "arrived") arrived = true;
    });
    const source = new FakeMachine({ ramPages: 2000, dirtyPerMs: 5, seed: i });
    await source.start();
    const move = migrateOut(source, () => connectTo({ transport: "unix", path }), {
      parameters: { ...defaultParameters, downtimeLimitMs: 20 },
      environment: nodeEnvironment,
    });
    await Promise.race([delay(next() * 120), move.done]);
    child.kill("SIGKILL");
    const { status } = await move.done;
    await exited;
    counts[status] = (counts[status] ?? 0) + 1;
    if (status === "completed") expect(source.runState.current).toBe("postmigrate");
    else {
      expect(status).toBe("failed");
      expect(source.runState.current).toBe("running");
      expect(source.world.running).toBe(source);
      expect(arrived, `seed ${seed}, move ${i}`).toBe(false);
    }
    source.halt();
  }
  console.log(counts);
});
