// In-process channels with faults: a wire that breaks after a number of bytes in either direction, with an
// error (reset), silently (blackhole) or for some time (late); a network of one address whose listener is
// reachable, dead or unreachable.
import { type Channel, ConnectError, type SnapshotSink } from "../../src/stream/channel.ts";

/** `late`: the bytes after the break arrive, but only after LATE_MS, whatever the sender does meanwhile. */
export type CutMode = "reset" | "blackhole" | "late";
const LATE_MS = 250;

export interface WireFaults {
  /** Bytes that pass from the connecting to the accepting side, and back, before the wire breaks. */
  readonly forward?: number;
  readonly back?: number;
  readonly mode?: CutMode;
  /** Called once, when it breaks. */
  readonly onCut?: () => void;
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

class Wire {
  readonly passed = [0, 0];
  broken = false;
  /** The break has been reached in mode `late`; `held` until the rest is delivered. */
  late = false;
  held = false;
  error: Error | undefined;
  readonly queues: Uint8Array[][] = [[], []];
  readonly ended = [false, false];
  readonly wakers: (() => void)[] = [];
  readonly #faults: WireFaults;
  constructor(faults: WireFaults) {
    this.#faults = faults;
  }
  throwIfBroken(): void {
    if (this.broken && this.error !== undefined) throw this.error;
  }
  wake(): void {
    for (const waker of this.wakers.splice(0)) waker();
  }
  async changed(): Promise<void> {
    await new Promise<void>((resolve) => this.wakers.push(resolve));
  }
  /** The number of n bytes in direction d that still pass. */
  admit(d: 0 | 1, n: number): number {
    if (this.broken) return 0;
    if (this.late) return n;
    const limit = (d === 0 ? this.#faults.forward : this.#faults.back) ?? Number.POSITIVE_INFINITY;
    const admitted = Math.min(n, limit - (this.passed[d] as number));
    this.passed[d]! += admitted;
    if ((this.passed[d] as number) >= limit) {
      if (this.#faults.mode === "late") {
        this.late = true;
        setTimeout(() => {
          this.held = false;
          this.wake();
        }, LATE_MS);
        this.held = true;
        this.#faults.onCut?.();
        return n;
      }
      this.broken = true;
      if ((this.#faults.mode ?? "reset") === "reset") this.error = new Error("connection reset");
      this.#faults.onCut?.();
    }
    return admitted;
  }
}

function end(wire: Wire, out: 0 | 1): Channel {
  const into = (1 - out) as 0 | 1;
  let aborted: Error | undefined;
  return {
    async write(bytes) {
      await turn();
      if (aborted !== undefined) throw aborted;
      if (wire.error !== undefined) throw wire.error;
      const n = wire.admit(out, bytes.length);
      if (n > 0) wire.queues[out]?.push(bytes.slice(0, n));
      wire.wake();
      // Bytes sent before a reset may have arrived nevertheless.
      wire.throwIfBroken();
      while ((wire.queues[out]?.length ?? 0) > 4 && aborted === undefined && wire.error === undefined)
        await wire.changed();
    },
    async read(target) {
      await turn();
      for (;;) {
        if (aborted !== undefined) throw aborted;
        const queue = wire.queues[into] as Uint8Array[];
        const chunk = queue[0];
        if (chunk !== undefined && !wire.held) {
          const n = Math.min(chunk.length, target.length);
          target.set(chunk.subarray(0, n));
          if (n === chunk.length) queue.shift();
          else queue[0] = chunk.subarray(n);
          wire.wake();
          return n;
        }
        if (wire.error !== undefined) throw wire.error;
        if (wire.ended[into]) return 0;
        await wire.changed();
      }
    },
    async close() {
      await turn();
      if (!wire.broken) wire.ended[out] = true;
      wire.wake();
    },
    abort(reason) {
      aborted ??= reason;
      if (!wire.broken && !(wire.late && out === 0)) {
        wire.broken = true;
        wire.error = new Error("connection reset by peer");
      }
      wire.wake();
    },
  };
}

export interface Pair {
  readonly near: Channel;
  readonly far: Channel;
  /** Bytes that passed [near to far, far to near]. */
  readonly passed: readonly number[];
}

export function channelPair(faults: WireFaults = {}): Pair {
  const wire = new Wire(faults);
  return { near: end(wire, 0), far: end(wire, 1), passed: wire.passed };
}

/** One address. The first connection has the faults, later ones none. */
export class FakeNetwork {
  listener: ((channel: Channel) => void) | undefined;
  reach: "ok" | "dead" | "partitioned" = "ok";
  passed: readonly number[] = [0, 0];
  #faults: WireFaults | undefined;
  constructor(faults?: WireFaults) {
    this.#faults = faults;
  }
  readonly connect = async (): Promise<Channel> => {
    await turn();
    if (this.reach === "partitioned")
      throw new ConnectError("refused", "nobody listens, which proves nothing");
    if (this.reach === "dead" || this.listener === undefined) throw new ConnectError("refused", "refused");
    const pair = channelPair(this.#faults);
    if (this.#faults !== undefined || this.passed[0] === 0) this.passed = pair.passed;
    this.#faults = undefined;
    this.listener(pair.far);
    return pair.near;
  };
}

/** A snapshot in memory. */
export function memorySink(): SnapshotSink & { committed: Uint8Array | undefined; discarded: boolean } {
  const parts: Uint8Array[] = [];
  let failure: Error | undefined;
  const sink = {
    committed: undefined as Uint8Array | undefined,
    discarded: false,
    channel: {
      write: async (bytes: Uint8Array) => {
        await turn();
        if (failure !== undefined) throw failure;
        parts.push(bytes.slice());
      },
      read: async () => 0,
      close: async () => {},
      abort: (reason: Error) => {
        failure ??= reason;
      },
    },
    async commit() {
      if (failure !== undefined) throw failure;
      sink.committed = Buffer.concat(parts);
    },
    async discard() {
      sink.discarded = true;
    },
  };
  return sink;
}

/** Reads `bytes` in pieces of at most `piece`. */
export function memorySource(bytes: Uint8Array, piece = 100_000): Channel {
  let at = 0;
  return {
    async read(target) {
      const n = Math.min(piece, target.length, bytes.length - at);
      target.set(bytes.subarray(at, at + n));
      at += n;
      return n;
    },
    write: async () => {},
    close: async () => {},
    abort: () => {},
  };
}
