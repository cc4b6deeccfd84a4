// virtio-rng, virtio-console and virtio-net over mmio, legacy and modern.
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import { VirtioConsole } from "../../src/devices/virtio/virtio-console.ts";
import { VirtioNet } from "../../src/devices/virtio/virtio-net.ts";
import type { FrameOffload } from "../../src/devices/virtio/frames/frame-segments.ts";
import type { NetBackend, OffloadsTaken } from "../../src/devices/virtio/net-backend.ts";
import { GUEST_OFFLOADS, HOST_OFFLOADS } from "../../src/devices/virtio/virtio-net-control.ts";
import { VIRTIO_RING_F_EVENT_IDX } from "../../src/devices/virtio/virtio-feature-bits.ts";
import { VirtioRng } from "../../src/devices/virtio/virtio-rng.ts";
import { MockDriver, MODES, type MockQueue, R, testBoard } from "../support/mock-driver.ts";

interface Mode {
  legacy: boolean;
  without: readonly number[];
}

describe.each(MODES)("virtio-rng, $name", ({ legacy, without }) => {
  it("fills buffers, at most 64 KiB of each request", async () => {
    const board = testBoard({ legacy });
    const device = new VirtioRng(board, { random: (target) => target.fill(0xa5) });
    const queue = new MockDriver(board, device).start({ without }).queue(0);
    const done = await queue.request({ in: [3, 30] });
    expect([done.length, done.data.every((b) => b === 0xa5)]).toEqual([33, true]);
    expect((await queue.request({ in: [100_000] })).length).toBe(65536);
    expect((await queue.request({ out: [new Uint8Array(4)] })).length).toBe(0);
  });
});

describe.each(MODES)("a device that stops, $name", ({ legacy, without }) => {
  it.each([1, 8])(
    "leaves none of %i requests in its queue, and enables notification of the next",
    async (n) => {
      const board = testBoard({ legacy });
      const device = new VirtioRng(board, { random: (target) => target.fill(1) });
      const driver = new MockDriver(board, device).start({ without });
      const queue = driver.queue(0);
      for (let i = 0; i < n; i++) queue.post({ in: [4] });
      // The notification is lost: the machine stops first. Some VMMs do not poll queues on resume.
      await driver.transport.quiesce();
      expect(queue.collect()).toHaveLength(n);
      if (device.has(VIRTIO_RING_F_EVENT_IDX))
        expect(board.memory.readU16(queue.used + 4 + 8 * queue.num)).toBe(n);
    },
  );
});

describe.each(MODES)("virtio-console, $name", ({ legacy, without }) => {
  function setUp() {
    const board = testBoard({ legacy });
    const output: string[] = [];
    const pipe = new CharPipe((bytes) => output.push(Buffer.from(bytes).toString()));
    const device = new VirtioConsole(board, { backend: pipe, size: { cols: 80, rows: 24 } });
    const driver = new MockDriver(board, device).start({ without, queues: 2 });
    return { output, pipe, device, driver, rx: driver.queue(0), tx: driver.queue(1) };
  }

  it("prints what the driver sends, in order", async () => {
    const { tx, output } = setUp();
    for (const text of ["hel", "lo ", "world"]) tx.post({ out: [Buffer.from(text)] });
    tx.notify();
    await tx.request({ out: [Buffer.from("!"), Buffer.from("\n")] });
    expect(output.join("")).toBe("hello world!\n");
  });

  it("keeps input until there are buffers", () => {
    const { rx, pipe } = setUp();
    pipe.push(Buffer.from("abcdef"));
    expect(rx.collect()).toEqual([]);
    rx.post({ in: [4] });
    rx.notify();
    expect(rx.collect().map((c) => Buffer.from(c.data.subarray(0, c.length)).toString())).toEqual(["abcd"]);
    expect(pipe.pending).toBe(2);
    rx.post({ in: [16] });
    rx.post({ in: [16] });
    rx.notify();
    expect(rx.collect().map((c) => Buffer.from(c.data.subarray(0, c.length)).toString())).toEqual(["ef"]);
    pipe.push(Buffer.from("g"));
    expect(rx.collect().map((c) => c.length)).toEqual([1]);
  });

  it("reports its size and its changes, accepts emergency characters", () => {
    const { driver, device, output } = setUp();
    const size = (): number[] => [driver.transport.read(R.config, 2), driver.transport.read(R.config + 2, 2)];
    expect(size()).toEqual([80, 24]);
    expect(driver.transport.read(R.config + 4, 4)).toBe(1);
    const generation = legacy ? 0 : driver.read(R.configGeneration);
    device.resize(132, 50);
    expect(size()).toEqual([132, 50]);
    expect(driver.acknowledge() & 2).toBe(2);
    if (!legacy) expect(driver.read(R.configGeneration)).toBe(generation + 1);
    driver.write(R.config + 8, 0x21);
    expect(output).toEqual(["!"]);
  });
});

