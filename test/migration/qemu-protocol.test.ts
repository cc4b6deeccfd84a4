// Moves with QEMU as a protocol, on fake machines: detection of streams, dropped and refused sections, the
// wire cut at every byte in both directions and roles, files and commands. Invariants: two machines never
// run, and one runs unless the source reports `unresolved`.
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ByteWriter } from "../../src/base/bytes.ts";
import type { Channel, SnapshotSink } from "../../src/stream/channel.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { defaultEnvironment } from "../../src/migration/environment/migration-environment.ts";
import { defaultParameters, type MigrationResult } from "../../src/migration/save/outgoing-move.ts";
import { allPages } from "../../src/migration/ram/ram-save.ts";
import { pongMessage, shutMessage } from "../../src/stream/return-path.ts";
import { StreamSaver } from "../../src/migration/save/save-stream.ts";
import { loadSnapshot, saveSnapshot } from "../../src/migration/snapshot/snapshot.ts";
import { StreamWriter } from "../../src/stream/stream-writer.ts";
import { QemuMove } from "../../src/migration/save/qemu-move.ts";
import { SinkMove, type SinkTarget } from "../../src/migration/save/sink-move.ts";
import { MIG_CMD, PING_FINAL, PING_SETUP, QEMU_VM } from "../../src/stream/wire.ts";
import { MIG_PRI, type Section } from "../../src/state/section.ts";
import { FakeMachine, toySection, World } from "../support/fake-machine.ts";
import {
  channelPair,
  FakeNetwork,
  memorySink,
  memorySource,
  type WireFaults,
} from "../support/fake-network.ts";
import { qemuDestination, qemuSource, QemuFakeMachine } from "../support/fake-qemu.ts";
import { hurriedEnvironment } from "./hurried-environment.ts";
import { seed } from "../support/seed.ts";
import { random } from "../support/random.ts";

const parameters = { ...defaultParameters, stallTimeoutMs: 5_000, startTimeoutMs: 3_000 };
const LIMIT_MS = process.env["WHERRY_FULL"] === "1" ? 3_600_000 : 120_000;
/** Nothing is dirtied, so each run has the same bytes, and a position has the same meaning in all of them. */
const small = { ramPages: 3, dirtyPerMs: 0, fill: 0.3 };

/** A section without a length, with bytes in it that resemble footers. */
function slirp(id: number): Section {
  const footer = new ByteWriter().u8(QEMU_VM.SECTION_FOOTER).u32(id).finish();
  const data = new ByteWriter().u32(77).bytes(footer).u8(9).bytes(footer).u8(QEMU_VM.SECTION_FULL).u32(0);
  const section = toySection("slirp", 0, MIG_PRI.DEFAULT, 8);
  return { ...section, version: 4, encode: (writer) => void writer.bytes(data.finish()) };
}

async function saved(machine: QemuFakeMachine): Promise<Uint8Array> {
  const sink = memorySink();
  await saveSnapshot(machine, async () => sink, defaultEnvironment, undefined, machine.profile);
  return sink.committed as Uint8Array;
}

function refusalOf(bytes: Uint8Array, machine = new QemuFakeMachine(small)): Promise<string> {
  return loadSnapshot(machine, memorySource(bytes, 1000)).then(
    () => "accepted",
    (error: Error) => error.message,
  );
}

/** Where the end (0x0, then the VMDESCRIPTION) begins. */
const endOf = (bytes: Uint8Array) => Buffer.from(bytes).lastIndexOf(Uint8Array.of(0, QEMU_VM.VMDESCRIPTION));

