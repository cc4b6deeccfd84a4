// A program's connections with its guest as web streams, with a guest that speaks TCP in virtual time.
import { expect, test } from "vitest";
import { type GuestConnection, guestNet } from "../../src/node/guest/guest-net.ts";
import { Random } from "../support/random.ts";
import {
  ACK,
  type GuestTcp,
  ip4,
  ipv4Frame,
  RST,
  type TcpHabits,
  tcpPayload,
} from "../usernet/fake-guest.ts";
import { GuestWire, OWN } from "../usernet/guest-wire.ts";

const EASY: TcpHabits = { mss: 1460, scale: 4, buffer: 1 << 16, rate: 1e6, keepsEarly: true, rtoMs: 400 };
const GATEWAY = "10.0.2.2";

async function open() {
  const wire = await GuestWire.open(new Random(1));
  const net = guestNet(
    () => wire.network,
    (...place) => wire.host.connect(...place),
  );
  /** Until `work` is done. */
  const during = async <T>(work: Promise<T>): Promise<T> => {
    let isDone = false;
    void work.finally(() => (isDone = true)).catch(() => {});
    while (!isDone) await wire.host.pass(10);
    return work;
  };
  return { wire, net, during };
}
async function textOf({ readable }: GuestConnection): Promise<string> {
  let text = "";
  for await (const bytes of readable) text += Buffer.from(bytes).toString("latin1");
  return text;
}

test("connect: both directions, with the guest's pace, and each end", async () => {
  const { wire, net, during } = await open();
  let accepted: GuestTcp | undefined;
  wire.onSyn = (segment) => {
    if (segment.targetPort !== 80) return undefined;
    accepted = wire.tcp(GATEWAY, segment.sourcePort, 80, { ...EASY, buffer: 4096, rate: 1 });
    return accepted;
  };
  const connection = await during(net.connect(80));
  const writer = connection.writable.getWriter();
  const big = Buffer.alloc(2 << 20, "x");
  let hasWritten = false;
  const written = writer.write(big).then(async () => {
    await writer.write(Buffer.from("y"));
    hasWritten = true;
  });
  await wire.host.pass(200);
  // The guest reads slowly: the program waits.
  expect(hasWritten).toBe(false);
  accepted!.send(Buffer.from("hello"));
  accepted!.end();
  expect(await during(textOf(connection))).toBe("hello");
  await connection.close();
  await expect(written).rejects.toMatchObject({ code: "user-net.closed" });
  await wire.host.pass(100);
  expect(accepted!.state).toBe("reset");
});

test("connect: refused, aborted, reset", async () => {
  const { wire, net, during } = await open();
  const refusal = during(net.connect(81));
  await wire.host.pass(10);
  const [own, gateway] = [ip4(OWN), ip4(GATEWAY)];
  for (const { targetPort, sourcePort, seq } of wire.stray) {
    expect(targetPort).toBe(81);
    const answer = { sourcePort: targetPort, targetPort: sourcePort, seq: 0, ack: seq + 1, window: 0 };
    const reset = tcpPayload(own, gateway, { ...answer, flags: RST | ACK, data: new Uint8Array(0) });
    wire.send(ipv4Frame(6, own, gateway, reset));
  }
  await expect(refusal).rejects.toMatchObject({ code: "user-net.refused" });
  const abort = new AbortController();
  const aborted = net.connect(82, { signal: abort.signal });
  abort.abort();
  await expect(aborted).rejects.toMatchObject({ code: "machine.aborted" });
  await expect(net.connect(80, { guest: "x" })).rejects.toMatchObject({ code: "user-net.connect" });
  await wire.host.pass(100);
  expect(wire.network.connections).toEqual([]);
});

test("expose: the guest's connections come to a function", async () => {
  const { wire, net, during } = await open();
  const served = Promise.withResolvers<string>();
  const port = net.expose(7, async (connection) => {
    const reader = connection.readable.getReader();
    const { value } = await reader.read();
    const writer = connection.writable.getWriter();
    await writer.write(Buffer.from(`${Buffer.from(value!).toString()} back`));
    await writer.close();
    const { done } = await reader.read();
    served.resolve(`ended: ${done}`);
  });
  expect(port.port).toBe(7);
  const guest = wire.tcp(GATEWAY, 7, 40_000, EASY);
  guest.connect();
  await wire.host.pass(50);
  guest.send(Buffer.from("there and"));
  await wire.host.pass(50);
  expect(guest.contents.toString()).toBe("there and back");
  guest.end();
  expect(await during(served.promise)).toBe("ended: true");
  port.close();
  const late = wire.tcp(GATEWAY, 7, 40_001, EASY);
  late.connect();
  await wire.host.pass(50);
  expect(late.state).toBe("reset");
});

test("impossible ports and places are refused; a function that throws resets the guest's connection", async () => {
  const { wire, net } = await open();
  const bad = expect.objectContaining({ code: "options.value" });
  const refusal = (work: () => unknown): unknown => {
    try {
      return work();
    } catch (error) {
      return error;
    }
  };
  for (const port of [0, 70_000, 1.5, Number.NaN, "80", undefined]) {
    const any = port as never;
    expect(refusal(() => net.expose(any, 80))).toEqual(bad);
    expect(refusal(() => net.expose(7, any))).toMatchObject({ code: expect.stringContaining("options.") });
    expect(refusal(() => net.expose(7, { host: "127.0.0.1", port: any }))).toMatchObject({
      code: expect.stringContaining("options."),
    });
    await expect(net.connect(any)).rejects.toEqual(bad);
    await expect(net.forward({ guestPort: any })).rejects.toMatchObject({
      code: expect.stringContaining("options."),
    });
  }
  await expect(net.forward(80 as never)).rejects.toEqual(bad);
  wire.network.expose(9, () => {
    throw new Error("no");
  });
  const guest = wire.tcp(GATEWAY, 9, 40_000, EASY);
  guest.connect();
  await wire.host.pass(50);
  expect([guest.state, wire.network.connections]).toEqual(["reset", []]);
});

test("forward: an abort leaves no port open", async () => {
  const { wire, net } = await open();
  const now = AbortSignal.abort();
  await expect(net.forward({ guestPort: 80 }, { signal: now })).rejects.toMatchObject({
    code: "machine.aborted",
  });
  expect(wire.network.forwards).toEqual([]);
  const abort = new AbortController();
  const opened = net.forward({ guestPort: 80 }, { signal: abort.signal });
  abort.abort();
  await expect(opened).rejects.toMatchObject({ code: "machine.aborted" });
  await wire.host.pass(50);
  expect(wire.network.forwards).toEqual([]);
});
