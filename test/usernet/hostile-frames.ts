// A hostile guest: random sequences of frames, most of them nearly right, to a user network whose rules allow
// little. A case is its seed and number. It throws what it finds: an exception, a place reached that is not
// allowed, memory beyond the bounds, a wrong frame, something left after the end.
import { programSeed, Random } from "../support/random.ts";
import { offloadOf, wholeFrames } from "../../src/devices/virtio/frames/frame-segments.ts";
import { UserNetwork } from "../../src/usernet/user-network.ts";
import type { UserNetOptions } from "../../src/usernet/user-network-options.ts";
import { GUEST_MAC, ip4, ipv4Frame, readIpv4, sumOf, tcpPayload, udpPayload } from "./fake-guest.ts";
import { type Peer, VirtualHost } from "./virtual-host.ts";

export const FRAMES_OF_A_CASE = 250;
const OWN = ip4("10.0.2.15");
const NAMED = "198.51.100.7";
/** All that may be reached. */
const ALLOWED: UserNetOptions = { allow: ["203.0.113.0/24:80", "ok.example:443", "10.0.2.2:8080"] };
const REACHABLE = [/^203\.0\.113\.\d+ 80$/, new RegExp(`^${NAMED} 443$`), /^127\.0\.0\.1 8080$/];
const TARGETS = ["203.0.113.9", NAMED, "10.0.2.2", "10.0.2.3", "10.0.2.15", "10.0.2.255", "255.255.255.255"];
// A name that resolves to these opens nothing.
const OF_THE_HOST = ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "192.0.2.77"];
const OTHER_TARGETS = [...OF_THE_HOST, "8.8.8.8"];
const PORTS = [80, 443, 8080, 53, 67, 68, 0, 65_535];

const bytes = (random: Random, length: number): Buffer =>
  Buffer.from(Uint32Array.from({ length: (length >> 2) + 1 }, () => random.u32()).buffer).subarray(0, length);

interface Known {
  seq: number;
  ack: number;
  port: number;
  target: Buffer;
  targetPort: number;
}

export async function runHostileCase(seed: number, index: number): Promise<void> {
  const random = new Random(programSeed(seed, index));
  const host = new VirtualHost(random);
  const peers: Peer[] = [];
  host.serve = (_, port) =>
    random.oneIn(6)
      ? undefined
      : (peer) => {
          peers.push(peer);
          peer.rate = random.pick([0, 10, 1e9]);
          peer.take();
          if (port !== 443) peer.send(bytes(random, random.pick([1, 3000, 100_000])));
          if (random.oneIn(3)) peer.endSending();
        };
  host.names = async (query) => {
    if (random.oneIn(5)) return bytes(random, random.int(80));
    const head = Buffer.from(query);
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(2, 6);
    const record = (address: string): Buffer =>
      Buffer.concat([Buffer.from("c00c000100010000003c0004", "hex"), ip4(address)]);
    return Buffer.concat([head, record(NAMED), record(random.pick(OF_THE_HOST))]);
  };
  const network = await UserNetwork.open(host, { ...ALLOWED, hostfwd: ["tcp:127.0.0.1:7000-:22"] });
  const known: Known[] = [];
  network.onFrame((frame) => {
    const ip = readIpv4(frame);
    if (ip?.protocol !== 6) return;
    const { payload } = ip;
    const flags = payload[13]!;
    const [port, targetPort] = [payload.readUInt16BE(2), payload.readUInt16BE(0)];
    const seq = payload.readUInt32BE(8);
    const length = payload.length - (payload[12]! >> 4) * 4;
    const ack = (payload.readUInt32BE(4) + length + (flags & 3 ? 1 : 0)) >>> 0;
    const there = known.find((each) => each.port === port && each.targetPort === targetPort);
    if (there !== undefined) Object.assign(there, { seq: flags & 16 ? seq : there.seq, ack });
    else known.push({ seq, ack, port, target: ip4(ip.source), targetPort });
    if (known.length > 30) known.shift();
  });
  for (let i = 0; i < FRAMES_OF_A_CASE; i++) {
    if (random.oneIn(40)) network.setReceiving(random.oneIn(2));
    if (random.oneIn(60)) host.dial(7000);
    if (random.oneIn(50)) peers[random.int(peers.length || 1)]?.fail("ECONNRESET");
    sendFrom(random, network, frameOf(random, known));
    if (random.oneIn(3)) await host.pass(random.pick([0, 1, 5, 400]));
    if (network.keptBytes > 80 << 20 || network.keptBytes < 0)
      throw new Error(`${network.keptBytes} bytes kept`);
  }
  network.setReceiving(true);
  await host.pass(500);
  const reached = [
    ...host.attempts,
    ...host.datagramSockets.flatMap(({ sent }) => sent.map(([, address, port]) => `${address} ${port}`)),
  ];
  const wrong = reached.find((place) => !REACHABLE.some((pattern) => pattern.test(place)));
  if (wrong !== undefined) throw new Error(`${wrong} was reached`);
  network.close();
  if (network.keptBytes !== 0 || network.connections.length > 0)
    throw new Error(`${network.keptBytes} bytes and ${network.connections.length} connections after the end`);
}

