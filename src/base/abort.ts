// What ends a wait early: the part of AbortSignal that every platform has.
import { WherryError } from "./errors.ts";

/** The part of an AbortSignal that is used. */
export interface Signal {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** Of a call that waits. */
export interface CallOptions {
  /**
   * Ends the call, which then rejects with `machine.aborted`. A save, a restore or a move is undone; another
   * call that has begun goes on.
   */
  readonly signal?: Signal | undefined;
}

export function abortedCall(signal: Signal): WherryError {
  return new WherryError("machine.aborted", "the caller's signal has ended the call", {
    cause: signal.reason,
  });
}

/** Throws `machine.aborted` if the signal is aborted. */
export function refuseAborted(signal: Signal | undefined): void {
  if (signal?.aborted === true) throw abortedCall(signal);
}

/** Rejects with `error` once the signal is aborted; `work` goes on. */
export function abortable<T>(
  work: Promise<T>,
  signal: Signal | undefined,
  error: (signal: Signal) => Error = abortedCall,
): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(error(signal));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/**
 * Runs `work`, which tells `onAbort` what to stop. If it then rejects, the reason is the signal. Work that
 * ends well all the same has not been aborted.
 */
export async function stoppable<T>(
  signal: Signal | undefined,
  work: (onAbort: (stop: (reason: WherryError) => void) => void) => Promise<T>,
): Promise<T> {
  if (signal === undefined) return work(() => {});
  refuseAborted(signal);
  let stop: (reason: WherryError) => void = () => {};
  const abort = (): void => stop(abortedCall(signal));
  signal.addEventListener("abort", abort);
  try {
    return await work((how) => {
      stop = how;
      if (signal.aborted) abort();
    });
  } catch (error) {
    throw signal.aborted ? abortedCall(signal) : error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
