// QMP's migration commands; shapes as in qapi/migration.json of QEMU 10.0. Parameters and capabilities
// without a function in Wherry are not listed, and setting one is an error that names it.
import { PAGE_SIZE } from "../memory/guest-memory.ts";
import type { MigrationProgress, MigrationStatus } from "../migration/save/move-progress.ts";
import type { JsonObject, JsonValue } from "./qmp-json.ts";
import { type MonitoredMachine, refuseIfBlocked } from "./machine-commands.ts";
import { addressMembers, addressOf, type MigrationAddress } from "./migration-address.ts";
import type { ArrivalInfo, MigrationControl } from "./migration-control.ts";
import { bool, int, list, number, oneOf, optional, QmpError, str, struct, uint64, union } from "./qapi.ts";
import { action, command, type QmpCommand } from "./qmp-command.ts";

/** QEMU's maximum for `downtime-limit`: 2000 s. */
const MAX_DOWNTIME_LIMIT_MS = 2_000_000;

function ramStats(ram: MigrationProgress): JsonObject {
  return {
    transferred: ram.transferredBytes,
    remaining: ram.remainingBytes,
    total: ram.totalBytes,
    duplicate: ram.zeroPages,
    normal: ram.normalPages,
    "normal-bytes": ram.normalPages * PAGE_SIZE,
    "dirty-pages-rate": Math.round(ram.dirtyPagesPerSecond),
    mbps: ram.megabitsPerSecond,
    "dirty-sync-count": ram.rounds,
    "postcopy-requests": 0,
    "page-size": PAGE_SIZE,
    "multifd-bytes": ram.multifdBytes,
    "pages-per-second": Math.round(ram.pagesPerSecond),
    "precopy-bytes": ram.precopyBytes,
    "downtime-bytes": ram.downtimeBytes,
    "postcopy-bytes": 0,
    "dirty-sync-missed-zero-copy": 0,
  };
}

/** QAPI MigrationInfo. Members that do not apply are absent, as in QEMU: without a migration it is empty. */
export function migrationInfo(info: MigrationProgress | ArrivalInfo | undefined): JsonObject {
  if (info === undefined) return {};
  if ("listening" in info) {
    return {
      status: info.status,
      ...(info.error === undefined ? {} : { "error-desc": info.error }),
      "socket-address": socketAddresses(info.listening),
    };
  }
  const result: JsonObject = { status: statusWord(info.status), ram: ramStats(info) };
  const times: [string, number | undefined][] = [
    ["total-time", info.totalTimeMs],
    ["setup-time", info.setupTimeMs],
    ["expected-downtime", info.expectedDowntimeMs],
    ["downtime", info.downtimeMs],
  ];
  for (const [name, ms] of times) {
    if (ms !== undefined) result[name] = Math.round(ms);
  }
  const error = info.error ?? info.advice;
  if (error !== undefined) result["error-desc"] = error;
  return result;
}

/**
 * QAPI has no status for a move with unknown outcome; `postcopy-paused` has the same consequence: keep both
 * machines until the user decides.
 */
export function statusWord(status: MigrationStatus): string {
  return status === "unresolved" ? "postcopy-paused" : status;
}

function socketAddresses(address: MigrationAddress): JsonValue {
  switch (address.transport) {
    case "tcp":
      return [{ type: "inet", host: address.host, port: String(address.port) }];
    case "unix":
      return [{ type: "unix", path: address.path }];
    case "file":
    case "exec":
      return [];
  }
}

const UNDER_WAY = new Set(["setup", "active", "device", "cancelling"]);

/** Obsolete arguments of `migrate`, accepted with values that have no effect. */
const OBSOLETE = {
  blk: optional(bool),
  inc: optional(bool),
  detach: optional(bool),
  resume: optional(bool),
};

