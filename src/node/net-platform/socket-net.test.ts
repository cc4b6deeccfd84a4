// The network over a socket: QEMU's framing, frames both ways over TCP and unix sockets, peers that
// disconnect and reconnect.
import { mkdtemp, rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it } from "vitest";
import { type SocketAddress, SocketNet } from "./socket-net.ts";

const open: { close(): void }[] = [];
afterEach(() => {
  for (const net of open.splice(0)) net.close();
});
function track<T extends { close(): void }>(net: T): T {
  open.push(net);
  return net;
}
function received(net: SocketNet): number[] {
  const lengths: number[] = [];
  net.onFrame((frame) => lengths.push(frame.length));
  return lengths;
}
async function pair(address: SocketAddress): Promise<[SocketNet, SocketNet]> {
  const listener = track(await SocketNet.listen(address));
  const { port } = listener;
  const to = "path" in address ? address : { host: address.host, port: port ?? 0 };
  const connector = track(SocketNet.connect(to));
  await expect.poll(() => connector.connected && listener.connected).toBe(true);
  return [listener, connector];
}
async function raw(net: SocketNet): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port: net.port ?? 0 });
  track({ close: () => socket.destroy() });
  await new Promise((resolve) => socket.once("connect", resolve));
  await expect.poll(() => net.connected).toBe(true);
  return socket;
}

it("carries frames both ways over TCP, in order", async () => {
  const [a, b] = await pair({ host: "127.0.0.1", port: 0 });
  const [atA, atB] = [received(a), received(b)];
  for (let i = 0; i < 200; i++) a.send(new Uint8Array(60 + i));
  b.send(new Uint8Array(65000));
  await expect.poll(() => atB.length).toBe(200);
  expect(atB).toEqual(Array.from({ length: 200 }, (_, i) => 60 + i));
  await expect.poll(() => atA).toEqual([65000]);
});

it("carries frames over a unix socket", async () => {
  const directory = await mkdtemp(join(tmpdir(), "wherry-net-"));
  const [a, b] = await pair({ path: join(directory, "net.sock") });
  const atA = received(a);
  b.send(new Uint8Array(99));
  await expect.poll(() => atA).toEqual([99]);
  a.close();
  await rm(directory, { recursive: true });
});

it("frames as QEMU does: be32 length, then the frame", async () => {
  const listener = track(await SocketNet.listen({ host: "127.0.0.1", port: 0 }));
  const socket = await raw(listener);
  const bytes: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => bytes.push(chunk));
  listener.send(Uint8Array.of(1, 2, 3));
  await expect.poll(() => Buffer.concat(bytes).toString("hex")).toBe("00000003010203");
  const lengths = received(listener);
  for (const byte of [0, 0, 0, 2, 9, 9, 0, 0, 0, 1, 7]) socket.write(Uint8Array.of(byte));
  await expect.poll(() => lengths).toEqual([2, 1]);
});

it("is full once its peer stops receiving; later every frame arrives, once and in order", async () => {
  const [a, b] = await pair({ host: "127.0.0.1", port: 0 });
  const got: number[] = [];
  let damaged = 0;
  let stopAt = 10;
  b.onFrame((frame) => {
    const number = Buffer.from(frame).readUInt32BE();
    if (frame.length !== 60 + (number % 1440) || frame.subarray(4).some((byte) => byte !== (number & 0xff)))
      damaged++;
    got.push(number);
    if (got.length === stopAt) b.setReceiving(false);
  });
  let sent = 0;
  let bytes = 0;
  const send = () => {
    while (a.writable && sent < 20_000) {
      const frame = Buffer.alloc(60 + (sent % 1440), sent & 0xff);
      frame.writeUInt32BE(sent++);
      bytes += frame.length;
      a.send(frame);
    }
  };
  a.onWritable(send);
  send();
  const settled = async () => {
    for (let before = -1; before !== sent; ) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  await settled();
  expect([got.length, a.writable]).toEqual([10, false]);
  expect(bytes).toBeLessThan(16 << 20);
  stopAt = 20_000;
  b.setReceiving(true);
  await expect.poll(() => got.length, { timeout: 20_000 }).toBe(20_000);
  expect([damaged, got.every((number, i) => number === i)]).toEqual([0, true]);
});

it("lets the guest send again when a peer that did not receive has gone", async () => {
  const [a, b] = await pair({ host: "127.0.0.1", port: 0 });
  b.setReceiving(false);
  let again = 0;
  a.onWritable(() => again++);
  for (let i = 0; i < 100_000 && a.writable; i++) {
    a.send(new Uint8Array(60_000));
    if (i % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(a.writable).toBe(false);
  b.close();
  await expect.poll(() => again).toBe(1);
  expect(a.writable).toBe(true);
  a.send(new Uint8Array(60));
});

it("drops a peer that sends no frames, and takes the next", async () => {
  const listener = track(await SocketNet.listen({ host: "127.0.0.1", port: 0 }));
  const bad = await raw(listener);
  bad.on("error", () => {});
  bad.write("GET / HTTP/1.1\r\n\r\n");
  await expect.poll(() => listener.connected).toBe(false);
  await raw(listener);
});

it("connects again when its peer returns", async () => {
  const [first, connector] = await pair({ host: "127.0.0.1", port: 0 });
  const port = first.port ?? 0;
  first.close();
  await expect.poll(() => connector.connected).toBe(false);
  connector.send(new Uint8Array(60));
  track(await SocketNet.listen({ host: "127.0.0.1", port }));
  await expect.poll(() => connector.connected, { timeout: 5000 }).toBe(true);
});

it("reports the address that is in use", async () => {
  const taken = track(await SocketNet.listen({ host: "127.0.0.1", port: 0 }));
  const again = SocketNet.listen({ host: "127.0.0.1", port: taken.port ?? 0 });
  await expect(again).rejects.toThrow(/cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE/);
});
