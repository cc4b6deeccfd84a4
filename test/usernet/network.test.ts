// The user network's services, frame by frame: ARP, echo, DHCP, neighbour discovery, names, UDP, forwarded
// ports, and what a guest may not reach.
import { expect, test } from "vitest";
import { parseForward, parseRule } from "../../src/usernet/net-rules.ts";
import { userNetConfig } from "../../src/usernet/user-network-options.ts";
import type { ConnectionEvent } from "../../src/usernet/connection-log.ts";
import { EthernetSwitch, plug } from "../../src/usernet/ethernet-switch.ts";
import { ipText, parseIp } from "../../src/usernet/wire/ip-address.ts";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { SavedNetwork } from "../../src/usernet/saved-network.ts";
import { UserNetwork } from "../../src/usernet/user-network.ts";
import { UserNetworkEnd } from "../../src/usernet/user-network-end.ts";
import { Random } from "../support/random.ts";
import {
  ACK,
  GUEST_MAC,
  ip4,
  ipv4Frame,
  readIpv4,
  readTcp,
  RST,
  sumOf,
  type TcpHabits,
  tcpPayload,
  udpPayload,
} from "./fake-guest.ts";
import { carry, connected, GuestWire, OWN } from "./guest-wire.ts";
import { VirtualHost } from "./virtual-host.ts";

const WEB = "198.51.100.7";
const EASY: TcpHabits = { mss: 1460, scale: 4, buffer: 1 << 20, rate: 1e6, keepsEarly: true, rtoMs: 400 };
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ""), "hex");
const open = (options = {}): Promise<GuestWire> => GuestWire.open(new Random(1), options);

test("addresses are read and written as RFC 5952 has them", () => {
  for (const text of ["::", "::1", "fec0::2", "2001:db8::1:0:0:1", "1:2:3:4:5:6:7:8", "10.0.2.15"])
    expect(ipText(parseIp(text)!)).toBe(text);
  expect(ipText(parseIp("::ffff:192.0.2.1")!)).toBe("::ffff:c000:201");
  for (const text of [
    "",
    "1.2.3",
    "1.2.3.256",
    ":::",
    "1::2::3",
    "12345::",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
  ])
    expect(parseIp(text), text).toBeUndefined();
});

test("ARP and echo are answered for the gateway and the name server, and for nobody else", async () => {
  const guest = await open();
  const ask = (last: string): void =>
    guest.send(
      Buffer.concat([
        hex("ffffffffffff"),
        GUEST_MAC,
        hex("0806 0001 0800 06 04 0001"),
        GUEST_MAC,
        hex("0a00020f 000000000000 0a0002"),
        hex(last),
      ]),
    );
  for (const last of ["02", "03", "04", "0f"]) ask(last);
  await guest.host.pass(5);
  const replies = guest.frames.map((frame) => Buffer.from(frame).subarray(20, 42).toString("hex"));
  expect(replies).toEqual([
    "000252550a0002020a0002025254001234560a00020f",
    "000252550a0002020a0002035254001234560a00020f",
  ]);
  guest.frames.length = 0;
  const echo = Buffer.concat([hex("0800 0000 0001 0001"), Buffer.from("payload")]);
  echo.writeUInt16BE(sumOf(echo), 2);
  guest.send(ipv4Frame(1, ip4(OWN), ip4("10.0.2.2"), echo));
  guest.send(ipv4Frame(1, ip4(OWN), ip4(WEB), echo));
  await guest.host.pass(5);
  const [pong, prohibited] = guest.frames.map((frame) => readIpv4(frame)!);
  expect(pong!.payload[0]).toBe(0);
  expect(pong!.payload.subarray(8).toString()).toBe("payload");
  expect([...prohibited!.payload.subarray(0, 2)]).toEqual([3, 13]);
});

function dhcp(type: number, mac = GUEST_MAC as Uint8Array, more = ""): Buffer {
  const fixed = Buffer.alloc(240);
  fixed.set([1, 1, 6]);
  fixed.writeUInt32BE(0x1234, 4);
  fixed.set(mac, 28);
  fixed.writeUInt32BE(0x63825363, 236);
  const message = Buffer.concat([fixed, Buffer.from([53, 1, type]), hex(more), Buffer.from([255])]);
  const [none, all] = [ip4("0.0.0.0"), ip4("255.255.255.255")];
  return ipv4Frame(17, none, all, udpPayload(none, all, 68, 67, message), {
    from: mac,
    to: hex("ffffffffffff"),
  });
}
const reply = (frame: Uint8Array): { type: number; address: string; options: Map<number, string> } => {
  const message = readIpv4(frame)!.payload.subarray(8);
  const options = new Map<number, string>();
  for (let at = 240; message[at] !== 255; at += 2 + message[at + 1]!)
    options.set(message[at]!, message.subarray(at + 2, at + 2 + message[at + 1]!).toString("hex"));
  return {
    type: Number.parseInt(options.get(53)!, 16),
    address: message.subarray(16, 20).join("."),
    options,
  };
};

