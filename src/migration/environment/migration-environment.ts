// What migration needs from its platform: time, a timer, a turn of the event loop, random bytes, compression.
// All platforms have the first four as globals that only the types `dom` and `node` declare. Tests inject
// others.
import type { SetTimer } from "../../base/clock.ts";
import { runtimeGlobals } from "../../base/runtime-globals.ts";
import type { Compression } from "./page-compression.ts";

/** The platform services that saving and moving need. */
export interface MigrationEnvironment {
  /** Monotonic milliseconds. */
  nowMs(): number;
  setTimer: SetTimer;
  /** Yields to the event loop: resolves after pending events have been handled. */
  yieldToEventLoop(): Promise<void>;
  randomBytes(length: number): Uint8Array<ArrayBuffer>;
  /** A name of this process, unique among all processes; undefined (or absent) if the platform has none. */
  ownIdentity?(): string | undefined;
  /** True only if the process of that name has certainly exited. */
  hasExited?(identity: string): boolean;
  /** Compression of pages on multifd channels; absent if the platform has none. */
  readonly compression?: Compression;
}

export const defaultEnvironment: MigrationEnvironment = {
  nowMs: () => runtimeGlobals.performance.now(),
  setTimer: (delayMs, fire) => {
    const timer = runtimeGlobals.setTimeout(fire, delayMs);
    return { cancel: () => runtimeGlobals.clearTimeout(timer) };
  },
  yieldToEventLoop: () =>
    new Promise((resolve) => {
      if (runtimeGlobals.setImmediate !== undefined) runtimeGlobals.setImmediate(resolve);
      else runtimeGlobals.setTimeout(resolve, 0);
    }),
  randomBytes: (length) => runtimeGlobals.crypto.getRandomValues(new Uint8Array(length)),
};

export function sleep(environment: MigrationEnvironment, ms: number): Promise<void> {
  return new Promise((resolve) => environment.setTimer(ms, resolve));
}

/** Settles as `promise` does, or rejects with `error()` after `ms`. Ignores a later outcome. */
export function withTimeout<T>(
  environment: MigrationEnvironment,
  promise: Promise<T>,
  ms: number,
  error: () => Error,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = environment.setTimer(ms, () => reject(error()));
    promise.then(
      (value) => {
        timer.cancel();
        resolve(value);
      },
      (reason: unknown) => {
        timer.cancel();
        reject(reason instanceof Error ? reason : new Error(String(reason)));
      },
    );
  });
}

/** Resolves when `promise` has, but not later than after `ms`. */
export async function atMost(
  environment: MigrationEnvironment,
  ms: number,
  promise: Promise<unknown>,
): Promise<void> {
  await withTimeout(environment, promise, ms, () => new Error("late")).catch(() => {});
}