describe.each(MODES)("virtio-console whose reader is behind, $name", ({ legacy, without }) => {
  function setUp(loading?: ReturnType<typeof testBoard>) {
    const board = loading ?? testBoard({ legacy });
    let output = "";
    let limit = Number.POSITIVE_INFINITY;
    const pipe = new CharPipe((bytes) => {
      output += Buffer.from(bytes).toString();
      if (output.length >= limit) pipe.writable = false;
    });
    const driver = new MockDriver(board, new VirtioConsole(board, { backend: pipe }));
    if (loading === undefined) driver.start({ without, queues: 2 });
    const go = (bytes: number): void => {
      limit = bytes;
      pipe.writable = true;
    };
    return { board, pipe, driver, go, output: () => output };
  }
  const blocks = (n: number): string[] => Array.from({ length: n }, (_, i) => `<${i}>`.padEnd(70_000, "."));

  it("keeps requests until the reader goes on, the first one from where it stopped", async () => {
    const { driver, pipe, go, output } = setUp();
    const tx = driver.queue(1);
    const texts = blocks(3);
    pipe.writable = false;
    for (const text of texts) tx.post({ out: [Buffer.from(text.slice(0, 10)), Buffer.from(text.slice(10))] });
    tx.notify();
    expect([output(), tx.collect()]).toEqual(["", []]);
    // Within the second of its pieces.
    go(65_536);
    expect([output().length, tx.collect()]).toEqual([65_536, []]);
    go(70_001);
    expect(tx.collect()).toHaveLength(1);
    go(Number.POSITIVE_INFINITY);
    expect(tx.collect()).toHaveLength(2);
    expect(output()).toBe(texts.join(""));
    await tx.request({ out: [Buffer.from("end")] });
    expect(output()).toBe(`${texts.join("")}end`);
  });

  it("drops an emergency character, and forgets a request with a reset", () => {
    const { driver, pipe, output } = setUp();
    driver.queue(1).post({ out: [Buffer.from("lost")] });
    pipe.writable = false;
    driver.queue(1).notify();
    driver.write(R.config + 8, 0x21);
    driver.start({ without, queues: 2 });
    pipe.writable = true;
    driver.queue(1).post({ out: [Buffer.from("new")] });
    driver.queue(1).notify();
    expect(output()).toBe("new");
  });

  it("is saved meanwhile; the rest is written where it is loaded", async () => {
    const source = setUp();
    const [text = ""] = blocks(1);
    source.driver.queue(1).post({ out: [Buffer.from(text)] });
    source.go(1);
    source.driver.queue(1).notify();
    expect(source.output()).toHaveLength(65_536);
    await source.driver.transport.quiesce();
    const { section } = source.driver.transport;
    const writer = new ByteWriter();
    section.encode(writer);
    source.go(Number.POSITIVE_INFINITY);
    expect(source.output()).toHaveLength(65_536);
    const target = setUp(source.board);
    await target.driver.transport.quiesce();
    target.pipe.writable = false;
    target.driver.transport.section.decode(new ByteReader(writer.finish()), section.version)();
    target.driver.transport.unquiesce();
    expect(target.output()).toBe("");
    target.pipe.writable = true;
    expect(source.output() + target.output()).toBe(text);
  });
});

