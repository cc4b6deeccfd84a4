// A driver on its own thread, for threads.test.ts: makes requests available as fast as it can, notifies only
// when the device wants it (avail_event), and sleeps only when it has enabled interrupts (used_event) and
// nothing is available. A lost notification or interrupt leaves it asleep.
import { parentPort, workerData } from "node:worker_threads";
import { GuestMemory, type RamBlock } from "../../src/memory/guest-memory.ts";

export interface DriverJob {
  readonly block: RamBlock;
  readonly buffer: SharedArrayBuffer;
  /** Word 0: interrupts so far. Word 1: requests done. */
  readonly signal: Int32Array<SharedArrayBuffer>;
  readonly queue: { desc: number; avail: number; used: number; num: number; data: number };
  readonly requests: number;
  readonly eventIndex: boolean;
}

const job = workerData as DriverJob;
const memory = new GuestMemory(job.buffer, [job.block]);
const { avail, used, num, data } = job.queue;
const { signal } = job;

const u16 = (at: number): number => memory.readU16(at) ?? 0;
const needEvent = (event: number, next: number, old: number): boolean =>
  ((next - event - 1) & 0xffff) < ((next - old) & 0xffff);

let availIdx = 0;
let usedIdx = 0;
let made = 0;
let done = 0;
let sum = 0;
while (done < job.requests) {
  const old = availIdx;
  while (made < job.requests && made - done < num) {
    const slot = made % num;
    memory.writeU32(data + 4 * slot, 0);
    memory.writeU16(avail + 4 + 2 * (availIdx % num), slot);
    availIdx = (availIdx + 1) & 0xffff;
    made++;
    // Small and large batches.
    if ((made * 2654435761) >>> 28 === 0) break;
  }
  memory.barrier();
  memory.writeU16(avail + 2, availIdx);
  memory.barrier();
  if (availIdx !== old) {
    const wanted = job.eventIndex ? needEvent(u16(used + 4 + 8 * num), availIdx, old) : (u16(used) & 1) === 0;
    if (wanted) parentPort?.postMessage("notify");
  }
  const seen = Atomics.load(signal, 0);
  if (job.eventIndex) {
    memory.writeU16(avail + 4 + 2 * num, usedIdx);
    memory.barrier();
  }
  if (u16(used + 2) === usedIdx) {
    if (Atomics.wait(signal, 0, seen, 20_000) === "timed-out")
      throw new Error(`asleep: ${done} of ${made} done`);
    continue;
  }
  memory.barrier();
  while (u16(used + 2) !== usedIdx) {
    memory.barrier();
    const at = used + 4 + 8 * (usedIdx % num);
    const id = memory.readU32(at) ?? -1;
    const written = memory.readU32(at + 4);
    const value = memory.readU32(data + 4 * id);
    if (written !== 4 || value !== done % 251)
      throw new Error(`request ${done}: ${written} bytes, value ${value}`);
    sum += value;
    usedIdx = (usedIdx + 1) & 0xffff;
    done++;
  }
  Atomics.store(signal, 1, done);
}
parentPort?.postMessage({ done, sum });
