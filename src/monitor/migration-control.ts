// What the monitor asks of migration: QEMU's MigrationState as its QMP commands show it (qapi/migration.json).
// Names and units are ours; migration-commands.ts turns them into QAPI's.
import type { MigrationAddress } from "./migration-address.ts";

/** QAPI MigrationStatus, as far as precopy goes. */
export type MigrationStatus =
  | "none"
  | "setup"
  | "active"
  | "device"
  | "completed"
  | "failed"
  | "cancelling"
  | "cancelled";

/** Progress of RAM. Bytes and pages since the start of the migration; a page has 4096 bytes. */
export interface RamProgress {
  readonly transferredBytes: number;
  readonly remainingBytes: number;
  readonly totalBytes: number;
  readonly zeroPages: number;
  readonly normalPages: number;
  /** Pages the guest dirtied a second, measured over the last round. */
  readonly dirtyPagesPerSecond: number;
  readonly megabitsPerSecond: number;
  readonly pagesPerSecond: number;
  /** Rounds so far: how often the dirty log was fetched. */
  readonly rounds: number;
  /** Bytes sent while the guest ran, and after it was stopped. */
  readonly precopyBytes: number;
  readonly downtimeBytes: number;
}

export interface MigrationInfo {
  readonly status: MigrationStatus;
  readonly totalTimeMs?: number;
  readonly setupTimeMs?: number;
  readonly expectedDowntimeMs?: number;
  /** Measured by the source, once completed. */
  readonly downtimeMs?: number;
  readonly ram?: RamProgress;
  /** Why it failed. */
  readonly error?: string;
  /** Where an incoming migration listens. */
  readonly listening?: MigrationAddress;
}

export interface MigrationParameters {
  /** How long the guest may stand still at the end. */
  readonly downtimeLimitMs: number;
  /** 0: no limit. */
  readonly maxBandwidthBytesPerSecond: number;
}

export type MigrationChange =
  | { readonly event: "status"; readonly status: MigrationStatus }
  | { readonly event: "pass"; readonly pass: number };

export interface MigrationControl {
  /** Starts an outgoing migration and resolves once it is under way; a failure after that is a status. */
  start(address: MigrationAddress): Promise<void>;
  /** Listens (or opens the file) for a machine that was started with `--incoming defer`. */
  incoming(address: MigrationAddress): Promise<void>;
  /** Does nothing if no migration is under way. The machine stays here. */
  cancel(): void;
  query(): MigrationInfo;
  readonly parameters: MigrationParameters;
  setParameters(parameters: Partial<MigrationParameters>): void;
  /** The capabilities that can be switched, by QEMU's names. */
  readonly capabilities: ReadonlyMap<string, boolean>;
  /** Throws if a capability cannot be switched now. */
  setCapability(name: string, on: boolean): void;
  /** Whether an incoming machine is to run once it has arrived (`stop` and `cont` before it has change this). */
  autostart: boolean;
  /** Writes the machine to a file and leaves it as it was: running if it ran. Resolves when the file is complete. */
  save(path: string): Promise<void>;
  onChange(listener: (change: MigrationChange) => void): void;
}
