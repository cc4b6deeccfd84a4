// Structure-aware mutations of a seed: a few spots get other values, lengths, names, flags or parts of
// another seed; the VMDESCRIPTION is changed as a tree; the result is truncated. A case is its number: the
// same random numbers give the same bytes.
import { encodeUtf8 } from "../../../src/base/text.ts";
import type { Seed, Span } from "./seed.ts";

export type Random = () => number;

const pick = <T>(random: Random, of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
const below = (random: Random, n: number): number => Math.floor(random() * n);

const WORDS = [0, 1, 2, 3, 5, 8, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x7fff, 0x8000, 0xffff, 0x10000];
const LARGE = [2 ** 20, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40, 2 ** 53, 2 ** 62, 2 ** 63];
const NAMES = [
  ..."ram globalstate cpu timer toy toy/more configuration fw_cfg/dma slirp block dirty-bitmap spapr/htab".split(
    " ",
  ),
  ..."virtio virtio/extra_state virtio-mmio@0000000010008000/virtio-blk 0000:00:01.0/virtio-net".split(" "),
  ..."riscv_virt_board.ram riscv_virt_board.mrom virt.flash0 wherry/integrity wherry/machine __proto__".split(
    " ",
  ),
  ..."configuration/capabilities configuration/target-page-bits configuration/uuid cpu_common colo".split(
    " ",
  ),
  "",
  "\u0000",
  "\u001b[31m",
  "x".repeat(255),
];
const TYPES =
  "uint8 uint16 uint32 uint64 int8 int32 int64 bool struct buffer unused_buffer bitmap timer float64 str tmp qtailq virtio gtree nullptr CPU_Double_U uint64_equal unknown".split(
    " ",
  );

function integer(random: Random, before: Uint8Array): Uint8Array {
  const bytes = before.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  switch (below(random, 5)) {
    case 0: {
      const at = below(random, bytes.length);
      bytes[at]! ^= 1 << below(random, 8);
      return bytes;
    }
    case 1: {
      for (let i = 0; i < bytes.length; i++) bytes[i] = below(random, 256);
      return bytes;
    }
    case 2: {
      // One more or one less.
      const by = random() < 0.5 ? 1 : 255;
      let carry = by;
      for (let i = bytes.length - 1; i >= 0 && carry > 0; i--) {
        const sum = (bytes[i] ?? 0) + carry;
        bytes[i] = sum & 255;
        carry = by === 1 ? sum >> 8 : sum < 256 ? 255 : 0;
      }
      return bytes;
    }
    default: {
      const value = random() < 0.6 ? pick(random, WORDS) : pick(random, LARGE);
      if (bytes.length === 8) view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)));
      else if (bytes.length === 4) view.setUint32(0, value % 2 ** 32);
      else if (bytes.length === 2) view.setUint16(0, value % 2 ** 16);
      else bytes.fill(value & 255);
      return bytes;
    }
  }
}

function blob(random: Random, before: Uint8Array): Uint8Array {
  const bytes = before.slice();
  switch (below(random, 4)) {
    case 0:
      return bytes.subarray(0, below(random, bytes.length + 1));
    case 1: {
      const longer = new Uint8Array(bytes.length + 1 + below(random, 300));
      longer.set(bytes);
      return longer;
    }
    case 2:
      return bytes.fill(pick(random, [0, 1, 5, 0x7e, 0x7f, 0x80, 0xff]));
    default: {
      const changes = 1 + below(random, 8);
      for (let i = 0; i < changes && bytes.length > 0; i++)
        bytes[below(random, bytes.length)] = below(random, 256);
      return bytes;
    }
  }
}

function name(random: Random, before: Uint8Array): Uint8Array {
  const text = encodeUtf8(pick(random, NAMES));
  const length = random() < 0.8 ? text.length : pick(random, WORDS);
  return random() < 0.2 ? integer(random, before) : Uint8Array.of(length, ...text);
}

function flags(random: Random, before: Uint8Array): Uint8Array {
  const bytes = before.slice();
  const at = bytes.length - 1 - below(random, Math.min(2, bytes.length));
  if (random() < 0.6) bytes[at]! ^= 1 << below(random, 8);
  else return integer(random, before);
  return bytes;
}

type Tree = Record<string, unknown> | unknown[];
const isTree = (value: unknown): value is Tree => typeof value === "object" && value !== null;

/** A random container of the tree; deep ones are equally likely. */
function containers(tree: Tree, found: Tree[] = []): Tree[] {
  found.push(tree);
  for (const child of Object.values(tree)) if (isTree(child)) containers(child, found);
  return found;
}

function nested(depth: number): unknown {
  let value: unknown = { name: "deep", type: "uint8", size: 1 };
  for (let i = 0; i < depth; i++) {
    value = {
      name: "deep",
      type: "struct",
      size: 1,
      struct: { vmsd_name: "deep", version: 1, fields: [value] },
    };
  }
  return value;
}

