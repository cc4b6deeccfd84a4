// Memory as text, in the format of QEMU's `x` and `xp` (docs/system/monitor): /COUNT FORMAT SIZE, with the
// format x, d, u, o or c and the size b, h, w or g.
import { QmpError } from "./qapi.ts";

export interface DumpFormat {
  readonly count: number;
  readonly radix: "x" | "d" | "u" | "o" | "c";
  /** In bytes. */
  readonly size: 1 | 2 | 4 | 8;
}

const SIZES = { b: 1, h: 2, w: 4, g: 8 } as const;
const MAX_BYTES = 65536;

/** Parses what follows the slash. Throws QmpError. */
export function parseDumpFormat(text: string): DumpFormat {
  const match = /^([0-9]*)([a-z]*)$/.exec(text);
  const refuse = (why: string): never => {
    throw new QmpError(`invalid format '/${text}': ${why}`);
  };
  if (match === null) return refuse("expected a count and letters, such as /4xw");
  let radix: DumpFormat["radix"] = "x";
  let size: DumpFormat["size"] | undefined;
  for (const letter of match[2] ?? "") {
    if (letter === "x" || letter === "d" || letter === "u" || letter === "o" || letter === "c")
      radix = letter;
    else if (letter === "b" || letter === "h" || letter === "w" || letter === "g") size = SIZES[letter];
    else refuse(`'${letter}' is none of the formats x, d, u, o, c and the sizes b, h, w, g`);
  }
  const count = match[1] === "" ? 1 : Number(match[1]);
  const bytes = radix === "c" ? 1 : (size ?? 4);
  if (count * bytes > MAX_BYTES) refuse(`at most ${MAX_BYTES} bytes`);
  return { count, radix, size: bytes };
}

/** Lines of 16 bytes (of 8 characters: 8 bytes), each after its address. */
export function memoryText(address: bigint, bytes: Uint8Array, { radix, size }: DumpFormat): string {
  const perLine = radix === "c" ? 8 : 16;
  const out: string[] = [];
  for (let at = 0; at < bytes.length; at += perLine) {
    const values: string[] = [];
    for (let i = at; i < Math.min(at + perLine, bytes.length); i += size)
      values.push(valueText(bytes.subarray(i, i + size), radix));
    const place = BigInt.asUintN(64, address + BigInt(at))
      .toString(16)
      .padStart(16, "0");
    out.push(`${place}: ${values.join(" ")}\n`);
  }
  return out.join("");
}

function valueText(bytes: Uint8Array, radix: DumpFormat["radix"]): string {
  const value = bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const bits = bytes.length * 8;
  switch (radix) {
    case "x":
      return `0x${value.toString(16).padStart(bits / 4, "0")}`;
    case "o":
      return (value === 0n ? "0" : `0${value.toString(8)}`).padStart(Math.floor((bits + 2) / 3));
    case "u":
      return value.toString().padStart(Math.floor((bits * 10 + 32) / 33));
    case "d":
      return BigInt.asIntN(bits, value)
        .toString()
        .padStart(Math.floor((bits * 10 + 32) / 33));
    case "c":
      return characterText(Number(value));
  }
}

function characterText(byte: number): string {
  const escapes: Record<number, string> = { 0x27: "\\'", 0x5c: "\\\\", 0x0a: "\\n", 0x0d: "\\r" };
  const plain =
    byte >= 32 && byte <= 126 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`;
  return `'${escapes[byte] ?? plain}'`;
}