describe("a stream of QEMU in a file", () => {
  test("is told from Wherry's own, loaded, and what is lost with it rebuilt once", async () => {
    const source = new QemuFakeMachine({ seed: 1 });
    source.profiles.extra.push(slirp(6));
    source.ticks = 1234n;
    const bytes = await saved(source);
    const target = new QemuFakeMachine({ seed: 2 });
    const { runState } = await loadSnapshot(target, memorySource(bytes, 100));
    expect(runState).toBe("prelaunch");
    expect(target.ticks).toBe(1234n);
    expect(target.memoryHash()).toBe(source.memoryHash());
    expect(target.profiles.rebuilds).toBe(1);

    const own = memorySink();
    await saveSnapshot(source, async () => own);
    await loadSnapshot(new FakeMachine({ seed: 3 }), memorySource(own.committed as Uint8Array));
    // A board without profiles takes no stream for QEMU's.
    await expect(loadSnapshot(new FakeMachine(), memorySource(bytes))).rejects.toThrow(/slirp/);
  });

  test("may have no VMDESCRIPTION, and bytes after its end", async () => {
    const bytes = await saved(new QemuFakeMachine(small));
    expect(await refusalOf(bytes.subarray(0, endOf(bytes) + 1))).toBe("accepted");
    expect(await refusalOf(Buffer.concat([bytes, new Uint8Array(4096)]))).toBe("accepted");
  });

  test("that is cut anywhere else is refused, and the machine can never run", async () => {
    const source = new QemuFakeMachine(small);
    source.profiles.extra.push(slirp(6));
    const bytes = await saved(source);
    const next = random(seed);
    const at = (length: number) => Math.floor(next() * length);
    const places = Array.from({ length: 60 }, () => at(bytes.length));
    const end = endOf(bytes);
    for (let i = end - 120; i < end + 20; i++) places.push(i);
    for (const place of places) {
      if (place === end + 1) continue;
      const machine = new QemuFakeMachine(small);
      const cut = bytes.subarray(0, place);
      expect(await refusalOf(cut, machine), `cut at ${place}`).toMatch(/ends .* bytes too early/);
      await expect(machine.start()).rejects.toThrow(/load failed/);
    }
  });

  test("with another live section beside RAM is refused by its name", async () => {
    const machine = new QemuFakeMachine(small);
    const sink = memorySink();
    const stream = new StreamWriter(sink.channel);
    const saver = new StreamSaver(machine, stream, defaultEnvironment, { profile: machine.profile });
    saver.header();
    await saver.startRam();
    stream.out.u8(QEMU_VM.SECTION_START).u32(9).countedString("dirty-bitmap").u32(0).u32(1).u32(0);
    await stream.drain();
    await sink.commit();
    expect(await refusalOf(sink.committed as Uint8Array)).toMatch(
      /section dirty-bitmap\/0.*dirty-bitmaps off/,
    );
  });

  test("says where it was cut, however many rounds there were", async () => {
    const machine = new QemuFakeMachine(small);
    const sink = memorySink();
    const stream = new StreamWriter(sink.channel);
    const saver = new StreamSaver(machine, stream, defaultEnvironment, { profile: machine.profile });
    saver.header();
    await saver.startRam();
    const none = allPages(machine.memory).map((bits) => new Int32Array(bits.length));
    for (let i = 0; i < 20_000; i++) await saver.ram.pages(QEMU_VM.SECTION_PART, none, () => {});
    await stream.drain();
    await sink.commit();
    expect(await refusalOf(sink.committed as Uint8Array)).toMatch(/^after RAM chunk 0 at offset/);
  });

  test.each([
    ["a device that this machine lacks", "virtio-net", /section virtio-net\/0.*no such device.*same order/],
    ["more harts", "cpu", /section cpu\/1.*more harts.*-smp/],
  ])("with %s is refused with what to do", async (_, idstr, message) => {
    const source = new QemuFakeMachine(small);
    source.profiles.extra.push(toySection(idstr, idstr === "cpu" ? 1 : 0, MIG_PRI.DEFAULT, 5));
    expect(await refusalOf(await saved(source))).toMatch(message);
  });

  test("without a device that this machine has, of a version it does not read, twice: refused", async () => {
    const extra = { ...small, extraSections: [toySection("rng", 0, MIG_PRI.DEFAULT, 9)] };
    const bytes = await saved(new QemuFakeMachine(small));
    expect(await refusalOf(bytes, new QemuFakeMachine(extra))).toMatch(
      /has no rng\/0, which this machine has/,
    );
    const newer = new QemuFakeMachine(small);
    newer.profiles.extra.push({ ...toySection("rng", 0, MIG_PRI.DEFAULT, 9), version: 7 });
    expect(await refusalOf(await saved(newer), new QemuFakeMachine(extra))).toMatch(
      /section rng\/0.*version 7 \(.*qemu-0.1\).*reads 1 to 1/,
    );
    const twice = new QemuFakeMachine(extra);
    twice.profiles.extra.push(toySection("rng", 0, MIG_PRI.DEFAULT, 9));
    expect(await refusalOf(await saved(twice), new QemuFakeMachine(extra))).toMatch(/is in the stream twice/);
  });

  test("whose machine was moved away or had panicked arrives paused", async () => {
    const bytes = Buffer.from(await saved(new QemuFakeMachine(small)));
    const at = bytes.indexOf("prelaunch");
    bytes.write("postmigrate\0", at);
    expect(await loadSnapshot(new QemuFakeMachine(small), memorySource(bytes))).toMatchObject({
      runState: "paused",
    });
  });

  test("is refused by a machine whose firmware is the built-in one", async () => {
    const target = new QemuFakeMachine(small);
    Object.assign(target.vm, { builtinFirmware: true });
    expect(await refusalOf(await saved(new QemuFakeMachine(small)), target)).toMatch(
      /start it with a firmware file/,
    );
  });

  test("a section without an end is not read for ever", async () => {
    const source = new QemuFakeMachine(small);
    source.profiles.extra.push({
      ...toySection("slirp", 0, MIG_PRI.DEFAULT, 1),
      encode: (writer) => void writer.bytes(new Uint8Array(33 * 2 ** 20)),
    });
    const target = new QemuFakeMachine(small);
    const bytes = await saved(source);
    await expect(loadSnapshot(target, memorySource(bytes))).rejects.toThrow(/asks for more than 33554432/);
  });
});

