// The options of a user network, in QEMU's words, and what they mean.
import { ipText, parseIp, Subnet } from "./wire/ip-address.ts";
import { type NetRule, parseForward, parseRule, type ForwardRule, UserNetError } from "./net-rules.ts";

/** A network for guests that reaches the outside through this host, as QEMU's `-netdev user`. */
export interface UserNetOptions {
  /** The guests' IPv4 network. Default: 10.0.2.0/24. */
  readonly net?: string | undefined;
  /** The gateway's address in it, that of the host. Default: its second (10.0.2.2). */
  readonly host?: string | undefined;
  /** The name server's address in it. Default: its third (10.0.2.3). */
  readonly dns?: string | undefined;
  /** The first guest's address. Default: the fifteenth (10.0.2.15). */
  readonly dhcpstart?: string | undefined;
  /** The name that DHCP gives to a guest. */
  readonly hostname?: string | undefined;
  readonly domainname?: string | undefined;
  /** Domains in which short names are looked for. */
  readonly dnssearch?: readonly string[] | undefined;
  /** Guests reach nothing outside; forwarded ports work. Default: false. */
  readonly restrict?: boolean | undefined;
  /** Forwarded ports, each `[tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:GUESTPORT`. */
  readonly hostfwd?: readonly string[] | undefined;
  /**
   * Guests reach only these places, and resolve only these names: each NAME, ADDRESS or SUBNET, with or
   * without `:PORT`. The gateway's address stands for the host's loopback. Default: all but the host itself.
   */
  readonly allow?: readonly string[] | undefined;
  /**
   * Guests reach the host's loopback at the gateway's address, and the host's own addresses. Default: false.
   */
  readonly hostLoopback?: boolean | undefined;
  /** IPv6 as well, in fec0::/64. Default: true. */
  readonly ipv6?: boolean | undefined;
  /** The largest packet, which DHCP tells the guests: 1280 to 65520. Default: 65520. */
  readonly mtu?: number | undefined;
  /**
   * The guest receives TCP in frames larger than its MTU, and without checksums. A machine that is to move to
   * QEMU must do without. Default: true.
   */
  readonly offload?: boolean | undefined;
}

export interface UserNetConfig {
  readonly subnet: Subnet;
  readonly gateway: Uint8Array;
  readonly dns: Uint8Array;
  readonly firstGuest: Uint8Array;
  readonly hostname: string | undefined;
  readonly domain: string | undefined;
  readonly search: readonly string[];
  readonly restrict: boolean;
  readonly forwards: readonly ForwardRule[];
  readonly allow: readonly NetRule[] | undefined;
  readonly hostLoopback: boolean;
  readonly ipv6: boolean;
  readonly mtu: number;
  readonly offload: boolean;
}

export const DEFAULT_MTU = 65_520;

/** Throws UserNetError that says which option is wrong. */
export function userNetConfig(options: UserNetOptions): UserNetConfig {
  const refuse = (name: string, why: string): never => {
    throw new UserNetError("user-net.options", `${name}: ${why}`);
  };
  const {
    net = "10.0.2.0/24",
    restrict = false,
    hostLoopback = false,
    ipv6 = true,
    mtu = DEFAULT_MTU,
    offload = true,
  } = options;
  const subnet = Subnet.parse(net) ?? refuse("net", `expected a network such as 10.0.2.0/24, found '${net}'`);
  if (subnet.address.length !== 4 || subnet.bits < 8 || subnet.bits > 27)
    refuse("net", `expected an IPv4 network of 8 to 27 bits, found '${net}'`);
  if (!Number.isInteger(mtu) || mtu < 1280 || mtu > 65_520)
    refuse("mtu", `expected 1280 to 65520, found ${mtu}`);
  const place = (name: "host" | "dns" | "dhcpstart", last: number): Uint8Array => {
    const text = options[name];
    if (text === undefined) return subnet.host(last);
    const address = parseIp(text) ?? refuse(name, `expected an address in ${net}, found '${text}'`);
    if (!subnet.contains(address)) refuse(name, `${text} is not in ${net}`);
    return address;
  };
  const [gateway, dns, firstGuest] = [place("host", 2), place("dns", 3), place("dhcpstart", 15)];
  const distinct = new Set([gateway, dns, firstGuest].map(ipText));
  if (distinct.size < 3)
    refuse("host, dns, dhcpstart", `expected different addresses, found ${[...distinct].join(" and ")}`);
  return {
    ...{ subnet, gateway, dns, firstGuest, restrict, hostLoopback, ipv6, mtu, offload },
    hostname: options.hostname,
    domain: options.domainname,
    search: options.dnssearch ?? [],
    forwards: (options.hostfwd ?? []).map(parseForward),
    allow: options.allow?.map(parseRule),
  };
}
