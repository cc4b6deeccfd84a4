// Values of the options of `wherry image`, in qemu-img's notations. Every parser throws an Error whose
// message says what was expected.
import type { Qcow2Options } from "../../block/qcow2/qcow2-create.ts";
import { UsageError } from "../output/cli-error.ts";

const UNITS = "BKMGTPE";

/** A size in bytes: a number, in hex too, or one with k, M, G, T, P or E. Throws UsageError. */
export function imageSize(text: string): number {
  const match = /^(0x[0-9a-f]+|[0-9]+(?:\.[0-9]+)?)([KMGTPE]?)(?:i?B)?$/i.exec(text);
  if (match === null) throw new UsageError(`${text}: expected a size in bytes, or with k, M, G, T, P or E`);
  const power = Math.max(0, UNITS.indexOf((match[2] || "B").toUpperCase()));
  const bytes = Math.ceil(Number(match[1]) * 1024 ** power);
  if (!Number.isSafeInteger(bytes))
    throw new UsageError(`${text}: is more than ${Number.MAX_SAFE_INTEGER} bytes`);
  return bytes;
}

export function oneWord<const W extends string>(...words: readonly W[]): (text: string) => W {
  return (text) => {
    const word = words.find((known) => known === text);
    if (word === undefined) throw new Error(`expected ${words.join(" or ")}`);
    return word;
  };
}

const onOff = oneWord("on", "off");

const whole = (text: string): number => {
  if (!/^[0-9]+$/.test(text)) throw new Error(`${text}: expected a number`);
  return Number(text);
};

const KEYS: Readonly<Record<string, (value: string) => Qcow2Options & { readonly sizeBytes?: number }>> = {
  size: (value) => ({ sizeBytes: imageSize(value) }),
  cluster_size: (value) => ({ clusterBytes: imageSize(value) }),
  lazy_refcounts: (value) => ({ lazyRefcounts: onOff(value) === "on" }),
  compression_type: (value) => ({ compression: oneWord("zlib", "zstd")(value) }),
  refcount_bits: (value) => ({ refcountBits: whole(value) }),
  compat: (value) => ({
    version: oneWord("0.10", "v2", "1.1", "v3")(value).match(/^(0|v2)/) === null ? 3 : 2,
  }),
  backing_file: (value) => ({ backingFile: value }),
  backing_fmt: (value) => ({ backingFormat: value }),
  preallocation: (value) => (oneWord("off")(value), {}),
  extended_l2: (value) => (oneWord("off")(value), {}),
  encryption: (value) => (oneWord("off")(value), {}),
};

/** For `-o help`. */
export const imageOptionNames: readonly string[] = Object.keys(KEYS);

/** `cluster_size=64k,lazy_refcounts=on`; a comma in a value is doubled. */
export function imageOptions(text: string): Qcow2Options & { readonly sizeBytes?: number } {
  const found = {};
  for (const part of text.split(/(?<!,),(?!,)/)) {
    const [key = "", ...rest] = part.replaceAll(",,", ",").split("=");
    const parse = KEYS[key];
    if (parse === undefined) throw new Error(`unknown key ${key}, expected ${Object.keys(KEYS).join(", ")}`);
    Object.assign(found, parse(rest.join("=")));
  }
  return found;
}
