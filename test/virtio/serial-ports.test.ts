// virtio-console with named ports: control messages, who is there on either side, data, load.
import { describe, expect, it } from "vitest";
import { ByteReader, ByteWriter } from "../../src/base/bytes.ts";
import { CharPipe } from "../../src/devices/char-backend.ts";
import {
  CONTROL,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VirtioConsole,
} from "../../src/devices/virtio/virtio-console.ts";
import { MockDriver, MODES, R, testBoard } from "../support/mock-driver.ts";

/** A port's host side, which comes and goes. */
class Host extends CharPipe {
  connected = true;
  output = "";
  /** What it heard of the guest's side. */
  readonly heard: boolean[] = [];
  readonly #listeners: (() => void)[] = [];
  constructor() {
    super((bytes) => {
      this.output += Buffer.from(bytes).toString();
    });
  }
  onConnected(listener: () => void): void {
    this.#listeners.push(listener);
  }
  guestConnected(isOpen: boolean): void {
    this.heard.push(isOpen);
  }
  set(connected: boolean): void {
    this.connected = connected;
    for (const listener of this.#listeners) listener();
  }
}

const message = (id: number, event: number, value: number): Uint8Array =>
  Uint8Array.of(id, 0, 0, 0, event, 0, value, 0);

function setUp(
  { legacy = false, without = [] as readonly number[], buffers = 16 } = {},
  board = testBoard({ legacy }),
  names = ["org.wherry.a", "org.wherry.b"],
) {
  const hosts = names.map(() => new Host());
  const ports = names.map((name, i) => ({ name, backend: hosts[i] as Host }));
  const device = new VirtioConsole(board, { ports });
  const driver = new MockDriver(board, device);
  const start = (): void => {
    driver.start({ without, queues: 8 });
    for (let i = 0; i < buffers; i++) driver.queue(2).post({ in: [64] });
    driver.queue(2).notify();
  };
  /** Control messages to the guest: [id, event, value, text]. */
  const told = () =>
    driver
      .queue(2)
      .collect()
      .map(({ data, length }) => [
        data[0],
        data[4],
        data[6],
        ...(length > 8 ? [Buffer.from(data.subarray(8, length)).toString()] : []),
      ]);
  const tell = (id: number, event: number, value = 1) =>
    driver.queue(3).request({ out: [message(id, event, value)] });
  return { board, hosts, device, driver, start, told, tell };
}

describe.each(MODES)("named ports, $name", (mode) => {
  it("are announced with their names, and tell who is connected", async () => {
    const { driver, hosts, start, told, tell } = setUp(mode);
    const [a, b] = hosts as [Host, Host];
    b.connected = false;
    start();
    expect(driver.transport.read(R.config + 4, 4)).toBe(31);
    await tell(0, CONTROL.DEVICE_READY);
    expect(told()).toEqual([
      [1, CONTROL.PORT_ADD, 1],
      [2, CONTROL.PORT_ADD, 1],
    ]);
    await tell(1, CONTROL.PORT_READY);
    await tell(2, CONTROL.PORT_READY);
    expect(told()).toEqual([
      [1, CONTROL.PORT_NAME, 1, "org.wherry.a\0"],
      [1, CONTROL.PORT_OPEN, 1],
      [2, CONTROL.PORT_NAME, 1, "org.wherry.b\0"],
      [2, CONTROL.PORT_OPEN, 0],
    ]);
    b.set(true);
    a.set(false);
    expect(told()).toEqual([
      [2, CONTROL.PORT_OPEN, 1],
      [1, CONTROL.PORT_OPEN, 0],
    ]);
    await tell(2, CONTROL.PORT_OPEN);
    await tell(2, CONTROL.PORT_OPEN, 0);
    await tell(2, CONTROL.PORT_OPEN);
    expect([a.heard, b.heard]).toEqual([[], [true, false, true]]);
    driver.write(R.status, 0);
    expect(b.heard).toEqual([true, false, true, false]);
  });

  it("carry data of their own queues; input waits until the guest has opened the port", async () => {
    const { driver, hosts, start, tell } = setUp(mode);
    const [a, b] = hosts as [Host, Host];
    start();
    await tell(0, CONTROL.DEVICE_READY);
    a.push(Buffer.from("early"));
    driver.queue(4).post({ in: [64] });
    driver.queue(4).notify();
    expect(driver.queue(4).collect()).toEqual([]);
    await tell(1, CONTROL.PORT_OPEN);
    expect(
      driver
        .queue(4)
        .collect()
        .map((c) => c.length),
    ).toEqual([5]);
    await driver.queue(5).request({ out: [Buffer.from("to a")] });
    await driver.queue(7).request({ out: [Buffer.from("to b")] });
    expect([a.output, b.output]).toEqual(["to a", "to b"]);
    // Nobody is there: dropped, as the rest of a request that waits for its reader.
    b.set(false);
    await driver.queue(7).request({ out: [Buffer.from("lost")] });
    a.writable = false;
    driver.queue(5).post({ out: [Buffer.from("half")] });
    driver.queue(5).notify();
    expect(driver.queue(5).collect()).toEqual([]);
    a.set(false);
    expect(driver.queue(5).collect()).toHaveLength(1);
    expect([a.output, b.output]).toEqual(["to a", "to b"]);
  });
});

it("a change that the guest had no buffer for is told once it has one", async () => {
  const { driver, hosts, start, told, tell } = setUp({ buffers: 2 });
  start();
  const [a] = hosts as [Host, Host];
  await tell(0, CONTROL.DEVICE_READY);
  told();
  for (let i = 0; i < 101; i++) a.set(i % 2 === 1);
  expect(told()).toEqual([]);
  driver.queue(2).post({ in: [64] });
  driver.queue(2).notify();
  expect(told()).toEqual([[1, CONTROL.PORT_OPEN, 0]]);
});

it("bad control messages are ignored", async () => {
  const { board, driver, start, told, tell } = setUp();
  start();
  await tell(7, CONTROL.PORT_READY);
  await tell(1, 99);
  await tell(0, CONTROL.DEVICE_READY, 0);
  await driver.queue(3).request({ out: [Uint8Array.of(1, 2, 3)] });
  await driver.queue(3).request({ in: [8] });
  expect(told()).toEqual([]);
  expect(board.errors).toHaveLength(3);
  expect(driver.read(R.status) & 0x40).toBe(0);
});

it("without VIRTIO_CONSOLE_F_MULTIPORT nothing is announced", async () => {
  const { start, told, tell, driver } = setUp({ without: [VIRTIO_CONSOLE_F_MULTIPORT] });
  start();
  driver.queue(3).post({ out: [message(0, CONTROL.DEVICE_READY, 1)] });
  driver.queue(3).notify();
  expect(told()).toEqual([]);
  await driver.queue(1).request({ out: [Buffer.from("no port 0")] });
  expect(tell).toBeTypeOf("function");
});

it("after a load the guest hears of what is otherwise here, and the backend of the guest", async () => {
  const source = setUp();
  source.start();
  await source.tell(0, CONTROL.DEVICE_READY);
  for (const id of [1, 2]) await source.tell(id, CONTROL.PORT_READY);
  await source.tell(2, CONTROL.PORT_OPEN);
  source.told();
  // An output request waits for its reader, half read.
  source.hosts[1]!.writable = false;
  source.driver.queue(7).post({ out: [Buffer.from("unread")] });
  source.driver.queue(7).notify();
  await source.driver.transport.quiesce();
  const writer = new ByteWriter();
  source.driver.transport.section.encode(writer);
  const bytes = writer.finish();

  const to = setUp({}, source.board);
  to.hosts[0]!.connected = false;
  await to.driver.transport.quiesce();
  to.driver.transport.section.decode(new ByteReader(bytes), 3)();
  to.driver.transport.unquiesce();
  expect(to.hosts.map(({ heard, output }) => [heard, output])).toEqual([
    [[false], ""],
    [[true], "unread"],
  ]);
  expect(source.told()).toEqual([[1, CONTROL.PORT_OPEN, 0]]);
  expect(source.driver.queue(7).collect()).toHaveLength(1);

  const other = setUp({}, source.board, ["one", "two", "three"]);
  await other.driver.transport.quiesce();
  expect(() => other.driver.transport.section.decode(new ByteReader(bytes), 3)()).toThrow(/ports_map/);
});