test("the configuration's subsections come once each, and those that are not understood are refused", async () => {
  const bytes = Buffer.from(await saved(new QemuFakeMachine(small)));
  const head = 4 + 4 + 1 + 4 + "virt".length;
  const withSubsections = (...subsections: [name: string, data: Uint8Array][]) => {
    const writer = new ByteWriter().bytes(bytes.subarray(0, head));
    for (const [name, data] of subsections) {
      writer.u8(QEMU_VM.SUBSECTION).countedString(`configuration/${name}`).u32(1).bytes(data);
    }
    return writer.bytes(bytes.subarray(head)).finish();
  };
  const uuid = ["uuid", new Uint8Array(16)] as [string, Uint8Array];
  const pageBits = (bits: number) =>
    ["target-page-bits", new ByteWriter().u32(bits).finish()] as [string, Uint8Array];
  expect(await refusalOf(withSubsections(uuid, pageBits(12)))).toBe("accepted");
  expect(await refusalOf(withSubsections(uuid, uuid))).toMatch(
    /configuration\/uuid.*once|once.*configuration\/uuid/,
  );
  expect(await refusalOf(withSubsections(pageBits(14)))).toMatch(/pages of 2\^14 bytes/);
  expect(await refusalOf(withSubsections(["new", new Uint8Array(1)]))).toMatch(/found "configuration\/new"/);
});

test.each([
  [MIG_CMD.POSTCOPY_ADVISE, 16, /may switch to postcopy.*postcopy-ram off/],
  [MIG_CMD.PACKAGED, 4, /switched to postcopy/],
  [MIG_CMD.POSTCOPY_LISTEN, 0, /switched to postcopy/],
  [MIG_CMD.ENABLE_COLO, 0, /COLO/],
  [MIG_CMD.SWITCHOVER_START, 0, /accepted/],
  [77, 1, /unknown command 77 with 1 bytes/],
])("command %i", async (command, length, message) => {
  const machine = new QemuFakeMachine(small);
  const sink = memorySink();
  const stream = new StreamWriter(sink.channel);
  const saver = new StreamSaver(machine, stream, defaultEnvironment, { profile: machine.profile });
  saver.header();
  saver.command(command, new Uint8Array(length));
  await saver.startRam();
  await saver.ram.pages(QEMU_VM.SECTION_END, allPages(machine.memory), () => {});
  await saver.devices("running");
  saver.trailer();
  await stream.drain();
  await sink.commit();
  expect(await refusalOf(sink.committed as Uint8Array)).toMatch(message);
});