/** As the card sends it, with its checksum or, also where that fits nothing, without. */
function sendFrom(random: Random, network: UserNetwork, frame: Buffer): void {
  if (frame.length < 14 || random.oneIn(2)) return network.send(frame);
  const header = new DataView(new ArrayBuffer(12));
  const isLarge = random.oneIn(3);
  header.setUint8(0, random.oneIn(10) ? random.int(256) : 1);
  header.setUint8(1, isLarge ? random.pick([1, 1, 4, 0x81, 3, random.int(256)]) : 0);
  header.setUint16(2, random.int(65_536), true);
  header.setUint16(4, isLarge ? random.pick([0, 1, 8, 100, 1448, 65_535]) : 0, true);
  header.setUint16(6, random.pick([34, 34, 54, 14, 38, 0, random.int(100), random.int(65_536)]), true);
  header.setUint16(8, random.pick([16, 16, 6, 2, 0, random.int(65_536)]), true);
  const offload = offloadOf(header, frame);
  if (offload === "invalid") return;
  if (offload === undefined || !random.oneIn(4)) return network.send(frame, offload);
  let segments = 0;
  for (const each of wholeFrames(frame, offload)) {
    if (each.length > frame.length || segments++ > frame.length / 8) throw new Error("more than was sent");
    network.send(each);
  }
}

function frameOf(random: Random, known: readonly Known[]): Buffer {
  const frame = random.weighted<() => Buffer>([
    [50, () => tcpFrame(random, known)],
    [12, () => udpFrame(random)],
    [6, () => dnsFrame(random)],
    [4, () => dhcpFrame(random)],
    [4, () => fragment(random)],
    [6, () => ipv6Frame(random)],
    [
      4,
      () =>
        ipv4Frame(
          random.pick([1, 2, 4, 41, 58]),
          OWN,
          ip4(random.pick(TARGETS)),
          bytes(random, random.int(60)),
        ),
    ],
    [
      4,
      () =>
        Buffer.concat([
          Buffer.alloc(6, 255),
          GUEST_MAC,
          Buffer.from("0806000108000604000", "hex"),
          bytes(random, random.int(40)),
        ]),
    ],
    [4, () => bytes(random, random.int(120))],
  ])();
  // Damage, mostly found by a checksum; padding; a cut.
  if (random.oneIn(8) && frame.length > 0) frame[random.int(frame.length)] = random.int(256);
  if (random.oneIn(20)) return Buffer.concat([frame, Buffer.alloc(random.int(2000))]);
  return random.oneIn(20) ? frame.subarray(0, random.int(frame.length + 1)) : frame;
}

const place = (random: Random): [Buffer, number] => [
  ip4(random.oneIn(4) ? random.pick(OTHER_TARGETS) : random.pick(TARGETS)),
  random.pick(PORTS),
];
const source = (random: Random): Buffer =>
  random.oneIn(12) ? bytes(random, 4) : random.oneIn(12) ? ip4("10.0.2.2") : OWN;

function tcpFrame(random: Random, known: readonly Known[]): Buffer {
  const one = known.length > 0 && !random.oneIn(4) ? random.pick(known) : undefined;
  const [target, targetPort] = one === undefined ? place(random) : [one.target, one.targetPort];
  const near = (value: number): number =>
    value + random.pick([0, 0, 0, 0, 1, -1, random.int(70_000), -random.int(5000), random.u32()]);
  const isSyn = one === undefined || random.oneIn(15);
  const flags = random.oneIn(10)
    ? random.int(64)
    : isSyn
      ? 2
      : 16 | random.pick([0, 0, 8, 1, random.oneIn(4) ? 4 : 0]);
  const from = source(random);
  const segment = {
    sourcePort: one?.port ?? random.int(65_536),
    targetPort,
    seq: near(one?.seq ?? random.u32()),
    ack: near(one?.ack ?? 0),
    flags,
    window: random.pick([0, 1, 100, 65_535, random.int(65_536)]),
    options: isSyn ? synOptions(random) : undefined,
    data: bytes(random, random.pick([0, 0, 1, 100, random.int(3000)])),
  };
  return ipv4Frame(6, from, target, tcpPayload(from, target, segment));
}

