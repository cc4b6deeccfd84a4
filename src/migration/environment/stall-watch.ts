// Notices that the other side of a move stands still: its process is stopped or hangs, or the network is
// down, and no connection breaks. Time is counted in ticks of this process's own event loop, so a process
// that was itself stopped, or that did not get a processor, finds the bytes that came meanwhile first.
import { MigrationError } from "../../stream/migration-error.ts";
import type { Channel } from "../../stream/channel.ts";
import type { MigrationEnvironment } from "./migration-environment.ts";

const TICKS = 20;
/** Longest tick, so that a change of the limit takes effect soon. */
const MAX_TICK_MS = 500;

/** What the other side does not do, as the rest of a sentence. */
export type Lack = "has sent nothing" | "has accepted no data" | "has not answered";

export class StallWatch {
  readonly #environment: MigrationEnvironment;
  readonly #peer: string;
  readonly #limitMs: () => number;
  /** Rejects the waits that are pending. */
  readonly #waits = new Set<(error: MigrationError) => void>();
  #lack: Lack = "has sent nothing";
  #stalledMs = 0;
  #timer: { cancel(): void } | undefined;

  /** `peer` names the other side in messages. `limitMs` is called at each tick; 0 is no limit. */
  constructor(environment: MigrationEnvironment, peer: string, limitMs: () => number) {
    this.#environment = environment;
    this.#peer = peer;
    this.#limitMs = limitMs;
  }

  /** How long nothing has moved although something is waited for. */
  get stalledMs(): number {
    return this.#stalledMs;
  }

  /** What is so, for a user; undefined if nothing has stalled for `ms`. */
  report(ms: number): string | undefined {
    return this.#stalledMs < ms ? undefined : this.#text();
  }

  #text(): string {
    const seconds = Math.round(this.#stalledMs / 100) / 10;
    return (
      `the ${this.#peer} ${this.#lack} for ${seconds} s: its process is stopped or hangs, ` +
      "or the network between is down"
    );
  }

  /** Settles as `wait` does. Rejects with MigrationError if nothing moves for the limit. */
  during<T>(wait: Promise<T>, lack: Lack): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waits.add(reject);
      if (this.#timer === undefined) this.#tick();
      this.#lack = lack;
      const moved = () => {
        this.#waits.delete(reject);
        this.#stalledMs = 0;
        if (this.#waits.size === 0) this.stop();
      };
      wait.then(
        (value) => {
          moved();
          resolve(value);
        },
        (error: unknown) => {
          moved();
          reject(error instanceof Error ? error : new Error(String(error)));
        },
      );
    });
  }

  /** Ends the watch. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#stalledMs = 0;
  }

  #tick(): void {
    const limitMs = this.#limitMs();
    const tickMs = Math.min(limitMs === 0 ? MAX_TICK_MS : limitMs / TICKS, MAX_TICK_MS);
    this.#timer = this.#environment.setTimer(tickMs, () => {
      this.#stalledMs += tickMs;
      if (limitMs === 0 || this.#stalledMs < limitMs) {
        this.#tick();
        return;
      }
      this.#rejectAll(new MigrationError("migration.stalled", this.#text()));
    });
  }

  /** Rejects the waits now if nothing has moved for `ms`; `error` is given what is so. */
  giveUp(ms: number, error: (silent: string) => MigrationError): void {
    const silent = this.report(ms);
    if (silent !== undefined) this.#rejectAll(error(silent));
  }

  #rejectAll(error: MigrationError): void {
    for (const reject of this.#waits) reject(error);
    this.#waits.clear();
    this.stop();
  }
}

/** `channel`, whose reads are watched by `watch()`, if there is one at the time. */
export function watchReads(channel: Channel, watch: () => StallWatch | undefined): Channel {
  const read = (target: Uint8Array) => {
    const reading = channel.read(target);
    return watch()?.during(reading, "has sent nothing") ?? reading;
  };
  return { ...channel, read };
}

/** `channel`, whose writes are watched. */
export function watchWrites(channel: Channel, watch: StallWatch): Channel {
  return { ...channel, write: (bytes) => watch.during(channel.write(bytes), "has accepted no data") };
}
