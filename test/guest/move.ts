// A live move between two machines, started and observed over QMP.
import { until } from "../support/wait.ts";
import type { Machine } from "../support/machine.ts";

/** The part of QAPI's MigrationInfo that we read. */
export interface MoveReport {
  readonly status: string;
  readonly "error-desc"?: string;
  readonly downtime: number;
  readonly "total-time": number;
  readonly ram: { readonly transferred: number; readonly "dirty-sync-count": number };
}

const MOVE_MS = 300_000;
const FINAL = ["completed", "failed", "cancelled", "postcopy-paused"];

interface Socket {
  readonly type: string;
  readonly host: string;
  readonly port: string;
  readonly path: string;
}

/** The address on which a destination listens. */
export async function listening(destination: Machine): Promise<string> {
  return until(30_000, "the destination listens", async () => {
    const info = await destination.qmp.execute<{ "socket-address"?: Socket[] }>("query-migrate");
    const socket = info["socket-address"]?.[0];
    if (socket === undefined) return undefined;
    return socket.type === "unix" ? `unix:${socket.path}` : `tcp:${socket.host}:${socket.port}`;
  });
}

export function query(source: Machine): Promise<MoveReport> {
  return source.qmp.execute<MoveReport>("query-migrate");
}

/** Waits until the move has ended, successfully or not. */
export function ended(source: Machine): Promise<MoveReport> {
  return until(MOVE_MS, "the move ends", async () => {
    const report = await query(source);
    return FINAL.includes(report.status) ? report : undefined;
  });
}

/** Starts a move and waits; anything but `completed` is an error. */
export async function finishedMove(source: Machine, destination: Machine): Promise<MoveReport> {
  await source.qmp.execute("migrate", { uri: await listening(destination) });
  const report = await ended(source);
  if (report.status !== "completed") {
    throw new Error(
      `the move is ${report.status}: ${report["error-desc"]}; ${destination.complaints.trim()}`,
    );
  }
  return report;
}

export function moveLine(report: MoveReport): string {
  const { ram } = report;
  return (
    `downtime ${report.downtime} ms of ${report["total-time"]} ms, ${ram["dirty-sync-count"]} rounds, ` +
    `${(ram.transferred / 2 ** 20).toFixed(1)} MiB`
  );
}
