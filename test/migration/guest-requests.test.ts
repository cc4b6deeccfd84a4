// Requests of the guest (or a user) at the moment a machine is stopped for a move or save: a reset, a
// power-off, a stop. They take effect before anything is sent, or end the move; they are never lost, and no
// saved state is inconsistent.
import { describe, expect, test } from "vitest";
import { stopForGood } from "../../src/embed/machine-end.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { defaultEnvironment } from "../../src/migration/environment/migration-environment.ts";
import { saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { defaultParameters, type MigrationResult } from "../../src/migration/save/outgoing-move.ts";
import { migrateOut } from "../../src/migration/save/move-source.ts";
import { FakeMachine, World } from "../support/fake-machine.ts";
import { FakeNetwork, memorySink } from "../support/fake-network.ts";

const RAM = 0x8000_0000;
const KERNEL = 0x600d_600d;
const small = { ramPages: 40, dirtyPerMs: 2 };

/** A machine whose guest makes `request` with the last instruction before its vCPUs park. */
async function running(world: World, request?: (machine: FakeMachine) => Promise<unknown>) {
  const machine = new FakeMachine({ ...small, world, seed: 3 });
  const { pauseAll } = machine.cpus;
  Object.assign(machine.cpus, {
    pauseAll: async () => {
      if (machine.runState.running && request !== undefined) void request(machine);
      await pauseAll();
    },
  });
  machine.onReset = () => {
    for (let page = 0; page < small.ramPages; page++) machine.memory.writeU32(RAM + page * 4096, KERNEL);
  };
  await machine.start();
  return machine;
}

async function move(
  source: FakeMachine,
  world: World,
  onDevice: () => void = () => {},
): Promise<{ result: MigrationResult; target: FakeMachine }> {
  const target = new FakeMachine({ ...small, world, seed: 4 });
  const network = new FakeNetwork();
  const destination = new MigrationDestination(target);
  network.listener = (channel) => void destination.accept(channel);
  const moving = migrateOut(source, network.connect, {
    parameters: { ...defaultParameters, maxBandwidthBytesPerSecond: 0 },
    onChange: (change) => {
      if (change.event === "status" && change.status === "device") onDevice();
    },
  });
  const result = await moving.done;
  // The source has ended before its RAM came: the destination listens for another one.
  if (result.status !== "completed") destination.abort();
  await destination.done;
  return { result, target };
}

describe("a move", () => {
  test("of a guest that resets itself arrives as it is after the reset", async () => {
    const world = new World();
    const source = await running(world, (machine) => machine.reset(true));
    const { result, target } = await move(source, world);
    expect(result.status).toBe("completed");
    expect(target.memory.readU32(RAM + 39 * 4096)).toBe(KERNEL);
    expect(target.runState.current).toBe("running");
    expect(world.violations).toEqual([]);
    target.halt();
  });

  test("of a guest that powers off fails, and the machine stays off", async () => {
    const world = new World();
    const source = await running(world, (machine) => machine.stop("shutdown"));
    const { result, target } = await move(source, world);
    expect(result).toMatchObject({ status: "failed", error: { message: expect.stringMatching(/shutdown/) } });
    expect(source.runState.current).toBe("shutdown");
    expect(source.startBlocker).toBeUndefined();
    expect(target.runState.current).toBe("internal-error");
    expect(world.running).toBeUndefined();
  });

  test("of a machine that its user just stops arrives stopped", async () => {
    const world = new World();
    const source = await running(world);
    const { result, target } = await move(source, world, () => void source.stop());
    expect(result.status).toBe("completed");
    expect(target.runState.current).toBe("paused");
  });
});

describe("a save", () => {
  test("of a guest that powers off is not written, and the machine stays off", async () => {
    const source = await running(new World(), (machine) => machine.stop("shutdown"));
    const sink = memorySink();
    await expect(saveSnapshot(source, async () => sink)).rejects.toThrow(/it is shutdown/);
    expect(sink.committed).toBeUndefined();
    expect(source.runState.current).toBe("shutdown");
  });

  test("leaves a machine stopped that its user stopped while the file was opened", async () => {
    const source = await running(new World());
    await saveSnapshot(source, async () => {
      await source.stop();
      return memorySink();
    });
    expect(source.runState.current).toBe("paused");
  });

  test("of a machine that is ended meanwhile does not start it again, nor take its drive", async () => {
    const source = await running(new World());
    const sink = memorySink();
    const commit = sink.commit.bind(sink);
    sink.commit = async () => {
      await stopForGood(source, defaultEnvironment.setTimer);
      await commit();
    };
    await saveSnapshot(source, async () => sink);
    expect(source.runState.current).toBe("shutdown");
    expect(source.drivesActive).toBe(false);
  });

  test("of a machine that hits an internal error meanwhile does not let it run on", async () => {
    const source = await running(new World());
    const sink = memorySink();
    const commit = sink.commit.bind(sink);
    sink.commit = async () => {
      await source.stop("internal-error");
      await commit();
    };
    await saveSnapshot(source, async () => sink);
    expect(source.runState.current).toBe("internal-error");
  });
});
