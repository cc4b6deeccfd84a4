// The commands that control a running machine over its QMP socket: status, stop, cont, quit, save, migrate.
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { migrationUri } from "../../monitor/migration-address.ts";
import type { SocketAddress } from "../../node/channels/socket-server.ts";
import { CliError, EXIT, UsageError } from "../output/cli-error.ts";
import { type Options, parsed, text, type ValuesOf } from "../options/command-line.ts";
import {
  absoluteAddress,
  machineAddress,
  migrationAddress,
  number,
  size,
  word,
} from "../options/option-values.ts";
import { bytesText, durationText, type Progress, startProgress } from "../output/progress-bar.ts";
import { QmpClient } from "../machine/qmp-client.ts";

const MULTIFD_COMPRESSIONS = ["none", "zlib", "zstd"] as const;

export const controlOptions = {
  qmp: {
    value: "NAME|unix:PATH|tcp:H:P",
    parse: machineAddress,
    help: "the machine's name, or its QMP socket (required)",
  },
} satisfies Options;

const profile = {
  value: "NAME",
  parse: text,
  help: "write a stream for this release of QEMU: qemu-7.2, qemu-10.0 or qemu-11.1",
} as const;

const mappedRam = {
  help: "with --profile: a file with each page at a fixed offset (QEMU's capability mapped-ram, 9.0 and later)",
} as const;

export const saveOptions = { ...controlOptions, profile, "mapped-ram": mappedRam } satisfies Options;

export const migrateOptions = {
  ...controlOptions,
  profile,
  explain: {
    help: "do not move: report whether the machine can go to --profile, and how to start both sides",
  },
  "downtime-limit": {
    value: "MS",
    parse: number(0, 2_000_000),
    help: "limit of the guest's downtime in milliseconds (default 300)",
  },
  "max-bandwidth": {
    value: "SIZE",
    parse: size(""),
    help: "send at most this many bytes per second, such as 100M; 0 is no limit",
  },
  "stall-timeout": {
    value: "SECONDS",
    parse: number(0, 86_400),
    help: "how long the destination may accept no data or not answer before the move fails (default 30; 0: for ever)",
  },
  multifd: {
    value: "CHANNELS",
    parse: number(1, 255),
    help: "with --profile: use QEMU's capability multifd with this many channels",
  },
  "multifd-compression": {
    value: MULTIFD_COMPRESSIONS.join("|"),
    parse: word(MULTIFD_COMPRESSIONS),
    help: "compression of pages on multifd's channels, as in QEMU (default none)",
  },
  "mapped-ram": mappedRam,
} satisfies Options;

/** The part of QAPI's MigrationInfo that we show. */
export interface MigrationReport {
  readonly status?: string;
  readonly "total-time"?: number;
  readonly downtime?: number;
  readonly "expected-downtime"?: number;
  readonly "error-desc"?: string;
  readonly ram?: {
    readonly transferred: number;
    readonly remaining: number;
    readonly total: number;
    readonly normal: number;
    readonly duplicate: number;
    readonly mbps: number;
    readonly "dirty-sync-count": number;
    readonly "dirty-pages-rate": number;
  };
}

