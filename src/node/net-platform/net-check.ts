// The network that a program gives: which of its kinds it is, and the options of that kind.
import {
  type Check,
  hasMethods,
  isBoolean,
  isBytesOf,
  isFunction,
  isListOf,
  isOneOf,
  isOptions,
  isString,
  isWhole,
} from "../../embed/check-options.ts";
import type { UserNetOptions } from "../../usernet/user-network-options.ts";
import type { BackendNetSpec, SocketNetSpec, SwitchNetSpec, UserNetSpec } from "./net-spec.ts";

const mac = isBytesOf(6);
const USER = {
  user: isOptions<UserNetOptions>({
    ...{ net: isString, host: isString, dns: isString, dhcpstart: isString },
    ...{ hostname: isString, domainname: isString, dnssearch: isListOf(isString) },
    ...{ restrict: isBoolean, hostfwd: isListOf(isString), allow: isListOf(isString) },
    ...{ hostLoopback: isBoolean, ipv6: isBoolean, offload: isBoolean, mtu: isWhole(1280, 65_520) },
  }),
  ...{ log: isString, onConnection: isFunction, mac },
};

const KINDS: Record<string, Check> = {
  backend: isOptions<BackendNetSpec>({ backend: hasMethods("send", "onFrame"), mac }, ["backend"]),
  switch: isOptions<SwitchNetSpec>({ switch: isString, ...USER }, ["switch"]),
  user: isOptions<UserNetSpec>(USER, ["user"]),
  path: isOptions<Omit<SocketNetSpec, "host" | "port">>(
    { mode: isOneOf("listen", "connect"), path: isString, mac },
    ["mode", "path"],
  ),
  mode: isOptions<Omit<SocketNetSpec, "path">>(
    { mode: isOneOf("listen", "connect"), host: isString, port: isWhole(0, 65535), mac },
    ["mode", "host", "port"],
  ),
};

/** Throws WherryError if `value` is no NetSpec. */
export const isNetSpec: Check = (name, value) => {
  const keys = typeof value === "object" && value !== null ? Object.keys(value) : [];
  const kind = Object.keys(KINDS).find((each) => keys.includes(each)) ?? "mode";
  KINDS[kind]!(name, value);
};
