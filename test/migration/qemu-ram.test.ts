// RAM in all of QEMU's forms, both ways, with real QEMUs: a guest is stopped, QEMU saves its RAM as records,
// as mapped-ram and over multifd's channels, and we read it; then we write each form, another QEMU loads it
// and saves records again. All must hold the same memory. The devices are QEMU's own bytes.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Channel } from "../../src/stream/channel.ts";
import { MultifdReceiver } from "../../src/migration/ram/multifd-load.ts";
import { MULTIFD_MAGIC } from "../../src/stream/multifd-packet.ts";
import { MultifdSender } from "../../src/migration/ram/multifd-save.ts";
import { StreamReader } from "../../src/stream/stream-reader.ts";
import { connectTo, listenAt, openFileSink, openFileSource } from "../../src/node/channels/node-channels.ts";
import { nodeEnvironment } from "../../src/node/channels/node-environment.ts";
import { dirtyLoop } from "../support/dirty-loop.ts";
import { QemuProcess } from "../support/qemu-process.ts";
import { blocksOf, command, missing, type ReadRam, readRam, writeRam } from "./qemu-ram.ts";
import { until } from "../support/wait.ts";

const folder = mkdtempSync(join(tmpdir(), "wherry-ram-"));
const loop = join(folder, "loop");
writeFileSync(loop, dirtyLoop());
const ARGS = ["-M", "virt", "-m", "64M", "-nodefaults", "-bios", "none", "-kernel", loop];
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const settled = async () => {};

