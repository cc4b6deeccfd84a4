// Peers that stop in the middle, or that are no peers: a client that sends the start of a stream and hangs or
// closes, port scanners, HTTP and TLS clients, a second source, a source or a destination that stands still.
// The destination goes on accepting until a source has written guest memory; each side says what is wrong.
import { describe, expect, test } from "vitest";
import { ByteWriter } from "../../src/base/bytes.ts";
import { MigrationDestination } from "../../src/migration/load/move-destination.ts";
import { allPages } from "../../src/migration/ram/ram-save.ts";
import { defaultParameters } from "../../src/migration/save/outgoing-move.ts";
import { migrateOut } from "../../src/migration/save/move-source.ts";
import { cookieBytes, StreamSaver } from "../../src/migration/save/save-stream.ts";
import type { Channel } from "../../src/stream/channel.ts";
import { encodeMultifdHello } from "../../src/stream/multifd-packet.ts";
import { pongMessage } from "../../src/stream/return-path.ts";
import { StreamWriter } from "../../src/stream/stream-writer.ts";
import { MIG_CMD, PING_SETUP, QEMU_VM } from "../../src/stream/wire.ts";
import { until } from "../support/wait.ts";
import { FakeMachine, type FakeOptions, World } from "../support/fake-machine.ts";
import { channelPair, FakeNetwork } from "../support/fake-network.ts";
import { hurriedEnvironment as environment } from "./hurried-environment.ts";

const small: FakeOptions = { ramPages: 3, dirtyPerMs: 0, fill: 0.3 };
const parameters = { ...defaultParameters, maxBandwidthBytesPerSecond: 0, downtimeLimitMs: 1e9 };

/** The end of the list's records (be64) and the section's footer. */
const AFTER_LIST_BYTES = 8 + 5;

/** The bytes of a move: up to the list of RAM blocks, or with the first pages. */
async function opening(withPages: boolean, machine = new FakeMachine(small)): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const channel: Channel = {
    write: async (bytes) => void parts.push(bytes.slice()),
    read: async () => 0,
    close: async () => {},
    abort: () => {},
  };
  const stream = new StreamWriter(channel);
  const saver = new StreamSaver(machine, stream, environment, { moveId: new Uint8Array(16).fill(7) });
  saver.header();
  saver.command(MIG_CMD.OPEN_RETURN_PATH, new Uint8Array(0));
  saver.command(MIG_CMD.PING, cookieBytes(PING_SETUP));
  await saver.startRam();
  if (withPages) await saver.ram.pages(QEMU_VM.SECTION_PART, allPages(machine.memory), () => {});
  await stream.drain();
  return Buffer.concat(parts);
}

function destinationOf(world = new World(), stallTimeoutMs = 30_000) {
  const target = new FakeMachine({ ...small, world, seed: 6 });
  const dropped: string[] = [];
  const destination = new MigrationDestination(target, {
    environment,
    stallTimeoutMs: () => stallTimeoutMs,
    onChange: (_, reason) => reason && dropped.push(reason.message),
  });
  const network = new FakeNetwork();
  network.listener = (channel) => void destination.accept(channel);
  return { world, target, dropped, destination, network };
}

/** A source that nothing is wrong with: its machine arrives. */
async function movesTo({ world, target, destination, network }: ReturnType<typeof destinationOf>) {
  const source = new FakeMachine({ ...small, world, seed: 5 });
  await source.start();
  const result = await migrateOut(source, network.connect, { parameters, environment }).done;
  expect(result, result.error?.message).toEqual({ status: "completed" });
  expect((await destination.done).status).toBe("arrived");
  expect(world.running === target).toBe(true);
  expect(world.violations).toEqual([]);
  target.halt();
}

