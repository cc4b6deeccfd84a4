// The user network's platform in Node, with real sockets of the loopback: streams both ways with
// back-pressure and half-closed, refusals and resets, datagrams, and names by UDP, TCP and the system.
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import type { NetStream, StreamEvents } from "../../usernet/transport/net-platform.ts";
import { answeredAddresses, parseQuestion } from "../../usernet/wire/dns-message.ts";
import { resolveMessage } from "./host-resolver.ts";
import { nodeNetPlatform } from "./node-net-platform.ts";

const platform = nodeNetPlatform(String);
const open: { close(): unknown }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

async function serve(onSocket: (socket: Socket) => void): Promise<number> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    onSocket(socket);
  });
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

class Recorder implements StreamEvents {
  readonly log: string[] = [];
  received = 0;
  connected = (): void => void this.log.push("connected");
  data = (bytes: Uint8Array): void => void (this.received += bytes.length);
  ended = (): void => void this.log.push("ended");
  sent = (): void => {};
  closed = (error?: string): void => void this.log.push(`closed ${error ?? "well"}`);
}

test("streams carry bytes both ways, wait for their reader, and are closed one direction at a time", async () => {
  let theirs: Socket | undefined;
  let got = 0;
  const port = await serve((socket) => {
    theirs = socket;
    socket.pause();
    socket.on("data", (bytes) => (got += bytes.length));
    socket.on("end", () => socket.end("bye"));
  });
  const events = new Recorder();
  const stream = platform.connect("127.0.0.1", port, events);
  await expect.poll(() => theirs).toBeDefined();
  // More than the system's buffers hold.
  const block = new Uint8Array(1 << 20);
  for (let i = 0; i < 32; i++) stream.write(block);
  for (let i = 0; i < 1000; i++) stream.write(Uint8Array.of(1));
  expect(stream.unsent).toBeGreaterThan(16 << 20);
  stream.end();
  theirs!.resume();
  await expect.poll(() => got, { timeout: 20_000 }).toBe((32 << 20) + 1000);
  await expect.poll(() => events.log, { timeout: 20_000 }).toEqual(["connected", "ended", "closed well"]);
  expect(stream.unsent).toBe(0);
  expect(events.received).toBe(3);
});

