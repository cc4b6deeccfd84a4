// Compressed words of a random program: each class with random fields, reserved encodings too, except those
// that would change a pointer or jump backward.
import { type Context, DESTINATIONS, type Item, plain, unit } from "./items.ts";
import type { Random } from "../random.ts";

/** 3-bit register fields of compressed instructions (x8 to x15), without x8, a pointer. */
const short = (r: Random): number => 1 + r.int(7);

export function compressed({ r }: Context): Item {
  const rd = r.pick(DESTINATIONS) << 7;
  const any = r.int(0x2000);
  // imm[5] and imm[4:0] around a register field.
  const imm6 = any & 0x107c;
  const text = (name: string, word: number): Item => plain(`c.${name} ${word.toString(16)}`, unit(2, word));
  const rs2 = (1 + r.int(31)) << 2;
  const stackOffset = any & 0x1f80;
  return r.weighted<() => Item>([
    [1, () => text("addi4spn", (any & 0x1fe0) | (short(r) << 2))],
    [2, () => text("load", (r.pick([1, 2, 3]) << 13) | (any & 0x1c60) | (short(r) << 2))],
    [2, () => text("store", (r.pick([5, 6, 7]) << 13) | (any & 0x1c60) | (r.int(8) << 2))],
    [1, () => text("reserved", 0x8000 | (any & 0x1fe0) | (short(r) << 2))],
    [2, () => text("addi", 0x0001 | rd | imm6)],
    [2, () => text("addiw", 0x2001 | rd | imm6)],
    [2, () => text("li", 0x4001 | rd | imm6)],
    [2, () => text("lui", 0x6001 | rd | imm6)],
    [4, () => text("alu", 0x8001 | (any & 0x1c7c) | (short(r) << 7))],
    [2, () => text("slli", 0x0002 | rd | imm6)],
    [2, () => text("loadsp", (r.pick([1, 2, 3]) << 13) | 2 | imm6 | rd)],
    [2, () => text("storesp", (r.pick([5, 6, 7]) << 13) | 2 | stackOffset | (r.int(32) << 2))],
    [2, () => text("mv", 0x8002 | rd | rs2)],
    [2, () => text("add", 0x9002 | rd | rs2)],
    [1, () => text("zero", 0)],
    [1, () => text("ebreak", 0x9002)],
    [3, () => compressedBranch(r)],
  ])();
}

function compressedBranch(r: Random): Item {
  const kind = r.pick(["j", "beqz", "bnez"]);
  const rs = r.int(8) << 7;
  return {
    size: 2,
    reach: 1 + r.int(4),
    text: `c.${kind} rs=${8 + (rs >> 7)}`,
    encode: (pc, target) => {
      const v = Number(target - pc);
      const part = (from: number, width: number, to: number): number =>
        ((v >> from) & ((1 << width) - 1)) << to;
      if (kind === "j") {
        const high = part(11, 1, 12) | part(4, 1, 11) | part(8, 2, 9) | part(10, 1, 8);
        return [unit(2, 0xa001 | high | part(6, 1, 7) | part(7, 1, 6) | part(1, 3, 3) | part(5, 1, 2))];
      }
      const offset = part(8, 1, 12) | part(3, 2, 10) | part(6, 2, 5) | part(1, 2, 3) | part(5, 1, 2);
      return [unit(2, (kind === "beqz" ? 0xc001 : 0xe001) | rs | offset)];
    },
  };
}