class Wire implements NetBackend {
  readonly sent: Uint8Array[] = [];
  readonly offloads: (FrameOffload | undefined)[] = [];
  writable = true;
  receiving = true;
  deliver: (frame: Uint8Array) => void = () => {};
  roomy: () => void = () => {};
  send(frame: Uint8Array, offload?: FrameOffload): void {
    this.sent.push(frame);
    this.offloads.push(offload);
  }
  onWritable(listener: () => void): void {
    this.roomy = listener;
  }
  setReceiving(on: boolean): void {
    this.receiving = on;
  }
  onFrame(listener: (frame: Uint8Array) => void): void {
    this.deliver = listener;
  }
}
const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const BROADCAST = new Uint8Array(6).fill(0xff);
const MULTICAST = Uint8Array.of(1, 0, 0x5e, 0, 0, 1);
function frame(to: Uint8Array, length: number): Uint8Array {
  const bytes = Uint8Array.from({ length }, (_, i) => i);
  bytes.set(to);
  bytes.set([8, 0], 12);
  return bytes;
}
function net(mode: Mode) {
  const board = testBoard({ legacy: mode.legacy });
  const wire = new Wire();
  const device = new VirtioNet(board, { backend: wire, mac: MAC });
  const driver = new MockDriver(board, device).start({ without: mode.without, queues: 3 });
  return { board, wire, device, driver, rx: driver.queue(0), tx: driver.queue(1), ctrl: driver.queue(2) };
}

const MRG_RXBUF = 15;
const NET_MODES = MODES.flatMap(({ name, legacy, without }) => [
  { name, legacy, without, headerBytes: 12, mergeable: true },
  {
    name: `${name}, without mergeable buffers`,
    legacy,
    without: [...without, MRG_RXBUF],
    headerBytes: legacy ? 10 : 12,
    mergeable: false,
  },
]);

