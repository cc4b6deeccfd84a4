// The user network's TCP against a guest's that was written apart from it, in virtual time: bytes in both
// directions over wires that lose, double and reorder, with windows and segments of all sizes.
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { programSeed, Random } from "../support/random.ts";
import { seed } from "../support/seed.ts";
import { GOOD_WIRE, GuestWire, OWN } from "./guest-wire.ts";
import {
  ACK,
  FIN,
  GuestTcp,
  ip4,
  ipv4Frame,
  readIpv4,
  readTcp,
  RST,
  sumOf,
  SYN,
  tcpPayload,
  type TcpHabits,
  udpPayload,
} from "./fake-guest.ts";
import { type Peer, VirtualHost } from "./virtual-host.ts";
import { UserNetwork } from "../../src/usernet/user-network.ts";

const RUNS = Number(process.env["WHERRY_RUNS"] ?? 60);
const WEB = "198.51.100.7";
const EASY: TcpHabits = { mss: 1460, scale: 4, buffer: 1 << 20, rate: 1e6, keepsEarly: true, rtoMs: 400 };

const bytes = (random: Random, length: number): Buffer =>
  Buffer.from(Uint32Array.from({ length: Math.ceil(length / 4) }, () => random.u32()).buffer).subarray(
    0,
    length,
  );
const hash = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

/** Sends in pieces of random sizes at random times. */
function feed(wire: GuestWire, data: Uint8Array, send: (piece: Uint8Array) => void, end: () => void): void {
  let at = 0;
  const next = (): void => {
    if (at >= data.length) return end();
    const n = Math.min(data.length - at, 1 + wire.random.int(wire.random.pick([10, 2000, 70_000])));
    send(data.subarray(at, at + n));
    at += n;
    wire.host.after(wire.random.int(4), next);
  };
  next();
}

function habits(random: Random): TcpHabits {
  const isScaled = random.int(3) > 0;
  return {
    mss: random.pick([undefined, 88, 536, 1460, 1460, 9000, 65_480]),
    scale: isScaled ? random.int(9) : undefined,
    buffer: random.pick([600, 4096, 30_000, 200_000, 1_000_000]),
    rate: random.pick([50, 2000, 1e6]),
    keepsEarly: random.int(3) > 0,
    rtoMs: 200 + random.int(600),
  };
}

test("bytes arrive whole, in both directions, whatever the wire and the windows are", async () => {
  for (let run = 0; run < RUNS; run++) {
    const own = programSeed(seed, run);
    const random = new Random(own);
    try {
      await exchange(random);
    } catch (error) {
      throw new Error(`WHERRY_SEED=${seed}, run ${run}: ${(error as Error).message}`, { cause: error });
    }
  }
});

async function exchange(random: Random): Promise<void> {
  const wire = random.oneIn(4)
    ? GOOD_WIRE
    : { loss: random.int(8), doubles: random.int(8), delays: random.int(25) };
  const guest = await GuestWire.open(random, {}, wire);
  const inbound = random.oneIn(3);
  const [up, down] = [bytes(random, random.int(120_000)), bytes(random, random.int(120_000))];
  const rate = random.pick([300, 5000, 1e9]);
  let peer: Peer | undefined;
  const started = (it: Peer): void => {
    peer = it;
    it.rate = rate;
    feed(
      guest,
      down,
      (piece) => it.send(piece),
      () => it.endSending(),
    );
  };
  const own = habits(random);
  let client: ReturnType<GuestWire["tcp"]> | undefined;
  const begin = (connection: ReturnType<GuestWire["tcp"]>): void => {
    client = connection;
    feed(
      guest,
      up,
      (piece) => connection.send(piece),
      () => connection.end(),
    );
  };
  if (inbound) {
    guest.onSyn = (segment) => {
      if ((segment.flags & SYN) === 0) return undefined;
      const connection = guest.tcp("10.0.2.2", segment.sourcePort, segment.targetPort, own);
      begin(connection);
      return connection;
    };
    const port = await guest.network.forward("tcp:127.0.0.1:0-:80");
    started(guest.host.dial(port));
  } else {
    guest.host.serve = () => started;
    const connection = guest.tcp(WEB, 80, 40_000, own);
    connection.connect();
    begin(connection);
  }
  await guest.host
    .run(() => client?.isDone === true && peer?.guestEnded === true, 3_600_000)
    .catch((error: Error) => {
      const state = `${client?.state} received ${client?.receivedBytes}/${down.length}, sent ${peer?.takenBytes}/${up.length}`;
      throw new Error(
        `${error.message}; ${state}; ${JSON.stringify({ inbound, wire, own, rate })} ${JSON.stringify(guest.network.connections)}`,
      );
    });
  expect(hash(client!.contents)).toBe(hash(down));
  expect(hash(Buffer.concat(peer!.taken))).toBe(hash(up));
  expect(client!.overrun, "bytes beyond the guest's window").toBeLessThanOrEqual(0);
  await guest.host.pass(120_000);
  expect(guest.network.connections).toEqual([]);
  expect(guest.network.keptBytes).toBe(0);
}