test("DHCP gives each guest an address for ever, and lets one keep the address that it has", async () => {
  const guest = await open({ hostname: "vm", dnssearch: ["a.example"], mtu: 1500 });
  guest.network.onFrame((frame) => guest.frames.push(frame));
  const other = hex("525400aaaaaa");
  const third = hex("525400bbbbbb");
  guest.send(dhcp(1));
  guest.send(dhcp(3, GUEST_MAC, "3604 0a000202 3204 0a00020f"));
  guest.send(dhcp(1, other));
  guest.send(dhcp(3, third, "3204 0a000242"));
  guest.send(dhcp(3, other, "3204 0a000242"));
  guest.send(dhcp(3, other, "3604 0a000207"));
  await guest.host.pass(5);
  const replies = guest.frames.map(reply);
  expect(replies.map(({ type, address }) => `${type} ${address}`)).toEqual([
    "2 10.0.2.15",
    "5 10.0.2.15",
    "2 10.0.2.16",
    "5 10.0.2.66",
    "6 0.0.0.0",
  ]);
  const { options } = replies[1]!;
  expect(Object.fromEntries(options)).toEqual({
    ...{ 53: "05", 54: "0a000202", 1: "ffffff00", 28: "0a0002ff", 3: "0a000202", 6: "0a000203" },
    ...{ 51: "00015180", 26: "05dc", 12: "766d", 119: "01610765 78616d706c6500".replace(" ", "") },
  });
});

test("a router advertisement tells prefix, name server and MTU; neighbours are answered", async () => {
  const guest = await open();
  const [own, gateway] = [parseIp("fe80::5054:ff:fe12:3456")!, parseIp("fec0::2")!];
  const ip6 = (target: Uint8Array, payload: Buffer): Buffer => {
    const pseudo = Buffer.concat([own, target, Buffer.from([0, 0, 0, payload.length, 0, 0, 0, 58])]);
    payload.writeUInt16BE(sumOf(pseudo, payload), 2);
    const head = Buffer.concat([hex("60000000"), Buffer.from([0, payload.length, 58, 255])]);
    return Buffer.concat([hex("333300000002"), GUEST_MAC, hex("86dd"), head, own, target, payload]);
  };
  guest.send(ip6(parseIp("ff02::2")!, hex("8500 0000 00000000")));
  guest.send(ip6(parseIp("ff02::1:ff00:2")!, Buffer.concat([hex("8700 0000 00000000"), gateway])));
  await guest.host.pass(5);
  const [advertisement, neighbour] = guest.frames.map((frame) =>
    Buffer.from(frame).subarray(54).toString("hex"),
  );
  expect(advertisement).toMatch(/^8600....40002328/);
  expect(advertisement).toContain("030440c0ffffffffffffffff00000000fec00000000000000000000000000000");
  expect(advertisement).toContain("05010000" + "0000fff0");
  expect(advertisement).toContain("19030000ffffffff" + "fec00000000000000000000000000003");
  expect(neighbour).toMatch(/^8800....e0000000fec0000000000000000000000000000202010?/);
});

const question = (name: string, type = 1): Buffer =>
  Buffer.concat([
    hex("abcd 0100 0001 0000 0000 0000"),
    ...name.split(".").flatMap((label) => [Buffer.from([label.length]), Buffer.from(label)]),
    Buffer.from([0, 0, type, 0, 1]),
  ]);
const answer = (query: Uint8Array, ...addresses: string[]): Buffer => {
  const head = Buffer.from(query);
  head.writeUInt16BE(0x8180, 2);
  head.writeUInt16BE(addresses.length, 6);
  return Buffer.concat([
    head,
    ...addresses.map((a) => Buffer.concat([hex("c00c 0001 0001 0000003c 0004"), ip4(a)])),
  ]);
};

