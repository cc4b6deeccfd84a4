// The C extension (unprivileged specification, chapter 28): each compressed instruction is the short form of
// another instruction, and a row says only which. Patterns are the manual's: rd', rs1', rs2' are x8–x15 in
// three bits, imm[5|4:0] lists the immediate's bits from the left. The first row that matches is used.
import { type Operands } from "./instruction-encoding.ts";

/** The operands in a compressed word. */
interface Short {
  readonly rd: number;
  readonly rs1: number;
  readonly rs2: number;
  readonly imm: number;
}

export interface CompressedRow {
  readonly name: string;
  readonly mask: number;
  readonly match: number;
  /** The word is reserved if all these bits are 0; if this is 0, no word is. */
  readonly needed: number;
  /** The expansion of this word, without regard to `needed`. */
  expand(word: number): { name: string; operands: Operands };
}

interface Options {
  /** The immediate is sign-extended from its highest bit. */
  readonly signed?: boolean;
  /** The word is reserved if this operand is 0. */
  readonly nonzero?: keyof Short;
}

const WIDTHS: Readonly<Record<string, number>> = { rd: 5, rs1: 5, rs2: 5, "rd'": 3, "rs1'": 3, "rs2'": 3 };

/** "5|4:0" → [5, 4, 3, 2, 1, 0]. */
function immediateBits(list: string): number[] {
  return list.split("|").flatMap((part) => {
    const [high, low] = part.split(":").map(Number) as [number, number?];
    return Array.from({ length: high - (low ?? high) + 1 }, (_, i) => high - i);
  });
}

/** Create a row. Throws RangeError if the pattern does not have 16 bits: an error in a table. */
export function compressed(
  name: string,
  pattern: string,
  to: (o: Short) => [name: string, operands: Operands],
  { signed = false, nonzero }: Options = {},
): CompressedRow {
  let bit = 16;
  let mask = 0;
  let match = 0;
  const registers: { key: "rd" | "rs1" | "rs2"; bit: number; short: boolean }[] = [];
  const immediate: { from: number; to: number }[] = [];
  for (const token of pattern.split(" ")) {
    const list = /^imm\[(.*)\]$/.exec(token)?.[1];
    if (list !== undefined) {
      for (const to of immediateBits(list)) immediate.push({ from: --bit, to });
    } else if (token in WIDTHS) {
      const short = token.endsWith("'");
      bit -= WIDTHS[token] as number;
      registers.push({ key: token.replace("'", "") as "rd" | "rs1" | "rs2", bit, short });
    } else {
      bit -= token.length;
      mask |= (2 ** token.length - 1) << bit;
      match |= Number.parseInt(token, 2) << bit;
    }
  }
  if (bit !== 0) throw new RangeError(`compressed pattern "${pattern}" has ${16 - bit} bits`);
  const top = Math.max(0, ...immediate.map((b) => b.to));
  let needed = 0;
  if (nonzero === "imm") for (const { from } of immediate) needed |= 1 << from;
  for (const r of registers) if (r.key === nonzero) needed |= 31 << r.bit;
  return {
    name,
    mask,
    match,
    needed,
    expand: (word) => {
      const o = { rd: 0, rs1: 0, rs2: 0, imm: 0 };
      for (const r of registers) o[r.key] = r.short ? 8 + ((word >> r.bit) & 7) : (word >> r.bit) & 31;
      for (const b of immediate) o.imm |= ((word >> b.from) & 1) << b.to;
      if (signed) o.imm = (o.imm << (31 - top)) >> (31 - top);
      const [full, operands] = to(o);
      return { name: full, operands };
    },
  };
}

const SP = 2;
const RA = 1;
const signed = { signed: true };

const arithmetic = (name: string, selector: string): CompressedRow =>
  compressed(`c.${name}`, `100 ${selector[0]} 11 rd' ${selector.slice(1)} rs2' 01`, ({ rd, rs2 }) => [
    name,
    { rd, rs1: rd, rs2 },
  ]);

