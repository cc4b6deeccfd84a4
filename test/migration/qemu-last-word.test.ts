// The last messages of a move to or from QEMU when they are late, repeated or wrong: never two machines,
// never none.
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Channel } from "../../src/stream/channel.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { defaultParameters } from "../../src/migration/save/outgoing-move.ts";
import { pongMessage, shutMessage } from "../../src/stream/return-path.ts";
import { QemuMove } from "../../src/migration/save/qemu-move.ts";
import { SinkMove } from "../../src/migration/save/sink-move.ts";
import { PING_FINAL, PING_SETUP, QEMU_VM } from "../../src/stream/wire.ts";
import { World } from "../support/fake-machine.ts";
import { channelPair, memorySink } from "../support/fake-network.ts";
import { qemuSource, QemuFakeMachine } from "../support/fake-qemu.ts";
import { hurriedEnvironment } from "./hurried-environment.ts";

const small = { ramPages: 3, dirtyPerMs: 0, fill: 0.3 };
const parameters = { ...defaultParameters, stallTimeoutMs: 5_000, startTimeoutMs: 3_000 };
const options = { parameters: { ...parameters }, environment: hurriedEnvironment };
const moveTo = (source: QemuFakeMachine, connect: () => Promise<Channel>) =>
  new QemuMove(source, connect, source.profile, options);

/** A scripted QEMU: sends a message for each one received, then reads on. */
async function answer(channel: Channel, messages: readonly Uint8Array[]): Promise<void> {
  const buffer = new Uint8Array(1 << 20);
  for (const message of messages) {
    await channel.read(buffer);
    await channel.write(message);
  }
  while ((await channel.read(buffer)) > 0);
}

test("while QEMU is asked, nobody decides: a machine that was decided to be here is not given away by a late answer", async () => {
  const source = new QemuFakeMachine(small);
  const { near, far } = channelPair();
  await source.start();
  const move = moveTo(source, async () => near);
  void answer(far, [pongMessage(PING_SETUP), pongMessage(PING_FINAL)]).catch(() => {});
  expect((await move.done).status).toBe("unresolved");
  const asked = move.decide("ask");
  await expect(move.decide("here")).rejects.toThrow(/wait/);
  await far.write(shutMessage(0));
  expect(await asked).toEqual({ status: "completed" });
  expect(source.runState.current).toBe("postmigrate");
});

test("while a command is asked, nobody decides", async () => {
  const source = new QemuFakeMachine(small);
  await source.start();
  let end = (): void => {};
  const commit = () => new Promise<void>((resolve) => (end = resolve));
  const move = new SinkMove(
    source,
    { kind: "command", open: async () => ({ ...memorySink(), commit }) },
    source.profile,
    options,
  );
  expect((await move.done).status).toBe("unresolved");
  const asked = move.decide("ask");
  await expect(move.decide("here")).rejects.toThrow(/wait/);
  end();
  expect(await asked).toEqual({ status: "completed" });
  expect([source.runState.current, source.world.running]).toEqual(["postmigrate", undefined]);
});

test("QEMU runs the machine though the VMDESCRIPTION was cut, and says SHUT with an error: the user decides", async () => {
  const source = new QemuFakeMachine(small);
  const { near, far } = channelPair();
  await source.start();
  const write = near.write.bind(near);
  near.write = async (bytes) => {
    if (bytes[0] !== QEMU_VM.EOF || bytes[1] !== QEMU_VM.VMDESCRIPTION) return await write(bytes);
    await write(bytes.subarray(0, 20));
    throw new Error("broken pipe");
  };
  const move = moveTo(source, async () => near);
  void answer(far, [pongMessage(PING_SETUP), pongMessage(PING_FINAL), shutMessage(1)]).catch(() => {});
  expect((await move.done).status).toBe("unresolved");
  await expect(source.start()).rejects.toThrow(/may run there/);
  expect((await move.decide("there")).status).toBe("completed");
});

test("a SHUT that QEMU does not take in time is not sent later, when the machine has been dropped here", async () => {
  const world = new World();
  const source = new QemuFakeMachine({ ...small, world, seed: 5 });
  const target = new QemuFakeMachine({ ...small, world, seed: 6 });
  const { near, far } = channelPair();
  const write = far.write.bind(far);
  let isSlow = false;
  let queue = Promise.resolve();
  far.write = (bytes) => {
    isSlow ||= Buffer.from(bytes).equals(shutMessage(0));
    queue = queue.then(async () => {
      if (isSlow) await delay(40);
      await write(bytes);
    });
    return queue;
  };
  const destination = new MigrationDestination(target, { environment: hurriedEnvironment });
  void destination.accept(far);
  await source.start();
  const isCompleted = await qemuSource(source, near, true);
  const { status } = await destination.done;
  expect([isCompleted, status]).toEqual([false, "failed"]);
  expect(world.running === source).toBe(true);
  expect(world.violations).toEqual([]);
  source.halt();
});
