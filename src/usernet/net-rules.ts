// What the guest may reach. A rule names a place, `HOST[:PORT]`: a name as the relay resolves it (`*.NAME`
// for those below it), an address or a subnet. With an allow-list nothing else is reached or resolved.
import { WherryError } from "../base/errors.ts";
import { isQueryName } from "./wire/dns-message.ts";
import { addressKind, ipText, parseIp, Subnet } from "./wire/ip-address.ts";

export class UserNetError extends WherryError {}

export interface NetRule {
  /** The text that it came from. */
  readonly text: string;
  readonly subnet?: Subnet | undefined;
  readonly name?: string | undefined;
  /** Absent: any. */
  readonly port?: number | undefined;
}

/** Parses `HOST[:PORT]`; IPv6 with a port in brackets. Throws UserNetError. */
export function parseRule(text: string): NetRule {
  const refuse = (): never => {
    throw new UserNetError(
      "user-net.rule",
      `allow=${text}: expected NAME, ADDRESS or SUBNET, each with or without :PORT, such as deb.example:80, 192.0.2.0/24 or [2001:db8::1]:443`,
    );
  };
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(text);
  const plain = bracketed ?? (/^[^:]*:[^:]*:/.test(text) ? [text, text] : /^([^:]+)(?::(\d+))?$/.exec(text));
  const [, place = "", portText] = plain ?? refuse();
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65535)) refuse();
  const subnet = Subnet.parse(place);
  if (subnet !== undefined) return { text, subnet, port };
  const name = place.toLowerCase().replace(/\.$/, "");
  if (!/^(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/.test(name)) refuse();
  if (/^[\d.]+$/.test(name)) refuse();
  return { text, name, port };
}

/** Resolved names stay known for at least so long, since programs keep addresses beyond their time. */
const MIN_KNOWN_MS = 300_000;
const MAX_KNOWN = 4096;

export interface RulesOptions {
  readonly restrict: boolean;
  readonly allow: readonly NetRule[] | undefined;
  readonly hostLoopback: boolean;
}

/** Why a place may not be reached; undefined if it may. */
export type Refusal = string | undefined;

export class NetRules {
  readonly #options: RulesOptions;
  readonly #ownAddresses: () => ReadonlySet<string>;
  readonly #nowMs: () => number;
  /** Names of an address as resolved, and until when. The oldest is first. */
  readonly #known = new Map<string, Map<string, number>>();

  constructor(options: RulesOptions, ownAddresses: () => ReadonlySet<string>, nowMs: () => number) {
    this.#options = options;
    this.#ownAddresses = ownAddresses;
    this.#nowMs = nowMs;
  }

  /** A name may be asked for. */
  resolves(name: string): boolean {
    const { allow, restrict } = this.#options;
    if (allow === undefined) return !restrict;
    return allow.some((rule) => rule.name !== undefined && matchesName(rule.name, name));
  }