export function migrationCommands(migration: MigrationControl, machine: MonitoredMachine): QmpCommand[] {
  const underWay = () => UNDER_WAY.has(migration.query()?.status ?? "none");
  return [
    action("migrate", { ...addressMembers, ...OBSOLETE, ...profileMember }, async (args) => {
      const address = addressOf(args, "migrate");
      if (args.blk === true || args.inc === true)
        throw new QmpError("Parameter 'blk' is not supported: share the disks");
      if (args.resume === true)
        throw new QmpError("Parameter 'resume' is not supported: there is no postcopy to resume");
      if (underWay()) throw new QmpError("There's a migration process in progress");
      refuseIfBlocked(machine);
      await migration.start(address, args["x-wherry-profile"]);
    }),
    action("migrate-incoming", { ...addressMembers, "exit-on-error": optional(bool) }, async (args) => {
      await migration.incoming(addressOf(args, "migrate-incoming"), args["exit-on-error"]);
    }),
    action("migrate_cancel", {}, () => {
      migration.cancel();
    }),
    command("query-migrate", {}, migrationInfoType, () => migrationInfo(migration.query())),
    action("migrate-set-parameters", parameterMembers, (args) => {
      const limit = args["downtime-limit"];
      if (limit !== undefined && limit > MAX_DOWNTIME_LIMIT_MS) {
        throw new QmpError(
          "Parameter 'downtime_limit' expects an integer in the range of 0 to (2000 * 1000) ms",
        );
      }
      const bandwidth = args["max-bandwidth"];
      const channels = args["multifd-channels"];
      if (channels !== undefined && (channels < 1 || channels > 255))
        throw new QmpError("Parameter 'multifd_channels' expects a value between 1 and 255");
      const compression = args["multifd-compression"];
      const stall = args["x-wherry-stall-timeout"];
      const profile = args["x-wherry-profile"];
      if (profile !== undefined) migration.profile = profile === "" ? undefined : profile;
      migration.setParameters({
        ...(limit === undefined ? {} : { downtimeLimitMs: limit }),
        ...(bandwidth === undefined ? {} : { maxBandwidthBytesPerSecond: bandwidth }),
        ...(channels === undefined ? {} : { multifdChannels: channels }),
        ...(stall === undefined ? {} : { stallTimeoutMs: stall }),
        ...(compression === undefined ? {} : { multifdCompression: compression }),
      });
    }),
    command("query-migrate-parameters", {}, struct(parameterMembers), () => ({
      "max-bandwidth": migration.parameters.maxBandwidthBytesPerSecond,
      "downtime-limit": migration.parameters.downtimeLimitMs,
      "multifd-channels": migration.parameters.multifdChannels,
      "multifd-compression": migration.parameters.multifdCompression,
      "x-wherry-stall-timeout": migration.parameters.stallTimeoutMs,
      ...(migration.profile === undefined ? {} : { "x-wherry-profile": migration.profile }),
    })),
    command("x-wherry-explain-profile", { profile: str }, explanation, async ({ profile }) => {
      const { refusals, qemu, wherry } = await migration.explain(profile);
      return {
        refusals: refusals.map(({ code, message, cure }) => ({ code, message, cure })),
        qemu: [...qemu],
        wherry: [...wherry],
      };
    }),
    action("migrate-set-capabilities", { capabilities: list(capabilityStatus) }, (args) => {
      if (underWay()) throw new QmpError("There's a migration process in progress");
      for (const { capability, state } of args.capabilities) {
        if (state && !migration.capabilities.has(capability)) {
          throw new QmpError(`Capability ${capability} is not supported by Wherry`);
        }
      }
      for (const { capability, state } of args.capabilities) {
        if (migration.capabilities.has(capability)) migration.setCapability(capability, state);
      }
    }),
    command("query-migrate-capabilities", {}, list(capabilityStatus), () =>
      [...migration.capabilities].map(([capability, state]) => ({ capability, state })),
    ),
    action("x-wherry-migrate-decide", { decision: oneOf(["there", "here", "ask"]) }, async ({ decision }) => {
      await migration.decide(decision);
    }),
    command("x-wherry-query-save", {}, savingType, () => {
      const { saving } = migration;
      if (saving === undefined) return {};
      return { "done-pages": saving.donePages, "total-pages": saving.totalPages };
    }),
    action("x-wherry-save", saveMembers, async ({ file, profile, "mapped-ram": mappedRam }) => {
      if (underWay()) throw new QmpError("There's a migration process in progress");
      refuseIfBlocked(machine);
      await migration.save(file, profile, mappedRam);
    }),
  ];
}

/**
 * QAPI MigrationCapability of QEMU 10.0 and 7.2. A client may switch off a capability that we lack: it is
 * off.
 */
const CAPABILITIES = [
  ...[
    "xbzrle",
    "rdma-pin-all",
    "auto-converge",
    "zero-blocks",
    "compress",
    "events",
    "postcopy-ram",
    "x-colo",
  ],
  ...["release-ram", "block", "return-path", "pause-before-switchover", "multifd", "dirty-bitmaps"],
  ...["postcopy-blocktime", "late-block-activate", "x-ignore-shared", "validate-uuid", "background-snapshot"],
  ...["zero-copy-send", "postcopy-preempt", "switchover-ack", "dirty-limit", "mapped-ram"],
];

const capabilityStatus = struct({ capability: oneOf(CAPABILITIES), state: bool });

/** QAPI's MigrationStatus, the words that we use. */
const STATUSES = [
  ...["none", "setup", "cancelling", "cancelled", "active", "postcopy-paused", "completed", "failed"],
  "device",
];
const ramStatsType = struct({
  ...Object.fromEntries(
    [
      ...["transferred", "remaining", "total", "duplicate", "normal", "normal-bytes", "dirty-pages-rate"],
      ...["dirty-sync-count", "postcopy-requests", "page-size", "multifd-bytes", "pages-per-second"],
      ...["precopy-bytes", "downtime-bytes", "postcopy-bytes", "dirty-sync-missed-zero-copy"],
    ].map((name) => [name, int]),
  ),
  mbps: number,
});
const socketAddress = union("type", {
  inet: struct({ host: str, port: str }),
  unix: struct({ path: str }),
});
const migrationInfoType = struct({
  status: optional(oneOf(STATUSES)),
  ram: optional(ramStatsType),
  "total-time": optional(int),
  "setup-time": optional(int),
  "expected-downtime": optional(int),
  downtime: optional(int),
  "error-desc": optional(str),
  "socket-address": optional(list(socketAddress)),
});
/** Events of moves. */
export const migrationEvents = {
  MIGRATION: { status: oneOf(STATUSES) },
  MIGRATION_PASS: { pass: int },
};
const explanation = struct({
  refusals: list(struct({ code: str, message: str, cure: str })),
  qemu: list(str),
  wherry: list(str),
});
const savingType = struct({ "done-pages": optional(int), "total-pages": optional(int) });

/** Wherry's parameter for the QEMU release whose streams are written; empty for Wherry's own protocol. */
const profileMember = { "x-wherry-profile": optional(str) };

const parameterMembers = {
  "max-bandwidth": optional(uint64),
  "downtime-limit": optional(uint64),
  "multifd-channels": optional(uint64),
  "multifd-compression": optional(oneOf(["none", "zlib", "zstd"])),
  "x-wherry-stall-timeout": optional(uint64),
  ...profileMember,
};

const saveMembers = { file: str, profile: optional(str), "mapped-ram": optional(bool) };