test("names are relayed; an allow-list holds names as resolved, addresses and ports, and nothing else", async () => {
  const guest = await open({ allow: ["deb.example:80", "*.ok.example", "203.0.113.0/24:443"] });
  const log: ConnectionEvent[] = [];
  guest.network.onConnection((event) => log.push(event));
  const asked: string[] = [];
  guest.host.names = async (query) => {
    asked.push(Buffer.from(query).subarray(13, 16).toString());
    return answer(query, WEB, "127.0.0.1", "169.254.169.254");
  };
  guest.host.serve = () => () => {};
  const tries = async (...places: [string, number][]): Promise<string[]> => {
    const made = places.map(([target, port], i) =>
      guest.tcp(target, port, 1000 + 10 * guest.connections.length + i, EASY),
    );
    for (const one of made) one.connect();
    await guest.host.pass(50);
    return made.map(({ state }) => state);
  };
  expect(await tries([WEB, 80])).toEqual(["reset"]);
  guest.udp("10.0.2.3", 53, 5000, question("deb.example"));
  guest.udp("10.0.2.3", 53, 5001, question("evil.example"));
  await guest.host.pass(50);
  expect(asked).toEqual(["deb"]);
  expect(
    guest.datagrams.map(({ targetPort, data }) => [targetPort, Buffer.from(data, "latin1")[3]! & 15]),
  ).toEqual([
    [5000, 0],
    [5001, 3],
  ]);
  expect(
    await tries(
      [WEB, 80],
      [WEB, 81],
      ["203.0.113.9", 443],
      ["203.0.113.9", 80],
      ["127.0.0.1", 80],
      ["169.254.169.254", 80],
      ["10.0.2.2", 80],
    ),
  ).toEqual(["open", "reset", "open", "reset", "reset", "reset", "reset"]);
  expect(guest.host.attempts).toEqual([`${WEB} 80`, "203.0.113.9 443"]);
  expect(
    log
      .filter(({ kind }) => kind === "refused")
      .map(({ protocol, remote, name, reason }) => [protocol, remote ?? name, reason]),
  ).toEqual([
    ["tcp", `${WEB}:80`, "not in the allow-list"],
    ["dns", "evil.example", "not in the allow-list"],
    ["tcp", `${WEB}:81`, "not in the allow-list"],
    ["tcp", "203.0.113.9:80", "not in the allow-list"],
    ["tcp", "127.0.0.1:80", "the host's loopback"],
    ["tcp", "169.254.169.254:80", "a link-local address"],
    ["tcp", "10.0.2.2:80", expect.stringContaining("allow=10.0.2.2:80")],
  ]);
  expect(log.find(({ kind }) => kind === "open")).toMatchObject({ name: "deb.example", remote: `${WEB}:80` });
});

test("the host itself is reached only when asked for", async () => {
  const reach = async (options: object, target: string, port = 80): Promise<string | undefined> => {
    const guest = await open(options);
    guest.host.serve = () => () => {};
    guest.tcp(target, port, 4000, EASY).connect();
    await guest.host.pass(20);
    return guest.host.attempts[0];
  };
  for (const target of [
    "10.0.2.2",
    "127.0.0.1",
    "0.0.0.0",
    "169.254.169.254",
    "192.0.2.77",
    "224.0.0.1",
    "10.0.2.200",
  ])
    expect(await reach({}, target), target).toBeUndefined();
  expect(await reach({}, WEB)).toBe(`${WEB} 80`);
  expect(await reach({ restrict: true }, WEB)).toBeUndefined();
  expect(await reach({ restrict: true, allow: [`${WEB}:80`] }, WEB)).toBe(`${WEB} 80`);
  expect(await reach({ hostLoopback: true }, "10.0.2.2")).toBe("127.0.0.1 80");
  expect(await reach({ hostLoopback: true }, "192.0.2.77")).toBe("192.0.2.77 80");
  expect(await reach({ allow: ["10.0.2.2:80"] }, "10.0.2.2")).toBe("127.0.0.1 80");
  expect(await reach({ allow: ["10.0.2.2:80"] }, "10.0.2.2", 81)).toBeUndefined();
  expect(await reach({ allow: ["192.0.2.77"] }, "192.0.2.77")).toBe("192.0.2.77 80");
});