const moveTo = (source: QemuFakeMachine, connect: () => Promise<Channel>, environment = hurriedEnvironment) =>
  new QemuMove(source, connect, source.profile, { parameters: { ...parameters }, environment });
const moveInto = (source: QemuFakeMachine, target: SinkTarget) =>
  new SinkMove(source, target, source.profile, {
    parameters: { ...parameters },
    environment: hurriedEnvironment,
  });

interface Pair {
  readonly world: World;
  readonly source: QemuFakeMachine;
  readonly target: QemuFakeMachine;
}

function pair(): Pair {
  const world = new World();
  return {
    world,
    source: new QemuFakeMachine({ ...small, world, seed: 5 }),
    target: new QemuFakeMachine({ ...small, world, seed: 6 }),
  };
}

function settle({ world, source, target }: Pair, what: string): void {
  expect(world.violations, what).toEqual([]);
  source.halt();
  target.halt();
}

/** Wherry → QEMU over a wire with faults. */
async function toQemu(faults?: WireFaults): Promise<Pair & { result: MigrationResult; passed: number[] }> {
  const moved = pair();
  const { source, target, world } = moved;
  const network = new FakeNetwork(faults);
  let loading: Promise<boolean> | undefined;
  network.listener = (channel) => {
    loading = qemuDestination(target, channel);
  };
  await source.start();
  const move = moveTo(source, network.connect);
  let result = await move.done;
  // Silence leaves QEMU waiting; everything else happens soon.
  await Promise.race([loading, delay(30)]);
  const runsThere = world.running === target;
  if (result.status === "unresolved") {
    expect(source.runState.current).toBe("finish-migrate");
    await expect(source.start()).rejects.toThrow(/may run there/);
    // While the connection seems to exist, QEMU's message may still come.
    const asked = await move.decide("ask").catch((error: Error) => error.message);
    expect(asked).toEqual(
      typeof asked === "string"
        ? expect.stringContaining("cannot be asked")
        : expect.objectContaining({ status: "unresolved" }),
    );
    expect(result.error?.message).toMatch(/decide "there".*decide "here"/);
    result = await move.decide(runsThere ? "there" : "here");
  }
  const what = `${JSON.stringify(faults)}: ${result.status} ${result.error?.message}`;
  if (result.status === "completed") {
    expect(world.running === target, what).toBe(true);
    expect(source.runState.current, what).toBe("postmigrate");
    await expect(source.start()).rejects.toThrow(/must not run here again/);
  } else {
    expect(world.running === source, what).toBe(true);
    expect(runsThere, what).toBe(false);
  }
  return { ...moved, result, passed: [...network.passed] };
}

/**
 * Positions at which to cut a move's stream: each byte from the first device section to the first bytes of
 * the VMDESCRIPTION, and some before and after. All with WHERRY_FULL.
 */
async function places(length: number): Promise<number[]> {
  const all = Array.from({ length }, (_, i) => i + 1);
  if (process.env["WHERRY_FULL"] === "1") return all;
  const bytes = await saved(new QemuFakeMachine(small));
  const behind = (at: number) => length - (bytes.length - at);
  const [devices, end] = [behind(Buffer.from(bytes).indexOf("timer")), behind(endOf(bytes))];
  const next = random(seed);
  return all.filter((at) => (at > devices - 40 && at < end + 40) || next() < 60 / length || at === length);
}

async function forAll(places: readonly number[], one: (place: number) => Promise<void>): Promise<void> {
  const left = [...places];
  const worker = async () => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) await one(next);
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

