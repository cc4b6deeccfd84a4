// The two ends of multifd against each other over in-memory wires: rounds of random pages, both kinds of
// synchronisation, all compressions; and a receiver with input that QEMU never sends. Real QEMUs:
// qemu-ram.test.ts and test/qemu-moves.
import { zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { ByteWriter } from "../../src/base/bytes.ts";
import { type GuestMemory, PAGE_SIZE } from "../../src/memory/guest-memory.ts";
import type { Channel } from "../../src/stream/channel.ts";
import {
  defaultEnvironment,
  type MigrationEnvironment,
} from "../../src/migration/environment/migration-environment.ts";
import { UnitLog } from "../../src/stream/integrity.ts";
import { MultifdReceiver } from "../../src/migration/ram/multifd-load.ts";
import {
  encodeMultifdHello,
  encodeMultifdPacket,
  type MultifdPacket,
} from "../../src/stream/multifd-packet.ts";
import { MultifdSender } from "../../src/migration/ram/multifd-save.ts";
import { RamReader } from "../../src/migration/ram/ram-load.ts";
import { allPages, type PageSet, RamWriter } from "../../src/migration/ram/ram-save.ts";
import { RamTarget } from "../../src/migration/ram/ram-target.ts";
import { StreamFacts } from "../../src/stream/stream-facts.ts";
import { StreamReader } from "../../src/stream/stream-reader.ts";
import { StreamWriter } from "../../src/stream/stream-writer.ts";
import { QEMU_VM } from "../../src/stream/wire.ts";
import { nodeEnvironment } from "../../src/node/channels/node-environment.ts";
import { channelPair } from "../support/fake-network.ts";
import { memoryOf } from "./qemu-ram.ts";
import { seed } from "../support/seed.ts";
import { random } from "../support/random.ts";

const BLOCKS = [
  { name: "ram", size: 700 * PAGE_SIZE },
  { name: "rom", size: 3 * PAGE_SIZE },
];
const settled = async () => {};
const HEAD_BYTES = 1 + 4 + 1 + 3 + 8;

/** Changes random pages of the memory, some to zeros, and returns them. */
function dirty(memory: GuestMemory, next: () => number): PageSet {
  const set = allPages(memory).map((bits) => bits.map(() => 0));
  for (const [i, block] of memory.blocks.entries()) {
    for (let n = 0; n < block.size / PAGE_SIZE / 3; n++) {
      const page = Math.floor((next() * block.size) / PAGE_SIZE);
      const byte = next() < 0.3 ? 0 : Math.floor(next() * 256);
      memory.writeBlock(block, page * PAGE_SIZE, new Uint8Array(PAGE_SIZE).fill(byte));
      set[i]![page >>> 5]! |= 1 << (page & 31);
    }
  }
  return set;
}

async function send(
  main: Channel,
  channels: MultifdSender,
  memory: GuestMemory,
  multifdFlush: boolean,
): Promise<void> {
  const next = random(seed);
  const stream = new StreamWriter(main);
  const form = { blocks: memory.blocks, channels, multifdFlush };
  const writer = new RamWriter(memory, stream, new UnitLog(), defaultEnvironment, 1, form);
  await writer.start();
  await writer.pages(QEMU_VM.SECTION_PART, allPages(memory), () => {});
  for (let round = 0; round < 6; round++)
    await writer.pages(QEMU_VM.SECTION_PART, dirty(memory, next), () => {});
  await writer.pages(QEMU_VM.SECTION_END, dirty(memory, next), () => {});
  await stream.drain();
}

async function receive(main: Channel, receiver: MultifdReceiver): Promise<GuestMemory> {
  const memory = memoryOf(BLOCKS);
  const stream = new StreamReader(main);
  const qemu = { droppedBlock: () => undefined, channels: receiver };
  const reader = new RamReader(memory, stream, new UnitLog(), new StreamFacts(), qemu);
  for (let type = 0; type !== QEMU_VM.SECTION_END; ) {
    await stream.need(1);
    type = stream.peekAll()[0]!;
    const head = type === QEMU_VM.SECTION_START ? HEAD_BYTES : 5;
    await stream.need(head);
    stream.skip(head);
    await reader.records();
    await stream.need(5);
    stream.skip(5);
  }
  reader.complete();
  return memory;
}

describe("all rounds arrive", () => {
  for (const compression of ["none", "zlib", "zstd"] as const) {
    for (const channels of [1, 2, 5]) {
      for (const multifdFlush of [false, true]) {
        test(`${channels} channels, ${compression}, ${multifdFlush ? "FLUSH" : "ends of sections"}`, async () => {
          const receiver = new MultifdReceiver({
            environment: nodeEnvironment,
            required: true,
            channels,
            settled,
          });
          const served: Promise<void>[] = [];
          const connect = async () => {
            const { near, far } = channelPair();
            served.push(receiver.accept(far, new StreamReader(far)));
            return near;
          };
          const pace = async (bytes: number) => bytes;
          const options = { environment: nodeEnvironment, channels, compression, level: 1, pace };
          const sender = await MultifdSender.open(connect, options);
          const source = memoryOf(BLOCKS);
          dirty(source, random(seed + 1));
          const { near, far } = channelPair();
          const [, target] = await Promise.all([
            send(near, sender, source, multifdFlush),
            Promise.race([receive(far, receiver), receiver.failed]),
          ]);
          expect(Buffer.compare(Buffer.from(target.bytes), Buffer.from(source.bytes))).toBe(0);
          expect(sender.acceptedBytes).toBeGreaterThan(channels * 64);
          receiver.close();
          await sender.close();
          await Promise.all(served);
        });
      }
    }
  }
});

const PLAIN: MultifdPacket = {
  sync: false,
  compression: "none",
  pagesAlloc: 128,
  packetNumber: 0n,
  payloadBytes: PAGE_SIZE,
  block: "ram",
  normal: [0],
  zero: [],
};

describe("a receiver refuses", () => {
  /** The error for channels with these bytes. With `hold`, the list of blocks never arrives. */
  async function refusal(
    given: readonly (readonly Uint8Array[])[],
    {
      environment = nodeEnvironment,
      channels = 2,
    }: { environment?: MigrationEnvironment; channels?: number } = {},
  ): Promise<string> {
    const receiver = new MultifdReceiver({ environment, required: false, channels, settled });
    const memory = memoryOf(BLOCKS);
    const targets = memory.blocks.map((b) => [b.name, new RamTarget(memory, b.name, b.size, b)] as const);
    receiver.begin(new Map(targets));
    for (const pieces of given) {
      const { near, far } = channelPair();
      void receiver.accept(far, new StreamReader(far));
      for (const bytes of pieces) await near.write(bytes).catch(() => {});
      await near.close().catch(() => {});
    }
    const synchronizing = receiver.synchronize(false);
    const message = await receiver.failed.catch((error: Error) => error.message);
    await expect(synchronizing).rejects.toThrow();
    return message;
  }
  const hello = (id: number) => {
    const writer = new ByteWriter();
    encodeMultifdHello(writer, { uuid: new Uint8Array(16), id });
    return writer.finish();
  };
  const packet = (change: Partial<MultifdPacket>) => {
    const writer = new ByteWriter();
    encodeMultifdPacket(writer, { ...PLAIN, ...change }, PAGE_SIZE);
    return writer.finish();
  };
  const page = new Uint8Array(PAGE_SIZE).fill(1);
  const bomb = zstdCompressSync(new Uint8Array(64 * 1024 * 1024));

  test.each([
    [
      "an unknown block",
      [hello(0), packet({ block: "vga" })],
      /channel 0 .*pages of RAM block "vga", expected one of ram, rom/,
    ],
    [
      "a page beyond the block",
      [hello(0), packet({ block: "rom", normal: [3 * PAGE_SIZE] })],
      /page 0x3000 lies outside RAM block rom/,
    ],
    [
      "a zero page beyond the block",
      [hello(0), packet({ normal: [], zero: [2 ** 52], payloadBytes: 0 })],
      /lies outside RAM block ram/,
    ],
    ["a page between pages", [hello(0), packet({ normal: [8] })], /page 0x8 lies outside/],
    ["no packet", [hello(0), new Uint8Array(2000)], /expected a multifd packet/],
    [
      "a channel too many",
      [hello(2)],
      /found channel 2, expected 2 channels, numbered from 0: set multifd-channels/,
    ],
    [
      "packets that go back",
      [hello(1), packet({ packetNumber: 5n }), page, packet({ packetNumber: 4n })],
      /packet 4 follows packet 5/,
    ],
    ["a channel that ends too early", [hello(0), packet({}), page], /ends too early/],
    ["a packet that is cut", [hello(0), packet({}).subarray(0, 700)], /the stream ends 644 bytes too early/],
    [
      "a page that is cut",
      [hello(0), packet({}), page.subarray(0, 4000)],
      /the stream ends 96 bytes too early/,
    ],
    [
      "a bomb",
      [hello(0), packet({ compression: "zstd", payloadBytes: bomb.length }), bomb],
      /zstd data holds more than 4096 bytes/,
    ],
    ["compressed rubbish", [hello(0), packet({ compression: "zlib" }), page], /channel 0 at offset/],
    [
      "too little compressed",
      [
        hello(0),
        packet({ compression: "zstd", payloadBytes: 13 }),
        zstdCompressSync(new Uint8Array(5)).subarray(0, 13),
      ],
      /holds \d+ bytes, expected 4096|channel 0/,
    ],
    [
      "a compression that nobody has",
      [hello(0), packet({ compression: "qpl" }), page],
      /compressed with qpl, which this host does not support: set multifd-compression to none, zlib or zstd/,
    ],
  ])("%s", async (_what, pieces, message) => {
    expect(await refusal([pieces])).toMatch(message);
  });

  test("a channel that comes twice", async () => {
    expect(await refusal([[hello(1)], [hello(1)]])).toMatch(/channel 1 was connected twice/);
  });

  test("compression where the environment has none", async () => {
    const bytes = [hello(0), packet({ compression: "zstd" }), page];
    expect(await refusal([bytes], { environment: defaultEnvironment })).toMatch(
      /set multifd-compression to none in the source/,
    );
  });

  test("fewer channels than expected, after a while", async () => {
    const environment: MigrationEnvironment = {
      ...nodeEnvironment,
      setTimer: (delayMs, fire) => nodeEnvironment.setTimer(delayMs / 200, fire),
    };
    const receiver = new MultifdReceiver({ environment, required: true, channels: 3, settled });
    const { far } = channelPair();
    await expect(receiver.synchronize(false)).rejects.toThrow(/0 of 3 multifd channels were connected/);
    await receiver.accept(far, new StreamReader(far));
    await expect(far.read(new Uint8Array(1))).rejects.toThrow(/0 of 3/);
  });

  test.each([0, 2])("channel %i when all has been read without it", async (id) => {
    const connections: (() => void)[] = [];
    const settled = async () => {
      if (synchronized) connections.pop()?.();
    };
    const receiver = new MultifdReceiver({
      environment: nodeEnvironment,
      required: false,
      channels: 2,
      settled,
    });
    let synchronized = false;
    receiver.begin(new Map());
    await receiver.synchronize(false);
    await receiver.synchronize(false);
    synchronized = true;
    connections.push(() => {
      const { near, far } = channelPair();
      void receiver.accept(far, new StreamReader(far));
      void near.write(hello(id)).catch(() => {});
    });
    await expect(receiver.finish()).rejects.toThrow(
      id === 0 ? /connected too late/ : /found channel 2, expected 2/,
    );
  });

  test("pages after the machine has arrived: it may run", async () => {
    const receiver = new MultifdReceiver({
      environment: nodeEnvironment,
      required: false,
      channels: 1,
      settled,
    });
    const memory = memoryOf(BLOCKS);
    const targets = memory.blocks.map((b) => [b.name, new RamTarget(memory, b.name, b.size, b)] as const);
    receiver.begin(new Map(targets));
    const { near, far } = channelPair();
    const serving = receiver.accept(far, new StreamReader(far));
    await near.write(hello(0));
    await near.write(packet({}));
    await new Promise((resolve) => setTimeout(resolve, 5));
    receiver.close();
    await near.write(page).catch(() => {});
    await near.close().catch(() => {});
    await serving;
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
  });
});

test("a source without multifd needs no channels", async () => {
  const receiver = new MultifdReceiver({
    environment: defaultEnvironment,
    required: false,
    channels: 2,
    settled,
  });
  await receiver.synchronize(false);
  await receiver.synchronize(false);
});