test("UDP goes out by a socket for each port, and comes back only from where the guest sent to", async () => {
  const guest = await open();
  guest.udp(WEB, 123, 5000, Buffer.from("one"));
  guest.udp("198.51.100.8", 123, 5000, Buffer.from("two"));
  guest.udp("10.0.2.2", 123, 5000, Buffer.from("no"));
  await guest.host.pass(5);
  const [socket, ...others] = guest.host.datagramSockets;
  expect(others).toEqual([]);
  expect(socket!.sent).toEqual([
    ["one", WEB, 123],
    ["two", "198.51.100.8", 123],
  ]);
  guest.frames.length = 0;
  socket!.receive(Buffer.from("yes"), WEB, 123);
  socket!.receive(Buffer.from("no"), WEB, 124);
  socket!.receive(Buffer.from("no"), "198.51.100.9", 123);
  socket!.receive(Buffer.alloc(4000, "a"), WEB, 123);
  await guest.host.pass(5);
  expect(guest.datagrams[0]).toEqual({ source: WEB, sourcePort: 123, targetPort: 5000, data: "yes" });
  const pieces = guest.frames.slice(1).map((frame) => readIpv4(frame)!);
  expect(pieces.map(({ flags, payload }) => [flags, payload.length])).toEqual([
    [0x2000, 1480],
    [0x2000 | 185, 1480],
    [370, 1048],
  ]);
  // The guest's own fragments, out of order.
  const whole = udpPayload(ip4(OWN), ip4(WEB), 5000, 123, Buffer.alloc(3000, "b"));
  const piece = (from: number, to: number): Buffer =>
    ipv4Frame(17, ip4(OWN), ip4(WEB), whole.subarray(from, to), {
      flags: (to < whole.length ? 0x2000 : 0) | (from / 8),
      id: 7,
    });
  for (const frame of [piece(1480, 2960), piece(2960, whole.length), piece(0, 1480)]) guest.send(frame);
  await guest.host.pass(5);
  expect(socket!.sent.at(-1)![0]).toBe("b".repeat(3000));
  await guest.host.pass(400_000);
  expect(socket!.closed).toBe(true);
});

test("ports of the host are forwarded, added and removed, in QEMU's notation", async () => {
  const guest = await open({ hostfwd: ["tcp:127.0.0.1:2222-:22", "udp:127.0.0.1:53-10.0.2.15:5353"] });
  expect(guest.network.forwards).toEqual(["tcp:127.0.0.1:2222-:22", "udp:127.0.0.1:53-10.0.2.15:5353"]);
  await expect(guest.network.forward("tcp:127.0.0.1:2222-:23")).rejects.toThrow(/forwarded already/);
  guest.host.listeners.set(99, () => undefined);
  await expect(guest.network.forward("tcp:127.0.0.1:99-:23")).rejects.toThrow(
    "could not set up host forwarding rule 'tcp:127.0.0.1:99-:23': another process listens there (EADDRINUSE)",
  );
  const socket = guest.host.datagramSockets[0]!;
  socket.receive(Buffer.from("hi"), "127.0.0.1", 7777);
  await guest.host.pass(5);
  expect(guest.datagrams.at(-1)).toEqual({
    source: "10.0.2.2",
    sourcePort: 7777,
    targetPort: 5353,
    data: "hi",
  });
  guest.udp("10.0.2.2", 7777, 5353, Buffer.from("ho"));
  await guest.host.pass(5);
  expect(socket.sent).toEqual([["ho", "127.0.0.1", 7777]]);
  expect(guest.network.unforward("tcp:127.0.0.1:2222")).toBe(true);
  expect(guest.network.unforward("tcp:127.0.0.1:2222")).toBe(false);
  expect(guest.host.listeners.has(2222)).toBe(false);
});

test("a program connects to a guest, and serves a port of the gateway", async () => {
  const guest = await open({ restrict: true });
  const served: Uint8Array[] = [];
  guest.network.expose(8080, (events) => ({
    unsent: 0,
    write: (bytes) => {
      served.push(bytes);
      events.data(Buffer.from("answer"));
    },
    end: () => events.ended(),
    reset: () => {},
    setReading: () => {},
  }));
  const client = guest.tcp("10.0.2.2", 8080, 4000, EASY);
  client.connect();
  client.send(Buffer.from("question"));
  client.end();
  await guest.host.run(() => client.isDone, 1000);
  expect(client.contents.toString()).toBe("answer");
  expect(Buffer.concat(served).toString()).toBe("question");
  guest.onSyn = (segment) => {
    const server = guest.tcp("10.0.2.2", segment.sourcePort, 22, EASY);
    server.send(Buffer.from("SSH"));
    return server;
  };
  const got: Uint8Array[] = [];
  const events = guest.network.dial(
    { unsent: 0, write: (bytes) => got.push(bytes), end: () => {}, reset: () => {}, setReading: () => {} },
    22,
  );
  await guest.host.pass(50);
  expect(Buffer.concat(got).toString()).toBe("SSH");
  events!.ended();
});