describe("Wherry → QEMU", () => {
  test("over a socket", async () => {
    const moved = await toQemu();
    expect(moved.result).toEqual({ status: "completed" });
    settle(moved, "a move");
  });

  test.each(["reset", "blackhole"] as const)("the wire breaks: %s", { timeout: LIMIT_MS }, async (mode) => {
    const whole = await toQemu();
    settle(whole, "whole");
    const [forward = 0, back = 0] = whole.passed;
    await forAll(await places(forward), async (place) => {
      settle(await toQemu({ forward: place, mode }), `forward ${place}`);
    });
    await forAll(
      Array.from({ length: back }, (_, i) => i + 1),
      async (place) => {
        settle(await toQemu({ back: place, mode }), `back ${place}`);
      },
    );
  });

  test("a QEMU that cannot load closes without a message: the machine resumes, the reason is QEMU's", async () => {
    const moved = pair();
    const { source, target } = moved;
    source.profiles.extra.push(toySection("rng", 0, MIG_PRI.DEFAULT, 9));
    const { near, far } = channelPair();
    void qemuDestination(target, far);
    await source.start();
    const result = await moveTo(source, async () => near).done;
    expect(result).toMatchObject({ status: "failed" });
    expect(source.runState.current).toBe("running");
    settle(moved, "refused by QEMU");
  });

  test("SHUT with an error after the end gives the machine back, with its drives", async () => {
    const { source } = pair();
    const { near, far } = channelPair();
    await source.start();
    const move = moveTo(source, async () => near);
    void answer(far, [pongMessage(PING_SETUP), pongMessage(PING_FINAL), shutMessage(1)]);
    expect(await move.done).toMatchObject({ status: "failed", error: { code: "migration.refused" } });
    expect(source.runState.current).toBe("running");
    expect(source.drivesActive).toBe(true);
    source.halt();
  });

  test("a word of QEMU that comes late is heard when the user asks", async () => {
    const { source } = pair();
    const { near, far } = channelPair();
    await source.start();
    const move = moveTo(source, async () => near);
    void answer(far, [pongMessage(PING_SETUP), pongMessage(PING_FINAL)]);
    expect((await move.done).status).toBe("unresolved");
    await far.write(shutMessage(0));
    expect(await move.decide("ask")).toEqual({ status: "completed" });
    expect(source.runState.current).toBe("postmigrate");
  });

  test("drives are released after QEMU has loaded all, and before the end is sent", async () => {
    const { source, world } = pair();
    const { near, far } = channelPair();
    await source.start();
    const atEnd: boolean[] = [];
    const write = near.write.bind(near);
    near.write = async (bytes) => {
      if (bytes[0] === QEMU_VM.EOF && bytes[1] === QEMU_VM.VMDESCRIPTION)
        atEnd.push(world.driveOwner === undefined);
      await write(bytes);
    };
    const move = moveTo(source, async () => near);
    void answer(far, [pongMessage(PING_SETUP), pongMessage(PING_FINAL), shutMessage(0)]);
    expect(await move.done).toEqual({ status: "completed" });
    expect(atEnd).toEqual([true]);
  });

  test("all reasons why it cannot go are said before anything is sent, and again before the guest is stopped", async () => {
    const { source } = pair();
    await source.start();
    const reason = (n: number) => ({ code: `qemu.${n}`, message: `reason ${n}`, cure: `cure ${n}` });
    let connections = 0;
    const connect = async (): Promise<Channel> => {
      connections++;
      source.profiles.reasons.push(reason(3));
      const { near, far } = channelPair();
      void answer(far, [pongMessage(PING_SETUP), pongMessage(PING_FINAL)]);
      return near;
    };
    const stops: string[] = [];
    source.onEvent(({ event }) => stops.push(event));
    source.profiles.reasons.push(reason(1), reason(2));
    const refused = await moveTo(source, connect).done;
    expect(refused.error?.message).toMatch(/qemu-0.1: reason 1: cure 1; reason 2: cure 2/);
    expect(connections).toBe(0);
    source.profiles.reasons.length = 0;
    const late = await moveTo(source, connect).done;
    expect(late.error?.message).toMatch(/qemu-0.1: reason 3/);
    expect(stops).toEqual([]);
    expect(source.runState.current).toBe("running");
    source.halt();
  });

  test("cancelled at random times, one machine runs", async () => {
    const next = random(seed);
    for (let i = 0; i < 40; i++) {
      const moved = pair();
      const { source, target, world } = moved;
      const { near, far } = channelPair();
      const loading = qemuDestination(target, far);
      await source.start();
      // Not the hurried environment, which gives QEMU only 30 ms to report that it runs.
      const move = moveTo(source, async () => near, defaultEnvironment);
      for (let turns = next() * 60; turns > 0; turns--) await defaultEnvironment.yieldToEventLoop();
      const isCancelled = move.cancel();
      const { status } = await move.done;
      await loading;
      expect(status === "cancelled", status).toBe(isCancelled);
      expect(world.running === (status === "completed" ? target : source)).toBe(true);
      settle(moved, status);
    }
  });
});

