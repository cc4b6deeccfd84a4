// A thread that kicks a hart at random moments, so that the engine under test leaves run() at any point where
// it polls.
import { parentPort } from "node:worker_threads";
import { CTL_KICK, hartBase } from "../../src/hypervisor/shared/memory-map.ts";
import { Random } from "../support/random.ts";

/** Maximum number of spins between two kicks, as a power of two: some milliseconds. */
const LONGEST = 22;

let words: Int32Array | undefined;
const random = new Random(Date.now());

function kick(): void {
  let spin = random.int(2 ** random.int(LONGEST));
  while (spin > 0) spin--;
  if (words !== undefined) Atomics.store(words, (hartBase(0) + CTL_KICK) >>> 2, 1);
  setImmediate(kick);
}

parentPort?.on("message", (buffer: SharedArrayBuffer) => {
  words = new Int32Array(buffer);
});
kick();
