// The handover, with the wire broken at every byte around it, in both directions, with an error or silently,
// and with the destination reachable, dead or unreachable afterwards. Invariants: two machines never run; one
// runs as soon as the source can know; a source that cannot know reports that, and decides correctly once it
// can.
import { describe, expect, test } from "vitest";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import {
  defaultEnvironment,
  type MigrationEnvironment,
} from "../../src/migration/environment/migration-environment.ts";
import { defaultParameters, type MigrationResult } from "../../src/migration/save/outgoing-move.ts";
import { migrateOut, type MigrationSource } from "../../src/migration/save/move-source.ts";
import { FakeMachine, World } from "../support/fake-machine.ts";
import { setImmediate as immediate, setTimeout as delay } from "node:timers/promises";
import { type CutMode, FakeNetwork, type WireFaults } from "../support/fake-network.ts";
import { hurriedEnvironment } from "./hurried-environment.ts";
import { seed } from "../support/seed.ts";
import { random } from "../support/random.ts";

const fastEnvironment: MigrationEnvironment = {
  ...hurriedEnvironment,
  nowMs: () => defaultEnvironment.nowMs() * 100,
};
const parameters = { ...defaultParameters, maxBandwidthBytesPerSecond: 0, downtimeLimitMs: 1e9 };
/** Nothing is dirtied, so each run has the same bytes, and a position has the same meaning in all of them. */
const small = { ramPages: 3, dirtyPerMs: 0, fill: 0.3 };

interface Outcome {
  readonly world: World;
  readonly source: FakeMachine;
  readonly target: FakeMachine;
  readonly result: MigrationResult;
  readonly network: FakeNetwork;
  readonly targetEverRan: boolean;
}

async function move(
  faults: WireFaults | undefined,
  after: "ok" | "dead" | "partitioned",
  options: {
    refuseDrive?: string;
    keepDrive?: string;
    cancelAfterTurns?: number;
    environment?: MigrationEnvironment;
    decide?: (move: MigrationSource) => Promise<MigrationResult>;
  } = {},
): Promise<Outcome> {
  const environment = options.environment ?? fastEnvironment;
  const world = new World();
  const source = new FakeMachine({ ...small, world, seed: 5 });
  const target = new FakeMachine({ ...small, world, seed: 6 });
  if (options.refuseDrive !== undefined) target.refuseDrive = options.refuseDrive;
  source.keepDrive = options.keepDrive;
  let targetEverRan = false;
  target.onEvent((e) => {
    if (e.event === "RESUME") targetEverRan = true;
  });
  await source.start();
  const network = new FakeNetwork(
    faults && {
      ...faults,
      onCut: () => {
        network.reach = after;
        if (after === "dead") target.kill();
      },
    },
  );
  // The destination's process has an identity, so its death is detected; a cut or silent network is not.
  const named: MigrationEnvironment = {
    ...environment,
    ownIdentity: () => "destination",
    hasExited: (identity) => identity === "destination" && target.dead,
  };
  const destination = new MigrationDestination(target, { environment: named });
  network.listener = (channel) => void destination.accept(channel);
  // When an answer is expected, a slow test machine must not count as silence.
  const patient = { ...parameters, resolveTimeoutMs: 200_000 };
  const move = migrateOut(source, network.connect, {
    parameters: after === "partitioned" ? { ...parameters } : patient,
    environment: named,
  });
  if (options.cancelAfterTurns !== undefined) {
    for (let i = 0; i < options.cancelAfterTurns; i++) await immediate();
    move.cancel();
  }
  let result = await move.done;
  if (result.status === "unresolved") {
    expect(after).toBe("partitioned");
    expect(source.runState.current).toBe("finish-migrate");
    await expect(source.start()).rejects.toThrow(/may run at its destination/);
    expect(result.error?.message).toMatch(/decide "there".*decide "here"/);
    expect(world.running === source).toBe(false);
    network.reach = "ok";
    move.parameters.resolveTimeoutMs = patient.resolveTimeoutMs;
    result = await (options.decide?.(move) ?? move.decide("ask"));
  }
  if (faults?.mode === "late") await delay(300);
  if (result.status === "completed" && !target.dead) await destination.done;
  return { world, source, target, result, network, targetEverRan };
}

function check(o: Outcome, what: string): void {
  expect(o.world.violations, what).toEqual([]);
  expect(o.source.leftAs, what).toEqual(o.result.status === "completed" ? ["moved"] : []);
  if (o.result.status === "completed") {
    expect(o.source.runState.current, what).toBe("postmigrate");
    if (!o.target.dead) expect(o.world.running === o.target, `${what}: the target runs`).toBe(true);
  } else {
    expect(o.source.runState.current, `${what}: ${o.result.error?.message}`).toBe("running");
    expect(o.world.running === o.source, what).toBe(true);
    expect(o.targetEverRan && !o.target.dead, what).toBe(false);
    if (!o.target.dead) expect(o.target.runState.current, what).not.toBe("running");
  }
  o.source.halt();
  o.target.halt();
}