function damage(random: Random, tree: Tree): void {
  const place = pick(random, containers(tree)) as Record<string, unknown>;
  const keys = Object.keys(place);
  const key = keys.length === 0 ? "size" : pick(random, keys);
  switch (below(random, 9)) {
    case 0:
      delete place[key];
      break;
    case 1:
      place[key] = pick(random, [null, true, -1, 1.5, 1e308, "x", "", [], {}]);
      break;
    case 2:
      place[key] = random() < 0.5 ? pick(random, WORDS) : pick(random, LARGE);
      break;
    case 3:
      place["type"] = pick(random, TYPES);
      break;
    case 4:
      place[pick(random, ["array_len", "num", "index", "version", "size", "instance_id", "page_size"])] =
        random() < 0.5 ? pick(random, WORDS) : pick(random, LARGE);
      break;
    case 5:
      place[pick(random, ["name", "vmsd_name"])] = pick(random, NAMES);
      break;
    case 6:
      if (Array.isArray(place)) place.push(...(place.slice(0, 200) as never[]));
      else place[key] = structuredClone(pick(random, containers(tree)));
      break;
    case 7:
      if (Array.isArray(place)) place.push(nested(pick(random, [3, 40, 400])));
      else place["subsections"] = [{ vmsd_name: pick(random, NAMES), version: 1, fields: [] }];
      break;
    default:
      if (Array.isArray(place)) place.reverse();
      else place["struct"] = { vmsd_name: "s", version: 1, fields: place["fields"] ?? [] };
  }
}

function json(random: Random, before: Uint8Array, description: unknown): Uint8Array {
  let text: Uint8Array;
  if (random() < 0.15 || !isTree(description)) text = blob(random, before.subarray(5));
  else {
    const tree = structuredClone(description);
    const times = 1 + below(random, 3);
    for (let i = 0; i < times; i++) damage(random, tree);
    text = encodeUtf8(JSON.stringify(tree));
    if (random() < 0.05) text = encodeUtf8(new TextDecoder().decode(text).replace(/\d+/, "1e999"));
  }
  const out = new Uint8Array(5 + text.length);
  const length = random() < 0.95 ? text.length : below(random, 2 ** 32);
  out[0] = before[0] ?? 6;
  new DataView(out.buffer).setUint32(1, length);
  out.set(text, 5);
  return out;
}

function replaced(random: Random, seed: Seed, span: Span, seeds: readonly Seed[]): Uint8Array {
  const { at, size, kind } = span;
  const before = seed.bytes.subarray(at, at + size);
  if (random() < 0.12) {
    // Replaces the part by another, inserts one, repeats or removes it.
    const other = random() < 0.5 ? seed : pick(random, seeds);
    const from = pick(random, other.spans);
    const part = other.bytes.subarray(from.at, from.at + from.size);
    switch (below(random, 4)) {
      case 0:
        return part;
      case 1:
        return Buffer.concat([part, before]);
      case 2:
        return Buffer.concat([before, random() < 0.5 ? before : part]);
      default:
        return new Uint8Array(0);
    }
  }
  switch (kind) {
    case "int":
    case "length":
      return size === 0 ? before : integer(random, before);
    case "flags":
      return size === 0 ? before : flags(random, before);
    case "name":
      return name(random, before);
    case "json":
      return json(random, before, seed.description);
    default:
      return blob(random, before);
  }
}

export interface Case {
  readonly index: number;
  readonly seed: Seed;
  readonly bytes: Uint8Array;
}

/** Case `index` of a run: always the same bytes for the same seeds. */
export function caseOf(
  generator: (seed: number) => Random,
  run: number,
  index: number,
  seeds: readonly Seed[],
): Case {
  return { index, ...mutated(generator(Math.imul(run, 0x9e3779b1) + index), seeds) };
}

/** Changes one of `seeds`; others supply parts. */
function mutated(random: Random, seeds: readonly Seed[]): { seed: Seed; bytes: Uint8Array } {
  const one = pick(random, seeds);
  const two = pick(random, seeds);
  // Prefers short seeds, which are quick.
  const seed = one.bytes.length < two.bytes.length || random() < 0.4 ? one : two;
  const times = 1 + Math.floor(random() * random() * 5);
  const spans: Span[] = [];
  for (let i = 0; i < times; i++) {
    const span = random() < 0.06 ? seed.spans.at(-1) : pick(random, seed.spans);
    // A spot inside another would be lost with it.
    if (span !== undefined && !spans.some((s) => s.at < span.at + span.size && span.at < s.at + s.size))
      spans.push(span);
  }
  spans.sort((a, b) => a.at - b.at);
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const span of spans) {
    parts.push(seed.bytes.subarray(at, span.at), replaced(random, seed, span, seeds));
    at = span.at + span.size;
  }
  parts.push(seed.bytes.subarray(at));
  let bytes: Uint8Array = Buffer.concat(parts);
  if (random() < 0.06) bytes = bytes.subarray(0, below(random, bytes.length + 1));
  else if (random() < 0.03) bytes = Buffer.concat([bytes, seed.bytes.subarray(0, below(random, 40))]);
  return { seed, bytes };
}