test("guests on a switch have addresses of their own and reach each other and the outside", async () => {
  const hub = new EthernetSwitch();
  const guest = await open();
  plug(guest.network, hub.port());
  const macs = [hex("525400000001"), hex("525400000002"), hex("525400000003")];
  const got = macs.map(() => [] as Uint8Array[]);
  const ports = macs.map((_, i) => {
    const port = hub.port();
    port.onFrame((frame) => got[i]!.push(frame));
    return port;
  });
  for (const [i, mac] of macs.entries()) ports[i]!.send(dhcp(1, mac));
  await guest.host.pass(5);
  const offers = got.map((frames) =>
    frames.map((frame) => readIpv4(frame)!).filter(({ payload }) => payload[8] === 2),
  );
  expect(offers.map((all) => all.map(({ target }) => target))).toEqual([
    ["10.0.2.15"],
    ["10.0.2.16"],
    ["10.0.2.17"],
  ]);
  for (const frames of got) frames.length = 0;
  ports[0]!.send(Buffer.concat([macs[2]!, macs[0]!, hex("0800"), Buffer.from("for the third")]));
  expect(got.map(({ length }) => length)).toEqual([0, 0, 1]);
  // One that does not receive loses what is above its bound, and holds nobody up.
  ports[1]!.setReceiving(false);
  for (let i = 0; i < 100; i++) ports[0]!.send(Buffer.concat([macs[1]!, macs[0]!, Buffer.alloc(60_000)]));
  expect(ports[1]!.lost).toBeGreaterThan(0);
  ports[1]!.setReceiving(true);
  expect(got[1]!.length + ports[1]!.lost).toBe(100);
});

/** A guest with an open connection to a server; what the network remembers, through its section's bytes. */
test("another network resets at once what it does not have, and keeps the guests' addresses", async () => {
  const { guest: first, client, peer } = await connected();
  first.network.send(dhcp(1));
  first.network.onFrame(() => {});
  first.network.send(dhcp(3, hex("525400dddddd"), "3204 0a000242"));
  await first.host.pass(5);
  first.listen();
  peer.send(Buffer.from("received"));
  await first.host.run(() => client.receivedBytes === 8, 1000);
  await first.host.pass(300);
  const { sent, acked, expected } = first.network.remember().connections[0]!;
  expect(sent).toBe(acked);
  const second = await open();
  await carry(first.network, second.network);
  await second.host.pass(5);
  expect(second.stray).toMatchObject([
    { source: WEB, targetPort: 4000, sourcePort: 80, seq: sent, ack: expected, flags: RST | ACK },
  ]);
  second.frames.length = 0;
  second.network.onFrame((frame) => second.frames.push(frame));
  second.network.send(dhcp(1, hex("525400cccccc")));
  // Leased, and never seen by another packet.
  second.network.send(dhcp(1, hex("525400dddddd")));
  await second.host.pass(5);
  expect(second.frames.map(reply).map(({ address }) => address)).toEqual(["10.0.2.16", "10.0.2.66"]);
});

test("a segment that was on its way at the save: one of two resets fits what the guest has", async () => {
  const { guest: first, client, peer } = await connected();
  first.network.onFrame(() => {});
  peer.send(Buffer.from("lost"));
  await first.host.pass(5);
  const second = await open();
  await carry(first.network, second.network);
  await second.host.pass(5);
  expect(second.stray.map(({ flags }) => flags)).toEqual([RST | ACK, RST | ACK]);
  second.connections.push(client);
  for (const segment of second.stray) if (client.state === "open") client.input(segment);
  expect(client.state).toBe("reset");
});

test("the same network goes on with the connections of another machine, unless they have moved on", async () => {
  const { guest, client, peer } = await connected({ hostfwd: ["tcp:127.0.0.1:2222-:22"] });
  const { network } = guest;
  const writer = new ByteWriter();
  const [a, b, c] = [0, 1, 2].map(() => new UserNetworkEnd(network)) as [
    UserNetworkEnd,
    UserNetworkEnd,
    UserNetworkEnd,
  ];
  const heard = [a, b, c].map((end) => {
    const frames: Uint8Array[] = [];
    end.onFrame((frame) => frames.push(frame));
    return frames;
  });
  await a.activate();
  a.section.encode(writer);
  await a.inactivate();
  expect(guest.host.listeners.size).toBe(0);
  peer.send(Buffer.from("on"));
  await guest.host.pass(50);
  expect(heard.map(({ length }) => length)).toEqual([0, 0, 0]);
  b.section.decode(new ByteReader(writer.view()), 1)();
  await b.activate();
  await guest.host.pass(50);
  expect(guest.host.listeners.size).toBe(1);
  const segment = readTcp(readIpv4(heard[1]![0]!)!.payload);
  expect([Buffer.from(segment.data).toString(), segment.flags & RST]).toEqual(["on", 0]);
  // Of two machines with the same guest, one is heard.
  const before = network.remember().connections[0]!;
  client.input(segment);
  const acknowledge = ipv4Frame(
    6,
    ip4(OWN),
    ip4(WEB),
    tcpPayload(ip4(OWN), ip4(WEB), {
      ...{ sourcePort: 4000, targetPort: 80, seq: before.expected, ack: before.sent, flags: ACK },
      ...{ window: 1000, data: Buffer.from("x") },
    }),
  );
  a.send(acknowledge);
  expect(network.remember().connections[0]).toEqual(before);
  b.send(acknowledge);
  expect(network.remember().connections[0]).not.toEqual(before);
  // Set back once more: the server has had more from the guest, which would send it again.
  c.section.decode(new ByteReader(writer.view()), 1)();
  await c.activate();
  await guest.host.pass(50);
  expect(heard[2]!.map((frame) => readTcp(readIpv4(frame)!.payload).flags & RST)).toContain(RST);
  expect([network.connections, peer.wasReset]).toEqual([[], true]);
  await b.inactivate();
  expect(guest.host.listeners.size).toBe(1);
});

