// `wherry ssh`: the system's ssh to a machine's guest, by a port of this host that its user network forwards.
import { spawn } from "node:child_process";
import { constants } from "node:os";
import { messageOf } from "../../base/errors.ts";
import { CliError, EXIT } from "../output/cli-error.ts";
import { type Options, text, type ValuesOf } from "../options/command-line.ts";
import { machineAddress, number } from "../options/option-values.ts";
import { QmpClient } from "../machine/qmp-client.ts";

export const sshOptions = {
  identity: { value: "FILE", parse: text, help: "the private key (default: those that ssh would use)" },
  user: { value: "NAME", parse: text, help: "the user in the guest (default root)" },
  port: { value: "N", parse: number(1, 65_535), help: "the port of the guest's server (default 22)" },
} satisfies Options;

/**
 * The connection does not leave this host, and guests that are built anew have new host keys: as with other
 * machines on a forwarded port, these are not checked and not kept.
 */
const UNCHECKED = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"];

/** A machine whose guest is not here has no ports, and others may have those that it had. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  inmigrate: "the guest has not arrived yet",
  postmigrate: "the guest has moved away: ask the machine that it moved to",
};

/** Runs ssh with this process's streams. Returns its exit code: the command's, or 255. */
export async function ssh(
  machine: string,
  words: readonly string[],
  { identity, user = "root", port = 22 }: ValuesOf<typeof sshOptions>,
): Promise<number> {
  const place = await forwardedPort(machine, port);
  const options = [...UNCHECKED, ...(identity === undefined ? [] : ["IdentitiesOnly=yes"])];
  const args = [
    ...options.flatMap((option) => ["-o", option]),
    ...(identity === undefined ? [] : ["-i", identity]),
    ...["-p", String(place.port), "-l", user, "--", place.host, ...words],
  ];
  const child = spawn("ssh", args, { stdio: "inherit" });
  // The terminal sends it to both; ssh says how it ends.
  process.on("SIGINT", () => {});
  for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once("error", (cause: NodeJS.ErrnoException) => {
      const what =
        cause.code === "ENOENT" ? "there is no program ssh: install an OpenSSH client" : cause.message;
      const where = `the guest's port ${port} is ${place.host}:${place.port} here`;
      reject(new CliError(`ssh: ${what}; ${where}`, { cause }));
    });
    child.once("close", (code, signal) =>
      resolve(code ?? EXIT.SIGNAL + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

/** Where the guest's port is on this host. If it is nowhere, it gets a free port of the loopback. */
async function forwardedPort(machine: string, guestPort: number): Promise<{ host: string; port: number }> {
  const client = await QmpClient.connect(machineAddress(machine));
  const monitor = async (line: string): Promise<string> =>
    (await client.execute("human-monitor-command", { "command-line": line })) as string;
  /** Of several guests on a switch, the machine's own. */
  let own: string | undefined;
  const find = async (): Promise<{ host: string; port: number } | undefined> => {
    const row = /^ *TCP\[HOST_FORWARD\] +(\S*):(\d+) +(\S*):(\d+)$/;
    const rows = await monitor("info usernet");
    own = /^ *GUEST\[OWN\] +(\S+)/m.exec(rows)?.[1];
    if (own === "-")
      throw new CliError(`${machine}: which guest of the switch it is is not known: it has sent nothing yet`);
    for (const line of rows.split(/\r?\n/)) {
      const [, address = "", port, guest, to] = row.exec(line) ?? [];
      const host = address.replace(/^\[(.*)\]$/, "$1");
      if (Number(to) === guestPort && (own === undefined || guest === own))
        return { host: everywhere(host) ? "127.0.0.1" : host, port: Number(port) };
    }
    return undefined;
  };
  try {
    const { status } = (await client.execute("query-status")) as { status: string };
    const elsewhere = ELSEWHERE[status];
    if (elsewhere !== undefined) throw new CliError(`${machine}: ${elsewhere} (${status})`);
    const found = await find();
    if (found !== undefined) return found;
    const rule = `tcp:127.0.0.1:0-${own ?? ""}:${guestPort}`;
    const refusal = await monitor(`hostfwd_add -t ${rule}`).catch(messageOf);
    const added = await find();
    if (added !== undefined) return added;
    const advice = "ssh needs a machine with --net user (or switch:)";
    throw new CliError(`${machine}: ${refusal.trim() || "the port is not forwarded"}: ${advice}`);
  } finally {
    client.close();
  }
}

const everywhere = (host: string): boolean => ["", "0.0.0.0", "::"].includes(host);