/** A scripted QEMU: sends these messages, then reads until the connection has closed. */
async function answer(channel: Channel, messages: readonly Uint8Array[]): Promise<void> {
  const buffer = new Uint8Array(1 << 20);
  const script = async () => {
    for (const message of messages) {
      await channel.read(buffer);
      await channel.write(message);
    }
    while ((await channel.read(buffer)) > 0);
  };
  await script().catch(() => {});
}

/** QEMU → Wherry over a wire with faults. */
async function fromQemu(returnPath: boolean, faults?: WireFaults): Promise<Pair & { passed: number[] }> {
  const moved = pair();
  const { source, target, world } = moved;
  const { near, far, passed } = channelPair(faults);
  const destination = new MigrationDestination(target, { environment: hurriedEnvironment });
  void destination.accept(far);
  await source.start();
  const isCompleted = await qemuSource(source, near, returnPath);
  if (destination.state === "listening") {
    // Not even the magic arrived: the destination keeps waiting.
    expect(isCompleted).toBe(false);
    return { ...moved, passed: [...passed] };
  }
  const { status, error } = await destination.done;
  const what = `return path ${returnPath}, ${JSON.stringify(faults)}: QEMU ${isCompleted}, ${status} ${error?.message}`;
  if (status === "arrived") expect(world.running === target, what).toBe(true);
  else {
    expect(target.runState.current, what).toBe("internal-error");
    // A QEMU that got a success message just before the wire broke resumes when its user says so.
    if (isCompleted) await source.start();
    expect(world.running === source, what).toBe(true);
  }
  return { ...moved, passed: [...passed] };
}

describe("QEMU → Wherry", () => {
  test.each([true, false])("over a socket, return path: %s", async (returnPath) => {
    const moved = await fromQemu(returnPath);
    expect(moved.world.running === moved.target).toBe(true);
    expect(moved.target.profiles.rebuilds).toBe(1);
    settle(moved, "a move");
  });

  test.each([true, false])("the wire breaks, return path: %s", { timeout: LIMIT_MS }, async (returnPath) => {
    const whole = await fromQemu(returnPath);
    settle(whole, "whole");
    const [forward = 0, back = 0] = whole.passed;
    // Without a return path, QEMU has only written all bytes.
    await forAll(await places(forward), async (place) => {
      if (!returnPath && place === forward) return;
      settle(await fromQemu(returnPath, { forward: place }), `forward ${place}`);
    });
    await forAll(
      Array.from({ length: back }, (_, i) => i + 1),
      async (place) => {
        settle(await fromQemu(returnPath, { back: place }), `back ${place}`);
      },
    );
  });

  test("nothing of Wherry's own is said to QEMU, and no word without a return path", async () => {
    for (const returnPath of [true, false]) {
      const { source, target } = pair();
      const { near, far } = channelPair();
      const said: number[] = [];
      const write = far.write.bind(far);
      far.write = (bytes) => {
        said.push(...bytes);
        return write(bytes);
      };
      const environment = { ...hurriedEnvironment, ownIdentity: () => "destination" };
      void new MigrationDestination(target, { environment }).accept(far);
      await source.start();
      await qemuSource(source, near, returnPath);
      const expected = [...pongMessage(1), ...shutMessage(0)];
      expect(said).toEqual(returnPath ? expected : []);
      source.halt();
      target.halt();
    }
  });

  test("a QEMU that waits for our word and sends no VMDESCRIPTION gets it", async () => {
    const { source, target } = pair();
    const { near, far } = channelPair();
    const destination = new MigrationDestination(target, { environment: hurriedEnvironment });
    void destination.accept(far);
    await source.start();
    const write = near.write.bind(near);
    near.write = (bytes) =>
      write(bytes[0] === 0 && bytes[1] === QEMU_VM.VMDESCRIPTION ? bytes.subarray(0, 1) : bytes);
    expect(await qemuSource(source, near, true)).toBe(true);
    expect((await destination.done).status).toBe("arrived");
    target.halt();
  });

  test("a drive locked by another process: QEMU is told and resumes", async () => {
    const moved = pair();
    const { source, target } = moved;
    target.refuseDrive = "the drive is locked";
    const { near, far } = channelPair();
    const destination = new MigrationDestination(target, { environment: hurriedEnvironment });
    void destination.accept(far);
    await source.start();
    expect(await qemuSource(source, near, true)).toBe(false);
    expect((await destination.done).error?.message).toMatch(/the drive is locked/);
    expect(source.runState.current).toBe("running");
    settle(moved, "no drive");
  });
});

