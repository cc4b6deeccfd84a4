// The ends of a machine, as its process sees them: by its guest, or at its user's request. A machine that
// cannot be saved goes on after such a request.
import type { GuestEnd } from "../../embed/machine-end.ts";

/** How a machine ended. */
export interface MachineEnd {
  readonly kind: "quit" | "incoming-failed" | GuestEnd["kind"];
  readonly message: string;
  /** Of an arrival that failed. */
  readonly error?: Error;
}

/** One wish to end it often sends several signals: a closed terminal's from its shell and from the kernel. */
const ONE_WISH_MS = 1000;

export class MachineQuit {
  readonly #nowMs: () => number;
  /** When the user requested the end. */
  #askedMs: number | undefined;
  #missed: MachineEnd | undefined;
  #isOver = false;
  #ended = Promise.withResolvers<MachineEnd>();
  #again = Promise.withResolvers<void>();

  constructor(nowMs = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Resolves when the machine has ended. */
  get ended(): Promise<MachineEnd> {
    return this.#ended.promise;
  }
  /** Resolves when the user requests the end again. */
  get again(): Promise<void> {
    return this.#again.promise;
  }

  end(end: MachineEnd): void {
    if (this.#isOver) {
      this.#missed ??= end;
      if (end.kind === "quit") this.#again.resolve();
    }
    this.#isOver = true;
    this.#ended.resolve(end);
  }

  /** The user requests the end. Returns whether that is new. */
  ask(reason: "host-ui" | "host-signal", signal?: NodeJS.Signals): boolean {
    const asked = this.#askedMs;
    this.#askedMs ??= this.#nowMs();
    if (asked === undefined) {
      this.end({ kind: "quit", message: reason });
      return true;
    }
    const isMeant = signal !== "SIGHUP" && this.#nowMs() - asked > ONE_WISH_MS;
    if (reason === "host-ui" || isMeant) this.#again.resolve();
    return false;
  }

  /** The machine goes on. Resolves at its next end, which may have come already. */
  goOn(): Promise<MachineEnd> {
    const missed = this.#missed;
    this.#askedMs = this.#missed = undefined;
    this.#isOver = false;
    this.#ended = Promise.withResolvers();
    this.#again = Promise.withResolvers();
    if (missed !== undefined) this.end(missed);
    return this.ended;
  }
}