test("a guest that takes large frames gets the same bytes in few, each with its headers' sums", async () => {
  const random = new Random(1);
  const data = bytes(random, 1_000_000);
  const host = new VirtualHost(random);
  const network = await UserNetwork.open(host, {});
  const client = new GuestTcp(host, 4000, 80, EASY, 77, (segment) =>
    network.send(ipv4Frame(6, ip4(OWN), ip4(WEB), tcpPayload(ip4(OWN), ip4(WEB), segment))),
  );
  const sizes: number[] = [];
  network.onFrame((bytes, offload) => {
    const frame = Buffer.from(bytes);
    expect(frame.length).toBeLessThanOrEqual(65_549);
    if (frame[23] !== 6) return;
    // What the guest adds to the pseudo-header's sum makes it whole: readIpv4 checks that.
    frame.writeUInt16BE(sumOf(frame.subarray(34)), 50);
    const segment = readTcp(readIpv4(frame)!.payload);
    const { data: all, flags, seq } = segment;
    expect(offload).toEqual({
      ...{ family: 4, sumStart: 34, sumOffset: 16, headerBytes: 54 },
      segmentBytes: all.length > 1460 ? 1460 : 0,
    });
    if (all.length > 0) sizes.push(all.length);
    for (let at = 0; at === 0 || at < all.length; at += 1460) {
      const isLast = at + 1460 >= all.length;
      const piece = all.subarray(at, at + 1460);
      client.input({ ...segment, seq: (seq + at) >>> 0, data: piece, flags: isLast ? flags : flags & ~FIN });
    }
  });
  network.setOffloads({ checksum: true, segments: { 4: true, 6: true } });
  host.serve = () => (peer) => {
    peer.send(data);
    peer.endSending();
  };
  network.send(
    ipv4Frame(17, ip4(OWN), ip4("10.0.2.2"), udpPayload(ip4(OWN), ip4("10.0.2.2"), 9, 0, Buffer.alloc(0))),
  );
  client.connect();
  client.end();
  await host.run(() => client.isDone, 60_000);
  expect(hash(client.contents)).toBe(hash(data));
  expect(sizes.length).toBeLessThan(100);
  expect(sizes.slice(0, -1).every((size) => size % 1460 === 0)).toBe(true);
});

test("a guest that leaves checksums and segments to the network sends the same bytes", async () => {
  const random = new Random(2);
  const data = bytes(random, 1_000_000);
  const host = new VirtualHost(random);
  const network = await UserNetwork.open(host, {});
  const sizes: number[] = [];
  const client = new GuestTcp(host, 4000, 80, { ...EASY, mss: 60_000 }, 77, (segment) => {
    const payload = tcpPayload(ip4(OWN), ip4(WEB), segment);
    // Nothing is in the field but the pseudo-header's sum; here not even that.
    payload.writeUInt16BE(0, 16);
    sizes.push(segment.data.length);
    network.send(ipv4Frame(6, ip4(OWN), ip4(WEB), payload), { sumStart: 34, sumOffset: 16 });
  });
  network.onFrame((frame) => {
    const ip = readIpv4(frame);
    if (ip?.protocol === 6) client.input(readTcp(ip.payload));
  });
  let peer: Peer | undefined;
  host.serve = () => (it) => {
    peer = it;
    it.take();
    it.endSending();
  };
  client.connect();
  client.send(data);
  client.end();
  await host.run(() => peer?.guestEnded === true && client.isDone, 60_000);
  expect(hash(Buffer.concat(peer!.taken))).toBe(hash(data));
  expect(Math.max(...sizes)).toBeGreaterThan(1460);
});

