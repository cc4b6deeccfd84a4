// The monitor's interface to migration: QEMU's MigrationState as its QMP commands show it
// (qapi/migration.json). Names and units are ours; migration-commands.ts converts them to QAPI's.
import type { MigrationProgress } from "../migration/save/move-progress.ts";
import type { MigrationChange, MigrationParameters } from "../migration/save/outgoing-move.ts";
import type { Refusal } from "../vmm/qemu-profile.ts";
import type { MigrationAddress } from "./migration-address.ts";

/** The destination's view of an incoming machine. */
export interface ArrivalInfo {
  readonly status: "setup" | "active" | "completed" | "failed";
  /** The address it listens on. */
  readonly listening: MigrationAddress;
  /** Why it failed; with `setup`, why the last connection was dropped. */
  readonly error?: string;
}

/** The conditions for a move to a release of QEMU. */
export interface Explanation {
  /** Reasons why the machine cannot go in its present state; empty if it can. */
  readonly refusals: readonly Refusal[];
  /** Command lines of equal machines. */
  readonly qemu: readonly string[];
  readonly wherry: readonly string[];
}

export interface SaveProgress {
  readonly donePages: number;
  readonly totalPages: number;
}

/** The user's decision about a move with unknown outcome: see MigrationSource.decide. */
export type Decision = "there" | "here" | "ask";

export interface MigrationControl {
  /**
   * Starts an outgoing migration and resolves once it is under way; later failures are reported by `query`.
   * Rejects, with nothing done, if the machine cannot be moved with `profile` (default: this object's).
   */
  start(address: MigrationAddress, profile?: string): Promise<void>;
  /** The QEMU release whose streams are used: one of `profiles`, or undefined for Wherry's own protocol. */
  profile: string | undefined;
  /** The releases for which this machine's streams can be written, newest last. */
  readonly profiles: readonly string[];
  /**
   * Reports whether the machine can go to a release, and the conditions. Rejects if there is no such release.
   */
  explain(profile: string): Promise<Explanation>;
  /**
   * Listens for (or opens the file of) a machine started with `--incoming defer`. `exitOnError` (default
   * true): a failure ends the process.
   */
  incoming(address: MigrationAddress, exitOnError?: boolean): Promise<void>;
  /** No effect if no migration is under way. The machine stays here. */
  cancel(): void;
  /** Rejects if there is nothing to decide. */
  decide(decision: Decision): Promise<void>;
  /** The last outgoing move, otherwise the arrival, otherwise undefined. */
  query(): MigrationProgress | ArrivalInfo | undefined;
  readonly parameters: Readonly<MigrationParameters>;
  setParameters(parameters: Partial<MigrationParameters>): void;
  /** Capabilities by QEMU's names, and whether each is on. */
  readonly capabilities: ReadonlyMap<string, boolean>;
  /** Throws if the capability cannot be switched. */
  setCapability(name: string, on: boolean): void;
  /** Decides whether an incoming machine runs once it has arrived (`cont` and `stop` before the arrival). */
  decideStart(runs: boolean): void;
  /** Progress of a `save` under way, in pages of 4096 bytes. */
  readonly saving: SaveProgress | undefined;
  /**
   * Writes the machine to a file, for a QEMU release if `profile` is given; a running machine continues to
   * run. Resolves when the file is complete. `mappedRam` (default: the capability) stores each page at a
   * fixed offset.
   */
  save(path: string, profile?: string, mappedRam?: boolean): Promise<void>;
  onChange(listener: (change: MigrationChange) => void): void;
}