describe.each(NET_MODES)("virtio-net, $name", (mode) => {
  const { headerBytes, mergeable } = mode;

  it("sends frames without the header", async () => {
    const { wire, tx } = net(mode);
    const out = frame(BROADCAST, 60);
    await tx.request({ out: [new Uint8Array(headerBytes), out] });
    const joined = new Uint8Array(headerBytes + 60);
    joined.set(out, headerBytes);
    await tx.request({ out: [joined] });
    expect(wire.sent).toEqual([out, out]);
    await tx.request({ out: [new Uint8Array(headerBytes), new Uint8Array(13)] });
    await tx.request({ out: [new Uint8Array(4)] });
    expect(wire.sent).toHaveLength(2);
  });

  it("receives frames, and keeps them until there are buffers", () => {
    const { wire, rx } = net(mode);
    const first = frame(MAC, 64);
    const second = frame(BROADCAST, 1500);
    wire.deliver(first);
    wire.deliver(second);
    expect(rx.collect()).toEqual([]);
    rx.post({ in: [2048] });
    rx.post({ in: [headerBytes, 2000] });
    rx.notify();
    const [a, b] = rx.collect();
    expect(a?.data.subarray(headerBytes, a.length)).toEqual(first);
    expect(b?.data.subarray(headerBytes, b.length)).toEqual(second);
    if (headerBytes === 12)
      expect(a?.data.subarray(0, 12)).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0));
  });

  it("keeps its frames in the queue while the network is full, and says so in its state", async () => {
    const { wire, tx, device, driver } = net(mode);
    const frames = [60, 61, 62].map((length) => frame(BROADCAST, length).fill(length, 14));
    wire.writable = false;
    for (const out of frames) tx.post({ out: [new Uint8Array(headerBytes), out] });
    tx.notify();
    expect([wire.sent.length, tx.collect().length, device.state.txWaiting]).toEqual([0, 0, 1]);
    await driver.transport.quiesce();
    wire.writable = true;
    wire.roomy();
    // Stopped: nothing changes. QEMU sends what waits if this word is 1.
    expect([wire.sent.length, tx.collect().length, device.state.txWaiting]).toEqual([0, 0, 1]);
    const send = wire.send.bind(wire);
    wire.send = (sent) => {
      send(sent);
      wire.writable = wire.sent.length !== 2;
    };
    driver.transport.unquiesce();
    expect([wire.sent.length, tx.collect().length, device.state.txWaiting]).toEqual([2, 2, 1]);
    wire.writable = true;
    wire.roomy();
    expect([wire.sent, tx.collect().length, device.state.txWaiting]).toEqual([frames, 1, 0]);
  });

  it("stops the network while it has no buffers, or the machine is stopped", async () => {
    const { wire, rx, driver } = net(mode);
    wire.deliver(frame(MAC, 64));
    expect(wire.receiving).toBe(false);
    rx.post({ in: [2048] });
    rx.notify();
    expect([rx.collect().length, wire.receiving]).toEqual([1, true]);
    rx.post({ in: [2048] });
    await driver.transport.quiesce();
    wire.deliver(frame(MAC, 65));
    expect([rx.collect().length, wire.receiving]).toEqual([0, false]);
    driver.transport.unquiesce();
    expect([rx.collect().length, wire.receiving]).toEqual([1, true]);
    wire.deliver(frame(MAC, 66));
    expect(wire.receiving).toBe(false);
    driver.write(R.status, 0);
    expect(wire.receiving).toBe(true);
  });

  it("spreads a frame over buffers only if they are mergeable", () => {
    const { wire, rx, board } = net(mode);
    const big = frame(MAC, 250);
    wire.deliver(big);
    rx.post({ in: [100] });
    rx.post({ in: [100] });
    rx.notify();
    if (!mergeable) {
      expect(rx.collect()).toEqual([]);
      wire.deliver(frame(MAC, 64));
      expect(rx.collect().map((c) => c.length)).toEqual([headerBytes + 64]);
      return;
    }
    expect(rx.collect()).toEqual([]);
    rx.post({ in: [100] });
    rx.notify();
    const parts = rx.collect();
    expect(parts.map((c) => c.length)).toEqual([100, 100, 62]);
    expect(parts[0]?.data[10]).toBe(3);
    const joined = Buffer.concat(parts.map((c) => c.data.subarray(0, c.length)));
    expect(new Uint8Array(joined.subarray(12))).toEqual(big);
    expect(board.errors).toEqual([]);
  });

  it("filters as the driver sets on the control queue", async () => {
    const { wire, rx, ctrl, driver } = net(mode);
    const command = async (...bytes: number[]): Promise<number | undefined> =>
      (
        await ctrl.request({
          out: [Uint8Array.of(...bytes.slice(0, 2)), Uint8Array.of(...bytes.slice(2))],
          in: [1],
        })
      ).data[0];
    const gets = (to: Uint8Array, post = true): boolean => {
      if (post) rx.post({ in: [2048] });
      wire.deliver(frame(to, 60));
      return collectAll(rx) === 1;
    };
    const other = Uint8Array.of(2, 0, 0, 0, 0, 9);
    expect(gets(other)).toBe(true);
    expect(await command(0, 0, 0)).toBe(0); // promisc off
    expect([gets(MAC), gets(other), gets(BROADCAST, false)]).toEqual([true, false, true]);
    expect(gets(MULTICAST)).toBe(false);
    const table = [1, 0, 0, 0, ...other, 1, 0, 0, 0, ...MULTICAST];
    expect(await command(1, 0, ...table)).toBe(0);
    expect([gets(other, false), gets(MULTICAST)]).toEqual([true, true]);
    expect(await command(1, 0, 9, 0, 0, 0)).toBe(1);
    expect(await command(0, 5, 1)).toBe(0); // nobcast
    expect(gets(BROADCAST)).toBe(false);
    expect(await command(1, 1, ...other)).toBe(0);
    expect(driver.transport.read(R.config + 5, 1)).toBe(9);
    expect(await command(2, 0, 0xff, 0xff)).toBe(1);
    expect(await command(2, 0, 5, 0)).toBe(0);
    expect(await command(77, 0)).toBe(1);
    expect(await command(3, 0)).toBe(1);
  });
});

function collectAll(queue: MockQueue): number {
  return queue.collect().length;
}