export const compressedRows: readonly CompressedRow[] = [
  compressed("c.addi4spn", "000 imm[5:4|9:6|2|3] rd' 00", ({ rd, imm }) => ["addi", { rd, rs1: SP, imm }], {
    nonzero: "imm",
  }),
  compressed("c.lw", "010 imm[5:3] rs1' imm[2|6] rd' 00", ({ rd, rs1, imm }) => ["lw", { rd, rs1, imm }]),
  compressed("c.ld", "011 imm[5:3] rs1' imm[7:6] rd' 00", ({ rd, rs1, imm }) => ["ld", { rd, rs1, imm }]),
  compressed("c.sw", "110 imm[5:3] rs1' imm[2|6] rs2' 00", ({ rs1, rs2, imm }) => ["sw", { rs1, rs2, imm }]),
  compressed("c.sd", "111 imm[5:3] rs1' imm[7:6] rs2' 00", ({ rs1, rs2, imm }) => ["sd", { rs1, rs2, imm }]),

  compressed("c.addi", "000 imm[5] rd imm[4:0] 01", ({ rd, imm }) => ["addi", { rd, rs1: rd, imm }], signed),
  compressed("c.addiw", "001 imm[5] rd imm[4:0] 01", ({ rd, imm }) => ["addiw", { rd, rs1: rd, imm }], {
    signed: true,
    nonzero: "rd",
  }),
  compressed("c.li", "010 imm[5] rd imm[4:0] 01", ({ rd, imm }) => ["addi", { rd, imm }], signed),
  compressed(
    "c.addi16sp",
    "011 imm[9] 00010 imm[4|6|8:7|5] 01",
    ({ imm }) => ["addi", { rd: SP, rs1: SP, imm }],
    {
      signed: true,
      nonzero: "imm",
    },
  ),
  compressed("c.lui", "011 imm[17] rd imm[16:12] 01", ({ rd, imm }) => ["lui", { rd, imm }], {
    signed: true,
    nonzero: "imm",
  }),
  compressed("c.srli", "100 imm[5] 00 rd' imm[4:0] 01", ({ rd, imm }) => [
    "srli",
    { rd, rs1: rd, shamt6: imm },
  ]),
  compressed("c.srai", "100 imm[5] 01 rd' imm[4:0] 01", ({ rd, imm }) => [
    "srai",
    { rd, rs1: rd, shamt6: imm },
  ]),
  compressed(
    "c.andi",
    "100 imm[5] 10 rd' imm[4:0] 01",
    ({ rd, imm }) => ["andi", { rd, rs1: rd, imm }],
    signed,
  ),
  arithmetic("sub", "000"),
  arithmetic("xor", "001"),
  arithmetic("or", "010"),
  arithmetic("and", "011"),
  arithmetic("subw", "100"),
  arithmetic("addw", "101"),
  compressed("c.j", "101 imm[11|4|9:8|10|6|7|3:1|5] 01", ({ imm }) => ["jal", { imm }], signed),
  compressed(
    "c.beqz",
    "110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01",
    ({ rs1, imm }) => ["beq", { rs1, imm }],
    signed,
  ),
  compressed(
    "c.bnez",
    "111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01",
    ({ rs1, imm }) => ["bne", { rs1, imm }],
    signed,
  ),

  compressed("c.slli", "000 imm[5] rd imm[4:0] 10", ({ rd, imm }) => ["slli", { rd, rs1: rd, shamt6: imm }]),
  compressed("c.lwsp", "010 imm[5] rd imm[4:2|7:6] 10", ({ rd, imm }) => ["lw", { rd, rs1: SP, imm }], {
    nonzero: "rd",
  }),
  compressed("c.ldsp", "011 imm[5] rd imm[4:3|8:6] 10", ({ rd, imm }) => ["ld", { rd, rs1: SP, imm }], {
    nonzero: "rd",
  }),
  compressed("c.jr", "100 0 rs1 00000 10", ({ rs1 }) => ["jalr", { rs1 }], { nonzero: "rs1" }),
  compressed("c.mv", "100 0 rd rs2 10", ({ rd, rs2 }) => ["add", { rd, rs2 }]),
  compressed("c.ebreak", "100 1 00000 00000 10", () => ["ebreak", {}]),
  compressed("c.jalr", "100 1 rs1 00000 10", ({ rs1 }) => ["jalr", { rd: RA, rs1 }]),
  compressed("c.add", "100 1 rd rs2 10", ({ rd, rs2 }) => ["add", { rd, rs1: rd, rs2 }]),
  compressed("c.swsp", "110 imm[5:2|7:6] rs2 10", ({ rs2, imm }) => ["sw", { rs1: SP, rs2, imm }]),
  compressed("c.sdsp", "111 imm[5:3|8:6] rs2 10", ({ rs2, imm }) => ["sd", { rs1: SP, rs2, imm }]),
];
