// Addresses of migration streams in QEMU's two notations, the URI (`tcp:HOST:PORT`, `unix:PATH`,
// `file:PATH[,offset=N]`, `exec:COMMAND`) and QAPI's `channels` list (MigrationChannel, since 8.2), as one
// type. Left out: rdma:, fd:, vsock, and channels other than the main one.
import type { JsonObject } from "./qmp-json.ts";
import {
  type ArgumentsOf,
  list,
  oneOf,
  optional,
  QmpError,
  readMembers,
  str,
  struct,
  uint64,
  union,
} from "./qapi.ts";

export type MigrationAddress =
  | { readonly transport: "tcp"; readonly host: string; readonly port: number }
  | { readonly transport: "unix"; readonly path: string }
  | { readonly transport: "file"; readonly path: string; readonly offset: number }
  /** A shell command line. */
  | { readonly transport: "exec"; readonly command: string };

/** Parses a URI. Port 0 (any free port) is valid only for listening. Throws QmpError. */
export function parseMigrationUri(uri: string): MigrationAddress {
  const colon = uri.indexOf(":");
  const rest = uri.slice(colon + 1);
  switch (colon < 0 ? "" : uri.slice(0, colon)) {
    case "tcp":
      return tcpAddress(rest);
    case "unix":
      if (rest === "") throw new QmpError(`the path in '${uri}' is empty: write unix:PATH`);
      return { transport: "unix", path: rest };
    case "file":
      return fileAddress(rest);
    case "exec":
      if (rest === "") throw new QmpError(`the command in '${uri}' is empty: write exec:COMMAND`);
      return { transport: "exec", command: rest };
    case "fd":
      throw new QmpError(
        `'${uri}': file descriptors are not supported; for an inherited file or pipe N use file:/dev/fd/N, ` +
          "for a socket unix:PATH or tcp:HOST:PORT",
      );
    case "rdma":
    case "vsock":
      throw new QmpError(
        `'${uri}': this transport is not supported; use tcp:HOST:PORT, unix:PATH, file:PATH or exec:COMMAND`,
      );
    default:
      throw new QmpError("Parameter 'uri' expects a valid migration protocol");
  }
}

/** The URI of an address; `parseMigrationUri` returns the same address for it. */
export function migrationUri(address: MigrationAddress): string {
  switch (address.transport) {
    case "tcp":
      return `tcp:${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
    case "unix":
      return `unix:${address.path}`;
    case "file":
      return `file:${address.path}${address.offset === 0 ? "" : `,offset=${address.offset}`}`;
    case "exec":
      return `exec:${address.command}`;
  }
}

function tcpAddress(text: string): MigrationAddress {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):([0-9]+)$/.exec(text);
  if (match === null) throw new QmpError(`error parsing address '${text}': expected HOST:PORT`);
  return { transport: "tcp", host: match[1] ?? match[2] ?? "", port: portOf(match[3] ?? "", text) };
}

function portOf(digits: string, address: string): number {
  const port = Number(digits);
  if (!/^[0-9]+$/.test(digits) || port > 65535) {
    throw new QmpError(
      `error parsing port in address '${address}': expected a number up to 65535, found '${digits}'`,
    );
  }
  return port;
}

function fileAddress(text: string): MigrationAddress {
  const match = /^(.*?)(?:,offset=([^,]*))?$/s.exec(text);
  const path = match?.[1] ?? "";
  const offset = match?.[2] ?? "0";
  if (path === "") throw new QmpError(`the path in 'file:${text}' is empty: write file:PATH`);
  const bytes = Number(offset);
  if (!/^(0x[0-9a-fA-F]+|[0-9]+)$/.test(offset) || !Number.isSafeInteger(bytes)) {
    throw new QmpError(`the offset in 'file:${text}' must be a number of bytes, found '${offset}'`);
  }
  return { transport: "file", path, offset: bytes };
}

const inet = { host: str, port: str };
const unix = { path: str };
const fileMembers = { filename: str, offset: uint64 };
const execMembers = { args: list(str) };
/** QAPI's MigrationAddress; channelAddress reads it. */
const channelAddr = union("transport", {
  socket: union("type", { inet: struct(inet), unix: struct(unix) }),
  file: struct(fileMembers),
  exec: struct(execMembers),
});
const channelMembers = { "channel-type": oneOf(["main", "cpr"]), addr: channelAddr };

/** The members of `migrate` and `migrate-incoming` that hold the address. */
export const addressMembers = { uri: optional(str), channels: optional(list(struct(channelMembers))) };

/** The address in the arguments of `command`: either `uri` or `channels`. Throws QmpError. */
export function addressOf(args: ArgumentsOf<typeof addressMembers>, command: string): MigrationAddress {
  const { uri, channels } = args;
  if ((uri === undefined) === (channels === undefined)) {
    const found = uri === undefined ? "neither" : "both";
    throw new QmpError(`'${command}' takes one of the arguments 'uri' and 'channels', found ${found}`);
  }
  if (uri !== undefined) return parseMigrationUri(uri);
  const [channel, second] = channels ?? [];
  if (channel === undefined || second !== undefined) {
    throw new QmpError(`Parameter 'channels' takes one entry, found ${channels?.length ?? 0}`);
  }
  if (channel["channel-type"] !== "main")
    throw new QmpError("Channel type 'cpr' is not supported: use 'main'");
  return channelAddress(channel.addr);
}

/** Reads QAPI's union MigrationAddress: the discriminators are `transport` and, for sockets, `type`. */
function channelAddress(addr: JsonObject): MigrationAddress {
  const at = "channels[0].addr.";
  const { transport, ...rest } = addr;
  if (transport === undefined) throw new QmpError(`Parameter '${at}transport' is missing`);
  const kind = oneOf(["socket", "file", "exec"]).read(transport, `${at}transport`);
  if (kind === "file") {
    const { filename, offset } = readMembers(fileMembers, rest, at);
    return { transport: "file", path: filename, offset };
  }
  if (kind === "exec") {
    const { args } = readMembers(execMembers, rest, at);
    return { transport: "exec", command: shellCommand(args) };
  }
  const { type, ...socket } = rest;
  if (type === undefined) throw new QmpError(`Parameter '${at}type' is missing`);
  if (oneOf(["inet", "unix"]).read(type, `${at}type`) === "unix") {
    return { transport: "unix", path: readMembers(unix, socket, at).path };
  }
  const { host, port } = readMembers(inet, socket, at);
  return { transport: "tcp", host, port: portOf(port, `${host}:${port}`) };
}

/** A shell command line that runs a program with these arguments. */
function shellCommand(args: readonly string[]): string {
  const [shell, dashC, command, ...more] = args;
  if (shell === "/bin/sh" && dashC === "-c" && command !== undefined && more.length === 0) return command;
  if (args.length === 0) throw new QmpError("Parameter 'args' names no program");
  return args.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
}