describe("virtio-net", () => {
  it("shows its address and link", () => {
    const { driver } = net({ legacy: false, without: [] });
    const config = Array.from({ length: 8 }, (_, i) => driver.transport.read(R.config + i, 1));
    expect(config).toEqual([...MAC, 1, 0]);
  });

  it("leaves checksums and segments to a guest on a network that can, and to no other", async () => {
    const board = testBoard();
    let taken: OffloadsTaken | undefined;
    const wire = new (class extends Wire {
      override deliver: (bytes: Uint8Array, offload?: FrameOffload) => void = () => {};
      readonly setOffloads = (now: OffloadsTaken): void => void (taken = now);
    })();
    const device = new VirtioNet(board, { backend: wire, mac: MAC });
    const offloads = GUEST_OFFLOADS | HOST_OFFLOADS;
    const offered = device.offeredFeatures & offloads;
    expect([offered, net({ legacy: false, without: [] }).device.offeredFeatures & offloads]).toEqual([
      offloads,
      0n,
    ]);
    const driver = new MockDriver(board, device).start({ queues: 3 });
    expect(taken).toEqual({ checksum: true, segments: { 4: true, 6: true } });
    const [rx, tx, ctrl] = [driver.queue(0), driver.queue(1), driver.queue(2)];
    const segment = Uint8Array.from({ length: 2054 }, (_, i) => i);
    segment.set([8, 0, 0x45], 12);
    segment.set([6], 23);
    segment.set([0x50, 0x10], 46);
    // NEEDS_CSUM, TCPV4, header 54, segments of 1000, start 34, offset 16.
    const sends = Uint8Array.of(1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 0, 0);
    await tx.request({ out: [sends, segment] });
    await tx.request({ out: [sends.with(1, 3), segment] });
    const told = { family: 4, sumStart: 34, sumOffset: 16, segmentBytes: 1000, headerBytes: 54 };
    expect([wire.sent, wire.offloads]).toEqual([[segment], [told]]);
    const large = { family: 6, sumStart: 54, sumOffset: 16, segmentBytes: 1440, headerBytes: 74 } as const;
    const receive = (offload: FrameOffload): number[] | undefined => {
      rx.post({ in: [4096] });
      wire.deliver(frame(MAC, 3000), offload);
      return rx.collect().map(({ data }) => [...data.subarray(0, 12)])[0];
    };
    // NEEDS_CSUM, TCPV6, le16 header, segment, start, offset, buffers.
    expect(receive(large)).toEqual([1, 4, 74, 0, 0xa0, 5, 54, 0, 16, 0, 1, 0]);
    expect(receive({ ...large, family: 4 })).toEqual([1, 1, 74, 0, 0xa0, 5, 54, 0, 16, 0, 1, 0]);
    expect(receive({ ...large, segmentBytes: 0 })).toEqual([1, 0, 0, 0, 0, 0, 54, 0, 16, 0, 1, 0]);
    const command = async (...bytes: number[]): Promise<number | undefined> =>
      (await ctrl.request({ out: [Uint8Array.of(5, 0), Uint8Array.of(...bytes)], in: [1] })).data[0];
    expect(await command(2, 0, 0, 0, 0, 0, 0, 0)).toBe(0);
    expect(taken).toEqual({ checksum: true, segments: { 4: false, 6: false } });
    expect(await command(4, 0, 0, 0, 0, 0, 0, 0)).toBe(1);
    // Its state goes on beside a wire that has none of it; what the guest has turned off stays so.
    await driver.transport.quiesce();
    const writer = new ByteWriter();
    const { section } = driver.transport;
    section.encode(writer);
    const plain = new Wire();
    taken = undefined;
    for (const backend of [wire, plain]) {
      const other = new VirtioNet(board, { backend });
      const transport = new MockDriver(board, other).transport;
      transport.section.decode(new ByteReader(writer.view()), section.version)();
      expect(other.state.guestFeatures & offloads).toBe(offloads);
      if (backend === wire) continue;
      transport.unquiesce();
      tx.post({ out: [sends, segment] });
      other.notify(1);
      await transport.quiesce();
    }
    // There, the card does what the guest leaves to it.
    expect([plain.sent.map(({ length }) => length), plain.offloads]).toEqual([
      [1054, 1054],
      [undefined, undefined],
    ]);
    expect(taken).toEqual({ checksum: true, segments: { 4: false, 6: false } });
    driver.write(R.status, 0);
    expect(taken).toEqual({ checksum: false, segments: { 4: false, 6: false } });
  });

  it("needs a reset if a buffer cannot hold a header", () => {
    const { wire, rx, board } = net({ legacy: false, without: [] });
    rx.post({ in: [8] });
    wire.deliver(frame(MAC, 60));
    expect(board.errors.join()).toMatch(/receive buffer smaller/);
  });

  it("connects two machines", async () => {
    const a = net({ legacy: false, without: [] });
    const b = net({ legacy: true, without: [] });
    a.wire.send = (sent) => b.wire.deliver(sent);
    b.rx.post({ in: [2048] });
    const hello = frame(MAC, 100);
    await a.tx.request({ out: [new Uint8Array(12), hello] });
    expect(b.rx.collect()[0]?.data.subarray(12, 112)).toEqual(hello);
  });
});
