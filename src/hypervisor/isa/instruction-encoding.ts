// Instruction encodings as patterns in the specification's order, highest bits first, such as
//   "0000000 rs2 rs1 000 rd 0110011"   "imm12 rs1 010 rd 0000011"   "bimm7 rs2 rs1 001 bimm5 1100011"
// A pattern yields mask and match (decoder), where each operand lies (assembler, interpreter) and which
// immediate format it has (unprivileged specification, 2.3).

/** Operand fields: width in bits. Register numbers first; x registers without f. */
const FIELDS = {
  rd: 5,
  rs1: 5,
  rs2: 5,
  frd: 5,
  frs1: 5,
  frs2: 5,
  frs3: 5,
  shamt5: 5,
  shamt6: 6,
  uimm5: 5,
  csr: 12,
  rm: 3,
  aq: 1,
  rl: 1,
  /** The mode of fence. */
  fm: 4,
  pred: 4,
  succ: 4,
  /** I-type. */
  imm12: 12,
  /** S-type. */
  simm7: 7,
  simm5: 5,
  /** B-type. */
  bimm7: 7,
  bimm5: 5,
  /** U-type. */
  imm20: 20,
  /** J-type. */
  jimm20: 20,
} as const;
export type FieldName = keyof typeof FIELDS;

/** Immediate formats, by the field that identifies them. */
const IMMEDIATES = { imm12: "I", simm7: "S", bimm7: "B", imm20: "U", jimm20: "J" } as const;
export type ImmediateFormat = (typeof IMMEDIATES)[keyof typeof IMMEDIATES];

export interface Encoding {
  readonly pattern: string;
  /** The fixed bits, and their values (unsigned 32-bit numbers). */
  readonly mask: number;
  readonly match: number;
  /** Lowest bit of each operand field, in the pattern's order. */
  readonly fields: ReadonlyMap<FieldName, number>;
  readonly immediate: ImmediateFormat | undefined;
}

/** Throws if the pattern does not have 32 bits or names an unknown field: an error in a table. */
export function parsePattern(pattern: string): Encoding {
  let bit = 32;
  let mask = 0;
  let match = 0;
  let immediate: ImmediateFormat | undefined;
  const fields = new Map<FieldName, number>();
  for (const token of pattern.split(" ")) {
    if (/^[01]+$/.test(token)) {
      bit -= token.length;
      mask |= ((2 ** token.length - 1) << bit) >>> 0;
      match |= Number.parseInt(token, 2) << bit;
    } else if (token in FIELDS) {
      const field = token as FieldName;
      bit -= FIELDS[field];
      fields.set(field, bit);
      if (field in IMMEDIATES) immediate = IMMEDIATES[field as keyof typeof IMMEDIATES];
    } else throw new RangeError(`instruction pattern "${pattern}": unknown field ${token}`);
  }
  if (bit !== 0) throw new RangeError(`instruction pattern "${pattern}" has ${32 - bit} bits, not 32`);
  return { pattern, mask: mask >>> 0, match: match >>> 0, fields, immediate };
}

/** The immediate of an instruction word, sign-extended (U: the value with its low 12 bits 0). */
export function decodeImmediate(format: ImmediateFormat, word: number): number {
  const sign = word >> 31;
  switch (format) {
    case "I":
      return word >> 20;
    case "S":
      return ((word >> 25) << 5) | ((word >>> 7) & 0x1f);
    case "B":
      return (sign << 12) | ((word & 0x80) << 4) | ((word >>> 20) & 0x7e0) | ((word >>> 7) & 0x1e);
    case "U":
      return word & ~0xfff;
    case "J":
      return (sign << 20) | (word & 0xff000) | ((word >>> 9) & 0x800) | ((word >>> 20) & 0x7fe);
  }
}

/** The bits of an instruction word that encode `value`; bits that do not fit are lost. */
export function encodeImmediate(format: ImmediateFormat, value: number): number {
  switch (format) {
    case "I":
      return value << 20;
    case "S":
      return ((value & 0xfe0) << 20) | ((value & 0x1f) << 7);
    case "B":
      return (
        ((value & 0x1000) << 19) | ((value & 0x7e0) << 20) | ((value & 0x1e) << 7) | ((value & 0x800) >>> 4)
      );
    case "U":
      return value & ~0xfff;
    case "J":
      return (
        ((value & 0x100000) << 11) | ((value & 0x7fe) << 20) | ((value & 0x800) << 9) | (value & 0xff000)
      );
  }
}

/** Values of operand fields; `imm` is the immediate in any format. Missing fields are 0. */
export type Operands = Partial<Record<FieldName | "imm", number>>;

/** Assemble one instruction. Throws RangeError for a value that the encoding cannot represent. */
export function encode(encoding: Encoding, operands: Operands): number {
  let word = encoding.match;
  for (const [field, bit] of encoding.fields) {
    const value = operands[field];
    if (value === undefined) continue;
    if (value < 0 || value >= 2 ** FIELDS[field]) {
      throw new RangeError(`${encoding.pattern}: ${field} is ${value}, needs ${FIELDS[field]} bits`);
    }
    word |= value << bit;
  }
  if (operands.imm !== undefined && encoding.immediate !== undefined) {
    const bits = encodeImmediate(encoding.immediate, operands.imm);
    if (decodeImmediate(encoding.immediate, bits) !== operands.imm) {
      throw new RangeError(`${encoding.pattern}: immediate ${operands.imm} does not fit`);
    }
    word |= bits;
  }
  return word >>> 0;
}

/** The operands of a word with this encoding. */
export function operandsOf(encoding: Encoding, word: number): Operands {
  const operands: Operands = {};
  for (const [field, bit] of encoding.fields) operands[field] = (word >>> bit) & (2 ** FIELDS[field] - 1);
  if (encoding.immediate !== undefined) operands.imm = decodeImmediate(encoding.immediate, word);
  return operands;
}
