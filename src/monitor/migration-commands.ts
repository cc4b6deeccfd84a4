// The migration commands of QMP, shapes as in qapi/migration.json of QEMU 10.0.
// Parameters and capabilities that Wherry has no use for are not listed, and setting one is an error that names it.
import type { JsonObject, JsonValue } from "./json.ts";
import { type MonitoredMachine, refuseIfBlocked } from "./machine-commands.ts";
import { addressMembers, addressOf } from "./migration-address.ts";
import type { MigrationControl, MigrationInfo, RamProgress } from "./migration-control.ts";
import { bool, list, oneOf, optional, QmpError, str, struct, uint64 } from "./qapi.ts";
import { command, type QmpCommand } from "./qmp-command.ts";

/** `downtime-limit` has this maximum in QEMU: 2000 s. */
const MAX_DOWNTIME_LIMIT_MS = 2_000_000;

function ramStats(ram: RamProgress): JsonObject {
  return {
    transferred: ram.transferredBytes,
    remaining: ram.remainingBytes,
    total: ram.totalBytes,
    duplicate: ram.zeroPages,
    normal: ram.normalPages,
    "normal-bytes": ram.normalPages * 4096,
    "dirty-pages-rate": Math.round(ram.dirtyPagesPerSecond),
    mbps: ram.megabitsPerSecond,
    "dirty-sync-count": ram.rounds,
    "postcopy-requests": 0,
    "page-size": 4096,
    "multifd-bytes": 0,
    "pages-per-second": Math.round(ram.pagesPerSecond),
    "precopy-bytes": ram.precopyBytes,
    "downtime-bytes": ram.downtimeBytes,
    "postcopy-bytes": 0,
    "dirty-sync-missed-zero-copy": 0,
  };
}

/** QAPI MigrationInfo. Members that do not apply are absent, as in QEMU: with no migration so far it is empty. */
export function migrationInfo(info: MigrationInfo): JsonObject {
  const result: JsonObject = {};
  if (info.status !== "none") result["status"] = info.status;
  const optionalMembers: [string, number | undefined][] = [
    ["total-time", info.totalTimeMs],
    ["setup-time", info.setupTimeMs],
    ["expected-downtime", info.expectedDowntimeMs],
    ["downtime", info.downtimeMs],
  ];
  for (const [name, ms] of optionalMembers) {
    if (ms !== undefined) result[name] = Math.round(ms);
  }
  if (info.ram !== undefined) result["ram"] = ramStats(info.ram);
  if (info.error !== undefined) result["error-desc"] = info.error;
  if (info.listening !== undefined) result["socket-address"] = socketAddresses(info.listening);
  return result;
}

function socketAddresses(address: NonNullable<MigrationInfo["listening"]>): JsonValue {
  switch (address.transport) {
    case "tcp":
      return [{ type: "inet", host: address.host, port: String(address.port) }];
    case "unix":
      return [{ type: "unix", path: address.path }];
    case "file":
      return [];
  }
}

const OBSOLETE_FALSE = {
  blk: optional(bool),
  inc: optional(bool),
  detach: optional(bool),
  resume: optional(bool),
};

export function migrationCommands(migration: MigrationControl, machine: MonitoredMachine): QmpCommand[] {
  const underWay = () => ["setup", "active", "device", "cancelling"].includes(migration.query().status);
  return [
    command("migrate", { ...addressMembers, ...OBSOLETE_FALSE }, async (args) => {
      const address = addressOf(args, "migrate");
      if (args.blk === true || args.inc === true)
        throw new QmpError("Parameter 'blk' is not supported: share the disks");
      if (args.resume === true)
        throw new QmpError("Parameter 'resume' is not supported: there is no postcopy to resume");
      if (underWay()) throw new QmpError("There's a migration process in progress");
      refuseIfBlocked(machine);
      await migration.start(address);
      return {};
    }),
    command("migrate-incoming", { ...addressMembers, "exit-on-error": optional(bool) }, async (args) => {
      await migration.incoming(addressOf(args, "migrate-incoming"));
      return {};
    }),
    command("migrate_cancel", {}, () => {
      migration.cancel();
      return {};
    }),
    command("query-migrate", {}, () => migrationInfo(migration.query())),
    command("migrate-set-parameters", parameterMembers, (args) => {
      const limit = args["downtime-limit"];
      if (limit !== undefined && limit > MAX_DOWNTIME_LIMIT_MS) {
        throw new QmpError(
          "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
        );
      }
      const bandwidth = args["max-bandwidth"];
      migration.setParameters({
        ...(limit === undefined ? {} : { downtimeLimitMs: limit }),
        ...(bandwidth === undefined ? {} : { maxBandwidthBytesPerSecond: bandwidth }),
      });
      return {};
    }),
    command("query-migrate-parameters", {}, () => ({
      "max-bandwidth": migration.parameters.maxBandwidthBytesPerSecond,
      "downtime-limit": migration.parameters.downtimeLimitMs,
    })),
    command(
      "migrate-set-capabilities",
      { capabilities: list(struct({ capability: str, state: bool })) },
      (args) => {
        if (underWay()) throw new QmpError("There's a migration process in progress");
        const known = oneOf([...migration.capabilities.keys()]);
        for (const { capability } of args.capabilities) known.read(capability, "capability");
        for (const { capability, state } of args.capabilities) migration.setCapability(capability, state);
        return {};
      },
    ),
    command("query-migrate-capabilities", {}, () =>
      [...migration.capabilities].map(([capability, state]) => ({ capability, state })),
    ),
    command("x-wherry-save", { file: str }, async ({ file }) => {
      if (underWay()) throw new QmpError("There's a migration process in progress");
      refuseIfBlocked(machine);
      await migration.save(file);
      return {};
    }),
  ];
}

const parameterMembers = { "max-bandwidth": optional(uint64), "downtime-limit": optional(uint64) };