/** A name of labels with these bytes. */
const rawQuestion = (labels: Buffer[]): Buffer => {
  const parts = labels.flatMap((label) => [Buffer.from([label.length]), label]);
  return Buffer.concat([hex("123401000001000000000000"), ...parts, hex("0000010001")]);
};

test("a guest's names of any bytes, as long as names can be, do not prevent a save", async () => {
  const guest = await open({ allow: ["*.ok.example"] });
  guest.host.names = async (query) => answer(query, WEB);
  const suffix = ["ok", "example"].map((label) => Buffer.from(label));
  const odd = [63, 63, 63, 40].map((length) => Buffer.alloc(length, 0xff));
  guest.udp("10.0.2.3", 53, 5000, rawQuestion([...odd, ...suffix]));
  guest.udp("10.0.2.3", 53, 5000, rawQuestion([Buffer.from("deb"), ...suffix]));
  await guest.host.pass(5);
  expect(guest.network.remember().names).toEqual(["deb.ok.example"]);
  const second = await open({ allow: ["*.ok.example"] });
  await carry(guest.network, second.network);
  // Whatever a network says of itself is saved as far as there is room.
  const writer = new ByteWriter();
  const memory = { ...guest.network.remember(), names: ["\xff".repeat(250), "deb.ok.example"] };
  const network = {
    remember: () => memory,
    suspend: () => {},
    resume: async () => {},
    endConnections: () => {},
  };
  new SavedNetwork(network).section.encode(writer);
});

test("what a connection got beyond a gap after a save is no data of the guest that is set back", async () => {
  const { guest, client, peer } = await connected();
  const { network } = guest;
  const end = new UserNetworkEnd(network);
  end.onFrame(() => {});
  await end.activate();
  const writer = new ByteWriter();
  end.section.encode(writer);
  const { sent, expected } = network.remember().connections[0]!;
  const say = (to: UserNetworkEnd, at: number, text: string): void =>
    to.send(
      ipv4Frame(
        6,
        ip4(OWN),
        ip4(WEB),
        tcpPayload(ip4(OWN), ip4(WEB), {
          ...{ sourcePort: client.port, targetPort: 80, seq: (expected + at) >>> 0, ack: sent, flags: ACK },
          ...{ window: 1000, data: Buffer.from(text) },
        }),
      ),
    );
  say(end, 2, "XX");
  expect(network.keptBytes).toBe(2);
  const again = new UserNetworkEnd(network);
  again.onFrame(() => {});
  again.section.decode(new ByteReader(writer.view()), 1)();
  await again.activate();
  expect(network.keptBytes).toBe(0);
  say(again, 0, "ab");
  say(again, 2, "cd");
  await guest.host.pass(5);
  expect(Buffer.concat(peer.taken).toString()).toBe("abcd");
});

test("several ports that are left open wait for a machine that arrives; a fixed one cannot be twice", async () => {
  const host = new VirtualHost(new Random(1));
  const hostfwd = [22, 80, 443].map((port) => `tcp:127.0.0.1:0-:${port}`);
  const network = await UserNetwork.open(host, { hostfwd }, true);
  expect(network.forwards).toEqual([]);
  await network.resume();
  expect(network.forwards.map((rule) => rule.split("-")[1])).toEqual([":22", ":80", ":443"]);
  const twice = ["tcp:127.0.0.1:2222-:22", "tcp:127.0.0.1:2222-:80"];
  for (const isAwaiting of [false, true])
    await expect(
      UserNetwork.open(new VirtualHost(new Random(1)), { hostfwd: twice }, isAwaiting),
    ).rejects.toThrow(/2222-:80': the host's port is forwarded already/);
});

