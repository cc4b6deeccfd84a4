// The options and arguments that a program gives: unknown names and impossible values are refused before
// anything is opened. A program in JavaScript has no compiler that would find them.
import { WherryError } from "../base/errors.ts";
import { nearest } from "../base/nearest.ts";
import { quoted } from "../base/text.ts";
import { MAX_ICOUNT_SHIFT } from "../hypervisor/requests/instruction-clock.ts";
import { MAX_NAMED_PORTS } from "../devices/virtio/virtio-console.ts";
import { ENGINE_KINDS } from "../hypervisor/shared/engine-kind.ts";
import { MAX_VCPUS } from "../hypervisor/shared/memory-map.ts";
import { EXTENSION_NAMES } from "../riscv/extensions.ts";
import type { SerialPort } from "../devices/virtio/virtio-console.ts";
import type { HostedMachineOptions } from "./hosted-machine.ts";
import type { VirtioParts } from "./virtio-parts.ts";

/** Throws WherryError if the value of `name` is wrong. */
export type Check = (name: string, value: unknown) => void;
/** A check for each option; one that is `required` must be given. */
export type Checks<T> = { readonly [K in keyof Required<T>]: Check };

function refuse(name: string, expected: string, value: unknown): never {
  throw new WherryError("options.value", `${name}: expected ${expected}, found ${shown(value)}`);
}

function shown(value: unknown): string {
  if (typeof value === "string")
    return value.length > 40 ? `a string of ${value.length} characters` : quoted(value);
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value !== "object" || value === null) return String(value);
  const kind: unknown = value.constructor?.name;
  return Array.isArray(value) ? "an array" : `an object${typeof kind === "string" ? ` (${kind})` : ""}`;
}

export const expecting =
  (expected: string, isFine: (value: unknown) => boolean): Check =>
  (name, value) => {
    if (!isFine(value)) refuse(name, expected, value);
  };

export const isBoolean = expecting("true or false", (value) => typeof value === "boolean");
export const isString = expecting("a string", (value) => typeof value === "string");
export const isFunction = expecting("a function", (value) => typeof value === "function");
const isBigint = expecting("a bigint, such as 0n", (value) => typeof value === "bigint");
export const isBytes = expecting("the bytes, a Uint8Array", (value) => value instanceof Uint8Array);

export const isWhole = (from: number, to: number): Check =>
  expecting(
    `a whole number from ${from} to ${to}`,
    (value) => Number.isInteger(value) && Number(value) >= from && Number(value) <= to,
  );
export const isOneOf = (...words: readonly string[]): Check =>
  expecting(words.map(quoted).join(" or "), (value) => words.some((word) => word === value));
export const isBytesOf = (length: number): Check =>
  expecting(
    `${length} bytes, a Uint8Array`,
    (value) => value instanceof Uint8Array && value.length === length,
  );
/** An object with these methods. */
export const hasMethods = (...methods: readonly string[]): Check =>
  expecting(
    `an object with the methods ${methods.join(", ")}`,
    (value) =>
      typeof value === "object" &&
      value !== null &&
      methods.every((method) => typeof (value as Record<string, unknown>)[method] === "function"),
  );
export const isListOf =
  (check: Check): Check =>
  (name, value) => {
    if (!Array.isArray(value)) refuse(name, "an array", value);
    for (const [i, one] of (value as readonly unknown[]).entries()) check(`${name}[${i}]`, one);
  };
/** An object of options; those named in `required` must be there. */
export const isOptions =
  <T>(checks: Checks<T>, required: readonly (keyof T & string)[] = []): Check =>
  (name, value) => {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      refuse(name, "an object of options", value);
    const options = value as Record<string, unknown>;
    const inside = (key: string): string => (name === "options" ? key : `${name}.${key}`);
    const names = Object.keys(checks);
    for (const key of Object.keys(options)) {
      if (names.includes(key)) continue;
      const meant = nearest(key, names);
      const hint =
        meant === undefined ? `the options are ${names.join(", ")}` : `did you mean ${inside(meant)}?`;
      throw new WherryError("options.name", `unknown option ${quoted(inside(key))}; ${hint}`);
    }
    for (const [key, check] of Object.entries<Check>(checks)) {
      // An option that is undefined is not given.
      if (options[key] !== undefined) check(inside(key), options[key]);
      else if ((required as readonly string[]).includes(key))
        throw new WherryError("options.missing", `${inside(key)} is missing`);
    }
  };

/** The options of every platform's machine. */
export const HOSTED_CHECKS: Checks<HostedMachineOptions> = {
  harts: isWhole(1, MAX_VCPUS),
  memoryBytes: isWhole(1, 2 ** 32),
  kernel: isBytes,
  initrd: isBytes,
  append: isString,
  firmware: expecting(
    'the bytes, a Uint8Array, or "builtin"',
    (value) => value === "builtin" || value instanceof Uint8Array,
  ),
  incoming: isBoolean,
  icount: isOptions({ shift: isWhole(0, MAX_ICOUNT_SHIFT), sleep: isBoolean }, ["shift", "sleep"]),
  rtc: isOptions({ baseNs: isBigint, clock: isOneOf("host", "vm") }),
  legacyVirtio: isBoolean,
  isaExtensions: isListOf(isOneOf(...EXTENSION_NAMES)),
  engine: isOneOf(...ENGINE_KINDS),
  codeCacheBytes: isWhole(0, 2 ** 32),
  translateAfter: isWhole(0, 1e9),
  onConsole: isFunction,
  onRunState: isFunction,
  onWarning: isFunction,
};

/** What a guest can find in /dev/virtio-ports. */
export const isSerialPortName = (name: string): boolean => /^[\x21-\x2e\x30-\x7e]{1,100}$/.test(name);
const isPortName = expecting(
  "a name of 1 to 100 printable characters without / and spaces",
  (value) => typeof value === "string" && isSerialPortName(value),
);
export const isCharBackend = hasMethods("write", "read", "onReadable");

const isListOfPorts = isListOf(
  isOptions<SerialPort>({ name: isPortName, backend: isCharBackend }, ["name", "backend"]),
);
/** Named serial ports; each name once. */
export const isSerialPorts: Check = (name, value) => {
  isListOfPorts(name, value);
  const names = (value as readonly SerialPort[]).map((port) => port.name);
  if (names.length > MAX_NAMED_PORTS) refuse(name, `at most ${MAX_NAMED_PORTS} ports`, value);
  const twice = names.find((one, i) => names.indexOf(one) !== i);
  if (twice !== undefined) refuse(name, "each name once", twice);
};

const VIRTIO_CHECKS: Checks<VirtioParts> = {
  drives: isListOf(hasMethods("read", "write", "flush", "inactivate", "activate")),
  net: isOptions(
    { backend: hasMethods("send"), mac: isBytesOf(6), saved: hasMethods("activate", "inactivate") },
    ["backend"],
  ),
  random: isFunction,
  console: isCharBackend,
  serialPorts: isSerialPorts,
  shares: isListOf(hasMethods("activate", "inactivate")),
};

export function checkHosted(options: HostedMachineOptions, virtio: VirtioParts): void {
  isOptions(HOSTED_CHECKS, ["harts", "memoryBytes"])("options", options);
  isOptions(VIRTIO_CHECKS)("virtio", virtio);
}

/** What can be written to a console. */
export function checkInput(input: unknown): void {
  if (typeof input !== "string" && !(input instanceof Uint8Array))
    refuse("input", "a string or bytes (a Uint8Array)", input);
}