describe("a client that sends the start of a stream", () => {
  test.each(["hangs", "closes"] as const)(
    "and %s, at every byte, does not keep a source out",
    async (how) => {
      const bytes = await opening(false);
      const there = destinationOf();
      for (let length = 0; length <= bytes.length; length++) {
        // Whoever has sent the whole list has the machine, until it ends or is found to stand still.
        if (how === "hangs" && length >= bytes.length - AFTER_LIST_BYTES) continue;
        const client = await there.network.connect();
        await client.write(bytes.subarray(0, length));
        if (how === "closes") await client.close();
      }
      if (how === "closes")
        await until(10_000, "all are dropped", () => there.dropped.length >= bytes.length);
      await movesTo(there);
      const usual = /ends \d+ bytes? too early|closed the connection|sends nothing/;
      expect(there.dropped.filter((text) => !usual.test(text))).toEqual([]);
    },
  );

  test("with its list of blocks, and then nothing, is dropped after the limit", async () => {
    const there = destinationOf();
    const client = await there.network.connect();
    await client.write(await opening(false));
    await until(10_000, "it is being received", () => there.destination.state === "loading");
    await until(10_000, "it is dropped", () => there.destination.state === "listening");
    expect(there.dropped).toEqual([
      expect.stringMatching(/^the source has sent nothing for 30 s: its process is stopped/),
    ]);
    await movesTo(there);
  });

  test("with its list of blocks, and then nothing, gives way to a source that comes later", async () => {
    const there = destinationOf(new World(), 0);
    const client = await there.network.connect();
    await client.write(await opening(false));
    await until(10_000, "it is being received", () => there.destination.state === "loading");
    // Two seconds, and a tick of the watch, in this environment's time.
    await new Promise((resolve) => environment.setTimer(4000, () => resolve(undefined)));
    await movesTo(there);
    expect(there.dropped).toEqual([
      expect.stringMatching(
        /^the source has sent nothing for .* it had sent no page, and another source has come$/,
      ),
    ]);
  });

  test("with pages, and then nothing: the load has failed, and says why", async () => {
    const { target, destination, network } = destinationOf();
    const client = await network.connect();
    await client.write(await opening(true));
    const { status, error } = await destination.done;
    expect([status, error?.message]).toEqual([
      "failed",
      expect.stringMatching(/the source has sent nothing for 30 s/),
    ]);
    expect(target.runState.current).toBe("internal-error");
    // A later source is told so.
    const source = new FakeMachine({ ...small, seed: 5 });
    await source.start();
    const result = await migrateOut(source, network.connect, { parameters, environment }).done;
    expect(result.error?.message).toMatch(/the destination aborted the move: a load has failed here/);
    expect(source.runState.current).toBe("running");
    source.halt();
  });

  test("of another machine is told so, and the next one is received", async () => {
    const there = destinationOf();
    const other = new FakeMachine({ ...small, ramPages: 300 });
    await other.start();
    const result = await migrateOut(other, there.network.connect, { parameters, environment }).done;
    expect(result.error?.message).toMatch(/the destination aborted the move: .*RAM block .*same/);
    expect(other.runState.current).toBe("running");
    other.halt();
    expect(there.dropped).toEqual([expect.stringMatching(/RAM block/)]);
    await movesTo(there);
  });
});

test("a second source while a first one is being received is told so, and its machine runs on", async () => {
  const there = destinationOf();
  const first = await there.network.connect();
  await first.write(await opening(true));
  await until(10_000, "it is being received", () => there.destination.state === "loading");
  const second = new FakeMachine({ ...small, seed: 5 });
  await second.start();
  const { status, error } = await migrateOut(second, there.network.connect, { parameters, environment }).done;
  expect([status, error?.message]).toEqual([
    "failed",
    expect.stringMatching(/the destination aborted the move: another source is moving its machine here/),
  ]);
  expect(second.runState.current).toBe("running");
  second.halt();
  expect(there.destination.state).toBe("loading");
});

test.each([
  ["an HTTP request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", /an HTTP request \("GET \/ HTTP\/1\.1"\)/],
  ["a TLS hello", "\x16\x03\x01\x02\x00\x01\x00", /TLS, which moves do not use.*the bytes 16 03 01/],
  ["SSH", "SSH-2.0-OpenSSH_9.2\r\n", /SSH \("SSH-2\.0-OpenSSH_9\.2"\)/],
  ["a QMP client", '{"execute": "qmp_capabilities"}', /QMP, which is what the address of --qmp speaks/],
  ["noise", "\x80\x01\xff\xfe\x00", /found the bytes 80 01 ff fe/],
])("%s at the address of a destination is called what it is", async (_what, text, expected) => {
  const there = destinationOf();
  const client = await there.network.connect();
  await client.write(Buffer.from(text, "latin1"));
  await until(10_000, "it is dropped", () => there.dropped.length === 1);
  expect(there.dropped[0]).toMatch(expected);
  await movesTo(there);
});

test("multifd channels that half connect, twice or with a wrong number do not keep a source out", async () => {
  const there = destinationOf();
  const hello = (id: number) => {
    const writer = new ByteWriter();
    encodeMultifdHello(writer, { uuid: new Uint8Array(16), id });
    return writer.finish();
  };
  const whole = hello(0);
  for (let length = 1; length < whole.length; length += 5) {
    const client = await there.network.connect();
    await client.write(whole.subarray(0, length));
    if (length % 2 === 0) await client.close();
  }
  for (const id of [0, 0, 1, 200]) await (await there.network.connect()).write(hello(id));
  await movesTo(there);
});