/** Rejects with UsageError without --qmp. */
export async function withClient<T>(
  qmp: SocketAddress | undefined,
  use: (client: QmpClient) => Promise<T>,
): Promise<T> {
  if (qmp === undefined)
    throw new UsageError("--qmp NAME or --qmp unix:PATH is required: which machine is meant?");
  const client = await QmpClient.connect(qmp);
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

export function status({ qmp }: ValuesOf<typeof controlOptions>): Promise<void> {
  return withClient(qmp, async (client) => {
    const state = (await client.execute("query-status")) as { status: string };
    const cpus = (await client.execute("query-cpus-fast")) as unknown[];
    const memory = (await client.execute("query-memory-size-summary")) as { "base-memory": number };
    const migration = (await client.execute("query-migrate")) as MigrationReport;
    print(`status: ${state.status}`);
    print(`harts: ${cpus.length}`);
    print(`memory: ${bytesText(memory["base-memory"])}`);
    if (migration.status === undefined) return;
    print(`migration: ${migrationLine(migration)}`);
    const advice = migration["error-desc"];
    if (advice !== undefined && migration.status !== "failed") print(`migration: ${advice}`);
  });
}

/** stop, cont or quit. */
export function simple(
  command: "stop" | "cont" | "quit",
): (values: ValuesOf<typeof controlOptions>) => Promise<void> {
  return ({ qmp }) => withClient(qmp, async (client) => void (await client.execute(command)));
}

export function save(file: string, values: ValuesOf<typeof saveOptions>): Promise<void> {
  const { qmp, profile: release } = values;
  refuseForms(values);
  return withClient(qmp, async (client) => {
    const path = resolve(file);
    // The session replies in order: progress is queried on a connection of its own.
    const watcher = await QmpClient.connect(qmp as SocketAddress);
    const progress = startProgress("save");
    let total = 0;
    const show = async () => {
      // Closing the watcher rejects its pending requests.
      const saving = (await watcher.execute("x-wherry-query-save")) as SavingReport;
      total = saving["total-pages"] || total;
      if (saving["done-pages"] !== undefined && total > 0) showSaved(progress, saving["done-pages"], total);
    };
    const timer = setInterval(() => void show().catch(() => {}), POLL_MS);
    try {
      const form = release === undefined ? {} : { profile: release };
      await client.execute("x-wherry-save", { file: path, "mapped-ram": values["mapped-ram"], ...form });
      if (total > 0) showSaved(progress, total, total);
    } finally {
      clearInterval(timer);
      watcher.close();
      progress.stop();
    }
    const { size: bytes } = await stat(path);
    print(`saved ${file}, ${bytesText(bytes)}; the machine is ${await runState(client)}`);
  });
}

/** Wherry's own stream has only one format. */
function refuseForms(values: Partial<ValuesOf<typeof migrateOptions>>): void {
  const form =
    values["mapped-ram"] === true ? "--mapped-ram" : values.multifd === undefined ? undefined : "--multifd";
  if (form !== undefined && values.profile === undefined)
    throw new UsageError(`${form} is a format of QEMU: name the release that loads it with --profile`);
}

type SavingReport = Partial<Record<"done-pages" | "total-pages", number>>;

function showSaved(progress: Progress, done: number, total: number): void {
  progress.update(done, total, `${done} of ${total} pages`);
}

export async function migrate(
  uri: string | undefined,
  values: ValuesOf<typeof migrateOptions>,
): Promise<number | void> {
  if (values.explain) return await withClient(values.qmp, (client) => explain(client, values.profile));
  if (uri === undefined) throw new UsageError("URI is missing: wherry migrate URI");
  refuseForms(values);
  const address = migrationUri(absoluteAddress(parsed("URI", uri, migrationAddress)));
  await withClient(values.qmp, async (client) => {
    const parameters = {
      ...(values["downtime-limit"] === undefined ? {} : { "downtime-limit": values["downtime-limit"] }),
      ...(values["max-bandwidth"] === undefined ? {} : { "max-bandwidth": values["max-bandwidth"] }),
      ...(values["stall-timeout"] === undefined
        ? {}
        : { "x-wherry-stall-timeout": values["stall-timeout"] * 1000 }),
      "x-wherry-profile": values.profile ?? "",
      ...(values.multifd === undefined ? {} : { "multifd-channels": values.multifd }),
      "multifd-compression": values["multifd-compression"] ?? "none",
    };
    await client.execute("migrate-set-capabilities", {
      capabilities: [
        { capability: "multifd", state: values.multifd !== undefined },
        { capability: "mapped-ram", state: values["mapped-ram"] },
      ],
    });
    const report = await move(client, address, parameters, "migrate");
    print(`moved to ${uri}: ${reportLine(report)}`);
  });
}

/** Returns the exit code: a failure if the machine cannot go. */
async function explain(client: QmpClient, release: string | undefined): Promise<number> {
  if (release === undefined) throw new UsageError("--explain needs --profile NAME, the release to go to");
  const { refusals, qemu, wherry } = (await client.execute("x-wherry-explain-profile", {
    profile: release,
  })) as {
    readonly refusals: readonly { readonly message: string; readonly cure: string }[];
    readonly qemu: readonly string[];
    readonly wherry: readonly string[];
  };
  print(`the machine ${refusals.length === 0 ? "can go" : "cannot go as it is"} to ${release}`);
  for (const { message, cure } of refusals) print(`  - ${message}\n    ${cure}`);
  print(`start QEMU like this:\n  ${commandLine(qemu)}`);
  print(`and Wherry:\n  ${commandLine(wherry)}`);
  return refusals.length === 0 ? EXIT.OK : EXIT.FAILURE;
}

/** In a form that a shell reads back. */
function commandLine(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(" ");
}

/**
 * Moves the machine behind `client`, shows progress, and returns the last report. Ctrl-C cancels the move.
 */
export async function move(
  client: QmpClient,
  uri: string,
  parameters: Record<string, number | string>,
  label: string,
): Promise<MigrationReport> {
  await client.execute("migrate-set-parameters", parameters);
  await client.execute("migrate", { uri });
  const cancel = () => void client.execute("migrate_cancel").catch(() => {});
  process.once("SIGINT", cancel);
  const watching = watch(client, label);
  try {
    const report = await watching.finished;
    if (report.status === "completed") return report;
    const here = `the machine is ${await runState(client)} here`;
    if (report.status === "cancelled") throw new CliError(`the move was cancelled; ${here}`);
    const why = report["error-desc"] ?? "no reason given";
    if (report.status === UNRESOLVED) throw new CliError(`${why} (QMP: x-wherry-migrate-decide)`);
    throw new CliError(`the move failed: ${why}; ${here}`);
  } finally {
    process.off("SIGINT", cancel);
    await watching.stop();
  }
}

async function runState(client: QmpClient): Promise<string> {
  return ((await client.execute("query-status")) as { status: string }).status;
}

const POLL_MS = 100;
/** QAPI's status of a move that needs a decision (docs/qmp.md). */
const UNRESOLVED = "postcopy-paused";
const FAILED = ["failed", "cancelled", UNRESOLVED];

/** Polls query-migrate and shows the progress until the move has ended or `stop` is called. */
function watch(
  client: QmpClient,
  label: string,
): { finished: Promise<MigrationReport>; stop(): Promise<void> } {
  const progress = startProgress(label);
  let stopped = false;
  let isAdvised = false;
  const poll = async (): Promise<MigrationReport> => {
    for (;;) {
      const report = (await client.execute("query-migrate")) as MigrationReport;
      const { ram } = report;
      const ended = FAILED.includes(report.status ?? "");
      if (ram !== undefined && !ended)
        progress.update(ram.total - ram.remaining, ram.total, migrationLine(report));
      // While the move is under way, it is advice.
      const advice = ended ? undefined : report["error-desc"];
      if (advice !== undefined && !isAdvised)
        process.stderr.write(`${process.stderr.isTTY ? "\n" : ""}${label}: ${advice}\n`);
      isAdvised = advice !== undefined;
      if (stopped || ended || report.status === "completed") return report;
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  };
  const finished = poll().finally(() => progress.stop());
  return {
    finished,
    async stop() {
      stopped = true;
      await finished.catch(() => {});
    },
  };
}

/** The status of a move on one line. */
function migrationLine(report: MigrationReport): string {
  const { ram } = report;
  if (report.status === "failed") return `failed: ${report["error-desc"] ?? "no reason given"}`;
  if (ram === undefined) return report.status ?? "none";
  return [
    report.status,
    `round ${ram["dirty-sync-count"]}`,
    `${ram.normal + ram.duplicate} pages`,
    `${bytesText(ram.remaining)} left`,
    `${ram["dirty-pages-rate"]} dirtied/s`,
    `${ram.mbps.toFixed(0)} Mbit/s`,
  ].join(", ");
}

/** The figures of a completed move. */
export function reportLine(report: MigrationReport): string {
  const { ram } = report;
  const parts = [
    `${durationText(report["total-time"] ?? 0)}`,
    `downtime ${durationText(report.downtime ?? 0)}`,
  ];
  if (ram !== undefined) parts.push(bytesText(ram.transferred), `${ram["dirty-sync-count"]} rounds`);
  return parts.join(", ");
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