/** Runs `one` for all positions, many at once: most of them wait for a timeout. */
async function forAll(positions: number[], one: (position: number) => Promise<void>): Promise<void> {
  const left = [...positions];
  const worker = async () => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) await one(next);
  };
  await Promise.all(Array.from({ length: 64 }, worker));
}

describe("a move", () => {
  test("without faults ends with the machine running there only", async () => {
    const outcome = await move(undefined, "ok");
    expect(outcome.result).toEqual({ status: "completed" });
    check(outcome, "no faults");
    await expect(outcome.source.start()).rejects.toThrow(/must not run here again/);
    expect(outcome.source.drivesActive).toBe(false);
    expect(outcome.target.drivesActive).toBe(true);
    expect(outcome.target.ticks).toBeGreaterThan(0n);
  });

  test("of a paused machine arrives paused, with the drives", async () => {
    const world = new World();
    const source = new FakeMachine({ ...small, world });
    await source.start();
    await source.stop();
    const target = new FakeMachine({ ...small, world });
    const network = new FakeNetwork();
    const destination = new MigrationDestination(target);
    network.listener = (channel) => void destination.accept(channel);
    expect((await migrateOut(source, network.connect).done).status).toBe("completed");
    expect((await destination.done).status).toBe("arrived");
    expect(target.runState.current).toBe("paused");
    expect(target.drivesActive).toBe(true);
    await target.start();
    expect(world.running).toBe(target);
    target.halt();
  });

  test("to a destination that cannot lock the drive fails with its reason, and the source resumes", async () => {
    const outcome = await move(undefined, "ok", { refuseDrive: "disk.img: permission denied" });
    expect(outcome.result.status).toBe("failed");
    expect(outcome.result.error?.message).toMatch(/aborted the move.*disk.img: permission denied/);
    check(outcome, "no drive");
    expect(outcome.source.drivesActive).toBe(true);
  });
});

test("a source that fails after the destination is ready resumes, and the destination aborts", async () => {
  const outcome = await move(undefined, "ok", { keepDrive: "disk.img: I/O error while flushing" });
  expect(outcome.result).toMatchObject({
    status: "failed",
    error: { message: expect.stringMatching(/I\/O error while flushing/) },
  });
  await expect.poll(() => outcome.target.runState.current).toBe("internal-error");
  check(outcome, "drive kept");
});

test("one decision at a time: while the destination is asked, nobody else decides", async () => {
  const clean = await move(undefined, "ok");
  check(clean, "clean");
  const faults = { forward: (clean.network.passed[0] as number) - 1, mode: "blackhole" } as const;
  const outcome = await move(faults, "partitioned", {
    decide: async (undecided) => {
      const asked = undecided.decide("ask");
      await expect(undecided.decide("there")).rejects.toThrow(/request to the destination is pending/);
      return asked;
    },
  });
  expect(outcome.result.status).toBe("failed");
  check(outcome, "asked");
});

describe("the wire breaks at byte", () => {
  const modes: CutMode[] = ["reset", "blackhole", "late"];
  const afters = ["ok", "dead", "partitioned"] as const;
  const cases = modes.flatMap((mode) => afters.map((after) => [mode, after] as const));
  const full = process.env["WHERRY_FULL"] === "1";

  test.each(cases)("from the source: %s, destination then %s", { timeout: 900_000 }, async (mode, after) => {
    const clean = await move(undefined, "ok");
    check(clean, "clean");
    const total = clean.network.passed[0] as number;
    // The last bytes: device sections, integrity, PING, GO. Without WHERRY_FULL not every byte in every run.
    const stride = full ? 1 : 13;
    const positions = [total - 1, total, total + 1];
    for (let at = Math.max(1, total - 4500 + (seed % stride)); at < total; at += stride) positions.push(at);
    for (let at = 1; at < total - 4500; at += 1999) positions.push(at);
    await forAll(positions, async (forward) => {
      check(await move({ forward, mode }, after), `${mode}/${after} after ${forward} of ${total} bytes`);
    });
  });

  test.each(cases)("from the destination: %s, destination then %s", async (mode, after) => {
    await forAll(
      Array.from({ length: 26 }, (_, i) => i),
      async (back) => {
        check(await move({ back, mode }, after), `${mode}/${after} after ${back} bytes back`);
      },
    );
  });
});

test("cancelled at random times, one machine runs", async () => {
  const next = random(seed);
  const counts = { completed: 0, cancelled: 0, failed: 0, unresolved: 0 };
  await forAll(
    Array.from({ length: 200 }, (_, i) => i),
    async () => {
      const outcome = await move(undefined, "ok", {
        cancelAfterTurns: Math.floor(next() * 20),
        environment: defaultEnvironment,
      });
      expect(outcome.result.status).toMatch(/completed|cancelled/);
      counts[outcome.result.status]++;
      check(outcome, `seed ${seed}`);
    },
  );
  console.log(counts);
});
