// Errors of the guest agent and of what is done with it, and the waits that a caller may end.
import { abortable, type Signal } from "../base/abort.ts";
import type { SetTimer } from "../base/clock.ts";
import { WherryError } from "../base/errors.ts";

/** The guest agent does not answer, refuses, or answers nonsense; a command or file in the guest failed. */
export class AgentError extends WherryError {}

export function abortedError(signal: Signal): AgentError {
  return new AgentError("agent.aborted", "the caller's signal has ended the wait", { cause: signal.reason });
}

/** Rejects with `agent.aborted` once the signal is aborted; `work` goes on. */
export const abortableByAgent = <T>(work: Promise<T>, signal: Signal | undefined): Promise<T> =>
  abortable(work, signal, abortedError);

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
