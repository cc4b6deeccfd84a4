// What the monitor asks of migration: QEMU's MigrationState as its QMP commands show it (qapi/migration.json).
// Names and units are ours; migration-commands.ts turns them into QAPI's.
import type { MigrationProgress } from "../migration/save/move-progress.ts";
import type { MigrationChange, MigrationParameters } from "../migration/save/outgoing-move.ts";
import type { Refusal } from "../vmm/qemu-profile.ts";
import type { MigrationAddress } from "./migration-address.ts";

/** An incoming machine, as the destination sees it. */
export interface ArrivalInfo {
  readonly status: "setup" | "active" | "completed" | "failed";
  /** Where it is waited for. */
  readonly listening: MigrationAddress;
  readonly error?: string;
}

/** What it takes to go to a release of QEMU. */
export interface Explanation {
  /** Why the machine, as it is, cannot go; empty if it can. */
  readonly refusals: readonly Refusal[];
  /** Command lines whose machines fit each other. */
  readonly qemu: readonly string[];
  readonly wherry: readonly string[];
}

export interface SaveProgress {
  readonly donePages: number;
  readonly totalPages: number;
}

/** The user's word on a move whose end is not known: see MigrationSource.decide. */
export type Decision = "there" | "here" | "ask";

export interface MigrationControl {
  /**
   * Starts an outgoing migration and resolves once it is under way; a failure after that is a status. Rejects, and
   * nothing was done, if the machine cannot go as `profile` asks (default: this object's).
   */
  start(address: MigrationAddress, profile?: string): Promise<void>;
  /** The release whose streams moves have: one of `profiles`, or undefined for Wherry's own protocol. */
  profile: string | undefined;
  /** Releases that this machine's streams can be written for, newest last. */
  readonly profiles: readonly string[];
  /** Whether the machine can go there, and what it takes. Rejects if there is no such release. */
  explain(profile: string): Promise<Explanation>;
  /** Listens (or opens the file) for a machine that was started with `--incoming defer`. */
  incoming(address: MigrationAddress): Promise<void>;
  /** Does nothing if no migration is under way. The machine stays here. */
  cancel(): void;
  /** Rejects if there is nothing to decide. */
  decide(decision: Decision): Promise<void>;
  /** The last outgoing move, else the arrival, else undefined. */
  query(): MigrationProgress | ArrivalInfo | undefined;
  readonly parameters: Readonly<MigrationParameters>;
  setParameters(parameters: Partial<MigrationParameters>): void;
  /** By QEMU's names: what this program can do, and whether it does. */
  readonly capabilities: ReadonlyMap<string, boolean>;
  /** Throws if this one cannot be switched. */
  setCapability(name: string, on: boolean): void;
  /** Whether an incoming machine is to run once it has arrived (`stop` and `cont` before it has change this). */
  autostart: boolean;
  /** How far a `save` under way is, in pages of 4096 bytes. */
  readonly saving: SaveProgress | undefined;
  /**
   * Writes the machine to a file, for a release if `profile` is given, and leaves it as it was: running if it ran.
   * Resolves when the file is complete. `mappedRam` (default: the capability): with each page at its place.
   */
  save(path: string, profile?: string, mappedRam?: boolean): Promise<void>;
  onChange(listener: (change: MigrationChange) => void): void;
}
