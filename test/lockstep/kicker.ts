// The VMM's side of kicker-worker.ts.
import { Worker } from "node:worker_threads";

export class Kicker {
  readonly #worker = new Worker(new URL("./kicker-worker.ts", import.meta.url));

  /** Starts to kick hart 0 of this memory; previous harts are no longer kicked. */
  aim(buffer: SharedArrayBuffer): void {
    this.#worker.postMessage(buffer);
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}