describe("into a file or a command", () => {
  const failing = (sink: ReturnType<typeof memorySink>, after: number): SnapshotSink => {
    let left = after;
    const write = async (bytes: Uint8Array) => {
      left -= bytes.length;
      if (left < 0) throw new Error("the disk is full");
      await sink.channel.write(bytes);
    };
    return { ...sink, channel: { ...sink.channel, write } };
  };

  test.each(["file", "command"] as const)("%s: the stream is what QEMU loads", async (kind) => {
    const { source, target, world } = pair();
    const sink = memorySink();
    await source.start();
    expect(await moveInto(source, { kind, open: async () => sink }).done).toEqual({ status: "completed" });
    expect(source.runState.current).toBe("postmigrate");
    if (kind === "file") expect(source.startBlocker).toBeUndefined();
    if (kind === "command") await expect(source.start()).rejects.toThrow(/must not run here again/);
    expect(await qemuDestination(target, memorySource(sink.committed as Uint8Array))).toBe(true);
    expect(world.violations).toEqual([]);
    target.halt();
  });

  test("a disk that is full at any time leaves the machine running, and no file", async () => {
    const whole = memorySink();
    const first = pair().source;
    await first.start();
    await moveInto(first, { kind: "file", open: async () => whole }).done;
    const length = whole.committed?.length ?? 0;
    for (const after of [0, 100, Math.floor(length / 2), length - 1]) {
      const { source } = pair();
      const sink = memorySink();
      await source.start();
      const result = await moveInto(source, { kind: "file", open: async () => failing(sink, after) }).done;
      expect(result).toMatchObject({ status: "failed", error: { message: "the disk is full" } });
      expect(source.runState.current).toBe("running");
      expect(sink).toMatchObject({ committed: undefined, discarded: true });
      source.halt();
    }
  });

  test("a command that fails before the end gives the machine back; after it, the user decides", async () => {
    for (const isAfterEnd of [false, true]) {
      const { source } = pair();
      const sink = memorySink();
      const commit = async () => {
        if (isAfterEnd) throw new Error("it ended with status 1");
      };
      await source.start();
      const move = moveInto(source, {
        kind: "command",
        open: async () => ({ ...(isAfterEnd ? sink : failing(sink, 5000)), commit }),
      });
      const { status, error } = await move.done;
      expect(status).toBe(isAfterEnd ? "unresolved" : "failed");
      if (isAfterEnd) {
        expect(error?.message).toMatch(/did not succeed \(it ended with status 1\)/);
        await expect(source.start()).rejects.toThrow(/may run there/);
        expect((await move.decide("ask")).status).toBe("unresolved");
        expect((await move.decide("here")).status).toBe("failed");
      }
      expect(source.runState.current).toBe("running");
      source.halt();
    }
  });
});
