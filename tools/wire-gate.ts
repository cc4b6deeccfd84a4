// The numbers of QEMU's stream are in src/stream (wire.ts, multifd-packet.ts). This gate finds second copies
// in the product: a magic's value or its text, and a type byte, command, message, flag or version beside its
// name, such as `MIG_CMD_PING = 2`. A number without its name is not found.
import { MULTIFD_MAGIC } from "../src/stream/multifd-packet.ts";
import * as wire from "../src/stream/wire.ts";
import { copiesGate } from "./source-text.ts";

/** The VMState engine writes subsections, and does not know the stream: wire.ts has its number. */
const HOMES = ["src/stream/", "src/state/walk.ts"];
const { QEMU_VM, MIG_CMD, MIG_RP_MSG, RAM_SAVE_FLAG, RESOLVE_ANSWER } = wire;
const TABLES = { QEMU_VM, MIG_CMD, MIG_RP_MSG, RAM_SAVE_FLAG, RESOLVE_ANSWER };
const NAMED: ReadonlyMap<string, number> = new Map([
  ...Object.entries(wire).flatMap(([name, value]) =>
    typeof value === "number" ? [[name, value] as const] : [],
  ),
  ...Object.values(TABLES).flatMap((table) => Object.entries(table)),
]);
/** Values that nothing else in the product has. */
const MANY_BYTES: ReadonlySet<number> = new Set(
  [MULTIFD_MAGIC, ...NAMED.values()].filter((value) => value > 0xffff),
);
const MAGIC_TEXT = /["'`](?:QEVM|WHRY)["'`]/;
const NAME = String.raw`(?<![A-Za-z])(?:[A-Z]+_)*?(${[...NAMED.keys()].join("|")})(?:_[A-Z]+)?`;
const NUMBER = String.raw`(0x[\da-f_]+|\d+)\b(?!\s*(?:[*<]|\.\d))`;
/** `PING: 2`, `["PING", 2]`, `MIG_CMD_PING = 0x02`. */
const NAME_FIRST = new RegExp(String.raw`${NAME}["']?\]?\s*[:=,]\s*${NUMBER}`, "g");
/** `2: "PING"`, `[0x02, "PING"]`. */
const NUMBER_FIRST = new RegExp(String.raw`\b${NUMBER}\]?\s*[:,]\s*["']${NAME}["']`, "g");

const valueOf = (literal = ""): number => Number(literal.replaceAll("_", ""));

function copiesIn(line: string): string[] {
  const pairs = [
    ...[...line.matchAll(NAME_FIRST)].map(([text, name, literal]) => ({ text, name, literal })),
    ...[...line.matchAll(NUMBER_FIRST)].map(([text, literal, name]) => ({ text, name, literal })),
  ];
  return [
    ...pairs
      .filter(({ name, literal }) => NAMED.get(name ?? "") === valueOf(literal))
      .map(({ text }) => text),
    ...[...line.matchAll(/\b0x[\da-f_]+\b/gi)].map(([it]) => it).filter((it) => MANY_BYTES.has(valueOf(it))),
    ...(MAGIC_TEXT.exec(line) ?? []),
  ].slice(0, 1);
}

export const wireGate = copiesGate(HOMES, (line) => copiesIn(line).map((copy) => `${copy} is of src/stream`));
