// The guests that the demo can move: how each is started, put to work, and asked for its own proof.
import type { ConsoleClient } from "../machine/console-client.ts";

/** What the guest says of itself after the move. */
export interface GuestProof {
  readonly ok: boolean;
  /** The longest time that the guest, by its own clock, saw itself stand still during the move. */
  readonly gapMs: number;
  /** What was checked, or what did not hold. */
  readonly detail: string;
}

export interface DemoGuest {
  readonly title: string;
  /** Options for `wherry run` that make the machine; both processes get them. */
  readonly machineArgs: readonly string[];
  /** Options that only the source needs: what is loaded into memory. */
  readonly bootArgs: readonly string[];
  /** Resolves when the guest is up; `progress` gets 0…1. */
  boot(console: ConsoleClient, progress: (done: number) => void): Promise<void>;
  /**
   * Puts it to work, and resolves when it has worked for some seconds, with the longest time in ms that it stood still
   * in them: without a move that is the host's doing.
   */
  startWork(console: ConsoleClient): Promise<number>;
  /**
   * On the destination's console, after the move: the guest's own check of all that happened since `startWork`.
   * `before` is the source's output since the move began.
   */
  prove(console: ConsoleClient, before: string): Promise<GuestProof>;
  /** A person is at the console now: makes the guest show that it listens. */
  greet(console: ConsoleClient): void;
}
