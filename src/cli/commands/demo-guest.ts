// The guests that the demo can move: how to start each one, run its workload, and get its check of itself.
import type { ConsoleClient } from "../machine/console-client.ts";

/** The guest's result after the move. */
export interface GuestProof {
  readonly ok: boolean;
  /** The guest's longest stop during the move by its own clock, in ms. */
  readonly gapMs: number;
  /** What was checked, or what failed. */
  readonly detail: string;
}

export interface DemoGuest {
  readonly title: string;
  /** Options of `wherry run` for the machine, used by both processes. */
  readonly machineArgs: readonly string[];
  /** Options for the source only: what is loaded into memory. */
  readonly bootArgs: readonly string[];
  /** Resolves when the guest is up; `progress` receives values from 0 to 1. */
  boot(console: ConsoleClient, progress: (done: number) => void): Promise<void>;
  /**
   * Starts the workload. Resolves after some seconds of work with the longest stop in ms during them, which
   * without a move is caused by the host.
   */
  startWork(console: ConsoleClient): Promise<number>;
  /**
   * On the destination's console, after the move: the guest checks all that happened since `startWork`.
   * `before` is the source's output since the start of the move.
   */
  prove(console: ConsoleClient, before: string): Promise<GuestProof>;
  /** A user is at the console now: makes the guest print something. */
  greet(console: ConsoleClient): void;
}