function synOptions(random: Random): Buffer {
  const options = random.pick([
    Buffer.from([2, 4, 5, 180, 1, 3, 3, random.int(256)]),
    Buffer.from([2, 4, 0, 0]),
    Buffer.from([2, 0, 3, 1]),
    bytes(random, 40),
    Buffer.alloc(0),
  ]);
  return options;
}

function udpFrame(random: Random): Buffer {
  const [target, port] = place(random);
  const from = source(random);
  const payload = udpPayload(from, target, random.int(65_536), port, bytes(random, random.int(100)));
  if (random.oneIn(6)) payload.writeUInt16BE(random.int(65_536), 4);
  return ipv4Frame(17, from, target, payload);
}

function dnsFrame(random: Random): Buffer {
  const name = random.pick(["ok.example", "evil.example", "x.ok.example"]);
  const labels = name.split(".").flatMap((label) => [Buffer.from([label.length]), Buffer.from(label)]);
  const query = Buffer.concat([
    Buffer.from("abcd01000001000000000000", "hex"),
    ...labels,
    Buffer.from([0, 0, 1, 0, 1]),
  ]);
  if (random.oneIn(3)) query[random.int(query.length)] = random.pick([0, 0xc0, 0xff, 63, random.int(256)]);
  const target = ip4("10.0.2.3");
  return ipv4Frame(17, OWN, target, udpPayload(OWN, target, 1024 + random.int(100), 53, query));
}

function dhcpFrame(random: Random): Buffer {
  const fixed = Buffer.alloc(240);
  fixed.set([random.oneIn(9) ? 2 : 1, 1, 6]);
  fixed.set(random.oneIn(2) ? GUEST_MAC : bytes(random, 6), 28);
  fixed.writeUInt32BE(0x63825363, 236);
  const options = random.oneIn(3)
    ? bytes(random, random.int(60))
    : Buffer.from([53, 1, 1 + random.int(8), 50, 4, 10, 0, 2, random.int(256), 255]);
  const [none, all] = [ip4("0.0.0.0"), ip4("255.255.255.255")];
  return ipv4Frame(17, none, all, udpPayload(none, all, 68, 67, Buffer.concat([fixed, options])));
}

function fragment(random: Random): Buffer {
  const [target] = place(random);
  const flags = random.pick([0x2000, 0x2000, 0]) | random.pick([0, 1, 10, 185, random.int(0x2000)]);
  const payload = bytes(random, 8 * random.int(200));
  return ipv4Frame(17, OWN, target, payload, { flags, id: random.int(4) });
}

function ipv6Frame(random: Random): Buffer {
  const own = Buffer.from(
    random.oneIn(2) ? "fec0000000000000505400fffe123456" : "fe80000000000000505400fffe123456",
    "hex",
  );
  const target = Buffer.from(
    random.pick([
      "fec00000000000000000000000000002",
      "fec00000000000000000000000000003",
      "00000000000000000000ffff7f000001",
      "00000000000000000000000000000001",
      "ff020000000000000000000000000002",
      "20010db8000000000000000000000001",
    ]),
    "hex",
  );
  const protocol = random.pick([58, 58, 6, 17, 0, 43, 44]);
  const payload = bytes(random, random.int(80));
  if (protocol === 58 && payload.length > 0) payload[0] = random.pick([128, 133, 135, 136]);
  if (payload.length >= 20 && protocol !== 44) {
    const at = protocol === 58 ? 2 : protocol === 6 ? 16 : 6;
    if (protocol === 6) {
      payload[12] = 0x50;
      payload[13] = 2;
      payload.writeUInt16BE(random.pick(PORTS), 2);
    }
    if (protocol === 17) payload.writeUInt16BE(payload.length, 4);
    payload.writeUInt16BE(0, at);
    const pseudo = Buffer.concat([own, target, Buffer.from([0, 0, 0, payload.length, 0, 0, 0, protocol])]);
    payload.writeUInt16BE(sumOf(pseudo, payload), at);
  }
  const head = Buffer.from([0x60, 0, 0, 0, 0, payload.length, protocol, random.oneIn(9) ? 64 : 255]);
  return Buffer.concat([
    Buffer.from("333300000002", "hex"),
    GUEST_MAC,
    Buffer.from("86dd", "hex"),
    head,
    own,
    target,
    payload,
  ]);
}
