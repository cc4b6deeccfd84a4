// Errors of the guest agent and of what is done with it, and the waits that a caller may end.
import type { SetTimer } from "../base/clock.ts";
import { WherryError } from "../base/errors.ts";

/** The guest agent does not answer, refuses, or answers nonsense; a command or file in the guest failed. */
export class AgentError extends WherryError {}

/** The part of an AbortSignal that is used; every platform has it. */
export interface Signal {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

export function abortedError(signal: Signal): AgentError {
  return new AgentError("agent.aborted", "the caller's signal has ended the wait", { cause: signal.reason });
}

/** Rejects with `agent.aborted` once the signal is aborted; `work` goes on. */
export function abortable<T>(work: Promise<T>, signal: Signal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(abortedError(signal));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/** Resolves after that time, or with `settled` if that is earlier. */
export function pause(setTimer: SetTimer, ms: number, settled?: Promise<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimer(ms, resolve);
    const early = (): void => {
      timer.cancel();
      resolve();
    };
    settled?.then(early, early);
  });
}