test("a source with a low max-bandwidth sends pieces, and does not count as one that stands still", async () => {
  const source = new FakeMachine({ ...small, ramPages: 100, fill: 1, seed: 5 });
  await source.start();
  const sizes: number[] = [];
  const connect = async () => {
    const { near, far } = channelPair();
    void far.write(pongMessage(PING_SETUP));
    const drain = async () => {
      const buffer = new Uint8Array(1 << 20);
      while ((await far.read(buffer)) > 0);
    };
    drain().catch(() => {});
    return {
      ...near,
      write: (bytes: Uint8Array) => {
        sizes.push(bytes.length);
        return near.write(bytes);
      },
    };
  };
  const slow = { ...parameters, maxBandwidthBytesPerSecond: 20_000 };
  const move = migrateOut(source, connect, { parameters: slow });
  await until(20_000, "three pieces", () => sizes.length >= 4);
  expect(sizes.every((size) => size <= 10_000)).toBe(true);
  move.cancel();
  expect((await move.done).status).toBe("cancelled");
  source.halt();
});

describe("a destination that stands still", () => {
  async function stalled(answers: readonly Uint8Array[], options: FakeOptions = {}) {
    const source = new FakeMachine({ ...small, ...options, seed: 5 });
    await source.start();
    const connect = async () => {
      const { near, far } = channelPair();
      for (const answer of answers) void far.write(answer);
      return near;
    };
    const move = migrateOut(source, connect, { parameters: { ...parameters }, environment });
    await until(10_000, "advice", () => move.progress.advice !== undefined);
    const { advice } = move.progress;
    expect(source.runState.current).toBe("running");
    const { status, error } = await move.done;
    expect(source.runState.current).toBe("running");
    source.halt();
    return { advice, status, error: error?.message };
  }

  test("before it answers: reported, then failed; the guest runs", async () => {
    expect(await stalled([])).toEqual({
      advice: expect.stringMatching(
        /^the destination has not answered for \d+(\.\d)? s: .*; the guest runs on here meanwhile; after 30 s the move fails$/,
      ),
      status: "failed",
      error: expect.stringMatching(
        /^the destination has not answered for 30 s: its process is stopped or hangs/,
      ),
    });
  });

  test("while pages are sent: reported, then failed; the guest runs", async () => {
    // The channel takes some batches of 512 KiB, then no more.
    expect(await stalled([pongMessage(PING_SETUP)], { ramPages: 2000, fill: 1 })).toEqual({
      advice: expect.stringMatching(/^the destination has accepted no data for/),
      status: "failed",
      error: expect.stringMatching(/^the destination has accepted no data for 30 s/),
    });
  });
});

test.each([
  [
    "an HTTP server",
    "HTTP/1.1 400 Bad Request\r\n\r\n",
    /found an HTTP server's answer \("HTTP\/1\.1 400 Bad Request"\)/,
  ],
  ["a QMP socket", '{"QMP": {"version": {}}}\r\n', /found QMP, which is what the address of --qmp speaks/],
  ["an SMTP server", "220 mail ESMTP\r\n", /found an SMTP or FTP server/],
  ["three bytes", "no\n", /found the bytes 6e 6f 0a|found "no"/],
  ["an unknown message", "\x00\x09\x00\x04abcd", /found the bytes 00 09 00 04/],
])("a source that reached %s says so", async (_what, text, expected) => {
  const source = new FakeMachine({ ...small, seed: 5 });
  await source.start();
  const connect = async () => {
    const { near, far } = channelPair();
    void far.write(Buffer.from(text, "latin1")).then(() => far.close());
    return near;
  };
  const { status, error } = await migrateOut(source, connect, { parameters, environment }).done;
  expect([status, error?.message]).toEqual(["failed", expect.stringMatching(expected)]);
  expect(error?.message).toMatch(/is this the address of --incoming/);
  expect(source.runState.current).toBe("running");
  source.halt();
});

test("garbage later on the return path is told from a wrong address", async () => {
  const source = new FakeMachine({ ...small, seed: 5 });
  await source.start();
  const connect = async () => {
    const { near, far } = channelPair();
    const read = new Uint8Array(1 << 20);
    const serve = async () => {
      await far.read(read);
      await far.write(pongMessage(PING_SETUP));
      await far.write(Uint8Array.of(0x54, 0x50, 0x54, 0x50, 1, 2, 3, 4));
      while ((await far.read(read)) > 0);
    };
    serve().catch(() => {});
    return near;
  };
  const { error } = await migrateOut(source, connect, { parameters, environment }).done;
  expect(error?.message).toMatch(
    /return path at offset 0x8: expected a message, found .*connection is faulty/,
  );
  source.halt();
});