test("a checksum that belongs to a packet inside of a datagram is added to that", async () => {
  const host = new VirtualHost(new Random(3));
  const network = await UserNetwork.open(host, {});
  const [own, web] = [ip4(OWN), ip4(WEB)];
  const inner = Buffer.from("0000123400005678", "hex");
  const payload = udpPayload(own, web, 9, 4789, inner);
  network.send(ipv4Frame(17, own, web, payload), { sumStart: 34 + 8, sumOffset: 4 });
  const [sent] = host.datagramSockets.flatMap((socket) => socket.sent);
  // Of the datagram itself, no checksum is made up: with the inner one it is not right any more.
  expect(sent).toBeUndefined();
  payload.writeUInt16BE(0, 6);
  network.send(ipv4Frame(17, own, web, payload), { sumStart: 34 + 8, sumOffset: 4 });
  const [datagram] = host.datagramSockets.flatMap((socket) => socket.sent.map(([data]) => data));
  expect(Buffer.from(datagram!, "latin1").readUInt16BE(4)).toBe(sumOf(inner));
});

test("a guest that does not read stops the host's end; memory is bounded, and it goes on later", async () => {
  const random = new Random(1);
  const guest = await GuestWire.open(random);
  let peer: Peer | undefined;
  const data = bytes(random, 8 << 20);
  guest.host.serve = () => (it) => {
    peer = it;
    for (let at = 0; at < data.length; at += 65_536) it.send(data.subarray(at, at + 65_536));
    it.endSending();
  };
  const client = guest.tcp(WEB, 80, 40_000, { ...EASY, buffer: 5000, rate: 1e9 });
  client.connect();
  await guest.host.run(() => client.receivedBytes > 0, 1000);
  guest.network.setReceiving(false);
  await guest.host.pass(600_000);
  expect(peer?.isReading).toBe(false);
  expect(guest.network.keptBytes).toBeLessThan(600_000);
  guest.network.setReceiving(true);
  await guest.host.run(() => client.receivedBytes === data.length, 1e7);
  expect(hash(client.contents)).toBe(hash(data));
});

test("a host that does not take bytes closes the guest's window", async () => {
  const random = new Random(2);
  const guest = await GuestWire.open(random);
  let peer: Peer | undefined;
  guest.host.serve = () => (it) => {
    it.rate = 0;
    peer = it;
  };
  const client = guest.tcp(WEB, 80, 40_000, EASY);
  client.connect();
  const data = bytes(random, 3 << 20);
  client.send(data);
  await guest.host.pass(60_000);
  expect(peer!.unsent).toBeGreaterThan(100_000);
  expect(peer!.unsent).toBeLessThan(700_000);
  peer!.rate = 1e9;
  peer!.take();
  await guest.host.run(() => peer!.takenBytes === data.length, 1e7);
  expect(hash(Buffer.concat(peer!.taken))).toBe(hash(data));
});

test("half-closed connections carry on in the other direction", async () => {
  const guest = await GuestWire.open(new Random(3));
  let peer: Peer | undefined;
  guest.host.serve = () => (it) => {
    peer = it;
  };
  const client = guest.tcp(WEB, 80, 40_000, EASY);
  client.connect();
  client.send(Buffer.from("GET"));
  client.end();
  await guest.host.run(() => peer?.guestEnded === true, 5000);
  await guest.host.pass(100_000);
  peer!.send(Buffer.from("answer"));
  await guest.host.run(() => client.receivedBytes === 6, 5000);
  peer!.endSending();
  await guest.host.run(() => client.isDone, 5000);
  await guest.host.pass(5000);
  expect(guest.network.connections).toEqual([]);
});