  /** The relay has answered that `name` has this address. */
  resolved(name: string, address: string, ttlSeconds: number): void {
    const names = this.#known.get(address) ?? new Map<string, number>();
    this.#known.delete(address);
    this.#known.set(address, names);
    names.set(name, this.#nowMs() + Math.max(MIN_KNOWN_MS, ttlSeconds * 1000));
    const [oldest] = names.keys();
    if (names.size > 16 && oldest !== undefined) names.delete(oldest);
    const [first] = this.#known.keys();
    if (this.#known.size > MAX_KNOWN && first !== undefined) this.#known.delete(first);
  }

  /** The names that the relay has given this address for, the latest first. */
  namesOf(address: string): string[] {
    const now = this.#nowMs();
    const names = [...(this.#known.get(address) ?? [])];
    return names
      .filter(([, until]) => until >= now)
      .map(([name]) => name)
      .reverse();
  }

  /** Names open addresses. */
  get hasNames(): boolean {
    return this.#options.allow?.some(({ name }) => name !== undefined) === true;
  }

  /** At most so many names that opened addresses and were resolved last, and that can be asked for again. */
  namesInUse(max: number): string[] {
    if (!this.hasNames) return [];
    const names = new Set<string>();
    for (const address of [...this.#known.keys()].reverse())
      for (const name of this.namesOf(address))
        if (names.size < max && this.resolves(name) && isQueryName(name)) names.add(name);
    return [...names];
  }

  /** An address outside of the guest's network. */
  refusal(address: Uint8Array, port: number): Refusal {
    const { allow, restrict } = this.#options;
    const matchesPort = (rule: NetRule): boolean => rule.port === undefined || rule.port === port;
    const byAddress = allow?.find((rule) => rule.subnet?.contains(address) === true && matchesPort(rule));
    const kind = addressKind(address);
    // A name that resolves to these is no permission for them.
    if (kind === "mapped") return "an IPv4 address inside of an IPv6 address";
    if (kind === "multicast") return "a multicast or broadcast address";
    if (kind === "loopback") return "the host's loopback";
    const text = ipText(address);
    if (byAddress !== undefined) return undefined;
    if (kind === "link-local") return "a link-local address";
    if (!this.#options.hostLoopback && this.#ownAddresses().has(text)) return "the host's own address";
    if (allow === undefined) return restrict ? "restrict=on" : undefined;
    const names = this.namesOf(text);
    const isNamed = allow.some(
      (rule) =>
        rule.name !== undefined && matchesPort(rule) && names.some((name) => matchesName(rule.name!, name)),
    );
    return isNamed ? undefined : "not in the allow-list";
  }

  /** A port of the host's loopback, which the gateway's address stands for. */
  gatewayRefusal(gateway: Uint8Array, port: number): Refusal {
    const { allow, hostLoopback } = this.#options;
    const isAllowed = allow?.some(
      (rule) => rule.subnet?.contains(gateway) === true && (rule.port === undefined || rule.port === port),
    );
    if (isAllowed === true || (hostLoopback && allow === undefined && !this.#options.restrict))
      return undefined;
    return `the host's loopback: allow=${ipText(gateway)}:${port} or host-loopback=on permits it`;
  }
}

function matchesName(pattern: string, name: string): boolean {
  return pattern.startsWith("*.") ? name.endsWith(pattern.slice(1)) : name === pattern;
}

/** A forwarded port of the host. */
export interface ForwardRule {
  readonly protocol: "tcp" | "udp";
  /** Empty: all of the host's addresses. */
  readonly hostAddress: string;
  readonly hostPort: number;
  /** Absent: the first guest. */
  readonly guestAddress: Uint8Array | undefined;
  readonly guestPort: number;
}

const port = (text: string): number | undefined =>
  /^\d{1,5}$/.test(text) && Number(text) <= 65535 ? Number(text) : undefined;

/** `[tcp|udp]:[HOSTADDR]:HOSTPORT`, QEMU's notation. Throws UserNetError. */
export function parseHostPort(text: string): Pick<ForwardRule, "protocol" | "hostAddress" | "hostPort"> {
  const [, protocol = "", v6, v4 = "", portText = ""] =
    /^(tcp|udp|):(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(text) ?? [];
  const hostAddress = v6 ?? v4;
  const hostPort = port(portText);
  if (hostPort === undefined || (hostAddress !== "" && parseIp(hostAddress) === undefined))
    throw badForward(text);
  return { protocol: protocol === "udp" ? "udp" : "tcp", hostAddress, hostPort };
}

/** `[tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT`, QEMU's notation. Throws UserNetError. */
export function parseForward(text: string): ForwardRule {
  const [, host = "", v6, v4 = "", portText = ""] = /^(.*)-(?:\[([^\]]*)\]|([^:]*)):(\d+)$/.exec(text) ?? [];
  const place = v6 ?? v4;
  const guestAddress = place === "" ? undefined : parseIp(place);
  const guestPort = port(portText);
  if (guestPort === undefined || guestPort === 0 || (place !== "" && guestAddress === undefined))
    throw badForward(text);
  return { ...parseHostPort(host), guestAddress, guestPort };
}

function badForward(text: string): UserNetError {
  return new UserNetError(
    "user-net.forward",
    `invalid host forwarding rule '${text}': expected [tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT, such as tcp::2222-:22`,
  );
}

/** The rule in QEMU's notation. */
export function forwardText({
  protocol,
  hostAddress,
  hostPort,
  guestAddress,
  guestPort,
}: ForwardRule): string {
  const bracket = (place: string): string => (place.includes(":") ? `[${place}]` : place);
  const guest = guestAddress === undefined ? "" : ipText(guestAddress);
  return `${protocol}:${bracket(hostAddress)}:${hostPort}-${bracket(guest)}:${guestPort}`;
}