test("a stream that is not read makes its peer wait", async () => {
  let written = 0;
  const port = await serve((socket) => {
    const more = (): void => {
      while (written < 64 << 20 && socket.write(Buffer.alloc(1 << 20))) written += 1 << 20;
      socket.once("drain", more);
    };
    more();
  });
  const events = new Recorder();
  const stream = platform.connect("127.0.0.1", port, events);
  stream.setReading(false);
  await expect.poll(() => events.log).toEqual(["connected"]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(events.received).toBeLessThan(1 << 20);
  stream.setReading(true);
  await expect.poll(() => events.received, { timeout: 20_000 }).toBeGreaterThanOrEqual(64 << 20);
  stream.reset();
});

test("refusals and resets are told, and a reset resets the peer", async () => {
  const refused = new Recorder();
  const gone = await platform.listen("127.0.0.1", 0, () => undefined);
  gone.close();
  platform.connect("127.0.0.1", gone.port, refused);
  await expect.poll(() => refused.log).toEqual(["closed ECONNREFUSED"]);

  let theirs: Socket | undefined;
  const port = await serve((socket) => {
    theirs = socket;
  });
  const cut = new Recorder();
  platform.connect("127.0.0.1", port, cut);
  await expect.poll(() => theirs).toBeDefined();
  theirs!.resetAndDestroy();
  await expect.poll(() => cut.log).toEqual(["connected", "closed ECONNRESET"]);

  theirs = undefined;
  const own = new Recorder();
  const stream = platform.connect("127.0.0.1", port, own);
  await expect.poll(() => theirs).toBeDefined();
  const error = new Promise<NodeJS.ErrnoException>((resolve) => theirs!.once("error", resolve));
  stream.reset();
  expect((await error).code).toBe("ECONNRESET");
  expect(own.log).toEqual(["connected"]);
});

test("a listener gives streams; a second one on its port is refused with the reason", async () => {
  let accepted: NetStream | undefined;
  const events = new Recorder();
  const listener = await platform.listen("127.0.0.1", 0, (stream) => {
    accepted = stream;
    return events;
  });
  open.push(listener);
  await expect(platform.listen("127.0.0.1", listener.port, () => undefined)).rejects.toThrow(/EADDRINUSE/);
  const client = new Recorder();
  const stream = platform.connect("127.0.0.1", listener.port, client);
  stream.write(new Uint8Array(5));
  await expect.poll(() => events.received).toBe(5);
  accepted!.write(new Uint8Array(7));
  await expect.poll(() => client.received).toBe(7);
  stream.reset();
  await expect.poll(() => events.log).toEqual(["closed ECONNRESET"]);
});

test("datagrams go out and come back", async () => {
  const got: string[] = [];
  const bound = await platform.bindDatagrams("127.0.0.1", 0, (bytes, address, port) => {
    got.push(Buffer.from(bytes).toString());
    bound.send(Buffer.from("pong"), address, port);
  });
  open.push(bound);
  const answers: string[] = [];
  const socket = platform.datagrams(4, (bytes) => answers.push(Buffer.from(bytes).toString()));
  open.push(socket);
  // A datagram can come from port 0, and be answered: Node throws for it.
  bound.send(Buffer.from("lost"), "127.0.0.1", 0);
  socket.send(Buffer.from("ping"), "127.0.0.1", bound.port);
  await expect.poll(() => answers).toEqual(["pong"]);
  expect(got).toEqual(["ping"]);
});

const query = Buffer.from("abcd01000001000000000000036f6e65076578616d706c650000010001", "hex");

/** A DNS server: by UDP its answer, or its head if `cut`; by TCP all of it. */
async function nameServer(cut: boolean): Promise<number> {
  const answer = (bytes: Buffer): Buffer =>
    Buffer.concat([
      bytes.subarray(0, 2),
      Buffer.from("8180000100010000000000", "hex").subarray(0, 10),
      bytes.subarray(12),
      Buffer.from("c00c000100010000003c0004c0000201", "hex"),
    ]);
  const port = await serve((socket) =>
    socket.on("data", (bytes) => {
      const whole = answer(bytes.subarray(2));
      socket.end(Buffer.concat([Buffer.of(whole.length >> 8, whole.length & 255), whole]));
    }),
  );
  const udp: UdpSocket = createSocket("udp4");
  open.push(udp);
  udp.on("message", (bytes, from) => {
    const whole = answer(bytes);
    if (cut) whole[2]! |= 2;
    udp.send(cut ? whole.subarray(0, bytes.length) : whole, from.port, from.address);
  });
  await new Promise<void>((resolve) => udp.bind(port, "127.0.0.1", resolve));
  return port;
}

test.each([false, true])("names are asked by UDP, and by TCP if the answer is cut (%s)", async (cut) => {
  const port = await nameServer(cut);
  const answer = await resolveMessage(query, [{ host: "127.0.0.1", port }]);
  expect(Buffer.from(answer!.subarray(0, 2)).toString("hex")).toBe("abcd");
  expect(answeredAddresses(answer!, parseQuestion(query)!)).toEqual([
    { address: "192.0.2.1", ttlSeconds: 60 },
  ]);
});

test("a server that cannot be sent to is passed over", async () => {
  const broadcast = { host: "255.255.255.255", port: 53 };
  const port = await nameServer(false);
  const answer = await resolveMessage(query, [broadcast, { host: "127.0.0.1", port }]);
  expect(answeredAddresses(answer!, parseQuestion(query)!)).toHaveLength(1);
});

test("without a server, the system knows its own names", async () => {
  const localhost = Buffer.from("123401000001000000000000096c6f63616c686f73740000010001", "hex");
  const answer = await resolveMessage(localhost, []);
  expect(answeredAddresses(answer!, parseQuestion(localhost)!).map(({ address }) => address)).toEqual([
    "127.0.0.1",
  ]);
});