test("a forwarded port that is not free waits for the next time that a machine is here", async () => {
  const host = new VirtualHost(new Random(1));
  host.listeners.set(2222, () => undefined);
  const network = await UserNetwork.open(host, { hostfwd: ["tcp:127.0.0.1:2222-:22"] }, true);
  const warnings: string[] = [];
  network.onWarning((message) => warnings.push(message));
  await network.resume();
  expect([network.forwards, warnings.length]).toEqual([[], 1]);
  expect(network.remember().forwards).toEqual([{ rule: "tcp:127.0.0.1:2222-:22", isAnyPort: false }]);
  network.suspend();
  host.listeners.delete(2222);
  await network.resume();
  expect(network.forwards).toEqual(["tcp:127.0.0.1:2222-:22"]);
});

test("ports that a state brings listen on the loopback only and are told; transient ones are not saved", async () => {
  const first = await open({ hostfwd: ["tcp::2222-:22", "udp:[::]:53-:53", "tcp::80-:80"] });
  await first.network.forward("tcp:127.0.0.1:0-:2022", true);
  expect(first.network.forwards).toHaveLength(4);
  const second = await open({ hostfwd: ["tcp::80-:80"] });
  const warnings: string[] = [];
  second.network.onWarning((message) => warnings.push(message));
  await carry(first.network, second.network);
  expect(second.network.forwards).toEqual(["tcp::80-:80", "tcp:127.0.0.1:2222-:22", "udp:[::1]:53-:53"]);
  expect(warnings).toEqual([
    expect.stringMatching(/'tcp:127\.0\.0\.1:2222-:22': .* not for others as 'tcp::2222-:22' was/),
    expect.stringMatching(/'udp:\[::1\]:53-:53'/),
  ]);
});

test("names are asked again a few at once, only for rules by name, and not once the machine has left", async () => {
  const memory = {
    ...(await open()).network.remember(),
    names: Array.from({ length: 40 }, (_, n) => `n${n}.ok.example`),
  };
  const arrive = async (allow: string[]): Promise<[number, () => number, UserNetwork, (() => void)[]]> => {
    const guest = await open({ allow });
    const answers: (() => void)[] = [];
    let asked = 0;
    guest.host.names = () => {
      asked++;
      return new Promise((resolve) => answers.push(() => resolve(undefined)));
    };
    await guest.network.resume(memory);
    await guest.host.pass(5);
    return [asked, () => asked, guest.network, answers];
  };
  expect((await arrive(["203.0.113.0/24"]))[0]).toBe(0);
  const [before, asked, network, answers] = await arrive(["*.ok.example"]);
  expect(before).toBe(16);
  network.suspend();
  for (const give of answers) give();
  await new Promise((resolve) => setTimeout(resolve, 0));
  expect(asked()).toBe(16);
});

test("on a switch, a machine that is set back leaves the connections of other guests", async () => {
  const { guest, peer } = await connected();
  const { network } = guest;
  const memory = (await open()).network.remember();
  network.joinSwitch(() => false);
  await network.resume(memory);
  expect([network.ownGuest, network.connections.length]).toEqual([null, 1]);
  network.joinSwitch((mac) => GUEST_MAC.equals(mac));
  await network.resume(memory);
  expect([network.ownGuest, network.connections, peer.wasReset]).toEqual([OWN, [], true]);
});

test("forwarded ports arrive with the machine; what is given here takes their place", async () => {
  const first = await open({ hostfwd: ["tcp:127.0.0.1:2222-:22", "tcp:127.0.0.1:0-:80"] });
  await first.network.forward("tcp:127.0.0.1:8080-:8080");
  await first.network.forward("udp:127.0.0.1:53-:5353");
  const arrive = async (hostfwd: string[], taken: number[]): Promise<[string[], string[]]> => {
    const host = new VirtualHost(new Random(1));
    for (const port of taken) host.listeners.set(port, () => undefined);
    const network = await UserNetwork.open(host, { hostfwd }, true);
    const warnings: string[] = [];
    network.onWarning((message) => warnings.push(message));
    await carry(first.network, network);
    expect([...host.listeners.keys()]).toEqual(expect.arrayContaining(taken));
    return [network.forwards, warnings];
  };
  const [, any] = first.network.forwards;
  expect(await arrive([], [])).toEqual([
    first.network.forwards,
    first.network.forwards.map(
      (rule) => `the machine brings the forwarded port '${rule}': open on the loopback`,
    ),
  ]);
  expect((await arrive(["tcp:127.0.0.1:2223-10.0.2.15:22"], []))[0]).toEqual([
    "tcp:127.0.0.1:2223-10.0.2.15:22",
    any,
    "tcp:127.0.0.1:8080-:8080",
    "udp:127.0.0.1:53-:5353",
  ]);
  const anyPort = Number(/:(\d+)-/.exec(any!)![1]);
  const [forwards, warnings] = await arrive([], [8080, anyPort]);
  expect(forwards).toEqual([
    "tcp:127.0.0.1:2222-:22",
    expect.stringMatching(/^tcp:127\.0\.0\.1:4\d+-:80$/),
    "udp:127.0.0.1:53-:5353",
  ]);
  expect(warnings.filter((each) => !each.startsWith("the machine brings"))).toEqual([
    "could not set up host forwarding rule 'tcp:127.0.0.1:8080-:8080': another process listens there (EADDRINUSE)",
  ]);
});

