// What a machine that leaves, comes back or takes another's network finds of its connections and peers.
import { expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { UserNetworkEnd } from "../../src/usernet/user-network-end.ts";
import { Random } from "../support/random.ts";
import { readIpv4, readTcp } from "./fake-guest.ts";
import { carry, connected, GuestWire } from "./guest-wire.ts";

const open = (options = {}): Promise<GuestWire> => GuestWire.open(new Random(1), options);

test("once the machine has moved away, servers see the end; when it was closed, the next one goes on", async () => {
  for (const how of ["closed", "moved"] as const) {
    const { guest, peer } = await connected();
    const end = new UserNetworkEnd(guest.network);
    await end.activate();
    await end.inactivate();
    expect([guest.network.connections.length, peer.wasReset]).toEqual([1, false]);
    end.left(how);
    expect([guest.network.connections.length, peer.wasReset]).toEqual(
      how === "moved" ? [0, true] : [1, false],
    );
  }
});

test("a move that fails gives the source back its connections, ports and peers", async () => {
  const rules = ["tcp:127.0.0.1:2222-:22", "udp:127.0.0.1:53-:5353"];
  const { guest, client, peer } = await connected({ hostfwd: rules });
  const end = new UserNetworkEnd(guest.network);
  end.onFrame((frame) => {
    const packet = readIpv4(frame);
    if (packet?.protocol === 6) client.input(readTcp(packet.payload));
  });
  await end.activate();
  guest.host.datagramSockets[0]!.receive(Buffer.from("hi"), "127.0.0.1", 7777);
  await guest.host.pass(5);
  await end.inactivate();
  expect(guest.host.listeners.size).toBe(0);
  // What comes meanwhile waits.
  peer.send(Buffer.from("late"));
  await guest.host.pass(50);
  await end.activate();
  await guest.host.pass(50);
  expect(client.contents.toString()).toBe("late");
  expect(guest.network.forwards).toEqual(rules);
  guest.udp("10.0.2.2", 7777, 5353, Buffer.from("ho"));
  await guest.host.pass(5);
  expect(guest.host.datagramSockets.at(-1)!.sent).toEqual([["ho", "127.0.0.1", 7777]]);
});

test("the machine from which another took the network has it again once that one is closed", async () => {
  const { guest, client, peer } = await connected({ hostfwd: ["tcp:127.0.0.1:2222-:22"] });
  const [a, b] = [new UserNetworkEnd(guest.network), new UserNetworkEnd(guest.network)];
  const writer = new ByteWriter();
  a.onFrame((frame) => {
    const packet = readIpv4(frame);
    if (packet?.protocol === 6) client.input(readTcp(packet.payload));
  });
  await a.activate();
  a.section.encode(writer);
  b.section.decode(new ByteReader(writer.view()), 1)();
  await b.activate();
  await b.inactivate();
  peer.send(Buffer.from("again"));
  await guest.host.pass(50);
  expect(client.contents.toString()).toBe("");
  b.left("closed");
  await guest.host.pass(50);
  expect(client.contents.toString()).toBe("again");
  expect(guest.host.listeners.size).toBe(1);
  // Also if the other has moved; but not while a third one has it.
  for (const other of [b, new UserNetworkEnd(guest.network)]) await other.activate();
  await b.inactivate();
  b.left("moved");
  peer.send(Buffer.from("!"));
  await guest.host.pass(50);
  expect([client.contents.toString(), peer.wasReset]).toEqual(["again", false]);
});

test("peers of forwarded ports for datagrams arrive with the machine, as far as the rules permit", async () => {
  const hostfwd = ["udp:0.0.0.0:53-:5353"];
  const first = await open({ hostfwd });
  for (const address of ["127.0.0.1", "192.0.2.99", "203.0.113.9"])
    first.host.datagramSockets[0]!.receive(Buffer.from("hi"), address, 7777);
  await first.host.pass(5);
  const answered = async (options: object): Promise<string[]> => {
    const guest = await open({ hostfwd, ...options });
    await carry(first.network, guest.network);
    for (const seen of ["10.0.2.2", "192.0.2.99", "203.0.113.9"])
      guest.udp(seen, 7777, 5353, Buffer.from("ho"));
    await guest.host.pass(5);
    // Its own socket is the forwarded port's; those of the guest's other datagrams are not meant.
    return guest.host.datagramSockets[0]!.sent.map(([, address]) => address);
  };
  expect(await answered({})).toEqual(["192.0.2.99", "203.0.113.9"]);
  expect(await answered({ hostLoopback: true })).toEqual(["127.0.0.1", "192.0.2.99", "203.0.113.9"]);
  expect(await answered({ allow: ["203.0.113.0/24"] })).toEqual(["203.0.113.9"]);
});
