// A device against a driver on another thread: every request is answered once, in order, with its bytes
// there before its used entry; no notification and no interrupt is lost.
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { VirtioRng } from "../../src/devices/virtio/virtio-rng.ts";
import type { DriverJob } from "./driver-worker.ts";
import { MockDriver, testBoard } from "../support/mock-driver.ts";

const REQUESTS = Number(process.env["WHERRY_REQUESTS"] ?? 20_000);

describe.each([
  { name: "with the event index", without: [] },
  { name: "without the event index", without: [29] },
])("a driver on another thread, $name", ({ without }) => {
  it.each([4, 64])("and %i entries", async (num) => {
    const board = testBoard();
    let served = 0;
    // The nth request gets n mod 251.
    const device = new VirtioRng(board, { random: (target) => target.set([served++ % 251, 0, 0, 0]) });
    const driver = new MockDriver(board, device).start({ num, without });
    const queue = driver.queue(0);
    const data = driver.allocate(4 * num, 4);
    for (let i = 0; i < num; i++) queue.writeDescriptor(queue.desc, i, data + 4 * i, 4, 2);
    const signal = new Int32Array(new SharedArrayBuffer(8));
    // An interrupt handler that always acknowledges at once.
    device.interruptStatus = {
      read: () => 0,
      raise: () => {
        Atomics.add(signal, 0, 1);
        Atomics.notify(signal, 0);
      },
      acknowledge: () => {},
    };
    const [block] = board.memory.blocks;
    if (block === undefined) throw new Error("no RAM");
    const job: DriverJob = {
      block,
      buffer: board.memory.bytes.buffer,
      signal,
      queue: { desc: queue.desc, avail: queue.avail, used: queue.used, num, data },
      requests: REQUESTS,
      eventIndex: without.length === 0,
    };
    const worker = new Worker(new URL("./driver-worker.ts", import.meta.url), { workerData: job });
    let notifications = 0;
    const result = await new Promise<{ done: number }>((resolve, reject) => {
      worker.on("error", reject);
      worker.on("message", (message: "notify" | { done: number }) => {
        if (message !== "notify") return resolve(message);
        notifications++;
        driver.transport.notify(0);
      });
    });
    expect([result.done, served]).toEqual([REQUESTS, REQUESTS]);
    expect(board.errors).toEqual([]);
    if (without.length === 0) expect(notifications).toBeLessThan(REQUESTS);
  });
});
