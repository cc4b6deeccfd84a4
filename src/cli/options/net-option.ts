// The value of --net: a user network, a switch, or one end of a socket.
import type { NetSpec, SocketNetSpec } from "../../node/net-platform/net-spec.ts";
import { unixPathFault } from "../../node/channels/system-reason.ts";
import type { UserNetOptions } from "../../usernet/user-network-options.ts";

export const NET_HELP =
  "network: none (default); user[,hostfwd=…][,allow=…][,restrict=on]… reaches the outside through this process; switch:unix:PATH[,…] is that for several guests; socket:listen=HOST:PORT, socket:connect=HOST:PORT or unix:PATH joins two; [,mac=MAC]";

/** `none`, `user[,…]`, `switch:unix:PATH[,…]`, `socket:listen=…` or `socket:connect=…`, each with `mac=M`. */
export function net(text: string): NetSpec | undefined {
  if (text === "none") return undefined;
  if (/^user(,|$)/.test(text)) return userNet(text.slice(5));
  if (text.startsWith("switch:")) return switchNet(text.slice("switch:".length));
  if (text.startsWith("socket:")) return socketNet(text.slice("socket:".length));
  throw new Error(
    "expected none, user, switch:unix:PATH, socket:listen=HOST:PORT or socket:connect=HOST:PORT (or unix:PATH)",
  );
}

/** `key=value` in their order; a comma in a value is doubled. */
function pairs(text: string): [string, string][] {
  if (text === "") return [];
  return text
    .replaceAll(",,", "\0")
    .split(",")
    .map((part) => {
      const [, key, value] = /^([^=]+)=(.*)$/s.exec(part.replaceAll("\0", ",")) ?? [];
      if (key === undefined || value === undefined) throw new Error(`expected key=value, found '${part}'`);
      return [key, value];
    });
}

/** Several of these are one list. */
const LISTS = { hostfwd: "hostfwd", allow: "allow", dnssearch: "dnssearch" } as const;
const TEXTS = {
  net: "net",
  host: "host",
  dns: "dns",
  dhcpstart: "dhcpstart",
  hostname: "hostname",
  domainname: "domainname",
} as const;
const SWITCHES = {
  restrict: "restrict",
  "host-loopback": "hostLoopback",
  ipv6: "ipv6",
  offload: "offload",
} as const;
const KNOWN = [
  ...Object.keys(LISTS),
  ...Object.keys(TEXTS),
  ...Object.keys(SWITCHES),
  "mtu",
  "log",
  "mac",
].join(", ");

function userNet(text: string): { user: UserNetOptions; log?: string; mac?: Uint8Array } {
  const user: Record<string, unknown> = {};
  const rest: { log?: string; mac?: Uint8Array } = {};
  const given = new Set<string>();
  for (const [key, value] of pairs(text)) {
    if (Object.hasOwn(LISTS, key)) {
      user[key] = [...((user[key] as string[] | undefined) ?? []), value];
      continue;
    }
    if (given.has(key)) throw new Error(`${key} is given twice`);
    given.add(key);
    if (Object.hasOwn(TEXTS, key)) user[key] = value;
    else if (Object.hasOwn(SWITCHES, key)) user[SWITCHES[key as keyof typeof SWITCHES]] = isOn(key, value);
    else if (key === "mtu") user["mtu"] = Number(value);
    else if (key === "log") rest.log = value;
    else if (key === "mac") rest.mac = macAddress(value);
    else throw new Error(`unknown key '${key}'; known are ${KNOWN}`);
  }
  return { user, ...rest };
}

function isOn(key: string, value: string): boolean {
  if (value !== "on" && value !== "off") throw new Error(`${key} must be on or off, found '${value}'`);
  return value === "on";
}

function switchNet(text: string): NetSpec {
  const [, path = "", options = ""] = /^unix:((?:[^,]|,,)+)(?:,(?!,)(.*))?$/s.exec(text) ?? [];
  if (path === "") throw new Error("expected switch:unix:PATH");
  return { switch: unixPath(path.replaceAll(",,", ",")), ...userNet(options) };
}

function socketNet(text: string): SocketNetSpec {
  const values = new Map(pairs(text));
  const mode = values.has("listen") ? "listen" : "connect";
  const place = values.get(mode) ?? "";
  const mac = values.get("mac");
  const unknown = [...values.keys()].find((key) => key !== mode && key !== "mac");
  if (unknown !== undefined) throw new Error(`unknown key '${unknown}'; known are listen, connect, mac`);
  const card = mac === undefined ? {} : { mac: macAddress(mac) };
  if (place.startsWith("unix:")) return { mode, path: unixPath(place.slice(5)), ...card };
  const match = /^(?:\[([^\]]+)\]|([^:]*)):([0-9]+)$/.exec(place);
  if (match === null)
    throw new Error("expected listen=HOST:PORT, connect=HOST:PORT, or unix:PATH instead of HOST:PORT");
  const port = Number(match[3]);
  if (port > 65535) throw new Error("expected a port from 0 to 65535");
  return { mode, host: match[1] ?? (match[2] || "127.0.0.1"), port, ...card };
}

function unixPath(path: string): string {
  const fault = path === "" ? "the path is empty: write unix:PATH" : unixPathFault(path);
  if (fault !== undefined) throw new Error(fault);
  return path;
}

function macAddress(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw new Error(`mac must look like 52:54:00:12:34:56`);
  const bytes = Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
  if (((bytes[0] ?? 0) & 1) !== 0) throw new Error(`mac ${text} is a multicast address`);
  return bytes;
}
