// The messages between the page and the VMM's worker: calls with their answers, and events.
import type { GuestEnd } from "../embed/machine-end.ts";
import type { RestoreClock } from "../vmm/machine.ts";
import type { RunState } from "../vmm/run-state.ts";
import type { MachineHardware } from "./browser-machine.ts";

/** The worker's calls: a machine's methods as messages. */
export interface VmmCalls {
  create(hardware: MachineHardware): void;
  start(): void;
  pause(): void;
  reset(): void;
  write(input: string | Uint8Array): void;
  /** The page has read the oldest `console` message that it has not yet read. */
  consoleRead(): void;
  save(): Blob;
  load(state: Blob, clock?: RestoreClock): void;
  close(): void;
}

export type VmmHandlers = {
  [K in keyof VmmCalls]: (...args: Parameters<VmmCalls[K]>) => Promise<ReturnType<VmmCalls[K]>>;
};

export interface VmmRequest<K extends keyof VmmCalls = keyof VmmCalls> {
  readonly id: number;
  readonly call: K;
  readonly args: Parameters<VmmCalls[K]>;
}

export type VmmMessage =
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "refusal"; readonly id: number; readonly code: string; readonly message: string }
  | { readonly kind: "console"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "run-state"; readonly state: RunState }
  | { readonly kind: "warning"; readonly message: string }
  | { readonly kind: "ended"; readonly end: GuestEnd };
