// One move of the guest from one side to the next, with the commands that a user of either monitor has, over
// any transport that both support.
import { setTimeout as sleep } from "node:timers/promises";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { QemuRelease } from "../../tools/unpacked.ts";
import { until } from "../support/wait.ts";
import type { Side } from "./sides.ts";

/**
 * `exec` is a pipe between two processes, live like a socket; `file` is a file that is read when it is
 * complete (QEMU 7.2 lacks `file:` and uses `exec:cat`). `multifd` uses several sockets and zstd;
 * `mapped-ram` is a file with fixed page offsets.
 */
export const TRANSPORTS = ["unix", "tcp", "exec", "file", "multifd", "mapped-ram"] as const;
export type Transport = (typeof TRANSPORTS)[number];

/** Transports that a release supports. */
export function transportsOf(release: QemuRelease): Transport[] {
  return TRANSPORTS.filter((transport) => release !== "7.2" || transport !== "mapped-ram");
}

/**
 * Sets the capabilities of a transport. With `return-path` QEMU learns the outcome of the move; without it,
 * it guesses.
 */
async function switchCapabilities(side: Side, transport: Transport, state: boolean): Promise<void> {
  const wanted: string[] = transport === "multifd" || transport === "mapped-ram" ? [transport] : [];
  if (transport === "tcp" && side.kind === "qemu") wanted.push("return-path");
  if (wanted.length === 0) return;
  const capabilities = wanted.map((capability) => ({ capability, state }));
  await side.qmp.execute("migrate-set-capabilities", { capabilities });
  if (transport === "multifd")
    await side.qmp.execute("migrate-set-parameters", {
      "multifd-channels": 2,
      "multifd-compression": state ? "zstd" : "none",
    });
}

const MOVE_MS = 60_000;
const FINAL = ["completed", "failed", "cancelled", "postcopy-paused"];

interface Info {
  readonly status?: string;
  readonly "error-desc"?: string;
  readonly downtime?: number;
  readonly "socket-address"?: readonly { readonly host: string; readonly port: string }[];
}

const query = (side: Side): Promise<Info> => side.qmp.execute<Info>("query-migrate");

let serialNumber = 0;

/** URIs for the source and for the destination. `file` is a new path. */
function addresses(
  transport: Transport,
  folder: string,
  release: QemuRelease,
  from: Side,
  to: Side,
): [string, string] {
  const path = join(folder, `move-${serialNumber++}`);
  const asFile = (side: Side, command: string): string =>
    side.kind === "qemu" && release === "7.2" ? `exec:${command}` : `file:${path}`;
  switch (transport) {
    case "unix":
    case "multifd":
      return [`unix:${path}`, `unix:${path}`];
    case "tcp":
      return ["", "tcp:127.0.0.1:0"];
    case "exec":
      execFileSync("mkfifo", [path]);
      return [`exec:cat > ${path}`, `exec:cat ${path}`];
    case "file":
    case "mapped-ram":
      return [asFile(from, `cat > ${path}`), asFile(to, `cat ${path}`)];
  }
}

async function boundPort(to: Side): Promise<string> {
  return until(10_000, "the destination listens", async () => {
    const port = (await query(to))["socket-address"]?.[0]?.port;
    return port === undefined ? undefined : `tcp:127.0.0.1:${port}`;
  });
}

async function migrate(from: Side, uri: string, release: QemuRelease, toQemu: boolean): Promise<void> {
  await from.qmp.execute("migrate", {
    uri,
    ...(from.kind === "wherry" && toQemu ? { "x-wherry-profile": `qemu-${release}` } : {}),
  });
}

async function left(from: Side, to: Side): Promise<Info> {
  return until(MOVE_MS, `${from.name} has sent the machine`, async () => {
    if (to.ended) throw new Error(`${to.name} has ended: ${to.complaints()}`);
    const info = await query(from);
    if (!FINAL.includes(info.status ?? "")) return undefined;
    if (info.status === "completed") return info;
    await sleep(200);
    throw new Error(
      `the move is ${info.status}: ${info["error-desc"] ?? ""} ${from.complaints()} ${to.complaints()}`,
    );
  });
}

/**
 * A planted fault: advances the guest's clock. Changes QEMU's section `timer` (version 2: be64 ticks, 8
 * unused bytes, be64 offset of the virtual clock in ns) in a saved file.
 */
function plantJump(path: string, ns: bigint): void {
  const bytes = readFileSync(path);
  const name = bytes.indexOf("\x05timer");
  if (name < 0) throw new Error("no section timer");
  const offset = name + 6 + 8 + 16;
  bytes.writeBigInt64BE(bytes.readBigInt64BE(offset) + ns, offset);
  writeFileSync(path, bytes);
}

/**
 * Resolves when the guest runs on `to`; returns the source's downtime in ms. `from` still exists, stopped.
 */
export async function hop(
  from: Side,
  to: Side,
  transport: Transport,
  release: QemuRelease,
  folder: string,
  plantedJumpNs = 0n,
): Promise<number> {
  const [source, destination] = addresses(transport, folder, release, from, to);
  const toQemu = to.kind === "qemu";
  let info: Info;
  for (const side of [from, to]) await switchCapabilities(side, transport, true);
  if (transport === "file" || transport === "mapped-ram") {
    await migrate(from, source, release, toQemu);
    info = await left(from, to);
    if (plantedJumpNs !== 0n) plantJump(destination.replace(/^file:/, ""), plantedJumpNs);
    await to.qmp.execute("migrate-incoming", { uri: destination });
  } else {
    // A pipe opens when both ends are open, so neither command may wait for the other's answer.
    const arrives = to.qmp.execute("migrate-incoming", { uri: destination });
    if (transport !== "exec") await arrives;
    const leaves = migrate(from, transport === "tcp" ? await boundPort(to) : source, release, toQemu);
    await Promise.all([arrives, leaves]);
    info = await left(from, to);
  }
  await until(MOVE_MS, `${to.name} runs`, async () => {
    if (to.ended) throw new Error(`${to.name} has ended: ${to.complaints()}`);
    const status = await to.status();
    if (status === "running") return true;
    if (status === "internal-error" || status === "io-error")
      throw new Error(`${to.name} is in ${status}: ${to.complaints()} ${JSON.stringify(await query(to))}`);
    return undefined;
  });
  // The next move from there may use another transport.
  await switchCapabilities(to, transport, false);
  return info.downtime ?? 0;
}