describe.each(["7.2", "10.0", "11.1"] as const)("QEMU %s", (release) => {
  const why = missing(release);
  if (why !== undefined) console.log(`skipped: ${why}`);
  const here = why === undefined ? test : test.skip;
  const processes: QemuProcess[] = [];
  let program: string[];
  let ram: ReadRam;

  const start = (...more: string[]) => {
    const process = new QemuProcess([...program, ...ARGS, ...more]);
    processes.push(process);
    return process;
  };
  const save = async (from: QemuProcess, name: string): Promise<Uint8Array> => {
    const path = join(folder, `${release}-${name}`);
    await from.execute("migrate", { uri: `exec:cat > ${path}` });
    await from.migration("completed");
    return readFileSync(path);
  };
  const fileOf = async (bytes: Uint8Array): Promise<Channel> => {
    const path = join(folder, `${release}-copy`);
    writeFileSync(path, bytes);
    return openFileSource(path);
  };
  const set = async (process: QemuProcess, capability: string, on: boolean) =>
    process.execute("migrate-set-capabilities", { capabilities: [{ capability, state: on }] });
  const same = (other: ReadRam) =>
    expect(Buffer.compare(Buffer.from(other.memory.bytes), Buffer.from(ram.memory.bytes))).toBe(0);

  beforeAll(async () => {
    if (why !== undefined) return;
    program = await command(release);
    const source = start();
    await source.execute("qmp_capabilities");
    await new Promise((resolve) => setTimeout(resolve, 300));
    await source.execute("stop");
    const plain = await save(source, "plain");
    await source.end();
    ram = await readRam(await fileOf(plain), blocksOf(plain));
  }, 60_000);
  afterAll(async () => {
    for (const process of processes) await process.end();
  });

  /** A QEMU to which `arrive` has sent the machine, after `prepare`; it does not run. */
  async function loaded(
    arrive: (process: QemuProcess) => Promise<unknown>,
    prepare: (process: QemuProcess) => Promise<unknown> = async () => {},
  ): Promise<QemuProcess> {
    const target = start("-incoming", "defer", "-S");
    await target.execute("qmp_capabilities");
    await prepare(target);
    await arrive(target);
    await until(60_000, "the machine to arrive", async () => {
      const { status } = (await target.execute("query-status")) as { status: string };
      return status === "inmigrate" ? undefined : status;
    });
    return target;
  }
  /** A machine can be migrated only once: each test has its own, with the same RAM. */
  const again = () =>
    loaded((target) =>
      target.execute("migrate-incoming", { uri: `exec:cat ${join(folder, `${release}-plain`)}` }),
    );
  /** The RAM that such a QEMU saves. */
  async function through(...args: Parameters<typeof loaded>): Promise<ReadRam> {
    const target = await loaded(...args);
    for (const name of ["mapped-ram", "multifd"]) await set(target, name, false).catch(() => {});
    const bytes = await save(target, "again");
    await target.end();
    return readRam(await fileOf(bytes), blocksOf(bytes));
  }

  here("records: its RAM is not empty, and what we write it reads", async () => {
    expect(ram.memory.bytes.some((byte) => byte !== 0)).toBe(true);
    const path = join(folder, `${release}-records`);
    const sink = await openFileSink(path);
    await writeRam(sink.channel, ram, { blocks: ram.memory.blocks, multifdFlush: false, rounds: 2 });
    await sink.commit();
    const back = await through((target) => target.execute("migrate-incoming", { uri: `exec:cat ${path}` }));
    same(back);
  });

  const mapped = release === "7.2" ? test.skip : here;
  mapped.each([false, true])(
    "mapped-ram is read (multifd: %s)",
    async (multifd) => {
      const path = join(folder, `${release}-mapped`);
      const source = await again();
      await set(source, "mapped-ram", true);
      await set(source, "multifd", multifd);
      await source.execute("migrate", { uri: `file:${path}` });
      await source.migration("completed");
      await source.end();
      const read = await readRam(await openFileSource(path), ram.memory.blocks);
      expect(read.capabilities).toEqual(["mapped-ram"]);
      same(read);
    },
    30_000,
  );

  mapped(
    "mapped-ram that we write is loaded, and is as small as QEMU's",
    async () => {
      const path = join(folder, `${release}-ours`);
      const sink = await openFileSink(path);
      await writeRam(sink.channel, ram, {
        blocks: ram.memory.blocks,
        multifdFlush: true,
        mapped: true,
        rounds: 2,
      });
      await sink.commit();
      const stats = statSync(path);
      expect(stats.size).toBeLessThan(ram.memory.bytes.length + 16 * 1024 * 1024);
      expect(stats.blocks * 512).toBeLessThan(16 * 1024 * 1024);
      same(await readRam(await openFileSource(path), ram.memory.blocks));
      const back = await through(
        (target) => target.execute("migrate-incoming", { uri: `file:${path}` }),
        (target) => set(target, "mapped-ram", true),
      );
      same(back);
    },
    30_000,
  );

  const KINDS = [
    { channels: 1, compression: "none" },
    { channels: 4, compression: "none" },
    { channels: 3, compression: "zlib" },
    { channels: 2, compression: "zstd" },
  ] as const;
  const parameters = ({ channels, compression }: { channels: number; compression: string }) => ({
    "multifd-channels": channels,
    "multifd-compression": compression,
  });

  here.each(KINDS)(
    "multifd is read: $channels channels, $compression",
    async (kind) => {
      const source = await again();
      await set(source, "multifd", true);
      await source.execute("migrate-set-parameters", parameters(kind));
      const incoming = await listen(kind.channels);
      await source.execute("migrate", { uri: incoming.uri });
      const read = await incoming.read(ram.memory.blocks);
      await source.migration("completed");
      await incoming.close();
      await source.end();
      same(read);
    },
    30_000,
  );

  here.each(KINDS)(
    "multifd is written: $channels channels, $compression",
    async (kind) => {
      const path = join(folder, `${release}-socket`);
      const connect = () => connectTo({ transport: "unix", path });
      const back = await through(
        async () => {
          const main = await connect();
          const channels = await MultifdSender.open(connect, {
            ...kind,
            environment: nodeEnvironment,
            level: 1,
            pace: async (bytes: number) => bytes,
          });
          const multifdFlush = release !== "7.2";
          await writeRam(main, ram, { blocks: ram.memory.blocks, multifdFlush, channels, rounds: 3 });
          await main.close();
          await channels.close();
        },
        async (target) => {
          await set(target, "multifd", true);
          await target.execute("migrate-set-parameters", parameters(kind));
          await target.execute("migrate-incoming", { uri: `unix:${path}` });
        },
      );
      same(back);
    },
    30_000,
  );

  here.each(["xbzrle", "multifd", "mapped-ram"])(
    "a guest that changes its memory meanwhile, with %s",
    async (capability) => {
      if (capability === "mapped-ram" && release === "7.2") return;
      const source = start();
      await source.execute("qmp_capabilities");
      await set(source, capability, true);
      const path = join(folder, `${release}-live`);
      const file = capability === "mapped-ram" ? `file:${path}` : `exec:cat > ${path}`;
      const move = async (bandwidth: number): Promise<{ read: ReadRam; deltas: number }> => {
        await source.execute("migrate-set-parameters", {
          "max-bandwidth": bandwidth,
          "downtime-limit": 1,
          "xbzrle-cache-size": 2 ** 26,
          ...parameters({ channels: 2, compression: "none" }),
        });
        const incoming = capability === "multifd" ? await listen(2) : undefined;
        const reading = incoming?.read(ram.memory.blocks);
        await source.execute("migrate", { uri: incoming?.uri ?? file });
        await until(60_000, "four rounds, if so many are needed", async () => {
          const { status, ram: counts } = await source.status();
          const rounds = (counts as Record<string, number> | undefined)?.["dirty-sync-count"] ?? 0;
          return rounds >= 4 || status === "completed" ? true : undefined;
        });
        await source.execute("migrate-set-parameters", { "max-bandwidth": 2 ** 32, "downtime-limit": 2000 });
        const info = await source.migration("completed");
        const read = (await reading) ?? (await readRam(await openFileSource(path), ram.memory.blocks));
        await incoming?.close();
        return { read, deltas: (info["xbzrle-cache"] as Record<string, number> | undefined)?.["pages"] ?? 0 };
      };
      let { read, deltas } = await move(60_000_000);
      if (capability === "xbzrle") {
        // On a busy host the guest dirties few pages: a lower bandwidth gives it more time.
        for (let bandwidth = 20_000_000; deltas <= 100 && bandwidth > 1_000_000; bandwidth /= 4) {
          await source.execute("cont");
          ({ read, deltas } = await move(bandwidth));
        }
        expect(deltas).toBeGreaterThan(100);
      }
      // QEMU's memory now.
      const truth = join(folder, `${release}-truth`);
      await source.execute("pmemsave", { val: 0x8000_0000, size: 2 ** 26, filename: truth });
      const block = read.memory.blockByName("riscv_virt_board.ram");
      const bytes = read.memory.bytes.subarray(block?.hostOffset, (block?.hostOffset ?? 0) + 2 ** 26);
      expect(Buffer.compare(Buffer.from(bytes), readFileSync(truth))).toBe(0);
      await source.end();
    },
    60_000,
  );
});

