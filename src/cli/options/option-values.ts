// Values of options in QEMU's notations: sizes, drives, networks, serial ports, migration addresses. Every
// parser throws an Error whose message says what was expected; command-line.ts adds the option's name.
import { isAbsolute, resolve } from "node:path";
import { isSerialPortName } from "../../embed/check-options.ts";
import {
  DEFAULT_ICOUNT_SHIFT,
  type IcountOptions,
  MAX_ICOUNT_SHIFT,
} from "../../hypervisor/requests/instruction-clock.ts";
import { DEFAULT_CODE_CACHE_BYTES } from "../../hypervisor/shared/translation-options.ts";
import { sharedExtensions } from "../../machines/qemu/qemu-refusals.ts";
import { RELEASES } from "../../machines/qemu/qemu-releases.ts";
import { EXTENSION_NAMES } from "../../riscv/extensions.ts";
import type { RtcOptions } from "../../machines/virt.ts";
import { type MigrationAddress, parseMigrationUri } from "../../monitor/migration-address.ts";
import { isMachineName, machineNamed } from "../../node/names/machine-registry.ts";
import { parseSocketAddress, type SocketAddress } from "../../node/channels/socket-server.ts";
import type { DriveSpec } from "../../node/virtio-backends.ts";

/** A whole number within [min, max]. */
export function number(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^[0-9]+$/.test(text) || value < min || value > max) {
      throw new Error(`expected a number from ${min} to ${max}`);
    }
    return value;
  };
}

const UNITS: Record<string, number> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** A size in bytes: a number with K, M or G. `bare` is the unit of a number without a letter. */
export function size(bare: "" | "M"): (text: string) => number {
  return (text) => {
    const match = /^([0-9]+(?:\.[0-9]+)?)([KMG]?)i?B?$/i.exec(text);
    if (match === null) throw new Error("expected a size such as 512M or 2G");
    const unit = UNITS[match[2]?.toUpperCase() || bare] ?? 1;
    return Math.round(Number(match[1]) * unit);
  };
}

/**
 * Guest memory: a size the board supports, within what one WebAssembly memory holds besides the machine's own
 * areas.
 */
export function memorySize(text: string): number {
  const bytes = size("M")(text);
  if (bytes % 2 ** 21 !== 0) throw new Error("expected a multiple of 2M");
  if (bytes < 2 ** 21 || bytes > 3.5 * 2 ** 30) throw new Error("expected 2M to 3584M");
  return bytes;
}

/** Size of the translated code to keep. */
export function codeCacheSize(text: string): number {
  const bytes = size("M")(text);
  if (bytes < 2 ** 20 || bytes > DEFAULT_CODE_CACHE_BYTES)
    throw new Error(`expected 1M to ${DEFAULT_CODE_CACHE_BYTES / 2 ** 20}M`);
  return bytes;
}

/** `[shift=]N[,sleep=on|off]`, as in QEMU's -icount. */
export function icount(text: string): IcountOptions {
  const values = keyValues(/^[0-9a-z]+(,|$)/.test(text) ? `shift=${text}` : text);
  const shift = values.get("shift") ?? String(DEFAULT_ICOUNT_SHIFT);
  values.delete("shift");
  if (shift === "auto") throw new Error("shift=auto would follow the host's clock: give a number");
  const sleep = takeWord(values, "sleep", ["on", "off"]) !== "off";
  refuseRest(values, "shift, sleep");
  return { shift: number(0, MAX_ICOUNT_SHIFT)(shift), sleep };
}

/** `[base=utc|DATE][,clock=host|vm]`, as in QEMU's -rtc. */
export function rtc(text: string): RtcOptions {
  const values = keyValues(text);
  const base = values.get("base") ?? "utc";
  values.delete("base");
  const clock = takeWord(values, "clock", ["host", "vm"]);
  refuseRest(values, "base, clock");
  return { ...(clock === undefined ? {} : { clock }), ...(base === "utc" ? {} : { baseNs: dateNs(base) }) };
}

function dateNs(text: string): bigint {
  const ms = /^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2})?$/.test(text)
    ? Date.parse(text.length > 10 ? `${text}Z` : text)
    : Number.NaN;
  if (Number.isNaN(ms)) throw new Error("expected base=utc or a date such as 2006-06-17T16:01:21");
  return BigInt(ms) * 1_000_000n;
}

/** `rv64imac_zba_zbb`, or a release of QEMU: the extensions that its harts have too. */
export function isa(text: string): readonly string[] {
  const release = RELEASES.find((r) => r.name === text);
  if (release !== undefined) return sharedExtensions(EXTENSION_NAMES, release);
  const [, letters = "", rest = ""] = /^rv64([a-z]+)((?:_[a-z0-9]+)*)$/.exec(text) ?? [];
  const wanted = [...letters, ...rest.split("_").slice(1)];
  const unknown = wanted.find((e) => !EXTENSION_NAMES.includes(e));
  if (unknown !== undefined) throw new Error(`harts here have no extension ${unknown}`);
  if (!wanted.includes("i")) {
    throw new Error(
      `expected an ISA string such as rv64imafdc_zicsr, or one of ${RELEASES.map((r) => r.name).join(", ")}`,
    );
  }
  return EXTENSION_NAMES.filter((e) => wanted.includes(e));
}