test("a refusal, an error and a reset of the host reset the guest; the guest's resets the host", async () => {
  const guest = await GuestWire.open(new Random(4));
  const peers: Peer[] = [];
  guest.host.serve = (_, port) => (port === 80 ? (it) => void peers.push(it) : undefined);
  const refused = guest.tcp(WEB, 81, 40_001, EASY);
  refused.connect();
  const failed = guest.tcp(WEB, 80, 40_002, EASY);
  failed.connect();
  const own = guest.tcp(WEB, 80, 40_003, EASY);
  own.connect();
  await guest.host.pass(100);
  expect([refused.state, failed.state, own.state]).toEqual(["reset", "open", "open"]);
  peers[0]!.fail("ECONNRESET");
  own.reset();
  await guest.host.pass(100);
  expect(failed.state).toBe("reset");
  expect(peers[1]!.wasReset).toBe(true);
  expect(guest.network.connections).toEqual([]);
});

test("last bytes that the host does not take are kept, and counted, for two minutes", async () => {
  const guest = await GuestWire.open(new Random(8));
  let peer: Peer | undefined;
  guest.host.serve = () => (it) => {
    it.rate = 0;
    peer = it;
    it.endSending();
  };
  const client = guest.tcp(WEB, 80, 40_000, EASY);
  client.connect();
  client.send(bytes(guest.random, 100_000));
  client.end();
  await guest.host.run(() => client.isDone, 10_000);
  await guest.host.pass(60_000);
  expect(guest.network.connections).toHaveLength(1);
  expect(guest.network.keptBytes).toBe(100_000);
  await guest.host.pass(90_000);
  expect(guest.network.connections).toEqual([]);
  expect(guest.network.keptBytes).toBe(0);
  expect(peer!.wasReset).toBe(true);
});

test("segments of unknown connections are reset, but no reset is answered", async () => {
  const guest = await GuestWire.open(new Random(5));
  const send = (flags: number, data = ""): void => {
    const segment = {
      sourcePort: 5,
      targetPort: 80,
      seq: 1000,
      ack: 2000,
      flags,
      window: 1000,
      data: Buffer.from(data),
    };
    guest.send(ipv4Frame(6, ip4(OWN), ip4(WEB), tcpPayload(ip4(OWN), ip4(WEB), segment)));
  };
  send(ACK, "hello");
  send(FIN | ACK);
  send(RST | ACK);
  await guest.host.pass(100);
  expect(guest.stray.map(({ seq, ack, flags, source }) => ({ seq, ack, flags, source }))).toEqual([
    { seq: 2000, ack: 1005, flags: RST | ACK, source: WEB },
    { seq: 2000, ack: 1001, flags: RST | ACK, source: WEB },
  ]);
});

test("a guest that is gone is probed after two hours, and given up", async () => {
  const guest = await GuestWire.open(new Random(6));
  let peer: Peer | undefined;
  guest.host.serve = () => (it) => {
    peer = it;
  };
  const client = guest.tcp(WEB, 80, 40_000, EASY);
  client.connect();
  await guest.host.pass(8_000_000);
  // It answers the probes.
  expect(guest.network.connections).toHaveLength(1);
  guest.connections.length = 0;
  guest.onSyn = () => client;
  client.forget = () => {};
  client.input = () => {};
  await guest.host.pass(8_000_000);
  expect(guest.network.connections).toEqual([]);
  expect(peer!.wasReset).toBe(true);
});

test("thousands of connections; one more is refused", async () => {
  const guest = await GuestWire.open(new Random(7));
  guest.host.serve = () => (it) => it.send(Buffer.from("x"));
  const open = async (n: number, first: number): Promise<void> => {
    for (let i = 0; i < n; i++) {
      const segment = {
        sourcePort: first + i,
        targetPort: 80,
        seq: 1,
        ack: 0,
        flags: SYN,
        window: 1000,
        data: Buffer.alloc(0),
      };
      guest.send(ipv4Frame(6, ip4(OWN), ip4(WEB), tcpPayload(ip4(OWN), ip4(WEB), segment)));
    }
    await guest.host.pass(200);
  };
  await open(4096, 1000);
  expect(guest.network.connections).toHaveLength(4096);
  guest.stray.length = 0;
  await open(1, 60_000);
  expect(guest.network.connections).toHaveLength(4096);
  expect(guest.stray.find(({ targetPort }) => targetPort === 60_000)?.flags).toBe(RST | ACK);
  guest.network.close();
  expect(guest.network.keptBytes).toBe(0);
});