test("datagrams' ports and allowed names arrive with the machine, by the rules of its new place", async () => {
  const asked: string[] = [];
  const names = async (query: Uint8Array): Promise<Uint8Array> => {
    asked.push(Buffer.from(query).subarray(13, 16).toString());
    return answer(query, WEB);
  };
  const allow = ["*.ok.example", "203.0.113.0/24"];
  const first = await open({ allow });
  first.host.names = names;
  first.udp("10.0.2.3", 53, 5000, question("deb.ok.example"));
  await first.host.pass(5);
  first.udp("203.0.113.9", 123, 5001, Buffer.from("?"));
  first.udp(WEB, 123, 5001, Buffer.from("?"));
  await first.host.pass(5);
  const [{ port } = { port: 0 }] = first.host.datagramSockets;
  const second = await open({ allow: ["*.ok.example"] });
  second.host.names = names;
  const events: ConnectionEvent[] = [];
  second.network.onConnection((event) => events.push(event));
  await carry(first.network, second.network);
  await second.host.pass(5);
  expect(asked).toEqual(["deb", "deb", "deb"]);
  // Its name has permitted it.
  expect(second.host.datagramSockets.map((each) => each.port)).toEqual([port]);
  expect(events).toMatchObject([{ kind: "open", protocol: "udp", remote: `${WEB}:123` }]);
  // The name is known again by now; the address of the first place's list is not in this one's.
  second.udp(WEB, 123, 5001, Buffer.from("!"));
  second.udp("203.0.113.9", 123, 5001, Buffer.from("!"));
  await second.host.pass(5);
  expect(second.host.datagramSockets.flatMap(({ sent }) => sent)).toEqual([["!", WEB, 123]]);
  const third = await open({ allow });
  await carry(first.network, third.network);
  const [socket] = third.host.datagramSockets;
  expect(socket!.port).toBe(port);
  socket!.receive(Buffer.from("answer"), "203.0.113.9", 123);
  await third.host.pass(5);
  expect(third.datagrams.at(-1)).toMatchObject({ targetPort: 5001, data: "answer" });
});

test("a port for datagrams ends when it is idle, also while there are connections", async () => {
  const { guest } = await connected();
  guest.udp("203.0.113.9", 123, 5001, Buffer.from("?"));
  await guest.host.pass(5);
  expect(guest.network.connections.map(({ protocol }) => protocol)).toEqual(["tcp", "udp"]);
  await guest.host.pass(300_000);
  expect(guest.network.connections.map(({ protocol }) => protocol)).toEqual(["tcp"]);
});

test.each([
  [{ net: "10.0.2.0" }, /net: expected an IPv4 network of 8 to 27 bits/],
  [{ net: "fec0::/64" }, /net: expected an IPv4 network/],
  [{ dns: "10.0.3.3" }, /dns: 10\.0\.3\.3 is not in 10\.0\.2\.0\/24/],
  [{ dns: "10.0.2.2" }, /different addresses/],
  [{ mtu: 100 }, /mtu: expected 1280 to 65520, found 100/],
  [{ hostfwd: ["tcp:22"] }, /invalid host forwarding rule 'tcp:22'/],
  [{ allow: ["a b"] }, /allow=a b: expected NAME, ADDRESS or SUBNET/],
])("options %j are refused", (options, message) => {
  expect(() => userNetConfig(options)).toThrow(message);
});

test("rules are read", () => {
  expect(parseRule("[2001:db8::1]:443")).toMatchObject({ port: 443 });
  expect(parseRule("2001:db8::/32")).toMatchObject({ port: undefined });
  expect(parseForward("::2222-:22")).toMatchObject({
    protocol: "tcp",
    hostAddress: "",
    hostPort: 2222,
    guestPort: 22,
  });
  expect(ipText(userNetConfig({ net: "192.168.76.0/24" }).gateway)).toBe("192.168.76.2");
});