/** A guest address. */
export function address(text: string): bigint {
  if (!/^(0x[0-9a-f]{1,16}|[0-9]{1,19})$/i.test(text))
    throw new Error("expected an address such as 0x80200000");
  return BigInt(text);
}

/** One of these words. */
export function word<const W extends string>(words: readonly W[]): (text: string) => W {
  return (text) => {
    const found = words.find((w) => w === text);
    if (found === undefined) throw new Error(`expected ${words.join(" or ")}`);
    return found;
  };
}

/** QEMU's `key=value,key=value`; a comma in a value is doubled. */
export function keyValues(text: string): Map<string, string> {
  const result = new Map<string, string>();
  for (const part of text.replaceAll(",,", "\0").split(",")) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(part.replaceAll("\0", ",")) ?? [];
    if (key === undefined || value === undefined) throw new Error(`expected key=value, found '${part}'`);
    if (result.has(key)) throw new Error(`${key} is given twice`);
    result.set(key, value);
  }
  return result;
}

function takeWord<const W extends string>(
  values: Map<string, string>,
  key: string,
  words: readonly W[],
): W | undefined {
  const value = values.get(key);
  values.delete(key);
  if (value === undefined) return undefined;
  const word = words.find((w) => w === value);
  if (word === undefined) throw new Error(`${key} must be ${words.join(" or ")}, found '${value}'`);
  return word;
}

function refuseRest(values: Map<string, string>, known: string): void {
  const [key] = values.keys();
  if (key !== undefined) throw new Error(`unknown key '${key}'; known are ${known}`);
}

/**
 * `file=F`, and of `readonly`, `force-share`, `force-changed`, `locking` each `on` or `off`; `format=raw`,
 * `if=virtio`
 */
export function drive(text: string): DriveSpec {
  const values = keyValues(text);
  const file = values.get("file");
  values.delete("file");
  if (file === undefined || file === "") throw new Error("expected file=FILE");
  const isOn = (key: string): boolean | undefined => {
    const word = takeWord(values, key, ["on", "off"]);
    return word && word === "on";
  };
  const readonly = isOn("readonly") ?? false;
  const names = ["snapshot", "force-share", "locking", "force-changed"];
  const [snapshot, forceShare, locking, forceChanged] = names.map(isOn);
  const format = takeWord(values, "format", ["auto", "raw", "qcow2"]);
  takeWord(values, "if", ["virtio"]);
  refuseRest(values, "file, format, readonly, snapshot, force-share, force-changed, locking, if");
  return { file, format, readonly, snapshot, forceShare, locking, forceChanged };
}

export type SerialSpec =
  | { readonly kind: "stdio" | "none" }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "socket"; readonly address: SocketAddress };

/** `stdio`, `none`, `file:FILE`, `unix:PATH`, `tcp:HOST:PORT` */
export function serial(text: string): SerialSpec {
  if (text === "stdio" || text === "none") return { kind: text };
  if (text.startsWith("file:") && text.length > "file:".length) return { kind: "file", path: text.slice(5) };
  if (/^(unix|tcp):/.test(text)) return { kind: "socket", address: parseSocketAddress(text) };
  throw new Error("expected stdio, none, file:FILE or unix:PATH");
}

/** The QMP socket of a running machine: its name (`--name`), `unix:PATH` or `tcp:HOST:PORT`. */
export function machineAddress(text: string): SocketAddress {
  if (!isMachineName(text)) return parseSocketAddress(text);
  return { kind: "unix", path: machineNamed(text).qmp };
}

/** A name for `--name`. */
export function machineName(text: string): string {
  if (!isMachineName(text)) throw new Error("expected up to 40 letters, digits, and _ . -");
  return text;
}

export interface SerialPortSpec {
  readonly name: string;
  readonly address: SocketAddress;
}

/** `name=NAME,path=unix:PATH` or `…tcp:HOST:PORT`: a port of the guest and the socket that serves it. */
export function serialPort(text: string): SerialPortSpec {
  const values = keyValues(text);
  const [name = "", path = ""] = ["name", "path"].map((key) => values.get(key));
  for (const key of ["name", "path"]) values.delete(key);
  refuseRest(values, "name, path");
  if (!isSerialPortName(name)) throw new Error("expected name=NAME, printable, without / and spaces");
  return { name, address: parseSocketAddress(path.includes(":") ? path : `unix:${path}`) };
}

/**
 * `tcp:HOST:PORT`, `unix:PATH`, `file:FILE`, `exec:COMMAND` or `defer` (the address comes by
 * migrate-incoming).
 */
export function incoming(text: string): MigrationAddress | "defer" {
  return text === "defer" ? "defer" : migrationAddress(text);
}

/** QEMU's message for an invalid address does not say what an address is. */
export function migrationAddress(text: string): MigrationAddress {
  if (/^(tcp|unix|file|exec|rdma|fd|vsock):/.test(text)) return parseMigrationUri(text);
  throw new Error("expected tcp:HOST:PORT, unix:PATH, file:FILE or exec:COMMAND");
}

/** An address for the machine's process, whose working directory may differ from ours. */
export function absoluteAddress(address: MigrationAddress): MigrationAddress {
  if (address.transport === "tcp" || address.transport === "exec" || isAbsolute(address.path)) return address;
  return { ...address, path: resolve(address.path) };
}