/** Waits for a QEMU with multifd. */
async function listen(channels: number) {
  const receiver = new MultifdReceiver({ environment: nodeEnvironment, required: true, channels, settled });
  let main: (channel: Channel) => void;
  const whole = new Promise<Channel>((resolve) => {
    main = resolve;
  });
  const { address, close } = await listenAt({ transport: "tcp", host: "127.0.0.1", port: 0 }, (channel) => {
    void (async () => {
      const reader = new StreamReader(channel);
      await reader.need(4);
      if (reader.peekU32() === MULTIFD_MAGIC) await receiver.accept(channel, reader);
      else main(unread(channel, reader));
    })();
  });
  if (address.transport !== "tcp") throw new Error("not tcp");
  return {
    uri: `tcp:127.0.0.1:${address.port}`,
    async read(blocks: Parameters<typeof readRam>[1]) {
      const read = await Promise.race([readRam(await whole, blocks, receiver), receiver.failed]);
      receiver.close();
      return read;
    },
    close,
  };
}

/** The channel with the bytes that the reader has already read. */
function unread(channel: Channel, reader: StreamReader): Channel {
  let first: Uint8Array = reader.bytes(reader.available).slice();
  return {
    ...channel,
    async read(target) {
      if (first.length === 0) return channel.read(target);
      const n = Math.min(first.length, target.length);
      target.set(first.subarray(0, n));
      first = first.subarray(n);
      return n;
    },
  };
}
